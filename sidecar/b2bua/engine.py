"""The switchboard: octets in, effects and facts out, every call of this sidecar in between.

The engine checks a message at the door once, finds the dialog or the route that it belongs to, and leaves the rest to the call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import assert_never

from sidecar.b2bua import outcome as o
from sidecar.b2bua.call import Call
from sidecar.b2bua.crossing import warning
from sidecar.b2bua.effects import Effect, Gone, Leg, Message, Refused, Resolve, SendSip
from sidecar.b2bua.indialog import InDialog
from sidecar.b2bua.legs import Pair, PortPairs
from sidecar.b2bua.routes import Route, choose, within_any
from sidecar.clocks import Addr, Mono
from sidecar.identity import inbound
from sidecar.identity.classify import Network
from sidecar.identity.digest import Accepted, Challenge, DigestServer, Malformed
from sidecar.sip import layer as ly
from sidecar.sip.dialog import Dialog, DialogKey, key_of_request
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.flow import Flow
from sidecar.sip.ids import Ids
from sidecar.sip.message import Request, Response, parse, response_to
from sidecar.sip.timing import Timing
from sidecar.sip.uri import SipUri

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, MESSAGE, REFER, NOTIFY, SUBSCRIBE"
DEFAULT_PORT = 5060


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that the shell listens on, and the address under which peers reach it."""

    local: Addr
    advertised: Addr


@dataclass(frozen=True, slots=True)
class Settings:
    """What the engine must know; all of it may be replaced while calls live."""

    listeners: tuple[Listener, ...]
    routes: tuple[Route, ...]
    trusted: tuple[Network, ...]
    digest: DigestServer | None = None
    ring_limit: float = 200.0
    """Seconds without a further provisional response; RFC 3261 16.6 asks for more than 180."""
    timing: Timing = field(default_factory=Timing)


