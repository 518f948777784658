"""What both parties tell of the call in RTCP: round trips as seen from between them, what each hears of the other, the senders' clocks."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from sidecar.clocks import Mono
from sidecar.media import rtcp
from sidecar.media.relay import Leg

_REMEMBERED: Final = 32
"""Sender reports whose answer may still come."""
_ROUND_TRIPS: Final = 1024
_LONGEST_S: Final = 60.0
_CLOCK_S: Final = 20.0
"""Two sender reports so far apart tell how a sender's clocks run against each other."""
_OTHER: Final[dict[Leg, Leg]] = {"A": "B", "B": "A"}


@dataclass(slots=True)
class Party:
    """What the party of one leg said, and how far away it is."""

    round_trips: deque[float] = field(default_factory=lambda: deque(maxlen=_ROUND_TRIPS))
    """Seconds from us to it and back, its own time to answer taken off."""
    heard: rtcp.Block | None = None
    """Its newest report on a source of the other party."""
    worst_fraction: float = 0.0
    reports: int = 0
    end_system_ms: int | None = None
    """Delay of its jitter buffer, codec and echo control, where it says (RFC 3611 4.7.7)."""
    clock: tuple[rtcp.SenderReport, rtcp.SenderReport] | None = None
    """Its first and newest sender report from one source."""
    asked: deque[tuple[int, Mono]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    """Middle bits of the NTP time stamps that went from it to the other party, and when they passed."""

    def skew_ppm(self, clock_rate: int) -> float | None:
        """By how much its RTP clock runs ahead of its own wall clock; None while its reports do not show it."""
        if self.clock is None:
            return None
        first, last = self.clock
        real = last.seconds - first.seconds
        if real < _CLOCK_S:
            return None
        counted = ((last.rtp - first.rtp) & 0xFFFFFFFF) / clock_rate
        skew = (counted / real - 1) * 1e6
        return skew if abs(skew) < 10_000 else None  # further off is no clock but one that was set, or wrapped


class Hearsay:
    """Takes the RTCP of both legs as it passes; each datagram may say anything."""

    def __init__(self) -> None:
        self.parties: dict[Leg, Party] = {"A": Party(), "B": Party()}

    def packet(self, leg: Leg, datagram: bytes, arrival: Mono) -> None:
        """Take one datagram that the party of `leg` sent."""
        party, other = self.parties[leg], self.parties[_OTHER[leg]]
        for report in rtcp.reports(datagram):
            match report:
                case rtcp.SenderReport():
                    party.asked.append((report.ntp >> 16 & 0xFFFFFFFF, arrival))
                    first = party.clock[0] if party.clock is not None and party.clock[0].ssrc == report.ssrc else report
                    party.clock = first, report
                    _heard(party, other, report.blocks, arrival)
                case rtcp.ReceiverReport():
                    _heard(party, other, report.blocks, arrival)
                case rtcp.ReferenceTime():
                    party.asked.append((report.ntp >> 16 & 0xFFFFFFFF, arrival))
                case rtcp.LastReference():
                    _round_trip(party, other, report.last_rr, report.delay, arrival)
                case rtcp.VoipMetrics():
                    party.end_system_ms = report.end_system_ms
                case rtcp.Description() | rtcp.Bye():
                    pass  # who it is and that it goes, SIP tells better


def _heard(party: Party, other: Party, blocks: tuple[rtcp.Block, ...], arrival: Mono) -> None:
    for block in blocks:
        party.heard = block
        party.reports += 1
        party.worst_fraction = max(party.worst_fraction, block.fraction_lost)
        _round_trip(party, other, block.last_sr, block.delay, arrival)


def _round_trip(party: Party, other: Party, middle: int, delay: float, arrival: Mono) -> None:
    """RFC 3550 6.4.1, seen from between the two: from the report's passing here to its answer's, less what the party took."""
    if not middle:
        return
    for stamp, passed in other.asked:
        if stamp == middle:
            round_trip = arrival - passed - delay
            # A little under zero is the 1/65536 s of the format; more is a party that cannot count.
            if -0.002 < round_trip < _LONGEST_S:
                party.round_trips.append(max(round_trip, 0.0))
            return
