"""The header values that a user agent must understand: name-addr, Via, CSeq (RFC 3261 20, 25.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, NamedTuple

from sidecar.sip.errors import MalformedMessage
from sidecar.sip.headers import is_token, split_list
from sidecar.sip.uri import Params, bracketed, parse_host_port

MAX_CSEQ: Final = 2**32 - 1
"""RFC 3261 20.16: a sequence number has 32 bits. The first of a dialog is less than 2**31 (8.1.1.5), which `parse` asks of it."""
_MEMORABLE: Final = 256
_SPACE: Final = " \t\r\n"
_SCHEMES: Final = frozenset(("sip", "sips", "tel"))
_USUAL: Final = frozenset(("tag", "branch", "rport", "received", "lr", "transport", "expires"))


_EMPTY = 3
"""Empty parameters that are passed over: what stands before the first `;`, and one or two that some leave behind."""


def parameters(text: str, most_empty: int = _EMPTY) -> Params:
    """`;name=value;flag` as pairs, quotes kept, white space around `;` and `=` dropped. MalformedMessage for a name that is no token."""
    found: list[tuple[str, str | None]] = []
    empty = 0
    for piece in text.split(";") if '"' not in text else split_list(text, ";", angles=False):
        name, equals, value = piece.partition("=")
        if name not in _USUAL:
            name = name.strip(_SPACE)
            if not name and not equals:
                empty += 1
                if empty > most_empty:  # RFC 4475 3.1.2.1
                    raise MalformedMessage("superfluous separators")
                continue
            if not is_token(name):
                raise MalformedMessage("malformed parameter")
        found.append((name, value.strip(_SPACE) if equals else None))
    return tuple(found)


def _joined(params: Params) -> str:
    return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in params)


def _lookup(params: Params, name: str) -> str | None:
    for found, value in params:
        if found == name or found.lower() == name:
            return value or ""
    return None


def quoted(text: str) -> str:
    """`text` as a quoted-string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@dataclass(frozen=True, slots=True)
class NameAddr:
    """From, To, Contact, Route, Record-Route, Refer-To: an address with an optional display name and header parameters.

    `display` and `uri` are as written, quotes of the display name included; `Contact: *` has the URI `*`.
    """

    display: str | None
    uri: str
    params: Params = ()

    @property
    def name(self) -> str:
        """The display name for a reader: without quotes and escapes."""
        text = self.display or ""
        if len(text) < 2 or text[0] != '"' or text[-1] != '"':
            return text
        kept: list[str] = []
        escaped = False
        for char in text[1:-1]:
            escaped = char == "\\" and not escaped
            if not escaped:
                kept.append(char)
        return "".join(kept)

    @property
    def tag(self) -> str | None:
        """The tag parameter; None when it is absent or empty."""
        return _lookup(self.params, "tag") or None

    def param(self, name: str) -> str | None:
        """Value of a header parameter, "" for one without value, None when it is absent."""
        return _lookup(self.params, name.lower())

    def with_tag(self, tag: str | None) -> NameAddr:
        """The same address with this tag in place of any other; None takes the tag away."""
        rest = tuple(param for param in self.params if param[0].lower() != "tag")
        return replace(self, params=rest if tag is None else (*rest, ("tag", tag)))

    def __str__(self) -> str:
        if self.uri == "*":
            return "*"
        display = self.display or ""
        if display and display[0] != '"' and not all(is_token(word) for word in display.split()):
            display = quoted(display)
        return f"{display} <{self.uri}>{_joined(self.params)}" if display else f"<{self.uri}>{_joined(self.params)}"


def name_addr(text: str) -> NameAddr:
    """Parse a name-addr, an addr-spec with parameters (20.10: they belong to the header) or `*`. Raises MalformedMessage."""
    # All messages of a dialog carry the same few addresses. Long ones are not remembered, so that strangers cannot fill the memory.
    return _remembered(text) if len(text) <= _MEMORABLE else _name_addr(text)


def _name_addr(text: str) -> NameAddr:
    text = text.strip(_SPACE)
    if text == "*":
        return NameAddr(None, "*")
    opened = _quoted_end(text) if text.startswith('"') else 0
    left = text.find("<", opened)
    prefix = text[:left]
    if left < 0 or (not opened and (";" in prefix or '"' in prefix)):
        if opened:
            raise MalformedMessage("display name without <address>")
        uri, semicolon, rest = text.partition(";")
        return NameAddr(None, _address(uri), parameters(rest) if semicolon else ())
    if opened and text[opened:left].strip(_SPACE):
        raise MalformedMessage("text between display name and <address>")
    right = text.find(">", left)
    if right < 0:
        raise MalformedMessage("address without >")
    rest = text[right + 1 :].lstrip(_SPACE)
    if rest and rest[0] != ";":
        raise MalformedMessage("text after <address>")
    return NameAddr(prefix.strip(_SPACE) or None, _address(text[left + 1 : right]), parameters(rest) if rest else ())


