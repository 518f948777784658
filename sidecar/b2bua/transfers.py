"""Who asked for a transfer and is still to hear how it went (RFC 3515 2.4.4): that outlives the call (RFC 5057 section 5)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from sidecar.b2bua.effects import Leg, other
from sidecar.clocks import Mono
from sidecar.sip.message import Request, Response

_MOST_NUMBERS: Final = 64
"""REFERs a call whose numbers are kept: a peer can send as many as it likes."""
_ID = re.compile(r"(\s*refer\s*;(?:[^;]*;)*?\s*id\s*=\s*)([0-9]{1,10})(\s*(?:;.*)?)", re.IGNORECASE | re.DOTALL)


@dataclass(slots=True)
class Transfers:
    """The implicit subscriptions of a call's REFERs."""

    waiting: set[Leg] = field(default_factory=set)
    """Legs whose party will be notified."""
    until: Mono | None = None
    """Once the call is over: how long its dialogs are kept for that."""
    numbers: dict[tuple[Leg, str, int], int] = field(default_factory=dict)
    """CSeq numbers of REFERs as the other leg has them, by leg, by the method that names them there, and by the number there."""

    def crossed(self, leg: Leg, number: int, sent: int) -> None:
        """A REFER that came on `leg` as `number` leaves on the other leg as `sent`."""
        if len(self.numbers) < 2 * _MOST_NUMBERS:
            # Who was asked says how it goes, and who asked may end that.
            self.numbers[other(leg), "NOTIFY", sent] = number
            self.numbers[leg, "SUBSCRIBE", number] = sent

    def event(self, value: str, leg: Leg, method: str) -> str:
        """An Event that came on `leg`, for the other leg. 2.4.6: its id is the number of the REFER, and that differs on each leg."""
        found = _ID.fullmatch(value)
        number = None if found is None else self.numbers.get((leg, method, int(found[2])))
        return value if found is None or number is None else f"{found[1]}{number}{found[3]}"

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
