"""How much may begin: under overload some calls are refused early and cheaply, so that the others, and those that live, go well.

In the spirit of RFC 7339 the share of new calls that is let in follows how late the sidecar is: less at once when messages wait too long,
more in small steps when they do not. It is the sidecar's own share, since few callers know how to hold back on request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_LESS: Final = 0.7
_MORE: Final = 0.05
_IN_A_ROW: Final = 3
"""Late looks before anybody is refused: a machine that stood still for a moment has caught up by then, and no call is worth it."""
_LEAST: Final = 0.02
"""Somebody is always let in: otherwise nothing would tell that it is over."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the sidecar takes on."""

    calls: int = 2000
    """Live calls at a time."""
    lag_s: float = 0.2
    """How long a message may wait until it is read: at half a second its sender repeats it (T1), which makes matters worse."""


class Valve:
    """Told now and then how long messages wait; asked for each new call."""

    def __init__(self) -> None:
        self.share = 1.0
        """Of new calls that are let in."""
        self.lag = 0.0
        """Seconds, as told last."""
        self._credit = 0.0
        self._late = 0

    def late(self, lag: float, limits: Limits) -> None:
        """Messages wait so many seconds. Tell it in even steps of time, ten times a second or so."""
        self.lag = lag
        self._late = self._late + 1 if lag > limits.lag_s else 0
        if self._late >= _IN_A_ROW:
            self.share = max(_LEAST, self.share * _LESS)
        elif lag < limits.lag_s / 2:
            self.share = min(1.0, self.share + _MORE)

    def admits(self, live: int, limits: Limits) -> bool:
        """Whether one more call may begin beside `live` ones."""
        if live >= limits.calls:
            return False
        if self.share >= 1.0:
            return True
        self._credit += self.share
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True

    def describe(self) -> dict[str, float]:
        """For the admin API."""
        return {"share": round(self.share, 3), "lag_ms": round(self.lag * 1000, 1)}
