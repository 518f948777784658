"""Who asked for a transfer and is still to hear how it went (RFC 3515 2.4.4): that outlives the call (RFC 5057 section 5)."""

from __future__ import annotations

from dataclasses import dataclass, field

from sidecar.b2bua.effects import Leg, other
from sidecar.clocks import Mono
from sidecar.sip.message import Request, Response


@dataclass(slots=True)
class Transfers:
    """The implicit subscriptions of a call's REFERs."""

    waiting: set[Leg] = field(default_factory=set)
    """Legs whose party will be notified."""
    until: Mono | None = None
    """Once the call is over: how long its dialogs are kept for that."""

    def asked(self, leg: Leg, response: Response) -> None:
        """A REFER from `leg` was taken. RFC 4488: with Refer-Sub false nobody will be notified."""
        if (response.headers.get("Refer-Sub") or "").partition(";")[0].strip().lower() != "false":
            self.waiting.add(leg)

    def told(self, leg: Leg, notify: Request) -> None:
        """A NOTIFY from `leg` has crossed and was answered: perhaps the last one."""
        if (notify.headers.get("Subscription-State") or "").partition(";")[0].strip().lower() == "terminated":
            self.waiting.discard(other(leg))

    def is_news(self, leg: Leg, request: Request) -> bool:
        """Whether the other leg's party waits for this."""
        return request.method == "NOTIFY" and other(leg) in self.waiting

    def call_ended(self, until: Mono) -> None:
        """Keep the dialogs until then at the latest."""
        self.until = until

    def on_time(self, now: Mono) -> None:
        """Nobody waits any longer."""
        if self.until is not None and now >= self.until:
            self.waiting.clear()

    @property
    def is_open(self) -> bool:
        """Somebody waits."""
        return bool(self.waiting)
