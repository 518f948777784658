"""The switchboard: octets in, effects and facts out, every call of this sidecar in between.

The engine checks a message at the door once, finds the dialog or the route that it belongs to, and leaves the rest to the call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

from sidecar.b2bua import outcome as o
from sidecar.b2bua.call import RETRY_AFTER_REFUSAL, Call
from sidecar.b2bua.crossing import warning
from sidecar.b2bua.effects import Effect, Found, Gone, Leg, Message, Refused, SendSip
from sidecar.b2bua.legs import Pair, PortPairs
from sidecar.b2bua.lookups import Lookups
from sidecar.b2bua.registry import Registry
from sidecar.b2bua.routes import Route, choose, within_any
from sidecar.b2bua.switchboard import Located, Member
from sidecar.clocks import Addr, Mono
from sidecar.identity import inbound
from sidecar.identity.classify import Network
from sidecar.identity.digest import Accepted, Challenge, DigestServer, Malformed
from sidecar.identity.findings import FINDINGS
from sidecar.sip import layer as ly
from sidecar.sip.dialog import Dialog, key_of_request
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.flow import Flow
from sidecar.sip.ids import Ids
from sidecar.sip.message import Request, Response, parse, response_to
from sidecar.sip.timing import Timing
from sidecar.sip.uri import SipUri

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, MESSAGE, REFER, NOTIFY, SUBSCRIBE"
ONLY_IN_DIALOG = frozenset({"BYE", "PRACK", "UPDATE", "INFO", "NOTIFY"})
"""Requests that mean nothing outside a dialog: 481 there, not 405."""


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
    evaluator_networks: tuple[Network, ...] = ()
    """Calls from here are simulations, where the route says `auto`."""
    evaluator_users: frozenset[str] = frozenset()
    """So are those of who authenticated as one of these."""
    ring_limit: float = 200.0
    """Seconds without a further provisional response; RFC 3261 16.6 asks for more than 180."""
    timing: Timing = field(default_factory=Timing)


@dataclass(frozen=True, slots=True)
class Datagram:
    """What is being received."""

    data: bytes
    flow: Flow


class Engine:
    """Every live call. `receive`, `on_time`, `media_opened`, … change it; `take` drains what follows, in order."""

    def __init__(self, settings: Settings, ids: Ids) -> None:
        self.settings = settings
        self.ids = ids
        self.layer = ly.TransactionLayer(ids, settings.timing)
        self.draining = False
        self.counts: Counter[str] = Counter()
        self.findings: Counter[str] = Counter(dict.fromkeys(FINDINGS, 0))
        """How often each oddity of an identity was found."""
        self._registry = Registry()
        self._lookups = Lookups()
        self._out: list[Effect] = []
        self._touched: dict[str, Member] = {}

    # -- inputs ------------------------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, flow: Flow, now: Mono) -> None:
        """One datagram, or one framed message of a stream. Never raises for what a peer sent."""
        try:
            message = parse(data)
        except MalformedMessage as error:
            self.counts["malformed"] += 1
            answer = ly.reject(data, error, flow)
            if answer is not None and within_any(flow.remote[0], self.settings.trusted):
                self._out.append(SendSip(answer.data, answer.flow))
            return
        if message is None:
            self.counts["keepalive"] += 1
            return
        self.layer.receive(message, flow, now)
        self._drain(now, Datagram(data, flow))

    def on_time(self, now: Mono) -> None:
        """Let every timer that is due fire."""
        self.layer.on_time(now)
        for call in self._registry.due(now):
            self._touched[call.id] = call
            call.on_time(now)
        self._drain(now)

    def next_deadline(self) -> Mono | None:
        """When `on_time` wants to be called next."""
        deadlines = (self.layer.next_deadline(), self._registry.next_deadline())
        return min((due for due in deadlines if due is not None), default=None)

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
            self._touched[call.id] = call
            call.media_opened(m_line, ports, now)
            self._drain(now)

    def media_failed(self, call_id: str, m_line: int, detail: str, now: Mono) -> None:
        """Answer to OpenMedia: no ports."""
        if (call := self.calls.get(call_id)) is not None:
            self._touched[call.id] = call
            call.media_failed(m_line, detail, now)
            self._drain(now)

    def resolved(self, token: str, host: str | None, detail: str, now: Mono) -> None:
        """Answer to Resolve: an IP literal, or None and why."""
        for call in self._lookups.resolved(token, host, detail, now):
            self._touched[call.id] = call
        self._drain(now)

    def hang_up(self, call_id: str, outcome: o.Outcome, now: Mono) -> bool:
        """End a call from our side. False when there is no such live call."""
        call = self.calls.get(call_id)
        if call is None:
            return False
        self._touched[call.id] = call
        call.hang_up(outcome, now)
        self._drain(now)
        return True

    @property
    def calls(self) -> dict[str, Call]:
        """The live calls by id."""
        return self._registry.calls

    def describe(self) -> dict[str, object]:
        """State and counts, for the admin API."""
        return {
            "calls": len(self.calls),
            "dialogs": len(self._registry.dialogs),
            "transactions": self.layer.describe(),
            "bound_transactions": len(self._registry.transactions),
            "lookups": len(self._lookups),
            "draining": self.draining,
            "counts": dict(self.counts),
        }

    # -- the transaction layer's outputs -----------------------------------------------------------------------------------------------

    def _drain(self, now: Mono, came: Datagram | None = None) -> None:
        """Deal with what the layer put out. `came` is what is being received: it is traced before all that follows from it."""
        sent: list[ly.Send] = []
        while outputs := self.layer.take():
            for output in outputs:
                if isinstance(output, ly.Send):
                    self._out.append(SendSip(output.data, output.flow))
                    sent.append(output)
                else:
                    self._on_output(output, came, now)
        # Behind what caused them: a new call is known, and a new transaction bound, only after the layer's first word on them.
        for output in sent:
            if (owner := self._registry.owner(output.tx, output.message, sent=True)) is not None:
                self._out.append(Message(owner[0].id, owner[1], "out", output.flow, output.data, output.retransmission))
        for call in self._touched.values():
            if call.is_settled and not call.is_gone:
                call.is_gone = True
                self._registry.remove(call.id)
                self._out.append(Gone(call.id))
        self._touched.clear()

    def _on_output(self, output: ly.Output, came: Datagram | None, now: Mono) -> None:
        match output:
            case ly.Send():
                pass  # dealt with above
            case ly.RequestReceived(tx, request, flow):
                self._on_request(tx, request, flow, now)
                self._trace(tx, request, came)
            case ly.AckReceived(request):
                self._trace(None, request, came)
                self._on_ack(request, now)
            case ly.CancelReceived(tx, request):
                self._trace(tx, request, came)
                if (call := self._bound(tx)) is not None:
                    call.on_cancel(tx, request, now)
            case ly.ResponseReceived(tx, response, _, again):
                self._trace(tx, response, came, again=again)
                if (call := self._bound(tx)) is not None:
                    call.on_response(tx, response, again, now)
            case ly.Absorbed(tx, message):
                self._on_absorbed(tx, message, came)
            case ly.TimedOut(tx):
                if (call := self._bound(tx)) is not None:
                    call.on_timeout(tx, None, now)
            case ly.TransportFailed(tx, detail):
                if (call := self._bound(tx)) is not None:
                    call.on_timeout(tx, detail, now)
            case ly.AckTimedOut(tx):
                if (call := self._bound(tx)) is not None:
                    call.on_ack_timeout(tx, now)
            case ly.Terminated(tx):
                if (call := self._bound(tx)) is not None:
                    call.on_terminated(tx)
                    del self._registry.transactions[tx]
            case ly.Stray():
                self.counts["stray"] += 1
            case _ as never:
                assert_never(never)

    def _bound(self, tx: ly.TxId) -> Member | None:
        """The call that a transaction concerns. What is asked for here is about to change, so it is looked at again after the drain."""
        bound = self._registry.transactions.get(tx)
        if bound is None:
            return None
        self._touched[bound[0].id] = bound[0]
        return bound[0]

    def _trace(self, tx: ly.TxId | None, message: Request | Response, came: Datagram | None, *, again: bool = False) -> None:
        if came is not None and (owner := self._registry.owner(tx, message, sent=False)) is not None:
            self._out.append(Message(owner[0].id, owner[1], "in", came.flow, came.data, again))

    def _on_absorbed(self, tx: ly.TxId | None, message: Request | Response, came: Datagram | None) -> None:
        # The layer deals alone with retransmissions, with the ACK of a non-2xx, and with answers to its own CANCEL.
        repeated = not (isinstance(message, Request) and message.method == "ACK") and message.cseq.method != "CANCEL"
        self._trace(tx, message, came, again=repeated)
        if tx is not None and isinstance(message, Request) and message.method == "ACK" and (call := self._bound(tx)) is not None:
            call.on_failure_acknowledged(tx)

    # -- requests ----------------------------------------------------------------------------------------------------------------------

    def _on_request(self, tx: ly.TxId, request: Request, flow: Flow, now: Mono) -> None:
        if request.to_tag is not None:
            self._on_dialog_request(tx, request, now)
        elif within_any(flow.remote[0], self.settings.trusted):
            self._on_new_request(tx, request, flow, None, now)
        elif (user := self._authenticated(tx, request, flow, now)) is not None:
            self._on_new_request(tx, request, flow, user, now)

    def _on_new_request(self, tx: ly.TxId, request: Request, flow: Flow, user: str | None, now: Mono) -> None:
        """A request outside any dialog, of somebody who may ask. `user`: the name under which a stranger authenticated."""
        if request.method == "OPTIONS":
            self._respond(tx, request, 503 if self.draining else 200, now, [("Allow", ALLOW), ("Accept", "application/sdp")])
        elif request.method != "INVITE":
            self._respond(tx, request, 481 if request.method in ONLY_IN_DIALOG else 405, now, [("Allow", ALLOW)])
        else:
            self._on_invite(tx, request, flow, user, now)

    def _on_dialog_request(self, tx: ly.TxId, request: Request, now: Mono) -> None:
        found = self._registry.dialogs.get(key_of_request(request))
        if found is None:
            self.counts["no-dialog"] += 1
            self._respond(tx, request, 481, now)
            return
        call, pair, leg = found
        self.bind(tx, call, leg)
        self._touched[call.id] = call
        call.on_request(leg, pair, tx, request, now)

    def _on_ack(self, request: Request, now: Mono) -> None:
        found = self._registry.dialogs.get(key_of_request(request))
        if found is None:
            self.counts["no-dialog"] += 1
            return
        call, pair, leg = found
        self._touched[call.id] = call
        call.on_ack(leg, pair, request, now)

    def _authenticated(self, tx: ly.TxId, request: Request, flow: Flow, now: Mono) -> str | None:
        """The user that a stranger proved to be. For None it has got its answer: a challenge, or a refusal that tells it nothing."""
        if self.settings.digest is None:
            self._count_refused("untrusted-source", request, flow)
            self._respond(tx, request, 403, now)
            return None
        verdict = self.settings.digest.check(request, now)
        match verdict:
            case Accepted(user):
                return user
            case Malformed(detail):
                self._count_refused("malformed-credentials", request, flow)
                self._respond(tx, request, 400, now, [warning(detail)])
            case Challenge(stale, reason):
                if reason != "no_credentials":
                    self._count_refused(reason.replace("_", "-"), request, flow)
                headers = self.settings.digest.challenge(self.ids.token(), now, stale=stale)
                self._respond(tx, request, self.settings.digest.status, now, headers)
            case _ as never:
                assert_never(never)
        return None

    def _on_invite(self, tx: ly.TxId, request: Request, flow: Flow, user: str | None, now: Mono) -> None:
        known = list(self._registry.with_call_id(request.call_id))
        try:
            # 12.1.1: what the dialog will need later must be usable now.
            Dialog.uas(request, response_to(request, 200, to_tag="door"))
            route = choose(self.settings.routes, request, flow.remote[0])
            refusal = self._refusal(request, known)
        except MalformedMessage as error:
            self._refuse_invite(tx, request, flow, o.malformed(error.status or 400, error.detail), now)
            return
        if refusal is not None or route is None:
            self._refuse_invite(tx, request, flow, refusal or o.no_route(request.uri), now)
            return
        if not route.permits(SipUri.parse(request.uri)):
            self._refuse_invite(tx, request, flow, o.recipient_not_allowed(request.uri, route.name), now)
            return
        identity = inbound.read(
            request,
            trusted=user is None,
            call_id_in_use=bool(known),
            simulation=route.simulation,
            source=flow.remote[0],
            networks=self.settings.evaluator_networks,
            digest_user=user,
            digest_users=self.settings.evaluator_users,
            policy=route.policy,
        )
        call = Call(self, self.ids.token(), request, tx, flow, route, identity, now)
        self._registry.add(call)
        self._touched[call.id] = call
        self.counts["calls"] += 1
        call.start(now)

    def _refusal(self, request: Request, known: Sequence[Call]) -> o.Outcome | None:
        """Why an INVITE becomes no call, whatever its route. Raises MalformedMessage."""
        if self.draining:
            return o.draining()
        if request.max_forwards == 0:
            return o.too_many_hops()
        if any(call.leg_of(request.from_tag, None) == "B" for call in known):
            return o.looped()
        return None

    def _refuse_invite(self, tx: ly.TxId, request: Request, flow: Flow, outcome: o.Outcome, now: Mono) -> None:
        self._count_refused(outcome.reason, request, flow)
        later = [RETRY_AFTER_REFUSAL] if outcome.status == 503 else []
        self._respond(tx, request, outcome.status, now, [warning(outcome.cause), *later])

    def _count_refused(self, reason: str, request: Request, flow: Flow) -> None:
        self.counts[reason] += 1
        self._out.append(Refused(reason, flow.remote, request.method))

    def _respond(self, tx: ly.TxId, request: Request, status: int, now: Mono, headers: Sequence[tuple[str, str]] = ()) -> None:
        tag = None if request.to_tag is not None else self.ids.tag()
        self.layer.respond(tx, response_to(request, status, to_tag=tag, headers=headers), now)

    # -- what calls need (Switchboard) -------------------------------------------------------------------------------------------------

    @property
    def ring_limit(self) -> float:
        """Seconds that an edge may ring without a sign of life."""
        return self.settings.ring_limit

    def emit(self, effect: Effect) -> None:
        """Queue an effect or a fact."""
        if isinstance(effect, Found):
            self.findings[effect.name] += 1
        self._out.append(effect)

    def bind(self, tx: ly.TxId, call: Member, leg: Leg) -> None:
        """From now on, what the layer says of `tx` concerns this leg of this call."""
        self._registry.transactions[tx] = (call, leg)

    def adopt(self, dialog: Dialog, call: Member, pair: Pair, leg: Leg) -> None:
        """From now on, requests inside `dialog` concern this leg of this call."""
        self._registry.adopt(dialog, call, pair, leg)

    def wake_at(self, call: Member, due: Mono) -> None:
        """Call `on_time` at `due`, should that still be the call's deadline then."""
        self._registry.wake_at(call, due)

    def advertised(self, flow: Flow) -> Addr:
        """Host and port to write into Via, Contact and SDP for this flow."""
        return next((listener.advertised for listener in self.settings.listeners if listener.local == flow.local), flow.local)

    def locate(self, call: Member, uri: str, then: Located, now: Mono) -> None:
        """Where to send for `uri`: at once for an IP literal, else when Resolve is answered."""
        if (resolve := self._lookups.locate(call, uri, then, now)) is not None:
            self._out.append(resolve)
