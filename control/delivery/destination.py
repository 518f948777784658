"""What an outbox worker needs of a destination, and how long it waits after a failure."""

from __future__ import annotations

from dataclasses import dataclass, field
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
