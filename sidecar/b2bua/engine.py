"""The switchboard: octets in, effects and facts out, every call of this sidecar in between.

The engine checks a message at the door once, finds the dialog or the route that it belongs to, and leaves the rest to the call.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import assert_never

from sidecar.b2bua import outcome as o
from sidecar.b2bua.call import RETRY_AFTER_REFUSAL, Call
from sidecar.b2bua.door import Admitted, Reply, Sender, identify, judge
from sidecar.b2bua.effects import Effect, Found, Gone, Leg, Message, Refused, SendSip, other
from sidecar.b2bua.legs import Pair, Placed, PortPairs
from sidecar.b2bua.lookups import Lookups
from sidecar.b2bua.pings import Pings
from sidecar.b2bua.registry import Registry
from sidecar.b2bua.settings import Listener as Listener
from sidecar.b2bua.settings import Settings as Settings
from sidecar.b2bua.strangers import Strangers
from sidecar.b2bua.switchboard import Located, Member
from sidecar.b2bua.valve import Valve
from sidecar.b2bua.ways import Ways
from sidecar.clocks import Addr, Mono
from sidecar.identity.findings import FINDINGS
from sidecar.sip import layer as ly
from sidecar.sip.dialog import Dialog, DialogKey, key_of_request
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.flow import Flow
from sidecar.sip.ids import Ids
from sidecar.sip.message import Request, Response, parse, response_to
from sidecar.sip.targets import Target


@dataclass(frozen=True, slots=True)
class Datagram:
    """What is being received."""

    data: bytes
    flow: Flow
    sender: Sender | None = None
    """Who proved already to have sent it."""


class Engine:
    """Every live call. `receive`, `on_time`, `media_opened`, … change it; `take` drains what follows, in order."""

    def __init__(self, settings: Settings, ids: Ids) -> None:
        self.settings = settings
        self.ids = ids
        self.layer = ly.TransactionLayer(ids, settings.timing)
        self.draining = False
        self.counts: Counter[str] = Counter()
        self.findings: Counter[str] = Counter(dict.fromkeys(sorted(FINDINGS), 0))
        """How often each oddity of an identity was found."""
        self._registry = Registry()
        self.ways = Ways(settings.listeners, settings.largest_datagram)
        self._lookups = Lookups(self.ways)
        self._pings = Pings(self.layer, self._lookups, self.ways, ids, self.emit)
        self._strangers = Strangers(self.layer, self._registry, ids, self.counts, self.emit)
        self.valve = Valve()
        self._out: list[Effect] = []
        self._touched: dict[str, Member] = {}

    # -- inputs ------------------------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, flow: Flow, now: Mono) -> None:
        """One datagram, or one framed message of a stream. Never raises for what a peer sent."""
        stranger = not self._strangers.trusts(flow, self.settings)
        if stranger and not self._strangers.hears(flow, self.settings, now):
            return
        try:
            message = parse(data)
        except MalformedMessage as error:
            self.malformed(data, error, flow, now)
            return
        if message is None:
            self.counts["keepalive"] += 1
            return
        sender = None
        if stranger and isinstance(message, Request) and self._strangers.concern(message, flow):
            sender = self._strangers.admits(message, data, flow, self.settings, now)
            if sender is None:
                return
        if isinstance(message, Request) and message.method == "INVITE" and message.to_tag is None and self._refuses(message, data, flow):
            return
        self.layer.receive(message, flow, now)
        self._drain(now, Datagram(data, flow, sender))

    def _refuses(self, invite: Request, data: bytes, flow: Flow) -> bool:
        """Whether there is too much to do for one more call. Then it is answered and forgotten: a refusal must cost next to nothing."""
        if self.layer.knows(invite, flow) or self.valve.admits(len(self.calls), self.settings.limits):
            return False
        self.counts["overloaded"] += 1
        answer = ly.answer_once(invite, data, 503, (RETRY_AFTER_REFUSAL,), flow)
        self._out.append(SendSip(answer.data, answer.flow))
        return True

    def malformed(self, data: bytes, error: MalformedMessage, flow: Flow, now: Mono) -> None:
        """What cannot be read, from a datagram or a stream: answered where a trusted peer can learn from it, counted in any case."""
        self.counts["malformed"] += 1
        if not self._strangers.trusts(flow, self.settings):
            self._strangers.pays(flow, self.settings, now, "malformed")
        elif (answer := ly.reject(data, error, flow)) is not None:
            self._out.append(SendSip(answer.data, answer.flow))

    def on_time(self, now: Mono) -> None:
        """Let every timer that is due fire."""
        self.layer.on_time(now)
        self._pings.on_time(self.settings.routes, now)
        for call in self._registry.due(now):
            self._touched[call.id] = call
            call.on_time(now)
        self._drain(now)

    def next_deadline(self) -> Mono | None:
        """When `on_time` wants to be called next."""
        deadlines = (self.layer.next_deadline(), self._registry.next_deadline(), self._pings.next_deadline(self.settings.routes))
        return min((due for due in deadlines if due is not None), default=None)

    def take(self) -> list[Effect]:
        """Everything that followed from the inputs since the last call, in order."""
        out, self._out = self._out, []
        return out

    def transport_failed(self, flow: Flow, now: Mono, detail: str = "unreachable") -> None:
        """The transport refused what was sent to `flow.remote` (ICMP port unreachable, send error, connection refused or broken)."""
        self.layer.transport_failed(flow, now, detail)
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

    def relay_answered(self, call_id: str, number: int, placed: Placed, now: Mono) -> None:
        """Answer to AskRelay."""
        self._relay_said(call_id, number, placed, now)

    def relay_failed(self, call_id: str, number: int, detail: str, now: Mono) -> None:
        """Answer to AskRelay: no relay takes the media."""
        self._relay_said(call_id, number, o.no_relay(detail), now)

    def _relay_said(self, call_id: str, number: int, said: Placed | o.Outcome, now: Mono) -> None:
        if (call := self.calls.get(call_id)) is not None:
            self._touched[call.id] = call
            call.relay_answered(number, said, now)
            self._drain(now)

    def resolved(self, token: str, targets: tuple[Target, ...], detail: str, now: Mono) -> None:
        """Answer to Resolve: targets in the order to try, or none and why."""
        for call in self._lookups.resolved(token, targets, detail, now):
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

    def reconfigure(self, settings: Settings) -> None:
        """Go by other settings from now on. Live calls keep the route that they began with.

        Where a route of the same name and target now has other credentials, they use these: the edge that changed its password asks for
        it in the BYE too.
        """
        self.settings = settings
        routes = {(route.name, route.target): route for route in settings.routes}
        for call in self.calls.values():
            route = routes.get((call.route.name, call.route.target))
            if route is not None and route.credentials is not None and route.credentials != call.route.credentials:
                call.digest["B"].rekey(route.credentials)

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
            "pings": self._pings.describe(),
            "strangers": self._strangers.tokens.describe(),
            "draining": self.draining,
            "valve": self.valve.describe(),
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
                self._strangers.tokens.spoken_with(output.flow.remote[0])
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
                self._on_request(tx, request, flow, came.sender if came is not None else None, now)
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
                else:
                    self._pings.answered(tx, response, now)
            case ly.Absorbed(tx, message):
                self._on_absorbed(tx, message, came)
            case ly.TimedOut(tx):
                if (call := self._bound(tx)) is not None:
                    call.on_timeout(tx, None, now)
                else:
                    self._pings.failed(tx, "no answer", now)
            case ly.TransportFailed(tx, detail):
                if (call := self._bound(tx)) is not None:
                    call.on_timeout(tx, detail, now)
                else:
                    self._pings.failed(tx, detail, now)
            case ly.AckTimedOut(tx):
                if (call := self._bound(tx)) is not None:
                    call.on_ack_timeout(tx, now)
            case ly.Terminated(tx):
                if (call := self._bound(tx)) is not None:
                    call.on_terminated(tx)
                    del self._registry.transactions[tx]
            case ly.Stray(_, flow):
                self.counts["stray"] += 1
                if not self._strangers.trusts(flow, self.settings):
                    self._strangers.pays(flow, self.settings, now)
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

    def _on_request(self, tx: ly.TxId, request: Request, flow: Flow, sender: Sender | None, now: Mono) -> None:
        if request.to_tag is not None:
            self._on_dialog_request(tx, request, now)
            return
        known = list(self._registry.with_call_id(request.call_id))
        who = sender or identify(request, flow.remote[0], self.settings, self.ids, now)
        verdict = (
            who if isinstance(who, Reply) else judge(request, flow.remote[0], who, known, draining=self.draining, settings=self.settings)
        )
        match verdict:
            case Admitted(route, identity):
                call = Call(self, self.ids.token(), request, tx, flow, route, identity, now)
                self._registry.add(call)
                self._touched[call.id] = call
                self.counts["calls"] += 1
                call.start(now)
            case Reply(status, headers, refused):
                if refused is not None:
                    self.counts[refused] += 1
                    self._out.append(Refused(refused, flow.remote, request.method))
                self.layer.respond(tx, response_to(request, status, to_tag=self.ids.tag(), headers=headers), now)
            case _ as never:
                assert_never(never)

    def _on_dialog_request(self, tx: ly.TxId, request: Request, now: Mono) -> None:
        found = self._registry.dialogs.get(key_of_request(request))
        if found is None:
            self.counts["no-dialog"] += 1
            self.layer.respond(tx, response_to(request, 481), now)
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

    def twin(self, key: DialogKey) -> Dialog | None:
        """The other leg's dialog of the call that has the dialog `key` with us."""
        found = self._registry.dialogs.get(key)
        return None if found is None else found[1].of(other(found[2]))

    def wake_at(self, call: Member, due: Mono) -> None:
        """Call `on_time` at `due`, should that still be the call's deadline then."""
        self._registry.wake_at(call, due)

    def advertised(self, flow: Flow) -> Addr:
        """Host and port to write into Via, Contact and SDP for this flow."""
        return self.ways.listener(flow).towards(flow.remote[0])

    def locate(self, call: Member, uri: str, then: Located, now: Mono) -> None:
        """Where to send for `uri`: at once for an IP address, else when Resolve is answered."""
        if (resolve := self._lookups.locate(call, uri, then, now)) is not None:
            self._out.append(resolve)
