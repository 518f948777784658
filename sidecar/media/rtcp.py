"""Reading RTCP (RFC 3550 section 6, extended reports after RFC 3611). What does not add up is left out, never guessed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_HEADER: Final = struct.Struct("!BBH")
_BLOCK: Final = struct.Struct("!IIIIII")
_SENDER: Final = struct.Struct("!QIII")
_VOIP: Final = struct.Struct("!I4B4H10B3H")
_UNAVAILABLE: Final = 127


@dataclass(frozen=True, slots=True)
class Block:
    """What a receiver says of one source that it hears (6.4.1)."""

    ssrc: int
    fraction_lost: float
    """Of the last interval, 0–1."""
    lost: int
    """Cumulative; negative where duplicates came."""
    highest: int
    jitter: int
    """In units of the source's RTP clock."""
    last_sr: int
    """Middle 32 bits of the NTP time stamp of the newest sender report heard; 0 for none."""
    delay: float
    """Seconds since that report came in."""


@dataclass(frozen=True, slots=True)
class SenderReport:
    """A sender's two clocks at one moment (6.4.1), and what it hears."""

    ssrc: int
    ntp: int
    """64 bits: seconds since 1900 and their fraction."""
    rtp: int
    packets: int
    octets: int
    blocks: tuple[Block, ...]

    @property
    def seconds(self) -> float:
        """The NTP time stamp in seconds."""
        return self.ntp / 2**32


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """What one that does not send hears (6.4.2)."""

    ssrc: int
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Description:
    """SDES items of one source (6.5): number → text. Item 1 is the CNAME."""

    ssrc: int
    items: dict[int, str]


@dataclass(frozen=True, slots=True)
class Bye:
    """Sources that leave (6.6)."""

    ssrcs: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class ReferenceTime:
    """A receiver's clock (RFC 3611 4.4)."""

    ssrc: int
    ntp: int


@dataclass(frozen=True, slots=True)
class LastReference:
    """The answer to it (4.5): whose, its middle 32 bits, and the seconds since it came in."""

    sender: int
    ssrc: int
    last_rr: int
    delay: float


@dataclass(frozen=True, slots=True)
class VoipMetrics:
    """How a receiver rates what it hears (4.7). None where it does not say."""

    sender: int
    ssrc: int
    loss: float
    discard: float
    round_trip_ms: int
    end_system_ms: int
    r_factor: int | None
    mos_lq: float | None
    mos_cq: float | None


Report = SenderReport | ReceiverReport | Description | Bye | ReferenceTime | LastReference | VoipMetrics


def reports(datagram: bytes) -> list[Report]:
    """What a compound packet says, in order. Reading ends at the first packet whose length goes beyond the datagram."""
    return list(_reports(datagram))


def _reports(datagram: bytes) -> Iterator[Report]:
    at = 0
    while at + 4 <= len(datagram):
        first, kind, words = _HEADER.unpack_from(datagram, at)
        end = at + 4 * (words + 1)
        if first >> 6 != 2 or end > len(datagram):
            return
        body = datagram[at + 4 : end]
        if first & 0x20:  # padding, which only the last packet of a compound may have
            if not body or not 0 < body[-1] <= len(body):
                return
            body = body[: -body[-1]]
        yield from _packet(kind, first & 0x1F, body)
        at = end


def _packet(kind: int, count: int, body: bytes) -> Iterator[Report]:
    match kind:
        case 200 if len(body) >= 24:
            ntp, rtp, packets, octets = _SENDER.unpack_from(body, 4)
            yield SenderReport(_word(body, 0), ntp, rtp, packets, octets, _blocks(body, 24, count))
        case 201 if len(body) >= 4:
            yield ReceiverReport(_word(body, 0), _blocks(body, 4, count))
        case 202:
            yield from _descriptions(body, count)
        case 203 if len(body) >= 4 * count:
            reason = body[4 * count :]
            text = reason[1 : 1 + reason[0]].decode("utf-8", "replace") if reason else ""
            yield Bye(tuple(_word(body, 4 * i) for i in range(count)), text)
        case 207 if len(body) >= 4:
            yield from _extended(body)
        case _:
            return


def _word(body: bytes, at: int) -> int:
    return int.from_bytes(body[at : at + 4], "big")


def _blocks(body: bytes, at: int, count: int) -> tuple[Block, ...]:
    blocks = []
    for start in range(at, min(at + 24 * count, len(body) - 23), 24):
        ssrc, loss, highest, jitter, last_sr, delay = _BLOCK.unpack_from(body, start)
        lost = (loss & 0xFFFFFF) - (0x1000000 if loss & 0x800000 else 0)
        blocks.append(Block(ssrc, (loss >> 24) / 256, lost, highest, jitter, last_sr, delay / 65536))
    return tuple(blocks)


def _descriptions(body: bytes, count: int) -> Iterator[Description]:
    at = 0
    for _ in range(count):
        if at + 4 > len(body):
            return
        ssrc, items = _word(body, at), {}
        at += 4
        while at + 2 <= len(body) and body[at]:
            items[body[at]] = body[at + 2 : at + 2 + body[at + 1]].decode("utf-8", "replace")
            at += 2 + body[at + 1]
        yield Description(ssrc, items)
        at += 4 - at % 4  # a zero octet ends the list, and zeros fill up to the next word


def _extended(body: bytes) -> Iterator[Report]:
    sender, at = _word(body, 0), 4
    while at + 4 <= len(body):
        kind, end = body[at], at + 4 + 4 * int.from_bytes(body[at + 2 : at + 4], "big")
        if end > len(body):
            return
        match kind:
            case 4 if end - at == 12:
                yield ReferenceTime(sender, int.from_bytes(body[at + 4 : at + 12], "big"))
            case 5:
                for start in range(at + 4, end - 11, 12):
                    yield LastReference(sender, _word(body, start), _word(body, start + 4), _word(body, start + 8) / 65536)
            case 7 if end - at == 36:
                yield _voip(sender, body, at + 4)
            case _:
                pass  # the other blocks say nothing that is used here
        at = end


def _voip(sender: int, body: bytes, at: int) -> VoipMetrics:
    ssrc, loss, discard, _, _, _, _, round_trip, end_system, *rest = _VOIP.unpack_from(body, at)
    r_factor, _, mos_lq, mos_cq = rest[4:8]
    return VoipMetrics(
        sender,
        ssrc,
        loss=loss / 256,
        discard=discard / 256,
        round_trip_ms=round_trip,
        end_system_ms=end_system,
        r_factor=None if r_factor == _UNAVAILABLE else r_factor,
        mos_lq=None if mos_lq == _UNAVAILABLE else mos_lq / 10,
        mos_cq=None if mos_cq == _UNAVAILABLE else mos_cq / 10,
    )
