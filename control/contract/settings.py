"""How both halves read a configuration file: YAML text in, a checked model out, every complaint one line that names the key and its place.

Pure but for what the settings model itself looks at (the environment, for `TRUNKSIDE_…` variables, and `*_file` secrets).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings

S = TypeVar("S", bound=BaseSettings)


class SettingsError(Exception):
    """The configuration cannot be used. The text is one line: file and line, key, what is wrong, what to do.

    `also`: the further complaints, in the same form. A start tells the first, whoever checks the file wants them all.
    """

    def __init__(self, text: str, also: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.also = tuple(also)


def load(model: type[S], path: Path | None) -> S:
    """Settings from `path` and the environment, from the environment alone for None. Raises SettingsError."""
    text = ""
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    name = str(path) if path is not None else "environment"
    data = mapping(name, text)
    try:
        return model(**data)
    except ValidationError as error:
        first, *also = _complaints(name, text, error)
        raise SettingsError(first, also) from None
    except ValueError as error:  # an environment variable that is not the JSON its key needs
        raise SettingsError(f"environment: {error}") from None


def secret(value: SecretStr | None, file: Path | None, name: str) -> SecretStr | None:
    """A secret from either of its two keys, `name` and `name_file`. Raises ValueError when both are set or the file cannot be used."""
    if file is None:
        return value
    if value is not None:
        raise ValueError(f"set {name} or {name}_file, not both")
    try:
        text = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}_file {file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not text:
        raise ValueError(f"{name}_file {file} is empty")
    return SecretStr(text)


def mapping(name: str, text: str) -> dict[str, Any]:
    """The settings that a YAML text holds, unchecked. Raises SettingsError for what is none, and for a key that stands twice."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        twice = next(_repeated(node), None)
        loaded = loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}" if mark else ""
        raise SettingsError(f"{name}{place}: not valid YAML: {getattr(error, 'problem', None) or ' '.join(str(error).split())}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise SettingsError(f"{name}:1: the file must be a mapping of settings")
    if twice is not None:  # parsers take the last one and say nothing, so a setting that stands in the file would not count
        raise SettingsError(f"{name}:{twice.start_mark.line + 1}: key {twice.value!r} stands there already: leave one of both")
    hidden = next((key for key in loaded if key.startswith("_")), None)  # the settings library's own parameters look so
    if hidden is not None:
        raise SettingsError(f"{name}:{line_of(text, [hidden])}: unknown key {hidden!r}")
    return loaded


def _repeated(node: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """The keys that stand twice in one mapping, the later ones, in the order of the text."""
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _repeated(each)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    yield key
                seen.add(key.value)
            yield from _repeated(value)


def explain(name: str, text: str | None, error: ValidationError) -> str:
    """The first complaint, as one line.

    `text`: the YAML that was read, empty when all came from the environment; None: there was neither.
    """
    return _complaints(name, text, error)[0]


def _complaints(name: str, text: str | None, error: ValidationError) -> list[str]:
    return list(dict.fromkeys(_complaint(name, text, each) for each in error.errors(include_url=False, include_input=False)))


def _complaint(name: str, text: str | None, first: ErrorDetails) -> str:
    location = [part for part in first["loc"] if isinstance(part, str | int)]
    key = ".".join(str(part) for part in location).encode("unicode_escape").decode()  # a key of a mapping may hold a line break
    line = line_of(text, location) if text is not None else None
    place = f"{name}:{line}" if line else name
    if first["type"] == "extra_forbidden":
        return f"{place}: unknown key {key!r}" + ("" if line or text is None else " (from the environment)")
    if first["type"] == "missing":
        return f"{place}: key {key!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {key}: {message}" if key else f"{place}: {message}"


def place_of(path: Path, location: list[str | int]) -> str:
    """`file:line` of a key, or the file alone when the key is not in it or the file cannot be read."""
    try:
        line = line_of(path.read_text(encoding="utf-8"), location)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        line = None
    return f"{path}:{line}" if line else str(path)


def line_of(text: str, location: Sequence[str | int]) -> int | None:
    """The line on which the key of `location` stands, None when it is not in the file. A list's items go by number or by their `name`."""
    node = yaml.compose(text, Loader=yaml.SafeLoader) if text.strip() else None
    line: int | None = None
    for part in location:
        found = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    found, line = value, key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode):
            found = _item(node, part)
            line = found.start_mark.line + 1 if found is not None else line
        if found is None:
            return None if part == location[0] else line
        node = found
    return line


def _item(node: yaml.SequenceNode, part: str | int) -> yaml.Node | None:
    if isinstance(part, int):
        return node.value[part] if part < len(node.value) else None
    pairs = [(item, key, value) for item in node.value if isinstance(item, yaml.MappingNode) for key, value in item.value]
    return next((item for item, key, value in pairs if (key.value, value.value) == ("name", part)), None)
