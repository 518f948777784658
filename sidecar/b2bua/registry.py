"""Who is who: the live calls, and what leads from a message to its call (transactions, dialogs, tags)."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from sidecar.b2bua.call import Call
from sidecar.b2bua.effects import Leg
from sidecar.b2bua.legs import Pair
from sidecar.b2bua.switchboard import Member
from sidecar.clocks import Mono
from sidecar.sip.dialog import Dialog, DialogKey
from sidecar.sip.layer import TxId
from sidecar.sip.message import Request, Response

Found = tuple[Member, Pair, Leg]


class Registry:
    """Invariant: a call that is gone is in none of these but `transactions`, whose last ones linger for their timers."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}
        self.transactions: dict[TxId, tuple[Member, Leg]] = {}
        self.dialogs: dict[DialogKey, Found] = {}
        self._keys: dict[str, list[DialogKey]] = {}
        self._by_call_id: dict[str, dict[str, Call]] = {}
        self._alarms: list[tuple[Mono, str]] = []
        """By id, so that a deadline that does not hold any more holds no call in memory."""

    def add(self, call: Call) -> None:
        """A call has begun."""
        self.calls[call.id] = call
        self._by_call_id.setdefault(call.invite.call_id, {})[call.id] = call

    def remove(self, call_id: str) -> None:
        """A call is gone."""
        call = self.calls.pop(call_id)
        same = self._by_call_id[call.invite.call_id]
        del same[call.id]
        if not same:
            del self._by_call_id[call.invite.call_id]
        for key in self._keys.pop(call.id, []):
            self.dialogs.pop(key, None)

    def adopt(self, dialog: Dialog, call: Member, pair: Pair, leg: Leg) -> None:
        """A dialog has begun."""
        self.dialogs[dialog.key] = (call, pair, leg)
        self._keys.setdefault(call.id, []).append(dialog.key)

    def with_call_id(self, call_id: str) -> Iterator[Call]:
        """The live calls with this Call-ID, the newest first."""
        return reversed(self._by_call_id.get(call_id, {}).values())

    def owner(self, tx: TxId | None, message: Request | Response, *, sent: bool) -> tuple[Member, Leg] | None:
        """The call and leg whose message this is: by transaction, else by tags (CANCEL, its answer, ACK). None once the call is gone."""
        if tx is not None and (bound := self.transactions.get(tx)) is not None:
            return None if bound[0].is_gone else bound
        local, remote = message.from_tag, message.to_tag
        if sent != isinstance(message, Request):
            local, remote = remote, local
        for call in self.with_call_id(message.call_id):
            leg = call.leg_of(local, remote)
            if leg is not None:
                return call, leg
        return None

    # -- deadlines of the calls themselves ---------------------------------------------------------------------------------------------

    def wake_at(self, call: Member, due: Mono) -> None:
        """Note a deadline. It is forgotten when it is no longer the call's deadline as it comes up."""
        heapq.heappush(self._alarms, (due, call.id))

    def next_deadline(self) -> Mono | None:
        """The earliest deadline that still holds."""
        while self._alarms:
            due, call_id = self._alarms[0]
            call = self.calls.get(call_id)
            if call is not None and call.next_deadline() == due:
                return due
            heapq.heappop(self._alarms)
        return None

    def due(self, now: Mono) -> Iterator[Call]:
        """Take the calls whose deadline has come, one by one."""
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            yield self.calls[heapq.heappop(self._alarms)[1]]
