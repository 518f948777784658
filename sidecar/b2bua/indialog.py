"""The life of a call inside its dialogs: requests that cross, ACKs, BYE from either side. Set-up is in `call`, which builds on this.

RFC 3261 sections 12.2, 13.2.2.4, 14 and 15. A request is matched to its dialog by tags, never by the socket that it came from.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Literal

from sidecar.b2bua import outcome as o
from sidecar.b2bua.bodies import Crossed, Failed
from sidecar.b2bua.crossing import crossing, crossing_answer, crossing_cancel, warning
from sidecar.b2bua.effects import Leg, MediaDescribed, other
from sidecar.b2bua.legs import AwaitedAck, Crossing, Dialling, Goodbye, Own, Pair
from sidecar.b2bua.outgoing import TARGET_REFRESH, Outgoing
from sidecar.clocks import Mono
from sidecar.identity.digest import Refusal
from sidecar.sip.dialog import DialogState, OutOfOrder
from sidecar.sip.layer import TxId
from sidecar.sip.message import Request, Response

State = Literal["setup", "answered", "ended"]
RETRY_AFTER_OVERLAP = ("Retry-After", "1")
"""Seconds; RFC 3261 14.2 asks for a random value of 0–10 when an earlier INVITE of the same peer is still open."""


class InDialog(Outgoing):
    """What a call does once it has dialogs. The attributes are set by `Call`."""

    state: State
    confirmed: Pair | None
    pairs: dict[str, Pair]

    @property
    def is_over(self) -> bool:
        """Signalling is decided, whatever may still be outstanding."""
        return self.state == "ended"

    @abstractmethod
    def refuse(
        self, outcome: o.Outcome, now: Mono, response: Response | None = None, *, cancel_headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """End a call that is not answered yet."""

    @abstractmethod
    def end(self, outcome: o.Outcome) -> None:
        """Tell the trace that the call is over."""

    @abstractmethod
    def cross_body(self, message: Request | Response, leg: Leg, then: Crossed, fail: Failed, now: Mono) -> None:
        """Hand `then` the body for the other leg."""

    @abstractmethod
    def tell_media(self, described: Sequence[MediaDescribed]) -> None:
        """Tell the shell where media goes from now on."""

    # -- requests that come in ---------------------------------------------------------------------------------------------------------

    def on_request(self, leg: Leg, pair: Pair, tx: TxId, request: Request, now: Mono) -> None:
        """A request inside one of the dialogs, on a new server transaction."""
        try:
            pair.of(leg).accept(request)
        except OutOfOrder as error:
            self.answer(leg, tx, request, error.status, now)
            return
        if request.method == "BYE":
            self._on_bye(leg, pair, tx, request, now)
        elif self._is_dead(leg, pair):
            self.answer(leg, tx, request, 481, now)
        elif request.max_forwards == 0:
            self.answer(leg, tx, request, 483, now)
        elif request.method == "INVITE" and (busy := self._busy(leg)) is not None:
            self.answer(leg, tx, request, busy, now, [RETRY_AFTER_OVERLAP] if busy == 500 else [])
        else:
            self._cross(leg, pair, tx, request, now)

    def _is_dead(self, leg: Leg, pair: Pair) -> bool:
        lost_fork = self.confirmed is not None and pair is not self.confirmed
        return self.state == "ended" or lost_fork or pair.of(leg).state is DialogState.TERMINATED

    def _busy(self, leg: Leg) -> int | None:
        """14.2: 491 while an INVITE of ours is open towards this peer, 500 while an earlier one of the peer's is."""
        if self.state == "setup":
            return 500 if leg == "A" else 491
        open_from = [
            role.leg for role in self.clients.values() if isinstance(role, Crossing) and role.request.method == "INVITE" and role.is_open
        ]
        open_from += [waiting.leg for waiting in self.awaited]
        if not open_from:
            return None
        return 500 if leg in open_from else 491

    def _cross(self, leg: Leg, pair: Pair, tx: TxId, request: Request, now: Mono) -> None:
        role = Crossing(leg, tx, request, pair)
        far = other(leg)

        def send(body: bytes, described: Sequence[MediaDescribed], at: Mono) -> None:
            headers = crossing(request.headers)
            if (rack := request.headers.get("RAck")) is not None:
                headers.append(("RAck", self._rack(rack, leg)))
            contact = self.contact(far) if request.method in TARGET_REFRESH else None
            outgoing = pair.of(far).request(request.method, headers=headers, body=body, contact=contact)
            if request.max_forwards is not None:
                outgoing.headers.set("Max-Forwards", str(request.max_forwards - 1))
            self.preauthorise(far, outgoing)
            role.outgoing, role.offered = outgoing, described
            self.send_request(far, pair.of(far), outgoing, role, at)

        def unusable(outcome: o.Outcome, at: Mono) -> None:
            self.answer(leg, tx, request, outcome.status, at, [warning(outcome.cause)])

        self.cross_body(request, leg, send, unusable, now)

    def _rack(self, value: str, leg: Leg) -> str:
        """RFC 3262 7.2: RAck names the INVITE's CSeq, and that differs on each leg."""
        parts = value.split()
        for role in self.clients.values():
            if isinstance(role, Dialling):
                came, theirs, left = self.invite, "A", role.request
            elif isinstance(role, Crossing) and role.outgoing is not None:
                came, theirs, left = role.request, role.leg, role.outgoing
            else:
                continue
            if leg == theirs and parts[1:] == str(came.cseq).split():
                return f"{parts[0]} {left.cseq}"
        return value

    # -- the end -----------------------------------------------------------------------------------------------------------------------

    def _on_bye(self, leg: Leg, pair: Pair, tx: TxId, request: Request, now: Mono) -> None:
        self.answer(leg, tx, request, 200, now)
        pair.of(leg).terminate()
        goodbye = Goodbye(crossing(request.headers), request.body)
        if self.state == "setup":
            self._on_early_bye(leg, pair, goodbye, now)
            return
        if pair is not self.confirmed:
            return  # an early dialog of a fork that did not answer
        if self.state == "answered":
            self.end(o.hung_up("caller" if leg == "A" else "agent"))
        self._wind_up(now)
        self._leave(other(leg), pair, goodbye, now)

    def _on_early_bye(self, leg: Leg, pair: Pair, goodbye: Goodbye, now: Mono) -> None:
        """15: a caller may end an early dialog with BYE, and the last one takes the call with it. A callee may not, but means the same."""
        if leg == "B":
            self.refuse(o.early_bye(str(pair.b.remote_target)), now)
        elif any(kept.a.state is not DialogState.TERMINATED for kept in self.pairs.values()):
            self.send_bye("B", pair.b, goodbye, now)
        else:
            self.refuse(o.cancelled(), now, cancel_headers=[header for header in goodbye.headers if header[0].lower() == "reason"])

    def hang_up(self, outcome: o.Outcome, now: Mono) -> None:
        """End the call from our side, in whatever state it is."""
        if self.state == "setup":
            self.refuse(outcome, now)
            return
        if self.state == "ended" or self.confirmed is None:
            return
        self.end(outcome)
        self._wind_up(now)
        for leg in ("A", "B"):
            reason = ("Reason", f'SIP;cause={outcome.status};text="{outcome.reason}"')
            self._leave(leg, self.confirmed, Goodbye([reason]), now)

    def _leave(self, leg: Leg, pair: Pair, goodbye: Goodbye, now: Mono) -> None:
        """End one leg with BYE: at once, or when the ACK to our 2xx has come (15)."""
        waiting = next((waiting for waiting in self.awaited if waiting.leg == leg), None)
        if waiting is not None:
            waiting.goodbye = goodbye
        elif pair.of(leg).state is not DialogState.TERMINATED:
            self.send_bye(leg, pair.of(leg), goodbye, now)

    def _wind_up(self, now: Mono) -> None:
        """The call has ended: what is under way on either leg gets its end too.

        A 2xx that waits for an ACK from the other leg is acknowledged here (13.2.2.4). Requests that cross are answered 487 (15.1.2).
        """
        for waiting in list(self.awaited):
            if not waiting.passed:
                self._pass_ack(waiting, [], b"", now)
            if waiting.pair.of(waiting.leg).state is DialogState.TERMINATED:
                # Its peer has said BYE, so it has got our 2xx.
                self.awaited.remove(waiting)
                self.board.layer.acknowledge(waiting.server, now)
        for client, role in list(self.clients.items()):
            if isinstance(role, Crossing):
                self.answer_crossing(role, 487, now)
                self.board.layer.cancel(client, now)

    def on_crossing_cancel(self, server: TxId, cancel: Request, now: Mono) -> None:
        """CANCEL of a re-INVITE crosses; the far side's 487 comes back the same way."""
        for client, role in self.clients.items():
            if isinstance(role, Crossing) and role.server == server:
                self.board.layer.cancel(client, now, crossing_cancel(cancel.headers))
                return

    # -- ACK ---------------------------------------------------------------------------------------------------------------------------

    def on_ack(self, leg: Leg, pair: Pair, ack: Request, now: Mono) -> None:
        """An ACK for a 2xx that left on `leg`: it stops our retransmissions and crosses, with its body."""
        waiting = next((w for w in self.awaited if w.leg == leg and w.pair is pair and w.cseq == ack.cseq.number), None)
        if waiting is None:
            return  # the ACK of a 2xx that was sent again
        self.awaited.remove(waiting)
        self.board.layer.acknowledge(waiting.server, now)
        if waiting.passed:
            self._say_goodbye(waiting, now)
            return

        def send(body: bytes, described: Sequence[MediaDescribed], at: Mono) -> None:
            self.tell_media(described)
            self._pass_ack(waiting, crossing(ack.headers), body, at)

        def unusable(outcome: o.Outcome, at: Mono) -> None:
            # The answer to a delayed offer cannot be relayed, so there is no session (13.2.2.4: ACK, then BYE).
            self._pass_ack(waiting, [], b"", at)
            self.hang_up(outcome, at)

        self.cross_body(ack, leg, send, unusable, now)

    def _pass_ack(self, waiting: AwaitedAck, headers: Iterable[tuple[str, str]], body: bytes, now: Mono) -> None:
        waiting.passed = True
        far = other(waiting.leg)
        self.send_ack(far, waiting.pair.of(far), headers, body, waiting.role, now)

    def _say_goodbye(self, waiting: AwaitedAck, now: Mono) -> None:
        """The BYE that had to wait for an ACK, or for its timeout."""
        dialog = waiting.pair.of(waiting.leg)
        if waiting.goodbye is not None and dialog.state is not DialogState.TERMINATED:
            self.send_bye(waiting.leg, dialog, waiting.goodbye, now)

    def on_ack_timeout(self, tx: TxId, now: Mono) -> None:
        """13.3.1.4: no ACK within 64·T1 ends the session with BYE."""
        waiting = next((waiting for waiting in self.awaited if waiting.server == tx), None)
        if waiting is None:
            return
        self.awaited.remove(waiting)
        if waiting.passed:
            self._say_goodbye(waiting, now)
            return
        self._pass_ack(waiting, [], b"", now)
        self.hang_up(o.ack_missing("caller" if waiting.leg == "A" else "agent"), now)

    # -- answers that come back --------------------------------------------------------------------------------------------------------

    def on_crossing_response(self, tx: TxId, role: Crossing, response: Response, again: bool, now: Mono) -> None:
        """The far leg's answer to a request that crossed goes back to where the request came from."""
        if role.ack is not None:
            self.board.layer.resend(role.ack.data, role.ack.flow)
            return
        if again or response.status == 100:
            return
        if response.status in (401, 407) and self._retry_with_credentials(tx, role, response, now):
            return
        far = other(role.leg)
        success = response.status // 100 == 2
        if response.status >= 200:
            self.learn_nonce(far, response)
            if not (success and role.request.method == "INVITE"):
                del self.clients[tx]
        role.pair.of(far).refresh(response)

        def relay(body: bytes, described: Sequence[MediaDescribed], at: Mono) -> None:
            if success or described:
                self.tell_media([*role.offered, *described])
            headers = crossing_answer(response, body=body)
            self.answer_crossing(role, response.status, at, headers, reason=response.reason, body=body)
            if success and role.request.method == "INVITE":
                self._await_ack(role, at)

        def unusable(outcome: o.Outcome, at: Mono) -> None:
            if success:
                self._on_unusable_answer(role, outcome, at)
            else:
                relay(b"", (), at)

        self.cross_body(response, far, relay, unusable, now)

    def _await_ack(self, role: Crossing, now: Mono) -> None:
        waiting = AwaitedAck(role.leg, role.server, role.request.cseq.number, role.pair, role)
        if self.state == "ended":
            # The 2xx crossed a BYE: its requester has got 487, so the ACK can only come from us.
            self._pass_ack(waiting, [], b"", now)
        else:
            self.awaited.append(waiting)

    def _on_unusable_answer(self, role: Crossing, outcome: o.Outcome, now: Mono) -> None:
        """The far side agreed to a session that cannot be relayed: the two sides disagree from here on, so the call ends."""
        self.answer_crossing(role, outcome.status, now, [warning(outcome.cause)])
        far = other(role.leg)
        if role.request.method == "INVITE":
            self.send_ack(far, role.pair.of(far), [], b"", role, now)
        self.hang_up(outcome, now)

    def on_crossing_timeout(self, role: Crossing, detail: str | None, now: Mono) -> None:
        """The far leg never answered: 408 (or 503) goes back. 12.2.1.2: the dialog is gone, so a lost re-INVITE ends the call."""
        self.answer_crossing(role, 408 if detail is None else 503, now)
        if self.state == "answered":
            self.hang_up(o.peer_gone("agent" if role.leg == "A" else "caller", role.request.method), now)

    def on_own_response(self, tx: TxId, role: Own, response: Response, now: Mono) -> None:
        """The answer to our BYE."""
        if response.status < 200:
            return
        if response.status in (401, 407) and self._retry_with_credentials(tx, role, response, now):
            return
        del self.clients[tx]

    def _retry_with_credentials(self, tx: TxId, role: Crossing | Own, response: Response, now: Mono) -> bool:
        """Send a challenged request once more. 22.2: as a new request of the dialog, with the next CSeq number."""
        leg = other(role.leg) if isinstance(role, Crossing) else role.leg
        dialog = role.pair.of(leg) if isinstance(role, Crossing) else role.dialog
        request = role.outgoing if isinstance(role, Crossing) else role.request
        if request is None:
            return False
        again = self.authorise(leg, request, response)
        if isinstance(again, Refusal):
            return False
        del self.clients[tx]
        again.headers.set("CSeq", f"{dialog.next_cseq()} {request.method}")
        if isinstance(role, Crossing):
            role.outgoing = again
        else:
            role.request = again
        self.send_request(leg, dialog, again, role, now)
        return True
