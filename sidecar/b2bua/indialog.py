"""The life of a call inside its dialogs: requests that cross, ACKs, BYE from either side. Set-up is in `call`, which builds on this.

RFC 3261 sections 12.2, 13.2.2.4, 14 and 15. A request is matched to its dialog by tags, never by the socket that it came from.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence

from sidecar.b2bua import outcome as o
from sidecar.b2bua.crossing import crossing, crossing_answer, crossing_cancel, warning
from sidecar.b2bua.effects import Leg, MediaDescribed, other
from sidecar.b2bua.ending import reason_of
from sidecar.b2bua.legs import AwaitedAck, Crossing, Dialling, Own, Pair
from sidecar.b2bua.outgoing import TARGET_REFRESH
from sidecar.b2bua.refresh import Refreshing
from sidecar.b2bua.reliable import Receipts, has_offer
from sidecar.b2bua.replaces import in_refer_to, translate_headers
from sidecar.b2bua.routes import Route
from sidecar.b2bua.session_timer import REFRESHING, expires_of
from sidecar.clocks import Mono
from sidecar.identity.digest import Refusal
from sidecar.identity.learned import replaced
from sidecar.sip.dialog import DialogState, OutOfOrder
from sidecar.sip.layer import TxId
from sidecar.sip.message import Request, Response


class InDialog(Refreshing):
    """What a call does with what comes inside its dialogs. The attributes are set by `Call`."""

    route: Route

    @abstractmethod
    def takes_prack(self, leg: Leg, pair: Pair, tx: TxId, request: Request, now: Mono) -> bool:
        """Answer a PRACK for a response that we made reliable."""

    @abstractmethod
    def learn(self, ids: Iterable[tuple[str, str]]) -> None:
        """Tell the trace under which ids the edge's side may know this call."""

    # -- requests that come in ---------------------------------------------------------------------------------------------------------

    def on_request(self, leg: Leg, pair: Pair, tx: TxId, request: Request, now: Mono) -> None:
        """A request inside one of the dialogs, on a new server transaction."""
        try:
            pair.of(leg).accept(request)
        except OutOfOrder as error:
            self.answer(leg, tx, request, error.status, now)
            return
        self.learn(replaced(request.headers))
        if request.method == "BYE":
            self.on_bye(leg, pair, tx, request, now)
        elif request.method == "PRACK" and self.takes_prack(leg, pair, tx, request, now):
            pass
        elif self._is_dead(leg, pair) and not (pair is self.confirmed and self.transfers.is_news(leg, request)):
            self.answer(leg, tx, request, 481, now)
        elif request.max_forwards == 0:
            self.answer(leg, tx, request, 483, now)
        elif demanded := request.headers.values("Proxy-Require"):
            self.answer(leg, tx, request, 420, now, [("Unsupported", ", ".join(demanded))])
        elif request.method in REFRESHING and (busy := self._busy(leg, pair, request)) is not None:
            # 14.2, RFC 3311 5.2: a random number of seconds between 0 and 10.
            later = ("Retry-After", str(int(self.board.ids.token()[:8], 16) % 11))
            self.answer(leg, tx, request, busy, now, [later] if busy == 500 else [])
        elif request.method == "REFER" and len(request.headers.values("Refer-To")) != 1:
            # RFC 3515 2.4.2.
            self.answer(leg, tx, request, 400, now, [warning("a REFER has one Refer-To")])
        elif request.method == "REFER" and self.route.refer == "refuse":
            self.answer(leg, tx, request, 403, now, [warning(f"route {self.route.name} lets nobody be transferred")])
        elif request.method not in REFRESHING or not self._settled_here(leg, tx, request, now):
            self._cross(leg, pair, tx, request, now)

    def _settled_here(self, leg: Leg, tx: TxId, request: Request, now: Mono) -> bool:
        """A refresh that goes no further: its interval is too small, or the other party could not answer it."""
        self.note_minimum(leg, request.headers)
        return self.refuses_timer(leg, tx, request, now) or self.refreshed_here(leg, tx, request, now)

    def _is_dead(self, leg: Leg, pair: Pair) -> bool:
        lost_fork = self.confirmed is not None and pair is not self.confirmed
        return self.state == "ended" or lost_fork or pair.of(leg).state is DialogState.TERMINATED

    def _busy(self, leg: Leg, pair: Pair, request: Request) -> int | None:
        """491 while something of ours is open towards this peer that excludes its request, 500 while an earlier one of the peer's is."""
        return self._busy_inviting(leg) if request.method == "INVITE" else self._busy_updating(leg, pair, request)

    def _busy_updating(self, leg: Leg, pair: Pair, request: Request) -> int | None:
        """RFC 3311 5.2. An offer in an INVITE of the other party is no secret to this one, so that it judges itself what excludes what."""
        offers = has_offer(request)
        for role in self.clients.values():
            if not isinstance(role, Crossing) or role.pair is not pair or role.request.method != "UPDATE":
                continue
            if role.leg == leg:
                return 500
            if offers and has_offer(role.request):
                return 491
        return 491 if offers and self._is_reinviting(leg) else None

    def _is_reinviting(self, leg: Leg) -> bool:
        """A re-INVITE that refreshes this leg's session is open."""
        return any(
            isinstance(role, Own) and role.leg == leg and role.is_open and role.request.method == "INVITE" for role in self.clients.values()
        )

    def _busy_inviting(self, leg: Leg) -> int | None:
        """14.2."""
        if self.state == "setup":
            return 500 if leg == "A" else 491
        if any(isinstance(role, Own) and role.is_open and role.request.method == "INVITE" for role in self.clients.values()):
            return 491
        open_from = [
            role.leg for role in self.clients.values() if isinstance(role, Crossing) and role.request.method == "INVITE" and role.is_open
        ]
        open_from += [waiting.leg for waiting in self.awaited]
        if not open_from:
            return None
        return 500 if leg in open_from else 491

    def _cross(self, leg: Leg, pair: Pair, tx: TxId, request: Request, now: Mono) -> None:
        role = Crossing(leg, tx, request, pair, before=self.negotiated() if request.method in REFRESHING else None)
        far = other(leg)

        def send(body: bytes, described: Sequence[MediaDescribed], at: Mono) -> None:
            headers = crossing(request.headers)
            if (rack := request.headers.get("RAck")) is not None:
                headers.append(("RAck", self._rack(rack, leg)))
            contact = self.contact(far) if request.method in TARGET_REFRESH else None
            outgoing = pair.of(far).request(request.method, headers=headers, body=body, contact=contact)
            if request.max_forwards is not None:
                outgoing.headers.set("Max-Forwards", str(request.max_forwards - 1))
            if request.method in REFRESHING:
                self.carry_timer(far, outgoing)
            elif request.method == "REFER":
                self._translate_refer(outgoing)
                self.transfers.crossed(leg, request.cseq.number, outgoing.cseq.number)
            elif request.method in ("NOTIFY", "SUBSCRIBE") and (event := request.headers.get("Event")) is not None:
                outgoing.headers.set("Event", self.transfers.event(event, leg, request.method))
            self.preauthorise(far, outgoing)
            role.outgoing, role.offered = outgoing, described
            self.send_request(far, pair.of(far), outgoing, role, at)
            self._wait_for(role, at)

        def unusable(outcome: o.Outcome, at: Mono) -> None:
            self.answer(leg, tx, request, outcome.status, at, [warning(outcome.cause), *outcome.headers])

        self.cross_body(request, leg, send, unusable, now)

    def _translate_refer(self, request: Request) -> None:
        """A transfer names a dialog as its sender knows it; whoever is called with it knows the same call by the other leg's ids."""
        translate_headers(request.headers, self.board.twin)
        for value in request.headers.all("Refer-To"):
            changed = in_refer_to(value, self.board.twin)
            if changed != value:
                request.headers.set("Refer-To", changed)

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

    def _wait_for(self, role: Crossing, now: Mono) -> None:
        """16.6, timer C: an INVITE, and each provisional response to it, begins the wait for its final response."""
        if role.request.method == "INVITE":
            role.until = Mono(now + self.board.ring_limit)
            self.rearm()

    def reinvites_due(self) -> list[Mono]:
        """When `on_reinvites` is due."""
        return [role.until for role in self.clients.values() if isinstance(role, Crossing) and role.until is not None]

    def on_reinvites(self, now: Mono) -> None:
        """16.8: an INVITE that rang for too long is cancelled; whoever asked hears the 487, or 408 if not even that comes."""
        for client, role in list(self.clients.items()):
            if isinstance(role, Crossing) and role.until is not None and now >= role.until:
                role.until = None
                gone = o.peer_gone("agent" if role.leg == "A" else "caller", role.request.method)
                self.board.layer.cancel(client, now, [reason_of(gone)])

    def on_crossing_cancel(self, server: TxId, cancel: Request, now: Mono) -> None:
        """CANCEL of a re-INVITE crosses; the far side's 487 comes back the same way."""
        for client, role in self.clients.items():
            if isinstance(role, Crossing) and role.server == server:
                self.board.layer.cancel(client, now, crossing_cancel(cancel.headers))
                return

    # -- answers that come back --------------------------------------------------------------------------------------------------------

    def on_crossing_response(self, tx: TxId, role: Crossing, response: Response, again: bool, now: Mono) -> None:
        """The far leg's answer to a request that crossed goes back to where the request came from."""
        if role.ack is not None:
            self.repeat_ack(role.ack, now)
            return
        invite = role.request.method == "INVITE"
        if response.status >= 200 and role.until is not None:
            role.until = None
            self.rearm()  # a session timer that comes later may be all that is left
        elif response.status > 100 and role.until is not None:
            self._wait_for(role, now)
        if again or response.status == 100 or (response.status < 200 and not invite):
            return  # RFC 4320 4.1: no provisional response but 100 to anything but INVITE
        if response.status == 408 and not invite:
            self._fall_silent(tx, role)
            return
        if response.status in (401, 407) and self._retry_with_credentials(tx, role, response, now):
            return
        if response.status == 422 and self._retry_with_interval(tx, role, response, now):
            return
        standing = role.receipts.take(response) if response.status < 200 else "next"
        if standing == "early":
            return
        far = other(role.leg)
        success = response.status // 100 == 2
        if response.status >= 200:
            self.learn_nonce(far, response)
            if not (success and invite):
                del self.clients[tx]
            elif role.outgoing is not None and not role.outgoing.body:
                role.offers[response.to_tag or ""] = response
            if success and role.request.method == "REFER" and not self.is_over:
                self.transfers.asked(role.leg, response)
            elif role.request.method == "NOTIFY":
                self.transfers.told(role.leg, role.request)
        role.pair.of(far).refresh(response)

        def relay(body: bytes, all_described: Sequence[MediaDescribed], at: Mono) -> None:
            described = all_described if standing == "next" else ()
            headers = crossing_answer(response, body=body)
            if success and role.request.method in REFRESHING:
                headers = self.agree_timers(role.leg, role.request, role.outgoing, response, headers, at)
            if success or described:
                self.tell_media([*role.offered, *described])
            elif response.status >= 300 and role.before is not None:
                self.renegotiate(role.before)
            self.answer_crossing(role, response.status, at, headers, reason=response.reason, body=body)
            if success and invite:
                self._await_ack(role, at)

        def unusable(outcome: o.Outcome, at: Mono) -> None:
            if success:
                self._on_unusable_answer(role, outcome, at)
            else:
                relay(b"", (), at)

        if response.status < 300:
            self.cross_body(response, far, relay, unusable, now)
        else:
            # RFC 3261 21.4.26: what a refusal describes is what would be acceptable, and answers no offer.
            self.bodies.in_turn(lambda at: relay(response.body, (), at), now)

    def _await_ack(self, role: Crossing, now: Mono) -> None:
        waiting = AwaitedAck(role.leg, role.server, role.request.cseq.number, role.pair, role)
        if self.state == "ended":
            # The 2xx crossed a BYE: its requester has got 487, so the ACK can only come from us.
            self.pass_ack(waiting, [], None, now)
        else:
            self.awaited.append(waiting)

    def _on_unusable_answer(self, role: Crossing, outcome: o.Outcome, now: Mono) -> None:
        """The far side agreed to a session that cannot be relayed: the two sides disagree from here on, so the call ends."""
        self.answer_crossing(role, outcome.status, now, [warning(outcome.cause), *outcome.headers])
        far = other(role.leg)
        if role.request.method == "INVITE":
            self.send_ack(far, role.pair.of(far), [], None, role, now)
        self.hang_up(outcome, now)

    def on_crossing_timeout(self, role: Crossing, detail: str | None, now: Mono) -> None:
        """The far leg never answered: 408 (or 503) goes back. 12.2.1.2: the dialog is gone, so a lost request ends the call.

        RFC 4320 4.2: a request that is no INVITE gets no 408, which would come after its sender has given up.
        """
        if detail is None and role.request.method != "INVITE":
            role.is_answered = True
            self.board.layer.abandon(role.server)
        self.answer_crossing(role, 408 if detail is None else 503, now)
        if self.state == "answered":
            self.hang_up(o.peer_gone("agent" if role.leg == "A" else "caller", role.request.method), now)

    def _fall_silent(self, tx: TxId, role: Crossing) -> None:
        """RFC 4320 4.2: a 408 to a request that is no INVITE is not passed on."""
        del self.clients[tx]
        role.is_answered = True
        self.board.layer.abandon(role.server)

    def on_own_response(self, tx: TxId, role: Own, response: Response, now: Mono) -> None:
        """The answer to a BYE, a PRACK or a refresh of ours."""
        if role.ack is not None:
            self.repeat_ack(role.ack, now)
            return
        if response.status < 200 or not role.is_open:
            return
        if response.status in (401, 407) and self._retry_with_credentials(tx, role, response, now):
            return
        if role.request.method in REFRESHING:
            self.on_refresh_response(tx, role, response, now)
        else:
            del self.clients[tx]

    def _retry_with_interval(self, tx: TxId, role: Crossing, response: Response, now: Mono) -> bool:
        """RFC 4028 7.3: a request whose session timer was ours alone is sent once more with what its recipient asks for at least."""
        far, request = other(role.leg), role.outgoing
        self.note_minimum(far, response.headers)
        asked = expires_of(request.headers) if request is not None else None
        if request is None or asked is None or expires_of(role.request.headers) is not None or self.minimums.get(far, 0) <= asked.seconds:
            return False
        again = request.copy()
        for name in ("Via", "Session-Expires", "Authorization", "Proxy-Authorization"):
            again.headers.remove(name)
        self.carry_timer(far, again)
        self.preauthorise(far, again)
        self._send_again(tx, role, again, now)
        return True

    def _retry_with_credentials(self, tx: TxId, role: Crossing | Own, response: Response, now: Mono) -> bool:
        """Send a challenged request once more. 22.2: as a new request of the dialog, with the next CSeq number."""
        leg = other(role.leg) if isinstance(role, Crossing) else role.leg
        request = role.outgoing if isinstance(role, Crossing) else role.request
        if request is None:
            return False
        again = self.authorise(leg, request, response)
        if isinstance(again, Refusal):
            return False
        self._send_again(tx, role, again, now)
        return True

    def _send_again(self, tx: TxId, role: Crossing | Own, again: Request, now: Mono) -> None:
        """A request of a dialog in another form, as a new one with the next number (22.2)."""
        leg = other(role.leg) if isinstance(role, Crossing) else role.leg
        dialog = role.pair.of(leg) if isinstance(role, Crossing) else role.dialog
        del self.clients[tx]
        again.headers.set("CSeq", f"{dialog.next_cseq()} {again.method}")
        if isinstance(role, Crossing):
            role.outgoing = again
            role.receipts = Receipts()
            if again.method == "REFER":
                self.transfers.crossed(role.leg, role.request.cseq.number, again.cseq.number)
        else:
            role.request = again
        self.send_request(leg, dialog, again, role, now)
        if isinstance(role, Crossing):
            self._wait_for(role, now)
