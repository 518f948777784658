"""SIP messages and keepalives out of an octet stream (RFC 3261 7.5 and 18.3, RFC 5626 3.5.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from sidecar.sip.errors import MalformedMessage
from sidecar.sip.message import MAX_OCTETS

MAX_HEAD: Final = 32768
"""Octets of start line and headers. The longest in the field (Identity, Diversion, Geolocation together) stay below a third of it."""
PING: Final = b"\r\n\r\n"
"""Asks the peer for a sign of life (RFC 5626 3.5.1)."""
PONG: Final = b"\r\n"
"""The answer to a ping."""

_END: Final = b"\r\n\r\n"
# A value may go over several lines (7.3.1), but a name begins its line. Each alternative begins with another octet: linear in the input.
_LENGTH: Final = re.compile(rb"\r\n(?:content-length|l)[ \t]*:((?:[^\r]|\r\n[ \t])*)", re.IGNORECASE)
# 25.1: a method or SIP-Version begins with a character of a token. A TLS hello or other noise is known by its first octet.
_TOKEN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.!%*_+`'~")


class Keepalive(Enum):
    """What stands between messages and is none."""

    PING = PING
    PONG = PONG


@dataclass(frozen=True, slots=True)
class Broken:
    """The stream cannot be followed any further: answer a request with `error.status`, then close. `head` is what came of the message."""

    error: MalformedMessage
    head: bytes


Framed = bytes | Keepalive | Broken


class StreamFramer:
    """Cuts one connection's octets. What comes out does not depend on how the stream was split, and the work is linear in its length.

    Two CRLFs are a ping. A CRLF while a pong is expected is that pong; if a ping of the peer crosses it, the three CRLFs are one of each.
    """

    def __init__(self, *, max_octets: int = MAX_OCTETS, max_head: int = MAX_HEAD) -> None:
        self._buffer = bytearray()
        self._start = 0
        """Where the message being read begins in `_buffer`; 0 between calls."""
        self._seen = 0
        """Up to where the end of its head was looked for."""
        self._need = 0
        """Its whole length once the head is read, else 0."""
        self._half_ping = False
        self._pongs = 0
        self._broken = False
        self._max_octets = max_octets
        self._max_head = max_head

    @property
    def pending(self) -> int:
        """Octets of a message that is not complete yet."""
        return len(self._buffer)

    def expect_pong(self) -> None:
        """A ping was sent."""
        self._pongs += 1

    def feed(self, data: bytes) -> list[Framed]:
        """What is complete now, in order. After a `Broken`, which is always the last, nothing comes any more."""
        if self._broken:
            return []
        self._buffer += data
        framed: list[Framed] = []
        while (item := self._next()) is not None:
            framed.append(item)
            if isinstance(item, Broken):
                self._broken = True
                self._buffer.clear()
                return framed
        del self._buffer[: self._start]
        self._seen -= self._start
        self._start = 0
        return framed

    def _next(self) -> Framed | None:
        if not self._need:
            if self._seen == self._start and (item := self._between()) is not None:
                return item
            if (broken := self._read_head()) is not None:
                return broken
        end = self._start + self._need
        if not self._need or len(self._buffer) < end:
            return None
        message = bytes(self._buffer[self._start : end])
        self._start = self._seen = end
        self._need = 0
        return message

    def _between(self) -> Keepalive | Broken | None:
        """Take CRLFs until they are a ping or a pong; None when a message begins (7.5: CRLFs before it are ignored) or nothing is there."""
        while self._buffer.startswith(PONG, self._start):
            self._start += 2
            self._seen = self._start
            if self._pongs:
                self._pongs -= 1
                return Keepalive.PONG
            self._half_ping = not self._half_ping
            if not self._half_ping:
                return Keepalive.PING
        left = self._buffer[self._start : self._start + 2]
        if not left or left == b"\r":  # perhaps half a CRLF
            return None
        if left[0] not in _TOKEN:
            return Broken(MalformedMessage("not SIP", None), b"")
        self._half_ping = False
        return None

    def _read_head(self) -> Broken | None:
        """Look for the end of the head where it was not looked for yet; once it is there, set `_need`."""
        size = len(self._buffer) - self._start
        if not size or (size == 1 and self._buffer.endswith(b"\r")):
            return None
        found = self._buffer.find(_END, max(self._start, self._seen - 3))
        self._seen = len(self._buffer)
        if (size if found < 0 else found - self._start) > self._max_head:
            return Broken(
                MalformedMessage("header section too large", 413), bytes(self._buffer[self._start : self._start + self._max_head])
            )
        if found < 0:
            return None
        head = bytes(self._buffer[self._start : found + len(_END)])
        try:
            self._need = len(head) + _content_length(head)
        except MalformedMessage as error:
            return Broken(error, head)
        if self._need > self._max_octets:
            return Broken(MalformedMessage("message too large", 413), head)
        return None


def _content_length(head: bytes) -> int:
    """The length of the body. MalformedMessage when none is stated, which 18.3 demands on a stream, or when two statements differ."""
    stated = {value.strip(b" \t\r\n") for value in _LENGTH.findall(head)}
    if not stated:
        raise MalformedMessage("missing Content-Length")
    if len(stated) > 1:
        raise MalformedMessage("more than one Content-Length")
    value = stated.pop()
    if not value.isdigit() or len(value) > 10:
        raise MalformedMessage("malformed Content-Length")
    return int(value)
