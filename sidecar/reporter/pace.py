"""How fast the reporter goes: the sizes and times of an upload, as one value that a test may replace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds, unless the name says otherwise."""

    gather: float = 0.1
    """From the first fact to its batch leaving: what a person watching live waits at most, network aside."""
    max_facts: int = 500
    max_bytes: int = 512 * 1024
    """Of one batch; below the 1 MiB at which many HTTP servers answer 413."""
    timeout: float = 10.0
    """For one post, connecting included."""
    first_retry: float = 0.25
    last_retry: float = 15.0
    """Between tries while control is unreachable: doubling from the first to the last."""
    refused_retry: float = 30.0
    """Between tries while control is there and refuses all that we send: a person has to mend that."""
    longest_wait: float = 300.0
    """The most that a Retry-After can ask for."""
    disk_retry: float = 1.0
    sync: float = 0.2
    """From a trace's end to its sync: traces that end together share one, and what control has by then needs none."""


class Backoff:
    """Doubling waits with jitter, so that a fleet does not come back in one instant."""

    def __init__(self, pace: Pace, jitter: Callable[[], float]) -> None:
        """`jitter` returns a number in [0, 1)."""
        self._pace, self._jitter = pace, jitter
        self._failures = 0

    def reset(self) -> None:
        """Control answered."""
        self._failures = 0

    def next(self, asked: float | None, *, refused: bool = False) -> float:
        """Seconds to wait after one more failure; `asked` is what a Retry-After wanted."""
        pace = self._pace
        if asked is not None:
            return min(asked, pace.longest_wait)
        if refused:
            return pace.refused_retry
        wait = min(pace.last_retry, pace.first_retry * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return wait * (0.5 + self._jitter() / 2)


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After asks for, given as a number or as an HTTP date (RFC 9110 10.2.3); None when absent or senseless."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())
