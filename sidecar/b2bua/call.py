"""One call: a UAS towards the caller (leg A), a UAC towards the edge (leg B), and what ties them together.

Set-up lives here, the life inside the dialogs in `indialog`. RFC 3261 sections 9, 12–15; RFC 6026.

Invariants: the caller's INVITE gets exactly one final response. `Ended` is emitted exactly once, and `Gone` once after it, when nothing is
outstanding any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, Protocol

from sidecar.b2bua import outcome as o
from sidecar.b2bua.crossing import CHALLENGES, crossing, warning
from sidecar.b2bua.effects import (
    Answered,
    Dialled,
    Effect,
    Ended,
    Found,
    HopProven,
    Learned,
    Leg,
    MediaDescribed,
    OpenMedia,
    SetupTimings,
    Started,
)
from sidecar.b2bua.indialog import InDialog
from sidecar.b2bua.legs import AwaitedAck, Crossing, Dialling, Own, Pair, PortPairs, Role
from sidecar.b2bua.routes import Route
from sidecar.clocks import Addr, Mono
from sidecar.identity.carriage import carry, shortfalls
from sidecar.identity.digest import Answered as Authorised
from sidecar.identity.digest import DigestClient
from sidecar.identity.inbound import Identity
from sidecar.identity.learned import learned
from sidecar.identity.presets import PRESETS
from sidecar.sip import sdp
from sidecar.sip.dialog import Dialog
from sidecar.sip.flow import Flow
from sidecar.sip.ids import Ids
from sidecar.sip.layer import TransactionLayer, TxId
from sidecar.sip.message import Request, Response, response_to
from sidecar.sip.multipart import find_sdp
from sidecar.sip.uri import SipUri

State = Literal["setup", "answered", "ended"]


class Switchboard(Protocol):
    """What a call needs of the engine that owns it."""

    layer: TransactionLayer
    ids: Ids

    @property
    def ring_limit(self) -> float: ...

    def emit(self, effect: Effect) -> None: ...
    def bind(self, tx: TxId, call: InDialog, leg: Leg) -> None: ...
    def adopt(self, dialog: Dialog, call: InDialog, pair: Pair, leg: Leg) -> None: ...
    def contact(self, flow: Flow, user: str | None) -> str: ...
    def advertised(self, flow: Flow) -> Addr: ...
    def locate(self, uri: str, then: Callable[[Addr | None, str, Mono], None], now: Mono) -> None: ...
    def gone(self, call: InDialog) -> None: ...


class Call(InDialog):
    """One call with both its legs. All methods are called by the engine, which drains the effects afterwards."""

    def __init__(
        self, board: Switchboard, call_id: str, invite: Request, server: TxId, flow: Flow, route: Route, identity: Identity
    ) -> None:
        self.id = call_id
        self.board = board
        self.route = route
        self.identity = identity
        self.invite = invite
        self.state: State = "setup"
        self.flows: dict[Leg, Flow] = {"A": flow}
        self.pairs: dict[str, Pair] = {}
        self.confirmed: Pair | None = None
        self.clients: dict[TxId, Role] = {}
        self.awaited: list[AwaitedAck] = []
        self.ports: dict[int, PortPairs] = {}
        self.digest: dict[Leg, DigestClient] = {"A": DigestClient(None), "B": DigestClient(route.credentials)}
        self._server = server
        self._unacknowledged_failure: TxId | None = None
        self._a_tag = board.ids.tag()
        self._b_tag = board.ids.tag()
        self._dialling: TxId | None = None
        self._media_waits: list[tuple[set[int], Callable[[Mono], None], Callable[[str, Mono], None]]] = []
        self._ring_deadline: Mono | None = None
        self._started_at: Mono | None = None
        self._to_100: float | None = None
        self._to_ringing: float | None = None
        self._to_answer: float | None = None
        self._challenged_at: Mono | None = None
        self._auth: float | None = None
        self.is_gone = False
        board.bind(server, self, "A")

    # -- set-up ------------------------------------------------------------------------------------------------------------------------

    def start(self, now: Mono) -> None:
        """Take the INVITE: tell the trace, open media for the offer, dial the route's target."""
        self._started_at = now
        self.board.emit(
            Started(
                call=self.id,
                sip_call_id=self.invite.call_id,
                correlation_id=self.identity.correlation_id,
                kind=self.identity.kind,
                direction=self.route.direction,
                route=self.route.name,
                platform=self.route.platform,
                from_=self.invite.from_.uri,
                to=self.invite.to.uri,
                recipient=self.invite.uri if self.route.direction == "outbound" else None,
                source=self.flows["A"].remote,
            )
        )
        self.board.emit(HopProven(self.id, "received", f"INVITE {self.invite.uri} with Call-ID {self.invite.call_id}"))
        for finding in (*self.identity.findings, *shortfalls(PRESETS[self.route.platform], self.identity.carried_id)):
            self.board.emit(Found(self.id, finding.name, finding.detail))
        if self.identity.rejected is not None:
            self.refuse(o.policy(self.identity.rejected), now)
            return
        self.cross_body(self.invite, "A", self._dial, now)

    def cross_body(
        self,
        message: Request | Response,
        leg: Leg,
        then: Callable[[bytes, Mono], None],
        now: Mono,
        fail: Callable[[o.Outcome, Mono], None] | None = None,
    ) -> None:
        """Hand `then` the body that goes to the other leg: the same octets, but for a session description's addresses and ports.

        `fail` gets the outcome when the description cannot be relayed; by default the call is refused with it.
        """
        fail = fail or self.refuse
        content_type = message.headers.get("Content-Type")
        try:
            part = find_sdp(content_type, message.body)
            description = None if part is None else sdp.parse(part.body)
        except sdp.UnusableSdp as error:
            fail(o.sdp_unusable(error.detail), now)
            return
        if part is None or description is None:
            then(message.body, now)
            return
        active = [line for line in description.media if line.port]

        def opened(at: Mono) -> None:
            signalling_host = self.flows[leg].remote[0]
            for line in active:
                self.board.emit(MediaDescribed(self.id, leg, line, signalling_host))
            far: Leg = "B" if leg == "A" else "A"
            ports = {index: (pair.b if leg == "A" else pair.a) for index, pair in self.ports.items()}
            host = self.board.advertised(self.flows.get(far, self.flows["A"]))[0]
            then(part.replace(description.rewrite(host, ports)), at)

        missing = {line.index for line in active} - self.ports.keys()
        if not missing:
            opened(now)
            return
        self._media_waits.append((missing, opened, lambda detail, at: fail(o.no_ports(detail), at)))
        for index in sorted(missing):
            self.board.emit(OpenMedia(self.id, index))

    def media_opened(self, m_line: int, ports: PortPairs, now: Mono) -> None:
        """The shell bound the ports of an m-line."""
        self.ports[m_line] = ports
        ready = [wait for wait in self._media_waits if wait[0] <= self.ports.keys()]
        self._media_waits = [wait for wait in self._media_waits if wait not in ready]
        for _, then, _ in ready:
            then(now)

    def media_failed(self, m_line: int, detail: str, now: Mono) -> None:
        """The shell found no ports."""
        failed = [wait for wait in self._media_waits if m_line in wait[0]]
        self._media_waits = [wait for wait in self._media_waits if wait not in failed]
        for _, _, fail in failed:
            fail(detail, now)

    def _dial(self, body: bytes, now: Mono) -> None:
        target = str(self.route.target) if self.route.direction == "inbound" else self.invite.uri
        next_hop = str(self.route.target)

        def located(addr: Addr | None, detail: str, at: Mono) -> None:
            if self.state != "setup":
                return
            if addr is None:
                self.refuse(o.edge_unreachable(next_hop, detail), at)
                return
            self.flows["B"] = Flow("udp", self.flows["A"].local, addr)
            self._send_invite(self._b_invite(target, body), at)

        self.board.locate(next_hop, located, now)

    def _b_invite(self, target: str, body: bytes) -> Request:
        """The INVITE of the B leg: the caller's headers but for those of the hop, the caller's Call-ID, our own From-tag."""
        uri = SipUri.parse(target)
        if self.route.direction == "inbound" and uri.user is None:
            uri = replace(uri, user=SipUri.parse(self.invite.uri).user)
            target = str(uri)
        carried = carry(PRESETS[self.route.platform], self.identity.carried_id, self.identity.correlation_id)
        request = Request("INVITE", target, body=body)
        add = request.headers.add
        forwards = self.invite.headers.get("Max-Forwards")
        add("Max-Forwards", str(int(forwards) - 1) if forwards is not None else "70")
        add("From", str(self.invite.from_.with_tag(self._b_tag)))
        add("To", self.invite.headers.get("To") or "")
        add("Call-ID", self.invite.call_id)
        add("CSeq", f"{self.invite.cseq.number} INVITE")
        add("Contact", self.board.contact(self.flows["B"], uri.user))
        for name, value in crossing(self.invite.headers, besides={name.lower() for name, _ in carried} | self.identity.stripped):
            add(name, value)
        for name, value in carried:
            add(name, value)
        return request

    def _send_invite(self, request: Request, now: Mono) -> None:
        flow = self.flows["B"]
        tx = self.board.layer.request(request, flow, self.board.advertised(flow), now)
        self._dialling = tx
        self.clients[tx] = Dialling(request, now)
        self._ring_deadline = Mono(now + self.board.ring_limit)
        self.board.bind(tx, self, "B")
        self.board.emit(Dialled(self.id, request.call_id, request.uri))
        self.board.emit(HopProven(self.id, "carried", f"INVITE {request.uri} left with Call-ID {request.call_id} and X-Sip-Call-Id"))

    # -- the edge's answers ------------------------------------------------------------------------------------------------------------

    def on_dialling_response(self, tx: TxId, role: Dialling, response: Response, again: bool, now: Mono) -> None:
        """A response to the B leg's INVITE."""
        if response.status >= 200:
            self._ring_deadline = None
            self.learn_nonce("B", response, "INVITE")
        if response.status == 100:
            self._to_100 = self._to_100 if self._to_100 is not None else self._since_start(now)
        elif response.status < 200:
            self._progress(role, response, now)
        elif response.status < 300:
            self._success(tx, role, response, again, now)
        else:
            del self.clients[tx]
            self._failure(role, response, now)
            self.settle()

    def _progress(self, role: Dialling, response: Response, now: Mono) -> None:
        self._to_100 = self._to_100 if self._to_100 is not None else self._since_start(now)
        self._ring_deadline = Mono(now + self.board.ring_limit)
        if self.state != "setup":
            return
        if response.status == 180 and self._to_ringing is None:
            self._to_ringing = self._since_start(now)
        self._learn(response)

        def relay(body: bytes, at: Mono) -> None:
            if self.state == "setup":
                self._answer_caller(role, response, body, at)

        # A description that cannot be relayed must not cost the call: the response crosses without it.
        self.cross_body(response, "B", relay, now, fail=lambda _, at: relay(b"", at))

    def _answer_caller(self, role: Dialling, response: Response, body: bytes, now: Mono) -> Pair | None:
        """Send the edge's 1xx or 2xx on to the caller; a To-tag makes (or finds) the pair of dialogs that it belongs to."""
        tag = response.to_tag
        pair = self.pairs.get(tag) if tag else None
        a_tag = pair.a.local_tag if pair else (self._a_tag if not self.pairs else self.board.ids.tag())
        flow = self.flows["A"]
        contact = ("Contact", self.board.contact(flow, SipUri.parse(self.invite.uri).user))
        headers = [contact, *crossing(response.headers, besides=_WITHOUT_BODY if not body and response.body else ())]
        answer = response_to(self.invite, response.status, response.reason, to_tag=a_tag, headers=headers, body=body)
        if tag and pair is None:
            pair = Pair(Dialog.uas(self.invite, answer), Dialog.uac(role.request, response))
            self.pairs[tag] = pair
            self.board.adopt(pair.a, self, pair, "A")
            self.board.adopt(pair.b, self, pair, "B")
        self.board.layer.respond(self._server, answer, now)
        return pair

    def _success(self, tx: TxId, role: Dialling, response: Response, again: bool, now: Mono) -> None:
        tag = response.to_tag or ""
        if (ack := role.acks.get(tag)) is not None:
            self.board.layer.resend(ack.data, ack.flow)
            return
        if again and self.confirmed is not None and tag == self.confirmed.b.remote_tag:
            return  # the caller has not acknowledged yet; its ACK will cross
        if self.state != "setup":
            self._decline(role, response, now)
            self.clients.pop(tx, None)
            self.settle()
            return
        self._to_answer = self._since_start(now)
        self._learn(response)

        def relay(body: bytes, at: Mono) -> None:
            if self.state != "setup":
                self._decline(role, response, at)
                return
            pair = self._answer_caller(role, response, body, at)
            if pair is None:
                return
            pair.b.refresh(response)
            pair.a.confirm()
            self.confirmed = pair
            self.state = "answered"
            self.awaited.append(AwaitedAck("A", self._server, self.invite.cseq.number, tx, pair, role))
            self.board.emit(Answered(self.id))

        def unusable(outcome: o.Outcome, at: Mono) -> None:
            self.refuse(outcome, at)
            self._decline(role, response, at)

        self.cross_body(response, "B", relay, now, fail=unusable)

    def _decline(self, role: Dialling, response: Response, now: Mono) -> None:
        """A 2xx that nobody wants: a second fork, or the answer that crossed our CANCEL. ACK, then BYE (13.2.2.4, 15)."""
        dialog = Dialog.uac(role.request, response)
        dialog.refresh(response)
        pair = Pair(dialog, dialog)
        self.board.adopt(dialog, self, pair, "B")
        self.send_ack("B", dialog, role.request.cseq.number, [], b"", role, now)
        self.send_bye("B", pair, [], now)

    def _failure(self, role: Dialling, response: Response, now: Mono) -> None:
        if self.state != "setup":
            return
        edge = self._edge()
        if response.status not in (401, 407):
            self.refuse(o.rejected(response.status, response.reason, edge), now, response)
            return
        self._challenged_at = self._challenged_at if self._challenged_at is not None else role.sent_at
        answer = self.authorise("B", role.request, response)
        if not isinstance(answer, Authorised):
            refused = o.credentials_missing if answer.kind == "no_credentials" else o.credentials_refused
            self.refuse(refused(response.status, edge, answer.detail), now, response)
            return
        again = self.with_credentials(role.request, answer.headers)
        again.headers.set("CSeq", f"{role.request.cseq.number + 1} INVITE")
        self.pairs.clear()
        self._send_invite(again, now)
        self._auth = now - self._challenged_at

    def _learn(self, response: Response) -> None:
        for name, value in learned(response.headers):
            self.board.emit(Learned(self.id, name, value))

    # -- the end before an answer ------------------------------------------------------------------------------------------------------

    def on_cancel(self, request: Request, now: Mono) -> None:
        """CANCEL of the caller's INVITE; the layer has answered the CANCEL itself."""
        if self.state == "setup":
            self.refuse(o.cancelled(), now, cancel_headers=[(n, v) for n, v in request.headers.items() if n.lower() == "reason"])

    def refuse(
        self, outcome: o.Outcome, now: Mono, response: Response | None = None, *, cancel_headers: list[tuple[str, str]] | None = None
    ) -> None:
        """End a call that is not answered: final response to the caller, CANCEL to the edge. `response` is the edge's own refusal."""
        if self.state != "setup":
            return
        headers: list[tuple[str, str]] = []
        reason = None
        body = b""
        if response is not None:
            reason, body = response.reason, response.body
            headers = crossing(response.headers)
            # 22.3: a 401 or 407 must carry a challenge; 8.1.3.4: a 3xx names its targets in Contact.
            kept = CHALLENGES if outcome.status in (401, 407) else ("Contact",) if 300 <= outcome.status < 400 else ()
            headers += [(name, value) for name in kept for value in response.headers.all(name)]
        elif outcome.ended_by == "sidecar":
            headers = [warning(outcome.cause)]
            if outcome.status == 503:
                headers.append(("Retry-After", "5"))
        tag = next((pair.a.local_tag for pair in self.pairs.values()), self._a_tag)
        final = response_to(self.invite, outcome.status, reason, to_tag=tag, headers=headers, body=body)
        self.board.layer.respond(self._server, final, now)
        self._unacknowledged_failure = self._server
        self.end(outcome)
        if self._dialling in self.clients and self._dialling is not None:
            self.board.layer.cancel(self._dialling, now, cancel_headers or [])
        self.settle()

    def end(self, outcome: o.Outcome) -> None:
        """Signalling is decided: tell the trace once."""
        if self.state == "ended":
            return
        self.state = "ended"
        self._ring_deadline = None
        timings = SetupTimings(self._to_100, self._to_ringing, self._to_answer, self._auth)
        self.board.emit(Ended(self.id, outcome.status, outcome.ended_by, outcome.reason, outcome.cause, timings))

    def settle(self) -> None:
        """Leave the switchboard once nothing is outstanding."""
        if self.is_gone or self.state != "ended" or self.awaited or self._unacknowledged_failure is not None:
            return
        if any(not isinstance(role, Dialling) or not role.acks for role in self.clients.values()):
            return
        self.is_gone = True
        self.board.gone(self)

    # -- what the layer reports --------------------------------------------------------------------------------------------------------

    def on_response(self, tx: TxId, response: Response, again: bool, now: Mono) -> None:
        """A response on one of this call's client transactions."""
        match self.clients.get(tx):
            case Dialling() as role:
                self.on_dialling_response(tx, role, response, again, now)
            case Crossing() as role:
                self.on_crossing_response(tx, role, response, again, now)
            case Own() as role:
                self.on_own_response(tx, role, response, now)
            case None:
                pass

    def sent_from(self, tag: str | None) -> bool:
        """Whether `tag` is the From-tag of our own INVITE on the B leg."""
        return tag == self._b_tag

    def on_timeout(self, tx: TxId, detail: str | None, now: Mono) -> None:
        """No final answer on a client transaction, or (`detail`) the transport refused it."""
        role = self.clients.pop(tx, None)
        self.on_failure_acknowledged(tx)
        match role:
            case Dialling():
                edge = self._edge()
                self.refuse(o.edge_silent(edge) if detail is None else o.edge_unreachable(edge, detail), now)
            case Crossing():
                self.on_crossing_timeout(role, detail, now)
            case Own() | None:
                pass
        self.settle()

    def on_failure_acknowledged(self, tx: TxId) -> None:
        """The caller's ACK to our non-2xx came, or its transaction ended without one."""
        if tx == self._unacknowledged_failure:
            self._unacknowledged_failure = None
            self.settle()

    def on_terminated(self, tx: TxId) -> None:
        """The layer forgot a transaction."""
        role = self.clients.get(tx)
        if isinstance(role, Dialling) and role.acks:
            del self.clients[tx]
        self.on_failure_acknowledged(tx)
        self.settle()

    def on_time(self, now: Mono) -> None:
        """The ring limit (16.6, timer C)."""
        if self._ring_deadline is not None and now >= self._ring_deadline:
            self._ring_deadline = None
            self.refuse(o.edge_never_answered(self._edge(), self.board.ring_limit), now)

    def next_deadline(self) -> Mono | None:
        """When `on_time` wants to be called."""
        return self._ring_deadline

    def describe(self) -> dict[str, object]:
        """State and counts, for the admin API."""
        return {
            "id": self.id,
            "sip_call_id": self.invite.call_id,
            "state": self.state,
            "route": self.route.name,
            "from": self.invite.from_.uri,
            "to": self.invite.to.uri,
            "dialogs": len(self.pairs),
            "transactions": len(self.clients),
            "awaited_acks": len(self.awaited),
            "ports": {index: [pair.a[0], pair.b[0]] for index, pair in self.ports.items()},
        }

    def _edge(self) -> str:
        flow = self.flows.get("B")
        return f"{flow.remote[0]}:{flow.remote[1]}" if flow else str(self.route.target)

    def _since_start(self, now: Mono) -> float:
        return now - (self._started_at if self._started_at is not None else now)


_WITHOUT_BODY = frozenset({"content-type", "content-disposition", "content-encoding", "content-language", "mime-version"})
