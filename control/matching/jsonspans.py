"""Where the members of a JSON text stand: lets a report be edited in place, so that every byte that is not ours stays as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# Numbers are never used as numbers here, and a digit string of any length must pass.
_decoder = json.JSONDecoder(parse_int=str, parse_float=str, strict=False)
_SPACE = " \t\r\n"


class NotEditable(Exception):
    """The text is not the JSON that an edit expects."""


@dataclass(frozen=True, slots=True)
class Span:
    """A value's place in a text: `text[start:end]`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Edit:
    """Put `new` in the place of `span`; an empty span inserts."""

    span: Span
    new: str


def value_at(text: str, start: int) -> Span:
    """The span of the value that begins at or after `start`. Raises NotEditable."""
    start = _skip(text, start)
    try:
        _, end = _decoder.raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        raise NotEditable(f"no JSON value at {start}") from error
    return Span(start, end)


def members(text: str, obj: Span) -> dict[str, Span]:
    """The members of the object at `obj`, by name; of a repeated name the last, as parsers take it. Raises NotEditable."""
    return dict(_members(text, obj))


def _members(text: str, obj: Span) -> Iterator[tuple[str, Span]]:
    at = _skip(text, _expect(text, obj.start, "{"))
    while text[at] != "}":
        key = value_at(text, at)
        value = value_at(text, _expect(text, _skip(text, key.end), ":"))
        yield json.loads(text[key.start : key.end], strict=False), value
        at = _skip(text, value.end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def elements(text: str, array: Span) -> Iterator[Span]:
    """The elements of the array at `array`. Raises NotEditable."""
    at = _skip(text, _expect(text, array.start, "["))
    while text[at] != "]":
        value = value_at(text, at)
        yield value
        at = _skip(text, value.end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def put(text: str, obj: Span, values: Mapping[str, str]) -> list[Edit]:
    """The edits that give the object at `obj` these members (name to JSON text): each in its old place, the others after the last."""
    found = members(text, obj)
    edits = [Edit(found[name], value) for name, value in values.items() if name in found]
    fresh = ", ".join(f"{json.dumps(name)}: {value}" for name, value in values.items() if name not in found)
    if fresh:
        last = max((span.end for span in found.values()), default=None)
        at, comma = (last, ", ") if last is not None else (obj.start + 1, "")
        edits.append(Edit(Span(at, at), comma + fresh))
    return edits


def splice(text: str, edits: list[Edit]) -> str:
    """`text` with all edits made; their spans must not overlap."""
    out: list[str] = []
    at = 0
    for edit in sorted(edits, key=lambda edit: edit.span.start):
        out += [text[at : edit.span.start], edit.new]
        at = edit.span.end
    return "".join([*out, text[at:]])


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _expect(text: str, at: int, character: str) -> int:
    if text[at : at + 1] != character:
        raise NotEditable(f"expected {character} at {at}")
    return at + len(character)
