"""A network between cores: datagrams that arrive late, twice, out of order or not at all, the same way in every run."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from itertools import count

from sidecar.clocks import Addr, Mono

Receiver = Callable[[bytes, Addr, Mono], object]
"""Called with the octets, where they came from, and the time."""


class Wire:
    """Unreliable datagrams between addresses. `loss` and `duplicate` are probabilities; `jitter` beyond `delay` reorders.

    `lose` decides for single datagrams before chance does: `lose=lambda data, source, dest: data.startswith(b"ACK")`.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        loss: float = 0.0,
        duplicate: float = 0.0,
        delay: float = 0.01,
        jitter: float = 0.0,
        lose: Callable[[bytes, Addr, Addr], bool] | None = None,
    ) -> None:
        self.loss, self.duplicate, self.delay, self.jitter = loss, duplicate, delay, jitter
        self.lose = lose
        self.sent: list[tuple[Mono, Addr, Addr, bytes]] = []
        """Everything that was handed in, lost or not: time, from, to, octets."""
        self.lost = 0
        self._random = random.Random(seed)
        self._in_flight: list[tuple[Mono, int, bytes, Addr, Addr]] = []
        self._order = count()
        self._receivers: dict[Addr, Receiver] = {}

    def attach(self, address: Addr, receiver: Receiver) -> None:
        """What arrives at `address` goes to `receiver`; what arrives where nobody is attached is gone."""
        self._receivers[address] = receiver

    def send(self, data: bytes, source: Addr, dest: Addr, now: Mono) -> None:
        """Hand one datagram in."""
        self.sent.append((now, source, dest, data))
        if (self.lose is not None and self.lose(data, source, dest)) or self._random.random() < self.loss:
            self.lost += 1
            return
        for _ in range(2 if self._random.random() < self.duplicate else 1):
            arrival = Mono(now + self.delay + self._random.random() * self.jitter)
            heapq.heappush(self._in_flight, (arrival, next(self._order), data, source, dest))

    def next_deadline(self) -> Mono | None:
        """When the next datagram arrives."""
        return self._in_flight[0][0] if self._in_flight else None

    def on_time(self, now: Mono) -> None:
        """Deliver what has arrived by `now`."""
        while self._in_flight and self._in_flight[0][0] <= now:
            _, _, data, source, dest = heapq.heappop(self._in_flight)
            receiver = self._receivers.get(dest)
            if receiver is not None:
                receiver(data, source, now)