class Engine:
    """Every live call. `receive`, `on_time`, `media_opened`, … change it; `take` drains what follows, in order."""

    def __init__(self, settings: Settings, ids: Ids) -> None:
        self.settings = settings
        self.ids = ids
        self.layer = ly.TransactionLayer(ids, settings.timing)
        self.draining = False
        self.calls: dict[str, Call] = {}
        self.counts: Counter[str] = Counter()
        self._out: list[Effect] = []
        self._transactions: dict[ly.TxId, tuple[InDialog, Leg]] = {}
        self._dialogs: dict[DialogKey, tuple[InDialog, Pair, Leg]] = {}
        self._keys: dict[str, list[DialogKey]] = {}
        self._call_ids: dict[str, set[str]] = {}
        self._lookups: dict[str, list[Callable[[Addr | None, str, Mono], None]]] = {}
        self._ports: dict[str, int] = {}
        self._leaving: list[InDialog] = []

    # -- inputs ------------------------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, flow: Flow, now: Mono) -> None:
        """One datagram, or one framed message of a stream. Never raises for what a peer sent."""
        try:
            message = parse(data)
            if message is None:
                self.counts["keepalive"] += 1
                return
            self.layer.receive(message, flow, now)
            self._drain(now, data)
        except MalformedMessage as error:
            self.counts["malformed"] += 1
            answer = ly.reject(data, error, flow)
            if answer is not None and within_any(flow.remote[0], self.settings.trusted):
                self._out.append(SendSip(answer.data, answer.flow))
            self._drain(now)

    def on_time(self, now: Mono) -> None:
        """Let every timer that is due fire."""
        self.layer.on_time(now)
        for call in [call for call in self.calls.values() if (due := call.next_deadline()) is not None and due <= now]:
            call.on_time(now)
        self._drain(now)

    def next_deadline(self) -> Mono | None:
        """When `on_time` wants to be called next."""
        deadlines = [due for call in self.calls.values() if (due := call.next_deadline()) is not None]
        if (due := self.layer.next_deadline()) is not None:
            deadlines.append(due)
        return min(deadlines, default=None)

    def take(self) -> list[Effect]:
        """Everything that followed from the inputs since the last call, in order."""
        out, self._out = self._out, []
        return out

    def transport_failed(self, flow: Flow, now: Mono) -> None:
        """The transport refused what was sent to `flow.remote` (ICMP port unreachable, send error)."""
        self.layer.transport_failed(flow, now)
        self._drain(now)

    def media_opened(self, call_id: str, m_line: int, ports: PortPairs, now: Mono) -> None:
        """Answer to OpenMedia."""
        if (call := self.calls.get(call_id)) is not None:
            call.media_opened(m_line, ports, now)
            self._drain(now)

    def media_failed(self, call_id: str, m_line: int, detail: str, now: Mono) -> None:
        """Answer to OpenMedia: no ports."""
        if (call := self.calls.get(call_id)) is not None:
            call.media_failed(m_line, detail, now)
            self._drain(now)

    def resolved(self, token: str, host: str | None, detail: str, now: Mono) -> None:
        """Answer to Resolve: an IP literal, or None and why."""
        port = self._ports.pop(token)
        for then in self._lookups.pop(token, []):
            then((host, port) if host is not None else None, detail, now)
        self._drain(now)

    def hang_up(self, call_id: str, outcome: o.Outcome, now: Mono) -> bool:
        """End a call from our side. False when there is no such live call."""
        call = self.calls.get(call_id)
        if call is None:
            return False
        call.hang_up(outcome, now)
        self._drain(now)
        return True

    def describe(self) -> dict[str, object]:
        """State and counts, for the admin API."""
        return {
            "calls": len(self.calls),
            "dialogs": len(self._dialogs),
            "transactions": self.layer.describe(),
            "bound_transactions": len(self._transactions),
            "lookups": len(self._lookups),
            "draining": self.draining,
            "counts": dict(self.counts),
        }

    # -- the transaction layer's outputs -----------------------------------------------------------------------------------------------

    def _drain(self, now: Mono, data: bytes | None = None) -> None:
        """Deal with what the layer put out. `data` is the message being received: it is traced before all that follows from it."""
        sent: list[ly.Send] = []
        while outputs := self.layer.take():
            for output in outputs:
                match output:
                    case ly.Send():
                        self._out.append(SendSip(output.data, output.flow))
                        sent.append(output)
                    case ly.RequestReceived(tx, request, flow):
                        self._on_request(tx, request, flow, now)
                        self._trace_in(tx, flow, data, again=False)
                    case ly.AckReceived(request, flow):
                        self._on_ack(request, flow, data, now)
                    case ly.CancelReceived(tx, request):
                        self._on_cancel(tx, request, data, now)
                    case ly.ResponseReceived(tx, response, flow, again):
                        self._trace_in(tx, flow, data, again=again)
                        if (bound := self._transactions.get(tx)) is not None:
                            bound[0].on_response(tx, response, again, now)
                    case ly.Absorbed(tx, message, flow):
                        self._on_absorbed(tx, message, flow, data)
                    case ly.TimedOut(tx):
                        if (bound := self._transactions.get(tx)) is not None:
                            bound[0].on_timeout(tx, None, now)
                    case ly.TransportFailed(tx, detail):
                        if (bound := self._transactions.get(tx)) is not None:
                            bound[0].on_timeout(tx, detail, now)
                    case ly.AckTimedOut(tx):
                        if (bound := self._transactions.get(tx)) is not None:
                            bound[0].on_ack_timeout(tx, now)
                    case ly.Terminated(tx):
                        if (bound := self._transactions.pop(tx, None)) is not None:
                            bound[0].on_terminated(tx)
                    case ly.Stray():
                        self.counts["stray"] += 1
                    case _ as never:
                        assert_never(never)
        for output in sent:
            if (bound := self._owner(output)) is not None:
                self._trace(bound, Message(bound[0].id, bound[1], "out", output.flow, output.data, output.retransmission))
        for call in self._leaving:
            self._out.append(Gone(call.id))
        self._leaving.clear()

    # -- the trace ---------------------------------------------------------------------------------------------------------------------

    def _trace_in(self, tx: ly.TxId | None, flow: Flow, data: bytes | None, *, again: bool) -> None:
        if tx is not None and data is not None and (bound := self._transactions.get(tx)) is not None:
            self._trace(bound, Message(bound[0].id, bound[1], "in", flow, data, again))

    def _owner(self, sent: ly.Send) -> tuple[InDialog, Leg] | None:
        """The call that a message which left belongs to; the ACK of a 2xx has no transaction and is found by its dialog."""
        if sent.tx is not None:
            return self._transactions.get(sent.tx)
        message = sent.message
        found = self._dialogs.get(DialogKey(message.call_id, message.from_tag or "", message.to_tag or ""))
        return None if found is None else (found[0], found[2])

    def _trace(self, bound: tuple[InDialog, Leg], message: Message) -> None:
        if not bound[0].is_gone or bound[0] in self._leaving:
            self._out.append(message)

    # -- requests ----------------------------------------------------------------------------------------------------------------------

    def _on_request(self, tx: ly.TxId, request: Request, flow: Flow, now: Mono) -> None:
        if request.to_tag is not None:
            self._on_dialog_request(tx, request, now)
        elif not within_any(flow.remote[0], self.settings.trusted) and not self._authenticated(tx, request, flow, now):
            return
        elif request.method == "OPTIONS":
            self._respond(tx, request, 503 if self.draining else 200, now, [("Allow", ALLOW), ("Accept", "application/sdp")])
        elif request.method != "INVITE":
            status = 481 if request.method in ("BYE", "PRACK", "UPDATE") else 405
            self._respond(tx, request, status, now, [("Allow", ALLOW)])
        else:
            self._on_invite(tx, request, flow, now)

    def _on_dialog_request(self, tx: ly.TxId, request: Request, now: Mono) -> None:
        found = self._dialogs.get(key_of_request(request))
        if found is None:
            self.counts["no-dialog"] += 1
            self._respond(tx, request, 481, now)
            return
        call, pair, leg = found
        self.bind(tx, call, leg)
        call.on_request(leg, pair, tx, request, now)

    def _authenticated(self, tx: ly.TxId, request: Request, flow: Flow, now: Mono) -> bool:
        """Whether a stranger proved who it is. Otherwise it has got its answer: a challenge, or a refusal that tells it nothing."""
        if self.settings.digest is None:
            self._refuse_stranger("untrusted-source", request, flow)
            self._respond(tx, request, 403, now)
            return False
        verdict = self.settings.digest.check(request, now)
        match verdict:
            case Accepted():
                return True
            case Malformed(detail):
                self._refuse_stranger("malformed-credentials", request, flow)
                self._respond(tx, request, 400, now, [warning(detail)])
            case Challenge(stale, reason):
                if reason != "no_credentials":
                    self._refuse_stranger(reason.replace("_", "-"), request, flow)
                headers = self.settings.digest.challenge(self.ids.token(), now, stale=stale)
                self._respond(tx, request, self.settings.digest.status, now, headers)
        return False

    def _refuse_stranger(self, reason: str, request: Request, flow: Flow) -> None:
        self.counts[reason] += 1
        self._out.append(Refused(reason, flow.remote, request.method))

    def _on_invite(self, tx: ly.TxId, request: Request, flow: Flow, now: Mono) -> None:
        if self.draining:
            self._refuse_invite(tx, request, flow, o.draining(), now, [("Retry-After", "5")])
            return
        try:
            forwards = request.max_forwards
            # 12.1.1: what the dialog will need later must be usable now.
            Dialog.uas(request, response_to(request, 200, to_tag="door"))
            route = choose(self.settings.routes, request, flow.remote[0])
        except MalformedMessage as error:
            self._refuse_invite(tx, request, flow, o.malformed(error.status or 400, error.detail), now)
            return
        if forwards == 0:
            self._refuse_invite(tx, request, flow, o.too_many_hops(), now)
            return
        known = [self.calls[call_id] for call_id in self._call_ids.get(request.call_id, ())]
        if any(call.sent_from(request.from_tag) for call in known):
            self._refuse_invite(tx, request, flow, o.looped(), now)
            return
        if route is None:
            self._refuse_invite(tx, request, flow, o.no_route(request.uri), now)
            return
        trusted = within_any(flow.remote[0], self.settings.trusted)
        identity = inbound.read(request, trusted=trusted, call_id_in_use=bool(known), simulation=route.simulation)
        call = Call(self, self.ids.token(), request, tx, flow, route, identity)
        self.calls[call.id] = call
        self._call_ids.setdefault(request.call_id, set()).add(call.id)
        self.counts["calls"] += 1
        call.start(now)

    def _refuse_invite(
        self, tx: ly.TxId, request: Request, flow: Flow, outcome: o.Outcome, now: Mono, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.counts[outcome.reason] += 1
        self._out.append(Refused(outcome.reason, flow.remote, request.method))
        self._respond(tx, request, outcome.status, now, [*headers, warning(outcome.cause)])

    def _respond(self, tx: ly.TxId, request: Request, status: int, now: Mono, headers: Sequence[tuple[str, str]] = ()) -> None:
        tag = None if request.to_tag is not None else self.ids.tag()
        self.layer.respond(tx, response_to(request, status, to_tag=tag, headers=list(headers)), now)

    def _on_ack(self, request: Request, flow: Flow, data: bytes | None, now: Mono) -> None:
        found = self._dialogs.get(key_of_request(request))
        if found is None:
            self.counts["no-dialog"] += 1
            return
        call, pair, leg = found
        if data is not None:
            self._trace((call, leg), Message(call.id, leg, "in", flow, data, retransmission=False))
        call.on_ack(leg, pair, request, now)

    def _on_cancel(self, tx: ly.TxId, request: Request, data: bytes | None, now: Mono) -> None:
        bound = self._transactions.get(tx)
        if bound is None:
            return
        call, leg = bound
        if data is not None and isinstance(call, Call):
            self._trace(bound, Message(call.id, leg, "in", call.flows[leg], data, retransmission=False))
        if isinstance(call, Call) and call.invite.via.branch == request.via.branch:
            call.on_cancel(request, now)
        else:
            call.on_crossing_cancel(tx, request, now)

    def _on_absorbed(self, tx: ly.TxId | None, message: Request | Response, flow: Flow, data: bytes | None) -> None:
        if tx is None or (bound := self._transactions.get(tx)) is None:
            return
        ack = isinstance(message, Request) and message.method == "ACK"
        self._trace_in(tx, flow, data, again=not ack)
        if ack and isinstance(bound[0], Call):
            bound[0].on_failure_acknowledged(tx)

    # -- what calls need (Switchboard) -------------------------------------------------------------------------------------------------

    @property
    def ring_limit(self) -> float:
        """Seconds that an edge may ring without a sign of life."""
        return self.settings.ring_limit

    def emit(self, effect: Effect) -> None:
        """Queue an effect or a fact."""
        self._out.append(effect)

    def bind(self, tx: ly.TxId, call: InDialog, leg: Leg) -> None:
        """From now on, what the layer says of `tx` concerns this leg of this call."""
        self._transactions[tx] = (call, leg)

    def adopt(self, dialog: Dialog, call: InDialog, pair: Pair, leg: Leg) -> None:
        """From now on, requests inside `dialog` concern this leg of this call."""
        self._dialogs[dialog.key] = (call, pair, leg)
        self._keys.setdefault(call.id, []).append(dialog.key)

    def contact(self, flow: Flow, user: str | None) -> str:
        """The Contact value under which we are reached on this flow."""
        host, port = self.advertised(flow)
        return f"<sip:{user + '@' if user else ''}{f'[{host}]' if ':' in host else host}:{port}>"

    def advertised(self, flow: Flow) -> Addr:
        """Host and port to write into Via, Contact and SDP for this flow."""
        return next((listener.advertised for listener in self.settings.listeners if listener.local == flow.local), flow.local)

    def locate(self, uri: str, then: Callable[[Addr | None, str, Mono], None], now: Mono) -> None:
        """Where to send for `uri`: at once for an IP literal, else when Resolve is answered."""
        try:
            target = SipUri.parse(uri)
        except MalformedMessage as error:
            then(None, error.detail, now)
            return
        host, port = target.host.strip("[]"), target.port or DEFAULT_PORT
        try:
            ip_address(host)
        except ValueError:
            token = f"{host}:{port}"
            self._lookups.setdefault(token, []).append(then)
            if token not in self._ports:
                self._ports[token] = port
                self._out.append(Resolve(token, host))
            return
        then((host, port), "", now)

    def gone(self, call: InDialog) -> None:
        """Nothing of this call is outstanding: forget it once what is being drained is traced."""
        self._leaving.append(call)
        self.calls.pop(call.id, None)
        same = self._call_ids.get(call.invite.call_id, set())
        same.discard(call.id)
        if not same:
            self._call_ids.pop(call.invite.call_id, None)
        for key in self._keys.pop(call.id, []):
            self._dialogs.pop(key, None)
