"""Bencoding, as the NG protocol has it: texts, integers, lists, dictionaries.

Libraries for it refuse dictionaries whose keys are not in order, as BitTorrent demands; rtpengine's are in the order of their making.
"""

from __future__ import annotations

from typing import Any

_DEEPEST = 20
"""Levels; a query's answer has eight."""


class Malformed(ValueError):
    """These octets are no bencoded value."""


def encode(value: Any) -> bytes:
    """The octets of a value made of `str`, `bytes`, `int`, lists and dictionaries. Raises TypeError for anything else."""
    match value:
        case bytes():
            return b"%d:%b" % (len(value), value)
        case str():
            return encode(value.encode("utf-8", "surrogateescape"))
        case int():
            return b"i%de" % value
        case list() | tuple():
            return b"l%be" % b"".join(map(encode, value))
        case dict():
            return b"d%be" % b"".join(encode(key) + encode(value[key]) for key in sorted(value))
    raise TypeError(f"{type(value).__name__} has no bencoding")


def decode(data: bytes) -> Any:
    """The one value that `data` holds; keys of dictionaries as text, all other strings as octets. Raises Malformed."""
    try:
        value, end = _value(data, 0, 0)
    except (ValueError, IndexError) as error:
        raise Malformed(f"not bencoded: {error}") from error
    if end != len(data):
        raise Malformed("octets behind the value")
    return value


def _value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if depth > _DEEPEST:
        raise Malformed("too many levels")
    kind = data[at : at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1 : end]), end + 1
    if kind in (b"l", b"d"):
        items: list[Any] = []
        at += 1
        while data[at : at + 1] != b"e":
            item, at = _value(data, at, depth + 1)
            items.append(item)
        return (items if kind == b"l" else _pairs(items)), at + 1
    colon = data.index(b":", at)
    if not data[at:colon].isdigit():
        raise Malformed(f"no length at octet {at}")
    end = colon + 1 + int(data[at:colon])
    if end > len(data):
        raise Malformed("a string is cut short")
    return data[colon + 1 : end], end


def _pairs(items: list[Any]) -> dict[str, Any]:
    keys = items[::2]
    if len(items) % 2 or not all(isinstance(key, bytes) for key in keys):
        raise Malformed("a dictionary's keys are not strings, or one has no value")
    return {key.decode("utf-8", "replace"): value for key, value in zip(keys, items[1::2], strict=True)}