_remembered: Final = lru_cache(maxsize=512)(_name_addr)


def _quoted_end(text: str) -> int:
    """Index after the quoted string that `text` begins with."""
    at = 1
    while True:
        end = text.find('"', at)
        if end < 0:
            raise MalformedMessage("unterminated quoted string")
        slash = text.find("\\", at, end)
        if slash < 0:
            return end + 1
        at = slash + 2


def _address(text: str) -> str:
    uri = text.strip(_SPACE)
    scheme, _, rest = uri.partition(":")
    if not rest or (scheme not in _SCHEMES and not (scheme[:1].isalpha() and is_token(scheme))):
        raise MalformedMessage("address without a URI")
    if " " in uri or "\t" in uri or "<" in uri or '"' in uri or "\0" in uri:
        raise MalformedMessage("malformed URI in an address")
    return uri


@dataclass(frozen=True, slots=True)
class Via:
    """One hop of the way back (20.42, RFC 3581). `transport` in upper case, `host` without brackets."""

    transport: str
    host: str
    port: int | None = None
    params: Params = ()

    @property
    def branch(self) -> str | None:
        """The transaction identifier; None when it is absent or empty."""
        return _lookup(self.params, "branch") or None

    @property
    def received(self) -> str | None:
        """The address that the hop's request came from, without brackets; None when the next hop did not add it."""
        value = _lookup(self.params, "received")
        return value.strip("[]") if value else None

    @property
    def rport(self) -> int | None:
        """The port that the hop's request came from; None when it was not filled in."""
        value = _lookup(self.params, "rport")
        return int(value) if value and len(value) <= 5 and value.isascii() and value.isdigit() else None

    @property
    def wants_rport(self) -> bool:
        """Whether an rport parameter is there, filled in or not (RFC 3581 3)."""
        return _lookup(self.params, "rport") is not None

    def param(self, name: str) -> str | None:
        """Value of a parameter, "" for one without value, None when it is absent."""
        return _lookup(self.params, name.lower())

    def seen_from(self, host: str, port: int) -> Via:
        """This Via as a server hands it on: `received` by 18.2.1, and both `rport` and `received` by RFC 3581 4 when rport is there."""
        if not self.wants_rport and self.host == host and self.received is None:
            return self
        stamped: list[tuple[str, str | None]] = []
        for param in self.params:
            name = param[0].lower()
            if name == "rport":
                stamped.append((param[0], str(port)))
            elif name != "received":
                stamped.append(param)
        if self.wants_rport or self.host != host:
            stamped.append(("received", host))
        return Via(self.transport, self.host, self.port, tuple(stamped))

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"SIP/2.0/{self.transport} {bracketed(self.host)}{port}{_joined(self.params)}"


def via(text: str) -> Via:
    """Parse one Via element, with white space wherever 25.1 lets it stand. Raises MalformedMessage."""
    return _remembered_via(text) if len(text) <= _MEMORABLE else _via(text)


def _via(text: str) -> Via:
    head, semicolon, rest = text.partition(";")
    protocol = head.split("/", 2)
    if len(protocol) != 3 or protocol[0].strip(_SPACE).upper() != "SIP" or protocol[1].strip(_SPACE) != "2.0":
        raise MalformedMessage("malformed Via protocol")
    sent = protocol[2].split(None, 1)
    if len(sent) != 2 or not is_token(sent[0]):
        raise MalformedMessage("Via without sent-by")
    transport, sent_by = sent
    host, port = parse_host_port(sent_by)
    # However many are empty: what `parse` refuses for them is answered by this very Via.
    return Via(transport.upper(), host, port, parameters(rest, len(rest)) if semicolon else ())


_remembered_via: Final = lru_cache(maxsize=512)(_via)


class CSeq(NamedTuple):
    """Sequence number and method (20.16)."""

    number: int
    method: str

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


def cseq(text: str) -> CSeq:
    """Parse a CSeq value. Raises MalformedMessage, also for a number of 2**32 or more (20.16)."""
    return _remembered_cseq(text) if len(text) <= _MEMORABLE else _cseq(text)


def _cseq(text: str) -> CSeq:
    words = text.split()
    if len(words) != 2 or not is_token(words[1]):
        raise MalformedMessage("malformed CSeq")
    number = words[0]
    if len(number) > 10 or not number.isascii() or not number.isdigit() or int(number) > MAX_CSEQ:
        raise MalformedMessage("CSeq number out of range")
    return CSeq(int(number), words[1])


_remembered_cseq: Final = lru_cache(maxsize=256)(_cseq)
