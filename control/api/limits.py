"""How often one source may present a token that is not known: a bounded table of leaky counters, without a clock of its own."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class Allowance:
    """`burst` failures at once, then one every `every_s` seconds; `most` sources are remembered, the one heard longest ago is forgotten."""

    burst: int = 20
    every_s: float = 3.0
    most: int = 4096


class Failures:
    """Counts failures by source; times are seconds on any monotonic scale."""

    def __init__(self, allowance: Allowance | None = None) -> None:
        self._allowance = allowance or Allowance()
        self._level: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self.refused = 0

    def describe(self) -> dict[str, object]:
        """How many sources are remembered, and how many attempts were refused unread."""
        return {"sources": len(self._level), "refused": self.refused}

    def wait_s(self, source: str, now: float) -> int:
        """Whole seconds for which `source` has to wait before it is heard again; 0: it is heard."""
        level, _ = self._drained(source, now)
        if level <= self._allowance.burst - 1:
            return 0
        self.refused += 1
        return max(1, ceil((level - (self._allowance.burst - 1)) * self._allowance.every_s))

    def failed(self, source: str, now: float) -> None:
        """Count a failure."""
        level, at = self._drained(source, now)
        self._level[source] = (level + 1, at)
        self._level.move_to_end(source)
        while len(self._level) > self._allowance.most:
            self._level.popitem(last=False)

    def _drained(self, source: str, now: float) -> tuple[float, float]:
        level, at = self._level.get(source, (0.0, now))
        return max(0.0, level - max(0.0, now - at) / self._allowance.every_s), now
