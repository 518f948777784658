"""What a receiver knows of one synchronisation source: RFC 3550 appendices A.1 (sequence), A.3 (loss) and A.8 (jitter)."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

MAX_DROPOUT: Final = 3000
MAX_MISORDER: Final = 100
_CYCLE: Final = 1 << 16
_SEEN: Final = (1 << MAX_MISORDER) - 1
_JUMP_S: Final = 0.25
_KEEP: Final = 15 / 16


class Interval(NamedTuple):
    """Expected and lost packets since the last interval was taken (A.3)."""

    expected: int
    lost: int

    @property
    def fraction(self) -> float:
        """Share lost in this interval, 0–1."""
        return self.lost / self.expected if self.expected and self.lost > 0 else 0.0


class Reception:
    """Counters of one SSRC.

    A.1's probation is left out: the source has been locked by address before any packet gets here. Duplicates are counted apart from
    what was received, so that they cannot hide a loss (A.3 would let them). A restarted sequence adds to what was counted before.
    """

    __slots__ = (
        "_bad", "_base", "_deviation", "_expected_before", "_interval", "_jitter", "_last_step", "_last_transit", "_seen", "clock_rate",
        "duplicates", "highest", "packets", "reordered", "ssrc",
    )  # fmt: skip

    def __init__(self, ssrc: int, clock_rate: int, sequence: int) -> None:
        self.ssrc = ssrc
        self.clock_rate = clock_rate
        self.packets = 0
        self.duplicates = 0
        self.reordered = 0
        self._expected_before = 0
        self._interval = (0, 0)
        self._jitter = 0.0
        self._deviation = (0.0, 0)
        self._last_transit: float | None = None
        self._last_step = (0, 0)
        self._start(sequence)

    def _start(self, sequence: int) -> None:
        self._base = sequence
        self.highest = sequence - 1
        """Highest sequence number seen, extended over wraps."""
        self._seen = 0
        self._bad: int | None = None

    def packet(self, sequence: int) -> int | None:
        """Count a packet in arrival order; its extended sequence number, or None for a duplicate and for a lone wild number."""
        ahead = (sequence - self.highest) & 0xFFFF
        if 0 < ahead < MAX_DROPOUT:
            self.highest += ahead
            self._seen = (self._seen << ahead | 1) & _SEEN
            self._bad = None
            self.packets += 1
            return self.highest
        behind = _CYCLE - ahead if ahead else 0
        if behind < MAX_MISORDER:
            bit = 1 << behind
            if self._seen & bit:
                self.duplicates += 1
                return None
            if self.highest - behind < self._base:
                self._base = self.highest - behind  # the very first packets came out of order
            self._seen |= bit
            self.reordered += 1
            self.packets += 1
            return self.highest - behind
        if self._bad != sequence:  # A.1: only a second packet in sequence proves a restart
            self._bad = (sequence + 1) & 0xFFFF
            return None
        self._expected_before = self.expected + 1  # the packet before this one belonged to the new sequence
        self._start(sequence)
        self.packets += 1  # … and was received
        return self.packet(sequence)

    def jitter(self, timestamp: int, arrival: float) -> None:
        """Let a packet of ordinary audio (no marker, no event, no comfort noise) move the estimate. `arrival` in seconds."""
        transit = arrival * self.clock_rate - timestamp
        if self._last_transit is not None:
            difference = (transit - self._last_transit + 0x80000000) % 0x100000000 - 0x80000000
            last_sequence, last_timestamp = self._last_step
            step = (timestamp - last_timestamp + 0x80000000 & 0xFFFFFFFF) - 0x80000000
            packets = self.highest - last_sequence
            # A time stamp that leaps while the sequence goes on by one is the sender's clock set anew, not the network.
            leapt = abs(difference) > _JUMP_S * self.clock_rate and packets == 1 and not 0 < step <= 0.2 * self.clock_rate
            if not leapt:
                self._jitter += (abs(difference) - self._jitter) / 16
                self._deviation = (self._deviation[0] + abs(difference), self._deviation[1] + 1)
        self._last_transit = transit
        self._last_step = (self.highest, timestamp)

    def next_extended(self, sequence: int) -> int | None:
        """`sequence` extended, if it comes after all that was received."""
        ahead = (sequence - self.highest) & 0xFFFF
        return self.highest + ahead if 0 < ahead < MAX_DROPOUT else None

    def stretch(self, sequence: int, timestamp: int, step: int, arrivals: npt.NDArray[np.float64]) -> None:
        """Count new packets that follow each other without a gap or a marker, as `packet` and `jitter` would."""
        count = len(arrivals)
        self.packet(sequence)
        self.jitter(timestamp, float(arrivals[0]))
        self.highest += count - 1
        self.packets += count - 1
        self._seen = (self._seen << (count - 1) | (1 << (count - 1)) - 1) & _SEEN
        differences = np.abs((arrivals[1:] - arrivals[:-1]) * self.clock_rate - step)
        self._deviation = (self._deviation[0] + float(differences.sum()), self._deviation[1] + count - 1)
        self._jitter = self._jitter * _KEEP ** (count - 1) + float(differences @ _weights(count - 1)) / 16
        last = timestamp + (count - 1) * step
        self._last_transit = float(arrivals[-1]) * self.clock_rate - last
        self._last_step = (self.highest, last)

    @property
    def jitter_s(self) -> float:
        """Interarrival jitter in seconds (6.4.1)."""
        return self._jitter / self.clock_rate

    def take_deviation(self) -> float | None:
        """Mean of what `jitter_s` is a running estimate of, over the packets since this was last taken; None without any."""
        total, count = self._deviation
        self._deviation = (0.0, 0)
        return total / count / self.clock_rate if count else None

    @property
    def expected(self) -> int:
        """Packets that were to come, over all restarts."""
        return self._expected_before + self.highest - self._base + 1

    @property
    def lost(self) -> int:
        """Packets that never came, cumulative."""
        return self.expected - self.packets

    def interval(self) -> Interval:
        """Expected and lost since the last call of this method."""
        expected, lost = self.expected, self.lost
        before = self._interval
        self._interval = (expected, lost)
        return Interval(expected - before[0], lost - before[1])


@lru_cache(maxsize=1024)
def _weights(count: int) -> npt.NDArray[np.float64]:
    """How much each of so many differences in a row still weighs in the estimate after the last."""
    return np.asarray(_KEEP ** np.arange(count - 1, -1, -1))
