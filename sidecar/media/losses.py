"""How loss is spread over a stream: bursts and gaps after RFC 3611 4.7.2, and the worst interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GMIN: Final = 16
"""So many packets in a row received end a burst."""
INTERVAL_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Interval:
    """Packets that were to come within `INTERVAL_S` of media time, and how many of them never did."""

    start_s: float
    expected: int
    lost: int


@dataclass(frozen=True, slots=True)
class Pattern:
    """Over the whole stream. A lone lost packet is part of a gap; densities are shares, 0–1."""

    bursts: int
    burst_density: float
    burst_packets: float
    """Mean length of a burst in packets, received ones counted in."""
    gap_density: float
    lossy_intervals: int
    worst: Interval | None


class Losses:
    """Takes the packets in the order of their numbers, as soon as none can be overtaken any more."""

    __slots__ = (
        "_begin", "_bursts", "_expected", "_expected_before", "_first", "_in_bursts", "_last", "_lossy", "_lost", "_lost_before",
        "_lost_in_bursts", "_row", "_worst",
    )  # fmt: skip

    def __init__(self) -> None:
        self._expected = self._lost = 0
        # The row of losses that is still open: numbers of its first and last lost packet, and how many were lost.
        self._first = self._last = self._row = 0
        self._bursts = self._in_bursts = self._lost_in_bursts = 0
        # The interval that is still open: its start, and both counts before it.
        self._begin, self._expected_before, self._lost_before = 0.0, 0, 0
        self._worst: Interval | None = None
        self._lossy = 0

    def packets(self, second: float, received: int, lost: int) -> None:
        """`lost` packets never came, then `received` did, the first of them at `second` of media time."""
        if lost:
            first = self._expected
            if self._row and first - self._last > GMIN:
                self._end_row()
            if not self._row:
                self._first = first
            self._last = first + lost - 1
            self._row += lost
        if second >= self._begin + INTERVAL_S:
            self._end_interval()
            self._begin = second // INTERVAL_S * INTERVAL_S
        self._expected += received + lost
        self._lost += lost

    def _end_row(self) -> None:
        if self._row > 1:
            self._bursts += 1
            self._in_bursts += self._last - self._first + 1
            self._lost_in_bursts += self._row
        self._row = 0

    def _end_interval(self) -> None:
        expected, lost = self._expected - self._expected_before, self._lost - self._lost_before
        self._expected_before, self._lost_before = self._expected, self._lost
        if lost:
            self._lossy += 1
            worst = self._worst
            if worst is None or lost * worst.expected > worst.lost * expected:
                self._worst = Interval(self._begin, expected, lost)

    def finish(self) -> Pattern:
        """What there is to say of all that came."""
        self._end_row()
        self._end_interval()
        rest = self._expected - self._in_bursts
        return Pattern(
            bursts=self._bursts,
            burst_density=self._lost_in_bursts / self._in_bursts if self._in_bursts else 0.0,
            burst_packets=self._in_bursts / self._bursts if self._bursts else 0.0,
            gap_density=(self._lost - self._lost_in_bursts) / rest if rest else 0.0,
            lossy_intervals=self._lossy,
            worst=self._worst,
        )
