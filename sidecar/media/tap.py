"""The bounded ring between the relay, which must not wait, and the analysis, which may be late."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from sidecar.clocks import Mono
from sidecar.media.relay import Leg

Tapped = tuple[Leg, bytes, Mono]
"""A relayed packet as it came in: the leg it came from, the datagram, its arrival. A plain tuple, since there is one for each packet."""


class Ring:
    """Holds at most `capacity` packets; when full, the oldest goes and `dropped` counts it."""

    def __init__(self, capacity: int) -> None:
        self._packets: deque[Tapped] = deque(maxlen=capacity)
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._packets)

    def offer(self, leg: Leg, data: bytes, arrival: Mono) -> None:
        """Append a packet; never waits, never fails."""
        if len(self._packets) == self._packets.maxlen:
            self.dropped += 1
        self._packets.append((leg, data, arrival))

    def extend(self, packets: Sequence[Tapped]) -> None:
        """Append packets in their order, as `offer` does with one."""
        room = (self._packets.maxlen or 0) - len(self._packets)
        self.dropped += max(0, len(packets) - room)
        self._packets.extend(packets)

    def drain(self) -> list[Tapped]:
        """All packets held, oldest first; the ring is empty afterwards."""
        taken = list(self._packets)
        self._packets.clear()
        return taken
