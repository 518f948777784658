"""What a call sends into its dialogs, with the credentials that the other end wants to see, and what it still owes or is owed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence

from sidecar.b2bua.crossing import required_of
from sidecar.b2bua.effects import Challenged, Effect, Leg
from sidecar.b2bua.legs import AwaitedAck, Crossing, Dialling, Goodbye, Own, Pair, Role, SentAck
from sidecar.b2bua.switchboard import Located, Member, Switchboard
from sidecar.b2bua.transfers import Transfers
from sidecar.b2bua.ways import flow_within
from sidecar.clocks import Mono
from sidecar.identity.digest import Answered as Authorised
from sidecar.identity.digest import DigestClient, Refusal
from sidecar.sip import sdp
from sidecar.sip.dialog import Dialog, key_of_request
from sidecar.sip.endpoint import SECURE
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.flow import Flow
from sidecar.sip.layer import TxId
from sidecar.sip.message import Request, Response, response_to
from sidecar.sip.targets import Target
from sidecar.sip.uri import SipUri, bracketed

TARGET_REFRESH = frozenset({"INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER"})
"""Methods whose messages carry a Contact inside a dialog (12.2, RFC 3311, 3515, 6665)."""


_SDP = ("Content-Type", "application/sdp")


class Outgoing(Member):
    """The sending half of a call. The attributes are set by `Call`."""

    board: Switchboard
    invite: Request
    flows: dict[Leg, Flow]
    pairs: dict[str, Pair]
    """By the edge's To-tag."""
    digest: dict[Leg, DigestClient]
    clients: dict[TxId, Role]
    awaited: list[AwaitedAck]
    unacknowledged: set[TxId]
    """Our non-2xx answers to INVITEs whose ACK has not come."""
    transfers: Transfers
    lookups: int
    """Names that are being resolved for a message that waits to leave."""
    agent_contact: str | None
    """The caller's Contact where it dialled us itself, without a proxy between; see `dialled_from_itself`."""

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Signalling is decided, whatever may still be outstanding."""

    @abstractmethod
    def is_sips(self, leg: Leg) -> bool:
        """Whether the party on `leg` is to be given a sips: URI (8.1.1.8, 12.1.1)."""

    @property
    def is_settled(self) -> bool:
        """The call is over and nothing of it is outstanding on either leg. An ACK that may have to be repeated does not count."""
        return (
            self.is_over
            and not (self.awaited or self.unacknowledged or self.lookups or self.transfers.is_open)
            and not any(role.is_open for role in self.clients.values())
        )

    def emit(self, effect: Effect) -> None:
        """Tell the shell or the trace, unless the call is gone: what follows then concerns nobody."""
        if not self.is_gone:
            self.board.emit(effect)

    def contact(self, leg: Leg) -> str:
        """The Contact value under which the party on `leg` reaches us: its own name for the call's other party, at our address."""
        user = user_of(self.invite.uri if leg == "A" else self.invite.from_.uri)
        listener = self.board.ways.listener(self.flows[leg])
        host, port = listener.towards(self.flows[leg].remote[0])
        # 8.1.1.8 and 12.1.1: whoever used a sips: URI is to be reached by one.
        secure = listener.transport in SECURE and self.is_sips(leg)
        # RFC 7118 5.2.2: a URI says `ws`, and whether that is over TLS by its scheme.
        spoken = {"udp": "", "tls": "" if secure else "tls", "wss": "ws"}.get(listener.transport, listener.transport)
        transport = spoken and f";transport={spoken}"
        return f"<{'sips' if secure else 'sip'}:{user + '@' if user else ''}{bracketed(host)}:{port}{transport}>"

    def locate(self, uri: str, then: Located, now: Mono) -> None:
        """Find out where to send, and count the question as outstanding until it is answered."""

        def located(targets: Sequence[Target], detail: str, at: Mono) -> None:
            self.lookups -= 1
            then(targets, detail, at)

        self.lookups += 1
        self.board.locate(self, uri, located, now)

    def _locate_within(self, leg: Leg, dialog: Dialog, then: Located, now: Mono) -> None:
        """Find out where a dialog's next hop is, unless there is but one way to it: a client's own name leads nowhere (RFC 7118 5.1)."""
        if self.flows[leg].is_one_way:
            then((), "", now)
        else:
            self.locate(dialog.next_hop, then, now)

    # -- requests ----------------------------------------------------------------------------------------------------------------------

    def send_request(self, leg: Leg, dialog: Dialog, request: Request, role: Role, now: Mono) -> None:
        """Start a client transaction towards the dialog's next hop (12.2.1.1)."""

        def located(targets: Sequence[Target], _: str, at: Mono) -> None:
            if self.is_over and isinstance(role, Crossing) and role.request.method != "NOTIFY":
                # The call ended while the peer's name was looked up.
                self.answer_crossing(role, 487, at)
                return
            flow = self._flow_to(leg, dialog, targets)
            if not isinstance(role, Dialling) and targets and flow.remote == targets[0].remote:
                further = [self.board.ways.flow_to(target, flow) for target in targets[1:]]
                role.others = [other for other in further if other is not None]
            self.transact(leg, request, flow, role, at)

        self._locate_within(leg, dialog, located, now)

    def transact(self, leg: Leg, request: Request, flow: Flow, role: Role, now: Mono) -> TxId:
        """Start a client transaction by `flow`, or by TCP if the request is too long for UDP (18.1.1)."""
        flow, role.otherwise = self.board.ways.sized(flow, request, now)
        return self._start(leg, request, flow, role, now)

    def transact_otherwise(self, leg: Leg, request: Request, role: Role, now: Mono) -> TxId | None:
        """What the transport refused goes another way; None when there is none.

        By UDP after all, what went by TCP for its size alone (18.1.1); else to the next of the next hop's servers (RFC 3263 4.3).
        """
        flow, role.otherwise = role.otherwise, None
        if flow is not None:
            self.board.ways.avoid_tcp(flow, now)
            return self._start(leg, request, flow, role, now)
        if isinstance(role, Dialling) or not role.others:
            return None
        return self.transact(leg, request, role.others.pop(0), role, now)

    def _start(self, leg: Leg, request: Request, flow: Flow, role: Role, now: Mono) -> TxId:
        tx = self.board.layer.request(request, flow, self.board.advertised(flow), now)
        self.clients[tx] = role
        self.board.bind(tx, self, leg)
        return tx

    def send_ack(
        self, leg: Leg, dialog: Dialog, headers: Iterable[tuple[str, str]], body: bytes | None, role: Dialling | Crossing | Own, now: Mono
    ) -> None:
        """ACK the 2xx that `role` got, and keep the octets for when it comes again (13.2.2.4).

        `body` None: nobody answers, so what the 2xx may have offered is refused.
        """
        invite = role.outgoing if isinstance(role, Crossing) else role.request
        if invite is None:
            return
        offer = role.offers.pop(dialog.remote_tag, None)

        def located(targets: Sequence[Target], _: str, at: Mono) -> None:
            flow = self._flow_to(leg, dialog, targets)
            answer = _refusal(offer, self.board.advertised(flow)[0]) if body is None else body
            kept = required_of(invite, headers) if body is not None else [*headers, *([_SDP] if answer else [])]
            # 22.1: the ACK repeats the credentials of its INVITE, because it cannot be challenged.
            ack = dialog.ack(invite.cseq.number, headers=[*kept, *self.digest[leg].sent("INVITE")], body=answer)
            flow, otherwise = self.board.ways.sized(flow, ack, at)
            sent = SentAck(ack, self.board.layer.send_ack(ack, flow, self.board.advertised(flow), at), flow, otherwise)
            if isinstance(role, Dialling):
                role.acks[dialog.remote_tag] = sent
            else:
                role.ack = sent

        self._locate_within(leg, dialog, located, now)

    def repeat_ack(self, sent: SentAck, now: Mono) -> None:
        """The 2xx came again: so do the octets of its ACK.

        What went by TCP for its size goes by UDP after all, because no transaction would tell that TCP was refused.
        """
        if sent.otherwise is None:
            self.board.layer.resend(sent.data, sent.flow)
            return
        sent.flow, sent.otherwise = sent.otherwise, None
        sent.data = self.board.layer.send_ack(sent.request, sent.flow, self.board.advertised(sent.flow), now)

    def send_bye(self, leg: Leg, dialog: Dialog, goodbye: Goodbye, now: Mono) -> None:
        """End the dialog on one leg."""
        bye = dialog.request("BYE", headers=goodbye.headers, body=goodbye.body)
        self.preauthorise(leg, bye)
        dialog.terminate()
        self.send_request(leg, dialog, bye, Own(leg, dialog, bye), now)

    def _flow_to(self, leg: Leg, dialog: Dialog, targets: Sequence[Target]) -> Flow:
        """The way to a dialog's next hop, see `flow_within`."""
        is_agent = leg == "A" and dialog.remote_target == self.agent_contact
        return flow_within(self.board.ways, self.flows[leg], dialog, targets, is_agent=is_agent)

    # -- responses ---------------------------------------------------------------------------------------------------------------------

    def answer(
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
        """Answer a request that came inside a dialog."""
        kept = list(headers)
        if request.method in TARGET_REFRESH and status < 300:
            kept.insert(0, ("Contact", self.contact(leg)))
        elif request.method in TARGET_REFRESH:
            self._retract(leg, request)
        self.respond(tx, response_to(request, status, reason, headers=kept, body=body), now)

    def _retract(self, leg: Leg, request: Request) -> None:
        key = key_of_request(request)
        for pair in self.pairs.values():
            if pair.of(leg).key == key:
                pair.of(leg).retract(request)

    def answer_crossing(
        self,
        role: Crossing,
        status: int,
        now: Mono,
        headers: Iterable[tuple[str, str]] = (),
        *,
        reason: str | None = None,
        body: bytes = b"",
    ) -> None:
        """Answer a request that crossed. What comes after a final answer is dropped: the call may have ended in the meantime."""
        if not role.is_answered:
            role.is_answered = status >= 200
            self.answer(role.leg, role.server, role.request, status, now, headers, reason=reason, body=body)

    def respond(self, tx: TxId, response: Response, now: Mono) -> None:
        """Send a response, and note whether its ACK is still to come."""
        if response.status >= 300 and response.cseq.method == "INVITE":
            self.unacknowledged.add(tx)
        self.board.layer.respond(tx, response, now)

    # -- digest ------------------------------------------------------------------------------------------------------------------------

    def authorise(self, leg: Leg, request: Request, response: Response) -> Request | Refusal:
        """The same request with the answer to a 401 or 407, CSeq still to be raised (22.2); or why there is none. The trace is told."""
        cnonce = self.board.ids.token()[:16]
        answer = self.digest[leg].answer(response, method=request.method, uri=request.uri, body=request.body, cnonce=cnonce)
        match answer:
            case Authorised():
                result, detail = "answered", f"challenge of realm {answer.realm!r} answered"
            case Refusal():
                result, detail = "no_credentials" if answer.kind == "no_credentials" else "refused", answer.detail
        self.emit(Challenged(self.id, leg, response.status, answer.realm, answer.algorithm, result, detail))  # type: ignore[arg-type]
        return _with_credentials(request, answer.headers) if isinstance(answer, Authorised) else answer

    def preauthorise(self, leg: Leg, request: Request) -> None:
        """Put the credentials on a request that the edge will challenge anyway (RFC 7616 3.6: same protection space)."""
        cnonce = self.board.ids.token()[:16]
        for name, value in self.digest[leg].authorize(request.method, request.uri, request.body, cnonce):
            request.headers.add(name, value)

    def learn_nonce(self, leg: Leg, response: Response) -> None:
        """Tell the leg's digest client of a final response that is no challenge: it may name the next nonce (RFC 7616 3.5)."""
        if response.status not in (401, 407):
            self.digest[leg].settle(response, method=response.cseq.method)


def user_of(uri: str) -> str | None:
    """The user part of a SIP URI; None when it has none or is another kind of URI."""
    try:
        return SipUri.parse(uri).user
    except MalformedMessage:
        return None


def _refusal(response: Response | None, host: str) -> bytes:
    """The answer that takes nothing of what a 2xx offers; empty when it offers nothing that can be read."""
    if response is None:
        return b""
    part = sdp.find_sdp(response.headers.get("Content-Type"), response.body)
    try:
        return b"" if part is None else sdp.refusal(sdp.parse(part.body), host)
    except sdp.UnusableSdp:
        return b""


def _with_credentials(request: Request, credentials: Iterable[tuple[str, str]]) -> Request:
    """The same request again, with new credentials in place of the old. Via is added anew by the layer."""
    headers = request.headers.copy()
    for name in ("Authorization", "Proxy-Authorization", "Via"):
        headers.remove(name)
    for name, value in credentials:
        headers.add(name, value)
    return Request(request.method, request.uri, headers, request.body)
