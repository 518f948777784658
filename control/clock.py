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


def as_us(moment: datetime) -> int:
    """Microseconds since the epoch of an aware datetime."""
    return int(moment.timestamp() * SECOND)


def as_datetime(us: int) -> datetime:
    """The aware UTC datetime of a stored time."""
    return datetime.fromtimestamp(us / SECOND, UTC)


def as_text(us: int | None) -> str | None:
    """RFC 3339 in UTC, or None."""
    return None if us is None else as_datetime(us).isoformat().replace("+00:00", "Z")
