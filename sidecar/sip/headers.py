"""Header fields: an ordered multimap that keeps what was on the wire (RFC 3261 7.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

COMPACT: Final = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}
"""Compact forms and the lower-case names they stand for (RFC 3261 7.3.3, 3265, 3515, 3841, 3892, 4028, 8224)."""

_SPELLINGS: Final = (
    "Via From To Call-ID CSeq Contact Max-Forwards Content-Length Content-Type Route Record-Route Allow Supported Require Proxy-Require "
    "User-Agent Server Subject Expires Date Authorization Proxy-Authorization WWW-Authenticate Proxy-Authenticate Reason Retry-After "
    "Session-Expires Min-SE Accept Accept-Encoding Accept-Language Allow-Events Event Subscription-State Refer-To Referred-By RSeq RAck "
    "P-Asserted-Identity Privacy Timestamp Warning Unsupported X-Sip-Call-Id X-CID X-Correlation-Id"
)
KNOWN: Final[dict[str, str]] = {
    **{name: name.lower() for name in _SPELLINGS.split()},
    **{name.lower(): name.lower() for name in _SPELLINGS.split()},
    **COMPACT,
    **{short.upper(): full for short, full in COMPACT.items()},
}
# One character class without nesting: linear in the input.
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")

Item = tuple[str, str, str]
"""Lookup key (lower case, long form), name as written, value as offered."""


class Folded(str):
    """A value that came over several lines. The text itself is unfolded (each fold one space); `raw` is what was on the wire."""

    __slots__ = ("raw",)
    raw: str

    def __new__(cls, raw: str) -> Folded:
        """Unfold `raw`, whose lines are parted by CRLF and whose continuation lines begin with white space (7.3.1)."""
        folded = super().__new__(cls, " ".join(line.strip(" \t") for line in raw.split("\r\n")).strip(" "))
        folded.raw = raw
        return folded


def is_token(text: str) -> bool:
    """Whether `text` is a token of RFC 3261 25.1."""
    return _TOKEN.fullmatch(text) is not None


def key_of(name: str) -> str:
    """The name under which `name` is looked up: lower case, long form."""
    return KNOWN.get(name) or name.lower()


def has_bare_nul(text: str) -> bool:
    """Whether `text` holds a NUL anywhere but behind a backslash, the one place where 25.1 allows it (quoted-pair)."""
    return "\0" in text and "\0" in text.replace("\\\\", "").replace("\\\0", "")


def split_list(text: str, separator: str = ",", *, angles: bool = True) -> list[str]:
    """The elements of a list-type value: parted at `separator` outside quoted strings and <>, trimmed, empty ones left out (7.3.1).

    With `angles` false, < and > are ordinary characters (header parameters).
    """
    if separator not in text:
        parts = [text]
    elif '"' not in text and not (angles and "<" in text):
        parts = text.split(separator)
    else:
        parts = _split_guarded(text, separator, angles)
    return [trimmed for part in parts if (trimmed := part.strip(" \t\r\n"))]


def _split_guarded(text: str, separator: str, angles: bool) -> list[str]:
    parts: list[str] = []
    start = 0
    quoted = escaped = bracketed = False
    for at, char in enumerate(text):
        if escaped:
            escaped = False
        elif quoted:
            if char == "\\":
                escaped = True
            elif char == '"':
                quoted = False
        elif char == '"' and not bracketed:
            quoted = True
        elif char == "<":
            bracketed = angles
        elif char == ">":
            bracketed = False
        elif char == separator and not bracketed:
            parts.append(text[start:at])
            start = at + 1
    parts.append(text[start:])
    return parts


class Headers:
    """Header lines in order. Lookups ignore case and know compact forms; names and values stay as written.

    A value that was folded on the wire is offered unfolded everywhere and leaves in its original lines (see `Folded`).
    """

    __slots__ = ("_firsts", "_items", "parsed")

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        """Raises ValueError like `add`."""
        self._items: list[Item] = [_checked(name, value) for name, value in items]
        self._firsts: dict[str, str] | None = None
        """The first value under each lookup key, made when it is first asked for."""
        self.parsed: dict[str, Any] = {}
        """What a message's accessors made of a header, by lookup key; a change of the header forgets it."""

    @classmethod
    def of_parsed(cls, items: list[Item]) -> Headers:
        """Wrap what the parser has already checked."""
        headers = cls.__new__(cls)
        headers._items = items
        headers._firsts = None
        headers.parsed = {}
        return headers

    @staticmethod
    def canonical(name: str) -> str:
        """The name under which `name` is looked up: lower case, long form."""
        return key_of(name)

    def get(self, name: str) -> str | None:
        """Value of the first line called `name`, or None."""
        firsts = self._firsts
        if firsts is None:
            firsts = self._index()
        return firsts.get(KNOWN.get(name) or name.lower())

    def all(self, name: str) -> list[str]:
        """Values of every line called `name`, one an entry, commas untouched."""
        key = KNOWN.get(name) or name.lower()
        if key not in self._index():
            return []
        return [value for found, _, value in self._items if found == key]

    def values(self, name: str) -> list[str]:
        """Elements of a list-type header over all its lines (Via, Route, Contact, Supported …). Not for digest challenges (7.3.1)."""
        return [element for value in self.all(name) for element in split_list(value)]

    def add(self, name: str, value: str) -> None:
        """Append a line. ValueError when the name is no token or the value holds CR, LF, a bare NUL or cannot be encoded."""
        item = _checked(name, value)
        self._items.append(item)
        if self._firsts is not None:
            self._firsts.setdefault(item[0], value)
        self.parsed.pop(item[0], None)

    def take_over(self, items: Iterable[Item]) -> None:
        """Append lines of another message, which were checked when they came into it."""
        self._items.extend(items)
        self._firsts = None
        self.parsed = {}

    def prepend(self, name: str, value: str) -> None:
        """Put a line before all others (a new Via, 18.1.1). Raises ValueError like `add`."""
        item = _checked(name, value)
        self._items.insert(0, item)
        self._firsts = None
        self.parsed.pop(item[0], None)

    def set(self, name: str, value: str) -> None:
        """Make this the only line called `name`, at the place of the first one or at the end. Raises ValueError like `add`."""
        item = _checked(name, value)
        self._firsts = None
        self.parsed.pop(item[0], None)
        place = next((at for at, (found, _, _) in enumerate(self._items) if found == item[0]), None)
        if place is None:
            self._items.append(item)
            return
        self._items[place] = item
        self._items[place + 1 :] = [other for other in self._items[place + 1 :] if other[0] != item[0]]

    def replace_first(self, name: str, value: str) -> None:
        """Change the value of the first line called `name` and leave its spelling and the other lines. KeyError when there is none."""
        key = key_of(name)
        for at, (found, written, _) in enumerate(self._items):
            if found == key:
                self._items[at] = _checked(written, value)
                self._firsts = None
                self.parsed.pop(key, None)
                return
        raise KeyError(name)

    def remove(self, name: str) -> None:
        """Take away every line called `name`; none is fine."""
        key = key_of(name)
        if key not in self._index():
            return
        self._items = [item for item in self._items if item[0] != key]
        self._firsts = None
        self.parsed.pop(key, None)

    def items(self) -> list[tuple[str, str]]:
        """Name as written and value of every line, in order."""
        return [(name, value) for _, name, value in self._items]

    def lines(self) -> list[Item]:
        """Lookup key, name and value of every line, in order. Not to be changed."""
        return self._items

    def copy(self) -> Headers:
        """An independent copy."""
        headers = Headers.of_parsed(self._items.copy())
        headers.parsed = self.parsed.copy()
        return headers

    def encode(self, length: int) -> str:
        """All lines with their CRLFs, Content-Length rewritten to `length` where it stood or added at the end."""
        lines: list[str] = []
        stated = False
        for key, name, value in self._items:
            if key == "content-length":
                if not stated:
                    lines.append(f"{name}: {length}\r\n")
                stated = True
            elif type(value) is Folded:
                lines.append(f"{name}: {value.raw}\r\n")
            else:
                lines.append(f"{name}: {value}\r\n")
        if not stated:
            lines.append(f"Content-Length: {length}\r\n")
        return "".join(lines)

    def __contains__(self, name: str) -> bool:
        return key_of(name) in self._index()

    def _index(self) -> dict[str, str]:
        firsts = self._firsts
        if firsts is None:
            # Backwards, so that the first line of a name has the last word.
            firsts = self._firsts = {key: value for key, _, value in reversed(self._items)}
        return firsts

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.items())

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._items == other._items

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({self.items()!r})"


def _checked(name: str, value: str) -> Item:
    """One item fit for the wire, or ValueError: this is where a header injection ends."""
    key = KNOWN.get(name)
    if key is None:
        if not is_token(name):
            raise ValueError(f"not a header name: {name!r}")
        key = name.lower()
    if "\r" in value or "\n" in value:
        raise ValueError(f"line break in the value of {name}")
    if "\0" in value and has_bare_nul(value):
        raise ValueError(f"NUL in the value of {name}")
    if not value.isascii():
        value.encode("utf-8", "surrogateescape")  # UnicodeEncodeError is a ValueError
    return key, name, value
