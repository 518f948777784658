"""The one place where control reads the wall clock: microseconds since the epoch, the unit of every stored time."""

from __future__ import annotations

import time
from datetime import UTC, datetime

SECOND = 1_000_000
"""One second in the unit of stored times."""
DAY = 86_400 * SECOND
"""One day in the same unit."""


def now_us() -> int:
    """The wall clock in microseconds since the epoch."""
    return time.time_ns() // 1000


class Steps:
    """Notices when the wall clock was set back, by the monotonic one, which cannot be."""

    def __init__(self) -> None:
        self._ahead = now_us() - time.monotonic_ns() // 1000

    def back_us(self) -> int:
        """By how much it was set back since the last look; 0 for what a clock that is disciplined does by itself."""
        ahead = now_us() - time.monotonic_ns() // 1000
        back, self._ahead = self._ahead - ahead, ahead
        return back if back > SECOND else 0


def as_us(moment: datetime) -> int:
    """Microseconds since the epoch of an aware datetime."""
    return int(moment.timestamp() * SECOND)


def as_datetime(us: int) -> datetime:
    """The aware UTC datetime of a stored time."""
    return datetime.fromtimestamp(us / SECOND, UTC)


def as_text(us: int | None) -> str | None:
    """RFC 3339 in UTC, or None."""
    return None if us is None else as_datetime(us).isoformat().replace("+00:00", "Z")
