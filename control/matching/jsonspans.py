"""Where the members of a JSON text stand: lets a report be edited in place, so that every byte that is not ours stays as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
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


def put(text: str, obj: Span, name: str, value: str, found: dict[str, Span] | None = None) -> Edit:
    """The edit that gives the object at `obj` the member `name` with the JSON text `value`: in its old place, else last."""
    found = members(text, obj) if found is None else found
    if name in found:
        return Edit(found[name], value)
    end = max((span.end for span in found.values()), default=None)
    comma, at = (", ", end) if end is not None else ("", obj.start + 1)
    return Edit(Span(at, at), f"{comma}{json.dumps(name)}: {value}")


def splice(text: str, edits: list[Edit]) -> str:
    """`text` with all edits made; edits at the same place keep their order, and spans must not overlap."""
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
