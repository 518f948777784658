"""The life of a call inside its dialogs: requests that cross, ACKs, BYE from either side. Set-up is in `call`, which builds on this.

RFC 3261 sections 12.2, 13.2.2.4, 14 and 15. A request is matched to its dialog by tags, never by the socket that it came from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from sidecar.b2bua import outcome as o
from sidecar.b2bua.crossing import CHALLENGES, crossing
from sidecar.b2bua.effects import Challenged, Leg, other
from sidecar.b2bua.legs import AwaitedAck, Crossing, Dialling, Own, Pair, Role, SentAck
from sidecar.clocks import Addr, Mono
from sidecar.identity.digest import Answered as Authorised
from sidecar.identity.digest import DigestClient, Refusal
from sidecar.sip.dialog import Dialog, DialogState, OutOfOrder
from sidecar.sip.flow import Flow
from sidecar.sip.layer import TxId
from sidecar.sip.message import Request, Response, response_to

if TYPE_CHECKING:
    from sidecar.b2bua.call import Switchboard

RETRY_AFTER_OVERLAP = "1"
"""Seconds; RFC 3261 14.2 asks for a random value of 0–10 when an earlier INVITE of the same peer is still open."""


class InDialog(ABC):
    """What a call does once it has dialogs. The attributes are set by `Call`."""

    id: str
    board: Switchboard
    invite: Request
    state: str
    flows: dict[Leg, Flow]
    pairs: dict[str, Pair]
    confirmed: Pair | None
    clients: dict[TxId, Role]
    awaited: list[AwaitedAck]
    digest: dict[Leg, DigestClient]
    is_gone: bool

    @abstractmethod
    def refuse(
        self, outcome: o.Outcome, now: Mono, response: Response | None = None, *, cancel_headers: list[tuple[str, str]] | None = None
    ) -> None: ...

    @abstractmethod
    def end(self, outcome: o.Outcome) -> None: ...

    @abstractmethod
    def settle(self) -> None: ...

    @abstractmethod
    def cross_body(
        self,
        message: Request | Response,
        leg: Leg,
        then: Callable[[bytes, Mono], None],
        now: Mono,
        fail: Callable[[o.Outcome, Mono], None] | None = None,
    ) -> None: ...

    @abstractmethod
    def on_response(self, tx: TxId, response: Response, again: bool, now: Mono) -> None: ...

    @abstractmethod
    def on_timeout(self, tx: TxId, detail: str | None, now: Mono) -> None: ...

    @abstractmethod
    def on_terminated(self, tx: TxId) -> None: ...

    # -- requests that come in ---------------------------------------------------------------------------------------------------------

    def on_request(self, leg: Leg, pair: Pair, tx: TxId, request: Request, now: Mono) -> None:
        """A request inside one of the dialogs, on a new server transaction."""
        try:
            pair.of(leg).accept(request)
        except OutOfOrder:
            self._answer(leg, tx, request, 500, now)
            return
        if request.method == "BYE":
            self._on_bye(leg, pair, tx, request, now)
        elif self.state == "ended" or pair.of(leg).state is DialogState.TERMINATED:
            self._answer(leg, tx, request, 481, now)
        elif request.method == "INVITE" and (busy := self._glare(leg)) is not None:
            status, headers = busy
            self._answer(leg, tx, request, status, now, headers)
        else:
            self._cross(leg, pair, tx, request, now)

    def _glare(self, leg: Leg) -> tuple[int, list[tuple[str, str]]] | None:
        """14.2: 491 while an INVITE of ours is open towards this peer, 500 while an earlier one of the peer's is."""
        for role in self.clients.values():
            if isinstance(role, Crossing) and role.request.method == "INVITE" and role.ack is None:
                return (500, [("Retry-After", RETRY_AFTER_OVERLAP)]) if role.leg == leg else (491, [])
        if any(waiting.leg != leg for waiting in self.awaited):
            return 491, []
        return None

    def _cross(self, leg: Leg, pair: Pair, tx: TxId, request: Request, now: Mono) -> None:
        crossing_request = Crossing(leg, tx, request, pair)
        far = other(leg)

        def send(body: bytes, at: Mono) -> None:
            headers = crossing(request.headers)
            if (rack := request.headers.get("RAck")) is not None:
                headers.append(("RAck", self._rack(rack, leg)))
            contact = self.board.contact(self.flows[far], None) if request.method in _TARGET_REFRESH else None
            outgoing = pair.of(far).request(request.method, headers=headers, body=body, contact=contact)
            if (hops := request.headers.get("Max-Forwards")) is not None and hops.isdigit():
                outgoing.headers.set("Max-Forwards", str(max(int(hops) - 1, 0)))
            self.preauthorise(far, outgoing)
            crossing_request.outgoing = outgoing
            self.send_request(far, pair, outgoing, crossing_request, at)

        def unusable(outcome: o.Outcome, at: Mono) -> None:
            self._answer(leg, tx, request, outcome.status, at)

        self.cross_body(request, leg, send, now, fail=unusable)

    def _rack(self, value: str, leg: Leg) -> str:
        """RFC 3262 7.2: RAck names the INVITE's CSeq, and that differs on each leg."""
        parts = value.split()
        dialling = next((role for role in self.clients.values() if isinstance(role, Dialling)), None)
        if len(parts) != 3 or dialling is None or leg != "A":
            return value
        return f"{parts[0]} {dialling.request.cseq.number} {parts[2]}"

    def _on_bye(self, leg: Leg, pair: Pair, tx: TxId, request: Request, now: Mono) -> None:
        self._answer(leg, tx, request, 200, now)
        pair.of(leg).terminate()
        if self.state == "setup":
            # 15.1.1: a caller may end an early dialog with BYE; for the INVITE that is as good as CANCEL.
            self.refuse(o.cancelled(), now)
            return
        headers = crossing(request.headers)
        if self.state == "answered":
            self.end(o.hung_up("caller" if leg == "A" else "agent"))
        far = other(leg)
        self._acknowledge_for_the_dead(now)
        if pair.of(far).state is not DialogState.TERMINATED:
            self.send_bye(far, pair, headers, now, body=request.body)
        self.settle()

    def on_crossing_cancel(self, server: TxId, cancel: Request, now: Mono) -> None:
        """CANCEL of a re-INVITE (or of another request that crosses): 487 here, CANCEL there (9.2)."""
        for client, role in self.clients.items():
            if isinstance(role, Crossing) and role.server == server and role.request.method == "INVITE" and role.ack is None:
                self.board.layer.cancel(client, now, [(name, value) for name, value in cancel.headers.items() if name.lower() == "reason"])
                return

    # -- ACK ---------------------------------------------------------------------------------------------------------------------------

    def on_ack(self, leg: Leg, pair: Pair, ack: Request, now: Mono) -> None:
        """An ACK for a 2xx that left on `leg`: it stops our retransmissions and crosses, with its body."""
        waiting = next((w for w in self.awaited if w.leg == leg and w.pair is pair and w.cseq == ack.cseq.number), None)
        if waiting is None:
            return  # the ACK of a 2xx that was sent again
        self.awaited.remove(waiting)
        self.board.layer.acknowledge(waiting.server, now)

        def send(body: bytes, at: Mono) -> None:
            self._pass_ack(waiting, crossing(ack.headers), body, at)
            self.settle()

        self.cross_body(ack, leg, send, now, fail=lambda _, at: send(b"", at))

    def _pass_ack(self, waiting: AwaitedAck, headers: Iterable[tuple[str, str]], body: bytes, now: Mono) -> None:
        far = other(waiting.leg)
        dialog = waiting.pair.of(far)
        match waiting.role:
            case Dialling() as role:
                self.send_ack(far, dialog, role.request.cseq.number, headers, body, role, now)
            case Crossing(outgoing=outgoing) as role if outgoing is not None:
                self.send_ack(far, dialog, outgoing.cseq.number, headers, body, role, now)
            case Crossing():
                pass

    def _acknowledge_for_the_dead(self, now: Mono) -> None:
        """The call ends while a 2xx waits for its ACK: the far side gets its ACK all the same (13.2.2.4), so that BYE ends it cleanly."""
        for waiting in self.awaited:
            self.board.layer.acknowledge(waiting.server, now)
            self._pass_ack(waiting, [], b"", now)
        self.awaited.clear()

    def on_ack_timeout(self, tx: TxId, now: Mono) -> None:
        """13.3.1.4: no ACK within 64·T1 ends the session with BYE."""
        if any(waiting.server == tx for waiting in self.awaited):
            self.hang_up(o.ack_missing(), now)

    # -- answers that come back --------------------------------------------------------------------------------------------------------

    def on_crossing_response(self, tx: TxId, role: Crossing, response: Response, again: bool, now: Mono) -> None:
        """The far leg's answer to a request that crossed goes back to where the request came from."""
        far = other(role.leg)
        if role.ack is not None:
            if again or response.status // 100 == 2:
                self.board.layer.resend(role.ack.data, role.ack.flow)
            return
        if again or response.status == 100:
            return
        if response.status in (401, 407) and self._retry_with_credentials(tx, role, response, now):
            return
        if response.status >= 200:
            self.learn_nonce(far, response, role.request.method)
        invite = role.request.method == "INVITE"
        success = response.status // 100 == 2
        if success and role.request.method in _TARGET_REFRESH:
            role.pair.of(far).refresh(response)
        if response.status >= 200 and not (invite and success):
            del self.clients[tx]

        def relay(body: bytes, at: Mono) -> None:
            headers = crossing(response.headers)
            if response.status in (401, 407):
                headers += [(name, value) for name in CHALLENGES for value in response.headers.all(name)]
            self._answer(role.leg, role.server, role.request, response.status, at, headers, reason=response.reason, body=body)
            if invite and success:
                self.awaited.append(AwaitedAck(role.leg, role.server, role.request.cseq.number, tx, role.pair, role))
            self.settle()

        self.cross_body(response, far, relay, now, fail=lambda _, at: relay(b"", at))

    def on_crossing_timeout(self, role: Crossing, detail: str | None, now: Mono) -> None:
        """The far leg never answered: 408 (or 503) goes back. 12.2.1.2: the dialog is gone, so a lost re-INVITE ends the call."""
        self._answer(role.leg, role.server, role.request, 408 if detail is None else 503, now)
        if self.state == "answered":
            blame: o.EndedBy = "agent" if role.leg == "A" else "caller"
            self.hang_up(o.Outcome(200, blame, "peer-gone", f"the {blame} did not answer {role.request.method}"), now)

    def on_own_response(self, tx: TxId, role: Own, response: Response, now: Mono) -> None:
        """The answer to our BYE."""
        if response.status < 200:
            return
        if response.status in (401, 407) and self._retry_with_credentials(tx, role, response, now):
            return
        del self.clients[tx]
        self.settle()

    def _retry_with_credentials(self, tx: TxId, role: Crossing | Own, response: Response, now: Mono) -> bool:
        far = other(role.leg) if isinstance(role, Crossing) else role.leg
        request = role.outgoing if isinstance(role, Crossing) else role.request
        if request is None:
            return False
        answer = self.authorise(far, request, response)
        if not isinstance(answer, Authorised):
            return False
        del self.clients[tx]
        again = self.with_credentials(request, answer.headers)
        again.headers.set("CSeq", f"{_next_cseq(role.pair.of(far))} {request.method}")
        if isinstance(role, Crossing):
            role.outgoing = again
        else:
            role.request = again
        self.send_request(far, role.pair, again, role, now)
        return True

    # -- requests that go out ----------------------------------------------------------------------------------------------------------

    def send_request(self, leg: Leg, pair: Pair, request: Request, role: Role, now: Mono) -> None:
        """Start a client transaction towards the dialog's next hop (12.2.1.1)."""

        def located(addr: Addr | None, detail: str, at: Mono) -> None:
            flow = self.flows[leg]
            if addr is None:
                # The name of the peer's Contact does not resolve: where its messages came from is the best that is known.
                addr = flow.remote
            flow = Flow(flow.transport, flow.local, addr)
            tx = self.board.layer.request(request, flow, self.board.advertised(flow), at)
            self.clients[tx] = role
            self.board.bind(tx, self, leg)

        self.board.locate(pair.of(leg).next_hop, located, now)

    def send_ack(
        self,
        leg: Leg,
        dialog: Dialog,
        cseq: int,
        headers: Iterable[tuple[str, str]],
        body: bytes,
        role: Dialling | Crossing,
        now: Mono,
    ) -> None:
        """ACK a 2xx end to end, and keep the octets in `role` for when the 2xx comes again (13.2.2.4)."""
        # 22.1: the ACK repeats the credentials of its INVITE, because it cannot be challenged.
        ack = dialog.ack(cseq, headers=[*headers, *self.digest[leg].sent("INVITE")], body=body)
        flow = self.flows[leg]

        def located(addr: Addr | None, detail: str, at: Mono) -> None:
            target = Flow(flow.transport, flow.local, addr or flow.remote)
            sent = SentAck(self.board.layer.send_ack(ack, target, self.board.advertised(flow), at), target)
            match role:
                case Dialling():
                    role.acks[dialog.remote_tag] = sent
                case Crossing():
                    role.ack = sent

        self.board.locate(dialog.next_hop, located, now)

    def send_bye(self, leg: Leg, pair: Pair, headers: list[tuple[str, str]], now: Mono, body: bytes = b"") -> None:
        """End the dialog on one leg."""
        dialog = pair.of(leg)
        bye = dialog.request("BYE", headers=headers, body=body)
        self.preauthorise(leg, bye)
        dialog.terminate()
        self.send_request(leg, pair, bye, Own(leg, pair, bye), now)

    def hang_up(self, outcome: o.Outcome, now: Mono) -> None:
        """End the call from our side, in whatever state it is."""
        if self.state == "setup":
            self.refuse(outcome, now)
            return
        if self.state == "ended" or self.confirmed is None:
            return
        self.end(outcome)
        self._acknowledge_for_the_dead(now)
        reason = [("Reason", f'SIP ;cause={outcome.status} ;text="{outcome.reason}"')]
        for leg in ("A", "B"):
            if self.confirmed.of(leg).state is not DialogState.TERMINATED:
                self.send_bye(leg, self.confirmed, reason, now)
        self.settle()

    # -- digest ------------------------------------------------------------------------------------------------------------------------

    def authorise(self, leg: Leg, request: Request, response: Response) -> Authorised | Refusal:
        """Ask the leg's digest client for an answer to a 401 or 407, and tell the trace."""
        cnonce = self.board.ids.token()[:16]
        answer = self.digest[leg].answer(response, method=request.method, uri=request.uri, body=request.body, cnonce=cnonce)
        match answer:
            case Authorised():
                fact = Challenged(
                    self.id,
                    leg,
                    response.status,
                    answer.realm,
                    answer.algorithm,
                    "answered",
                    f"challenge of realm {answer.realm!r} answered",
                )
            case Refusal(kind="no_credentials"):
                fact = Challenged(self.id, leg, response.status, answer.realm, answer.algorithm, "no_credentials", answer.detail)
            case Refusal():
                fact = Challenged(self.id, leg, response.status, answer.realm, answer.algorithm, "refused", answer.detail)
        self.board.emit(fact)
        return answer

    def preauthorise(self, leg: Leg, request: Request) -> None:
        """Put the credentials on a request that the edge will challenge anyway (RFC 7616 3.6: same protection space)."""
        cnonce = self.board.ids.token()[:16]
        for name, value in self.digest[leg].authorize(request.method, request.uri, request.body, cnonce):
            request.headers.add(name, value)

    def learn_nonce(self, leg: Leg, response: Response, method: str) -> None:
        """Tell the leg's digest client of a final response that is no challenge: it may name the next nonce (RFC 7616 3.5)."""
        if response.status not in (401, 407):
            self.digest[leg].settle(response, method=method)

    @staticmethod
    def with_credentials(request: Request, credentials: Iterable[tuple[str, str]]) -> Request:
        """The same request again, with new credentials in place of the old. Via is added anew by the layer."""
        headers = request.headers.copy()
        for name in ("Authorization", "Proxy-Authorization", "Via"):
            headers.remove(name)
        for name, value in credentials:
            headers.add(name, value)
        return Request(request.method, request.uri, headers, request.body)

    def _answer(
        self,
        leg: Leg,
        tx: TxId,
        request: Request,
        status: int,
        now: Mono,
        headers: Iterable[tuple[str, str]] = (),
        *,
        reason: str | None = None,
        body: bytes = b"",
    ) -> None:
        kept = list(headers)
        if request.method in _TARGET_REFRESH and status < 300:
            kept.insert(0, ("Contact", self.board.contact(self.flows[leg], None)))
        self.board.layer.respond(tx, response_to(request, status, reason, headers=kept, body=body), now)


_TARGET_REFRESH = frozenset({"INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER"})


def _next_cseq(dialog: Dialog) -> int:
    """12.2.1.1: a request that is sent again with credentials is a new request of the dialog."""
    dialog.local_cseq = (dialog.local_cseq or 0) + 1
    return dialog.local_cseq
