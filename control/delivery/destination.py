"""What an outbox worker needs of a destination, and how long it waits after a failure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol

LONGEST_BACKOFF_S = 300.0
LONGEST_RETRY_AFTER_S = 3600.0


@dataclass(frozen=True, slots=True)
class Parcel:
    """One thing to deliver. `body` is the same at every attempt."""

    delivery: int
    kind: str
    label: str
    body: bytes
    content_type: str
    workspace: str
    agent: str
    key: str | None
    attempts: int
    """This one included."""
    report: int | None = None
    call: str | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination has it, from now or from before. `reply` is what it answered, for whoever waits."""

    evidence: str
    reply: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Later:
    """Try again: `after_s` if the destination said when."""

    cause: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The destination will never take it as it is."""

    cause: str


Result = Delivered | Later | Refused


class Destination(Protocol):
    """An adapter for one kind of receiver. Network failures are a `Later`, not an exception."""

    async def send(self, parcel: Parcel) -> Result:
        """Make one attempt."""
        ...


def backoff_s(attempts: int, spread: float) -> float:
    """Seconds until the next attempt after `attempts` failures: 1 s doubling to five minutes, less up to half of it by `spread` (0–1)."""
    full = min(LONGEST_BACKOFF_S, 2.0 ** min(attempts - 1, 16))
    return float(full * (1 - spread / 2))


def retry_after_s(retry_after: str | None, now: datetime) -> float | None:
    """Retry-After (RFC 9110 section 10.2.3) in seconds, from either of its forms."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return min(float(retry_after), LONGEST_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - now).total_seconds()), LONGEST_RETRY_AFTER_S)


def shorten(text: str) -> str:
    """An answer's body as a cause in one line."""
    return " ".join(text.split())[:300] or "no explanation"
