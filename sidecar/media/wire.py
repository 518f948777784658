"""What is kept of a call's packets for a capture file: each with the way that it took, in a bounded row between relay and analysis."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from sidecar.clocks import Addr, Mono
from sidecar.media.relay import Leg


class Flow(NamedTuple):
    """The way of a leg's packets: from its party to us, and from us to the other party."""

    leg: Leg
    source: Addr
    local: Addr
    out: Addr
    destination: Addr


Wired = tuple[Flow, bytes, Mono]
"""A relayed packet, as it came or, where its SRTP ended here, in the clear; and its arrival."""


class Wire:
    """Holds at most `capacity` packets; when full, the oldest goes and `dropped` counts it."""

    def __init__(self, capacity: int) -> None:
        self._packets: deque[Wired] = deque(maxlen=capacity)
        self._flows: dict[Flow, Flow] = {}
        self.dropped = 0

    def offer(self, flow: Flow, data: bytes, arrival: Mono) -> None:
        """Append a packet; never waits, never fails."""
        if len(self._packets) == self._packets.maxlen:
            self.dropped += 1
        # One object for equal ways: they are written out once when the packets cross to another process.
        self._packets.append((self._flows.setdefault(flow, flow), data, arrival))

    def drain(self) -> list[Wired]:
        """All packets held, in order of arrival; none is held afterwards."""
        taken = sorted(self._packets, key=lambda packet: packet[2])
        self._packets.clear()
        return taken
