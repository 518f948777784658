"""A call's SIP messages, and its RTP where captured, as a file that Wireshark, sngrep and tshark read: see `control.contract.capture`.

Messages that came over TCP or TLS are written as datagrams too: what is shown is the message, not its segments.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from control.contract import capture as c
from control.contract import facts as f
from control.contract.redact import redact_correlation, token_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_OUT_OF_ORDER = 512
"""Packets of a capture that may stand before an earlier one: both directions are read from their sockets in turns."""
_CHUNK = 256 * 1024
_REDACTED, _KEY_IN_FORM = "inline:redacted", "inline:" + 5 * "redacted"
"""The latter is as long as most keys are, and base64."""
_LENGTH = re.compile(r"^((?:Content-Length|l)[ \t]*:[ \t]*)[0-9]+", re.IGNORECASE | re.MULTILINE)


def capture(trace: Iterable[f.Fact]) -> bytes:
    """The capture of all SIP messages of a trace, in its order; correlation tokens are replaced by their hash, as the API shows them."""
    return c.HEADER + b"".join(c.record(*each) for each in _messages(trace))


def merged(trace: Iterable[f.Fact], media: Iterator[c.Record], offset_ns: int) -> Iterator[bytes]:
    """The same with the packets of `media`, `offset_ns` added to their times, in order of time: some octets after the other."""
    messages = sorted(_messages(trace), key=lambda each: each.at_ns)
    moved = (c.Record(at_ns + offset_ns, packet) for at_ns, packet in media)
    chunk = bytearray(c.HEADER)
    for each in heapq.merge(messages, _ordered(moved), key=lambda each: each.at_ns):
        chunk += c.record(*each)
        if len(chunk) >= _CHUNK:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)


def _ordered(media: Iterator[c.Record]) -> Iterator[c.Record]:
    """In order of time as far as a short look ahead makes it; what has one time stays in its order."""
    waiting: list[tuple[int, int, c.Record]] = []
    for number, each in enumerate(media):
        heapq.heappush(waiting, (each.at_ns, number, each))
        if len(waiting) > _OUT_OF_ORDER:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]


def _messages(trace: Iterable[f.Fact]) -> Iterator[c.Record]:
    facts = list(trace)
    token = token_of(facts)
    for fact in facts:
        if isinstance(fact, f.SipMessage):
            yield c.Record((fact.at - _EPOCH) // _MICROSECOND * 1000, _packet(fact, token))


def _packet(message: f.SipMessage, token: str | None) -> bytes:
    local, remote = c.end(message.local), c.end(message.remote)
    way = c.Way(remote, local) if message.direction == "in" else c.Way(local, remote)
    return way.datagram(_readable(redact_correlation(message.text, token)).encode("utf-8", "replace"))


def _readable(text: str) -> str:
    """A message whose SRTP keys were redacted, in a form that dissectors take: Wireshark's calls a key that is none malformed."""
    head, end, body = text.partition("\r\n\r\n")
    if _REDACTED not in body:
        return text
    body = body.replace(_REDACTED, _KEY_IN_FORM)
    return _LENGTH.sub(lambda found: f"{found[1]}{len(body.encode('utf-8', 'replace'))}", head) + end + body
