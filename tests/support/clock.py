"""A clock that moves only when told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sidecar.clocks import Mono


class Timed(Protocol):
    """Anything with deadlines: a layer, an engine, a wire."""

    def next_deadline(self) -> Mono | None:
        """When it is due."""
        ...

    def on_time(self, now: Mono) -> None:
        """It is due."""
        ...


class FakeClock:
    """Monotonic seconds, from 0 on."""

    def __init__(self, start: float = 0.0) -> None:
        self.now = Mono(start)

    def __call__(self) -> Mono:
        return self.now

    def advance(self, seconds: float) -> Mono:
        """Let time pass without anyone noticing."""
        self.now = Mono(self.now + seconds)
        return self.now

    def run(self, until: float, *parties: Timed, after: Callable[[Mono], object] | None = None, at_most: int = 100_000) -> None:
        """Fire every deadline of `parties` up to `until` at its very instant, calling `after` behind each; end at `until`.

        AssertionError when there are more than `at_most` of them: somebody re-arms a deadline that lies in the past.
        """
        for _ in range(at_most):
            due = min((d for party in parties if (d := party.next_deadline()) is not None), default=None)
            if due is None or due > until:
                self.now = Mono(max(self.now, until))
                return
            self.now = Mono(max(self.now, due))
            for party in parties:
                mine = party.next_deadline()
                if mine is not None and mine <= self.now:
                    party.on_time(self.now)
            if after is not None:
                after(self.now)
        raise AssertionError(f"still busy after {at_most} deadlines at {self.now}")
