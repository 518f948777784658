"""How a call ends, from either side or from ours, and the ACKs that must come before a BYE may leave.

RFC 3261 sections 13.2.2.4, 13.3.1.4 and 15. `indialog` builds on this.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence

from sidecar.b2bua import outcome as o
from sidecar.b2bua.crossing import crossing
from sidecar.b2bua.effects import Leg, MediaDescribed, other
from sidecar.b2bua.legs import AwaitedAck, Crossing, Goodbye, Own, Pair
from sidecar.b2bua.negotiation import Negotiating
from sidecar.clocks import Mono
from sidecar.sip.dialog import DialogState
from sidecar.sip.layer import TxId
from sidecar.sip.message import Request, Response


class Ending(Negotiating):
    """The last part of a call's life. The attributes are set by `Call`."""

    confirmed: Pair | None

    @abstractmethod
    def refuse(
        self, outcome: o.Outcome, now: Mono, response: Response | None = None, *, cancel_headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """End a call that is not answered yet."""

    @abstractmethod
    def rearm(self) -> None:
        """The call's deadline may have changed."""

    @abstractmethod
    def end(self, outcome: o.Outcome) -> None:
        """Tell the trace that the call is over."""

    # -- the end -----------------------------------------------------------------------------------------------------------------------

    def on_bye(self, leg: Leg, pair: Pair, tx: TxId, request: Request, now: Mono) -> None:
        self.answer(leg, tx, request, 200, now)
        pair.of(leg).terminate()
        # 8.2.2.3: it was answered here, so a far end that refuses what it requires would be left in the call.
        goodbye = Goodbye(crossing(request.headers, besides=("require",)), request.body)
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
            self._leave(leg, self.confirmed, Goodbye([reason_of(outcome)]), now)

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
        self.transfers.call_ended(Mono(now + self.board.layer.give_up))
        self.rearm()
        for waiting in list(self.awaited):
            if not waiting.passed:
                self.pass_ack(waiting, [], None, now)
            if waiting.pair.of(waiting.leg).state is DialogState.TERMINATED:
                # Its peer has said BYE, so it has got our 2xx.
                self.awaited.remove(waiting)
                self.board.layer.acknowledge(waiting.server, now)
        for client, role in list(self.clients.items()):
            if isinstance(role, Crossing):
                self.answer_crossing(role, 487, now)
                self.board.layer.cancel(client, now)
            elif isinstance(role, Own) and role.request.method == "INVITE":
                self.board.layer.cancel(client, now)

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
            self.pass_ack(waiting, crossing(ack.headers), body, at)

        def unusable(outcome: o.Outcome, at: Mono) -> None:
            # The answer to a delayed offer cannot be relayed, so there is no session (13.2.2.4: ACK, then BYE).
            self.pass_ack(waiting, [], None, at)
            self.hang_up(outcome, at)

        self.cross_body(ack, leg, send, unusable, now)

    def pass_ack(self, waiting: AwaitedAck, headers: Iterable[tuple[str, str]], body: bytes | None, now: Mono) -> None:
        """The ACK for the far end: as it came, or ours (`body` None)."""
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
        self.pass_ack(waiting, [], None, now)
        self.hang_up(o.ack_missing("caller" if waiting.leg == "A" else "agent"), now)


def reason_of(outcome: o.Outcome) -> tuple[str, str]:
    """RFC 3326: what a BYE or CANCEL of our own says of its cause."""
    return "Reason", f'SIP;cause={outcome.status};text="{outcome.reason}"'
