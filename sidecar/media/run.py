"""One run of one sender's clock: the packets whose RTP time and arrival agree, from one SSRC and without a leap."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from sidecar.media.batch import Stretch
from sidecar.media.decode import RATE, Decoder
from sidecar.media.envelope import Envelope
from sidecar.media.reception import MAX_MISORDER

_HALF: Final = 0x80000000
_WORD: Final = 0xFFFFFFFF
_BLOCK: Final = 25
"""Packets of a stretch held as one: few enough that each still gives the mapping a point of its own."""


class Held(NamedTuple):
    """A packet, or several in a row, waiting for those that may still overtake them. Numbers are the first one's, extended over wraps."""

    timestamp: int
    sequence: int
    arrival: float
    payload: bytes
    decoder: Decoder | None
    packets: int = 1
    best: tuple[int, float] | None = None
    """Time stamp and arrival of the least delayed of several."""


class Run:
    """Decides which packets belong to it, and places its samples in arrival time."""

    __slots__ = (
        "_floor_now",
        "_floor_past",
        "_floor_until",
        "_last_offset",
        "_last_sequence",
        "_last_timestamp",
        "_leap",
        "_reach",
        "base",
        "delay",
        "envelope",
        "held",
        "last_arrival",
        "late_since",
        "rate",
        "ssrc",
        "start",
        "step",
    )  # fmt: skip

    def __init__(self, ssrc: int, rate: int, leap_s: float, reach_s: float) -> None:
        self.ssrc = ssrc
        self.rate = rate
        self.held: list[Held] = []
        self.envelope = Envelope(reach_s)
        self.start: int | None = None
        """RTP time of the first packet: zero of the envelope's time."""
        self.base: int | None = None
        """Position of that packet on the stream's time line, in samples at 8 kHz; None until it has been placed there."""
        self.late_since: Held | None = None
        """First of a row of packets that all came late: a stall of the network, or a sender's clock that stood still."""
        self.step = 0
        """Samples at 8 kHz that an ordinary packet holds."""
        self.delay = 0.0
        """Seconds by which the decoded audio lags behind the sound that was coded."""
        self.last_arrival = 0.0
        self._leap = leap_s
        self._reach = reach_s
        self._last_timestamp = self._last_sequence = 0
        self._last_offset = 0.0
        self._floor_now = self._floor_past = float("inf")
        self._floor_until = 0.0

    def extended(self, timestamp: int) -> int:
        """`timestamp` extended over wraps, next to the last one."""
        if self.start is None:
            return timestamp
        return self._last_timestamp + ((timestamp - self._last_timestamp + _HALF) & _WORD) - _HALF

    def take(self, timestamp: int, sequence: int, arrival: float, payload: bytes, decoder: Decoder | None) -> bool:
        """Hold a packet that fits this run; False where its time stamp leaps, so that it may be the first of another run."""
        extended = self.extended(timestamp)
        offset = arrival - extended / self.rate
        held = Held(extended, sequence, arrival, payload, decoder)
        if self.start is None:
            self.start = extended
        else:
            late = offset - min(self._floor_now, self._floor_past)
            if late < -self._leap and self._leaps_ahead(extended, sequence, offset):
                return False
            if late > self._leap:
                if extended < self._last_timestamp and sequence > self._last_sequence:
                    return False  # RTP time runs backwards while the sequence goes on
                if self.late_since is None and sequence > self._last_sequence:
                    self.late_since = held
            else:
                self.late_since = None
        self.held.append(held)
        self.last_arrival = arrival
        if not 0 < self._last_sequence - sequence <= MAX_MISORDER:
            self._last_timestamp, self._last_sequence, self._last_offset = extended, sequence, offset
        self._note_floor(offset, arrival)
        return True

    def take_stretch(self, stretch: Stretch, sequence: int, decoder: Decoder) -> bool:
        """Hold packets in a row; False, with nothing held, where one of them needs a look of its own."""
        extended = self.extended(stretch.timestamp)
        count, step = len(stretch), stretch.step
        offsets = stretch.arrivals - (extended + step * np.arange(count)) / self.rate
        floor = min(self._floor_now, self._floor_past)
        regular = floor - self._leap < offsets.min() and offsets.max() < floor + self._leap
        if self.start is None or self.late_since is not None or not regular or extended <= self._last_timestamp:
            return False
        payload, size = stretch.payloads.tobytes(), stretch.payloads.shape[1]
        arrivals = stretch.arrivals.tolist()
        for first in range(0, count, _BLOCK):
            last = min(first + _BLOCK, count)
            best = first + int(offsets[first:last].argmin())
            block = Held(
                timestamp=extended + first * step,
                sequence=sequence + first,
                arrival=arrivals[last - 1],
                payload=payload[first * size : last * size],
                decoder=decoder,
                packets=last - first,
                best=(extended + best * step, arrivals[best]),
            )
            self.held.append(block)
            self._note_floor(float(offsets[best]), arrivals[best])
        self.last_arrival = float(stretch.arrivals[-1])
        self._last_timestamp, self._last_sequence = extended + (count - 1) * step, sequence + count - 1
        self._last_offset = float(offsets[-1])
        return True

    def _leaps_ahead(self, extended: int, sequence: int, offset: float) -> bool:
        """Whether an early packet means a new clock: after a stall packets catch up one by one, and lost ones explain their own time."""
        gained = self._last_offset - offset
        missing = max(0, sequence - self._last_sequence - 1)
        explained = missing * (self.step or RATE // 50) / RATE
        return gained - explained > self._leap

    def _note_floor(self, offset: float, arrival: float) -> None:
        if arrival >= self._floor_until:
            self._floor_past, self._floor_now = self._floor_now, offset
            self._floor_until = arrival + self._reach
        elif offset < self._floor_now:
            self._floor_now = offset

    def seconds(self, timestamp: int) -> float:
        """RTP time in seconds since the run's start."""
        return (timestamp - (self.start or 0)) / self.rate

    def map(self, held: Held) -> None:
        """Let what is released show where the sender's clock stands."""
        timestamp, arrival = held.best if held.best is not None else (held.timestamp, held.arrival)
        self.envelope.add(self.seconds(timestamp), arrival)

    def position(self, timestamp: int) -> int:
        """Where an extended time stamp lies on the stream's time line."""
        return (self.base or 0) + (timestamp - (self.start or 0)) * RATE // self.rate

    def place(self, position: int) -> float:
        """When the sample at `position` of the time line passed, in arrival time."""
        return self.envelope.place((position - (self.base or 0)) / RATE) - self.delay

    def due(self, before: float) -> list[Held]:
        """Take out, in the order of RTP time, the packets up to the last that arrived by `before`."""
        cut = max((h.timestamp for h in self.held if h.arrival <= before), default=None)
        if cut is None:
            return []
        taken = sorted((h for h in self.held if h.timestamp <= cut), key=_order)
        self.held = [h for h in self.held if h.timestamp > cut]
        return taken


def _order(held: Held) -> tuple[int, int]:
    return held.timestamp, held.sequence
