"""One call: a UAS towards the caller (leg A), a UAC towards the edge (leg B), and what ties them together.

Set-up lives here, the life inside the dialogs in `indialog`. RFC 3261 sections 9, 12–15; RFC 6026.

Invariants: the caller's INVITE gets exactly one final response, and `Ended` is emitted exactly once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sidecar.b2bua import outcome as o
from sidecar.b2bua.adapting import adapted, ask_for_timer
from sidecar.b2bua.bodies import Bodies
from sidecar.b2bua.crossing import crossing_answer, crossing_cancel, warning
from sidecar.b2bua.dialling import Attempts, b_invite, next_hop_of, retry_after, target_of
from sidecar.b2bua.effects import Answered, Dialled, Ended, Found, HopProven, Learned, Leg, MediaDescribed, Replaces, Started, other
from sidecar.b2bua.legs import AwaitedAck, Crossing, Dialling, Goodbye, Own, Pair, Role, Stopwatch
from sidecar.b2bua.negotiation import State
from sidecar.b2bua.progress import Progress
from sidecar.b2bua.reliable import Receipts, Sender
from sidecar.b2bua.replaces import key_in, translate_headers
from sidecar.b2bua.routes import Route
from sidecar.b2bua.session_timer import REFRESHING, LegTimer
from sidecar.b2bua.switchboard import Switchboard
from sidecar.b2bua.ways import dialled_from_itself
from sidecar.clocks import Mono
from sidecar.identity import trace_context
from sidecar.identity.carriage import reported_forms, shortfalls
from sidecar.identity.digest import DigestClient, Refusal
from sidecar.identity.inbound import Identity
from sidecar.identity.learned import learned
from sidecar.sip.dialog import Dialog, DialogState
from sidecar.sip.flow import Flow
from sidecar.sip.layer import TxId
from sidecar.sip.message import Request, Response, response_to
from sidecar.sip.targets import Target

RETRY_AFTER_REFUSAL = ("Retry-After", "5")
"""Seconds, on every 503 of our own."""
AVOIDED_S = 60.0
"""How long a target that failed is tried after all others (RFC 3263 4.3), unless its 503 says for how long."""


class Call(Progress):
    """One call with both its legs. All methods are called by the engine, which drains the effects afterwards."""

    def __init__(
        self, board: Switchboard, call_id: str, invite: Request, server: TxId, flow: Flow, route: Route, identity: Identity, now: Mono
    ) -> None:
        self.id = call_id
        self.board = board
        self.route = route
        self.identity = identity
        self.invite = invite
        self.state: State = "setup"
        self.is_gone = False
        self.flows: dict[Leg, Flow] = {"A": flow}
        self.pairs: dict[str, Pair] = {}
        """By the edge's To-tag."""
        self.confirmed: Pair | None = None
        self.clients: dict[TxId, Role] = {}
        self.awaited: list[AwaitedAck] = []
        self.unacknowledged: set[TxId] = set()
        self.lookups = 0
        self.digest: dict[Leg, DigestClient] = {"A": DigestClient(None), "B": DigestClient(route.credentials)}
        self.bodies = Bodies(call_id, board.emit)
        self.told: dict[tuple[Leg, int], MediaDescribed] = {}
        self.server = server
        self.a_tag = board.ids.tag()
        self._b_tag = board.ids.tag()
        self._b_tags = {self._b_tag}
        self._attempts = Attempts(target_of(route, invite))
        self.agent_contact = invite.contact.uri if dialled_from_itself(invite) and invite.contact is not None else None
        self._dialling: TxId | None = None
        self._ring_deadline: Mono | None = None
        self.timers: dict[Leg, LegTimer] = {}
        self.allow: dict[Leg, str | None] = {}
        self.receipts = Receipts()
        self.sender: Sender | None = None
        self.held: Callable[[Mono], None] | None = None
        self._watch = Stopwatch(now)
        board.bind(server, self, "A")

    # -- set-up ------------------------------------------------------------------------------------------------------------------------

    def start(self, now: Mono) -> None:
        """Take the INVITE: tell the trace, open media for the offer, dial the route's target."""
        outbound = self.route.direction == "outbound"
        self.emit(
            Started(
                call=self.id,
                sip_call_id=self.identity.carried_id,
                correlation_id=self.identity.correlation_id,
                kind=self.identity.kind,
                direction=self.route.direction,
                route=self.route.name,
                platform=self.route.platform,
                from_=self.invite.from_.uri,
                to=self.invite.to.uri,
                recipient=self.invite.uri if outbound else None,
                source=self.flows["A"].remote,
            )
        )
        self.emit(HopProven(self.id, "received", f"INVITE {self.invite.uri} with Call-ID {self.invite.call_id}"))
        if (refused := self._examine()) is not None:
            self.refuse(o.policy(refused), now)
            return
        for header in ("Replaces", "Join"):
            if (value := self.invite.headers.get(header)) is not None and (key := key_in(header, value)) is not None:
                self.emit(Replaces(self.id, key.call_id, header))
        self._approach(now)

    def _examine(self) -> str | None:
        """Tell what is odd about the identity and under which other texts it may come back. Returns why the policy refuses the call."""
        preset, carried = self.route.preset, self.identity.carried_id
        missing = shortfalls(preset, carried)
        for finding in (*self.identity.findings, *missing):
            self.emit(Found(self.id, finding.name, finding.detail))
        # The token stands for a secret and is matched by its hash, so no form of it is told here.
        for alias in dict.fromkeys((*reported_forms(preset, carried, None), self.invite.call_id)):
            if alias != carried:
                self.emit(Learned(self.id, "alias", alias))
        unfit = (finding.detail for finding in missing if finding.name in self.route.policy.reject)
        return self.identity.rejected or next(unfit, None)

    def _approach(self, now: Mono) -> None:
        """Find out where the Request-URI of the moment leads, and dial the first of its targets."""
        next_hop = next_hop_of(self.route, self._attempts.uri)

        def located(targets: Sequence[Target], detail: str, at: Mono) -> None:
            if self.state == "setup":
                self._attempts.targets.extend(targets)
                self._attempt(o.edge_unreachable(next_hop, detail or "nothing here listens for its transport"), at)

        self.locate(next_hop, located, now)

    def _attempt(self, otherwise: o.Outcome, now: Mono, response: Response | None = None) -> None:
        """Dial the next target, or the first of the next redirect. When there is none left, the call ends with `otherwise`."""
        while self._attempts.targets:
            target = self._attempts.targets.popleft()
            flow = self.board.ways.flow_to(target, self.flows["A"])
            if flow is not None:
                self._begin_attempt(target, flow, now)
                return
        if self._attempts.next_redirect():
            self._approach(now)
        else:
            self.refuse(otherwise, now, response)

    def _begin_attempt(self, target: Target, flow: Flow, now: Mono) -> None:
        if self._attempts.current is not None:
            # RFC 3263 4.3: to the next target it is another request, and its answers make other dialogs, also towards the caller.
            self._b_tag = self.board.ids.tag()
            self._b_tags.add(self._b_tag)
            if self.pairs:
                self.a_tag = self.board.ids.tag()
                self.pairs.clear()
        self._attempts.current = target
        self._dialling = None
        self.flows["B"] = flow
        self.cross_body(self.invite, "A", self._dial, self.refuse, now)

    def _dial(self, body: bytes, described: Sequence[MediaDescribed], now: Mono) -> None:
        if self.state != "setup":
            return
        self.tell_media(described)
        contact = self.contact("B")
        trace = trace_context.ours(self.id) if self.board.settings.traced else None
        request = b_invite(
            self.invite, self._attempts.uri, self.route, self.identity, tag=self._b_tag, contact=contact, body=body, trace=trace
        )
        translate_headers(request.headers, self.board.twin)
        ask_for_timer(request, self.board.settings.session_interval)
        self._send_invite(request, now)

    def _send_invite(self, request: Request, now: Mono) -> None:
        self._dialling = self.transact("B", request, self.flows["B"], Dialling(request, now), now)
        self._ring_until(now)
        self.emit(Dialled(self.id, request.call_id, request.uri))
        self.emit(HopProven(self.id, "carried", f"INVITE {request.uri} left with Call-ID {request.call_id} and X-Sip-Call-Id"))

    # -- the edge's answers ------------------------------------------------------------------------------------------------------------

    def _on_dialling_response(self, tx: TxId, role: Dialling, response: Response, again: bool, now: Mono) -> None:
        if self._attempts.current is not None and response.status != 503:
            self.board.ways.forgive(self._attempts.current)
        if response.status >= 200:
            self.learn_nonce("B", response)
        if response.status < 200:
            self._progress(role, response, now)
        elif response.status < 300:
            self._success(role, response, again, now)
        else:
            del self.clients[tx]
            self._failure(role, response, now)

    def _progress(self, role: Dialling, response: Response, now: Mono) -> None:
        if self.state != "setup":
            return
        self._watch.provisional(response.status, now)
        if response.status == 100:
            return
        self._ring_until(now)
        self._learn(response)

        def relay(body: bytes, described: Sequence[MediaDescribed], at: Mono) -> None:
            if self.state == "setup":
                self.tell_media(described)
                # 12.1: without a To-tag there is no dialog yet.
                pair = self._pair(role, response, described) if response.to_tag else None
                self.tell_progress(role, pair, response, body, at)

        # A description that cannot be relayed must not cost the call: the response crosses without it.
        self.cross_body(response, "B", relay, lambda _, at: relay(b"", (), at), now)

    def _success(self, role: Dialling, response: Response, again: bool, now: Mono) -> None:
        tag = response.to_tag or ""
        if (ack := role.acks.get(tag)) is not None:
            self.board.layer.resend(ack.data, ack.flow)
            return
        if again:
            return  # the caller has not acknowledged yet; its ACK will cross
        known = self.pairs.get(tag)
        if self.state != "setup" or (known is not None and known.a.state is DialogState.TERMINATED):
            self._decline(role, response, now)
            return
        self._watch.answered(now)
        self._learn(response)

        def relay(body: bytes, described: Sequence[MediaDescribed], at: Mono) -> None:
            if self.state == "setup" and self.sender is not None and self.sender.has_description:
                self.held = lambda later: relay(body, described, later)
            elif self.state == "setup":
                self._establish(role, response, body, described, at)
            else:
                self._decline(role, response, at)

        def unusable(outcome: o.Outcome, at: Mono) -> None:
            self.refuse(outcome, at)
            self._decline(role, response, at)

        self.cross_body(response, "B", relay, unusable, now)

    def _establish(self, role: Dialling, response: Response, body: bytes, described: Sequence[MediaDescribed], now: Mono) -> None:
        """The edge answered: so do we."""
        pair = self._pair(role, response, described)
        headers = self.agree_timers("A", self.invite, role.request, response, crossing_answer(response, body=body), now)
        self.respond_caller(pair, response, headers, body, now)
        # Several early dialogs may have described their media; it follows the one that answers.
        self.tell_media(pair.described)
        pair.a.confirm()
        self.confirmed = pair
        self.state = "answered"
        self.sender = None
        self.allow = {"A": self.invite.headers.get("Allow"), "B": response.headers.get("Allow")}
        self.rearm()
        self.awaited.append(AwaitedAck("A", self.server, self.invite.cseq.number, pair, role))
        self.emit(Answered(self.id))

    def _pair(self, role: Dialling, response: Response, described: Sequence[MediaDescribed]) -> Pair:
        """The dialogs that a response belongs to; a new To-tag of the edge makes a new pair, with a new tag towards the caller."""
        tag = response.to_tag or ""
        pair = self.pairs.get(tag)
        if pair is None:
            ours = self.board.ids.tag() if self.pairs else self.a_tag
            pair = Pair(Dialog.uas(self.invite, response_to(self.invite, 180, to_tag=ours)), Dialog.uac(role.request, response))
            self.pairs[tag] = pair
            self.board.adopt(pair.a, self, pair, "A")
            self.board.adopt(pair.b, self, pair, "B")
        pair.b.refresh(response)
        pair.described = described or pair.described
        return pair

    def _decline(self, role: Dialling, response: Response, now: Mono) -> None:
        """A 2xx that nobody wants: a second fork, or the answer that crossed our CANCEL. ACK, then BYE (13.2.2.4, 15)."""
        dialog = Dialog.uac(role.request, response)
        self.send_ack("B", dialog, [], b"", role, now)
        self.send_bye("B", dialog, Goodbye([]), now)

    def _failure(self, role: Dialling, response: Response, now: Mono) -> None:
        if self.state != "setup":
            return
        edge, attempts = self._edge(), self._attempts
        again: Request | Refusal | None
        if response.status in (420, 421, 422) and (again := adapted(self.invite, role.request, response)) is not None:
            self._dial_again(again, now)
            return
        if response.status not in (401, 407):
            if response.status == 503:
                self._avoid(retry_after(response, AVOIDED_S), now)
            else:
                attempts.targets.clear()  # any other answer is the whole domain's, whichever of its servers gave it
            if response.status >= 600:
                attempts.redirects.clear()
            attempts.redirected(response, self.route)
            self._attempt(o.rejected(response.status, response.reason, edge), now, response)
            return
        again = self.authorise("B", role.request, response)
        if isinstance(again, Refusal):
            refused = o.credentials_missing if again.kind == "no_credentials" else o.credentials_refused
            self.refuse(refused(response.status, edge, again.detail), now, response)
            return
        self._watch.challenged(role.sent_at, now)
        self._dial_again(again, now)

    def _dial_again(self, request: Request, now: Mono) -> None:
        """Send the INVITE once more, with the next number (8.1.3.5)."""
        request.headers.set("CSeq", f"{request.cseq.number + 1} INVITE")
        self.pairs.clear()
        self._send_invite(request, now)

    def _learn(self, response: Response) -> None:
        for name, value in learned(response.headers):
            self.emit(Learned(self.id, name, value))

    # -- the end before an answer ------------------------------------------------------------------------------------------------------

    def on_cancel(self, tx: TxId, cancel: Request, now: Mono) -> None:
        """CANCEL of one of this call's INVITEs; the layer has answered the CANCEL itself."""
        if tx == self.server:
            self.refuse(o.cancelled(), now, cancel_headers=crossing_cancel(cancel.headers))
        else:
            self.on_crossing_cancel(tx, cancel, now)

    def refuse(
        self, outcome: o.Outcome, now: Mono, response: Response | None = None, *, cancel_headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """End a call that is not answered: final response to the caller, CANCEL to the edge. `response` is the edge's own refusal."""
        if self.state != "setup":
            return
        reason, body = None, b""
        headers: list[tuple[str, str]] = []
        if response is not None:
            reason, body = response.reason, response.body
            headers = crossing_answer(response, body=body)
        elif outcome.ended_by == "sidecar":
            headers = [warning(outcome.cause), *outcome.headers, *([RETRY_AFTER_REFUSAL] if outcome.status == 503 else [])]
        tag = next((pair.a.local_tag for pair in self.pairs.values()), self.a_tag)
        self.respond(self.server, response_to(self.invite, outcome.status, reason, to_tag=tag, headers=headers, body=body), now)
        self.end(outcome)
        if self._dialling is not None:
            self.board.layer.cancel(self._dialling, now, cancel_headers)
        self.release(now)

    def end(self, outcome: o.Outcome) -> None:
        """Signalling is decided: tell the trace once."""
        status = 200 if self.state == "answered" else outcome.status
        self.state = "ended"
        self.emit(Ended(self.id, status, outcome.ended_by, outcome.reason, outcome.cause, self._watch.timings()))

    # -- what the layer reports --------------------------------------------------------------------------------------------------------

    def on_response(self, tx: TxId, response: Response, again: bool, now: Mono) -> None:
        """A response on one of this call's client transactions."""
        match self.clients.get(tx):
            case Dialling() as role:
                self._on_dialling_response(tx, role, response, again, now)
            case Crossing() as role:
                self.on_crossing_response(tx, role, response, again, now)
            case Own() as role:
                self.on_own_response(tx, role, response, now)
            case None:
                pass

    def on_timeout(self, tx: TxId, detail: str | None, now: Mono) -> None:
        """No final answer on a client transaction, or (`detail`) the transport refused it; or no ACK to a non-2xx (timer H)."""
        self.unacknowledged.discard(tx)
        match self.clients.pop(tx, None):
            case Dialling() as role:
                self._on_dialling_timeout(role, detail, now)
            case Crossing() as role:
                again = role.outgoing if detail is not None else None
                if again is None or self.transact_otherwise(other(role.leg), again, role, now) is None:
                    self.on_crossing_timeout(role, detail, now)
            case Own() as role:
                if detail is not None and self.transact_otherwise(role.leg, role.request, role, now) is not None:
                    return
                if role.request.method in REFRESHING and self.state == "answered":
                    self.hang_up(o.peer_gone("caller" if role.leg == "A" else "agent", role.request.method), now)
            case None:
                pass

    def _on_dialling_timeout(self, role: Dialling, detail: str | None, now: Mono) -> None:
        if detail is not None and self.state == "setup" and (tx := self.transact_otherwise("B", role.request, role, now)) is not None:
            self._dialling = tx
            return
        edge = self._edge()
        self._avoid(AVOIDED_S, now)
        if self.state == "setup":
            self._attempt(o.edge_silent(edge) if detail is None else o.edge_unreachable(edge, detail), now)

    def _avoid(self, seconds: float, now: Mono) -> None:
        if self._attempts.current is not None:
            self.board.ways.avoid(self._attempts.current, Mono(now + seconds))

    def on_failure_acknowledged(self, tx: TxId) -> None:
        """The ACK to our non-2xx came."""
        self.unacknowledged.discard(tx)

    def on_terminated(self, tx: TxId) -> None:
        """The layer forgot a transaction."""
        self.clients.pop(tx, None)
        self.unacknowledged.discard(tx)

    # -- time and views ----------------------------------------------------------------------------------------------------------------

    def _ring_until(self, now: Mono) -> None:
        """16.6, timer C: each provisional response starts it anew."""
        self._ring_deadline = Mono(now + self.board.ring_limit)
        self.board.wake_at(self, self._ring_deadline)

    def rearm(self) -> None:
        """The call's deadline may have changed."""
        if (due := self.next_deadline()) is not None:
            self.board.wake_at(self, due)

    def on_time(self, now: Mono) -> None:
        """A session timer is due, a reliable response has to be repeated, or the ring limit has come."""
        if self.state == "answered":
            self.on_timers(now)
        elif self._ring_deadline is not None and now >= self._ring_deadline:
            self.refuse(o.edge_never_answered(self._edge(), self.board.ring_limit), now)
        elif self.sender is not None and self.sender.current is not None and now >= self.sender.give_up:
            self.refuse(o.prack_missing(), now)
        elif self.sender is not None:
            self.send_reliably(self.sender.on_time(now), now)

    def next_deadline(self) -> Mono | None:
        """When `on_time` wants to be called: never once the call is over."""
        if self.state == "answered":
            return self.timers_due()
        if self.state == "ended":
            return None
        if self.sender is None or self.sender.current is None or self._ring_deadline is None:
            return self._ring_deadline
        return min(self._ring_deadline, self.sender.due)

    def leg_of(self, local_tag: str | None, remote_tag: str | None) -> Leg | None:
        """On which leg a message with these tags is, as we see it. Each leg has one tag that all its messages carry."""
        if local_tag in self._b_tags:
            return "B"
        return "A" if remote_tag == self.invite.from_tag else None

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
            "ports": {index: [pair.a[0], pair.b[0]] for index, pair in self.bodies.ports.items()},
        }

    def asked_uri(self, leg: Leg) -> str:
        """The Request-URI of the INVITE on `leg`."""
        return self.invite.uri if leg == "A" else self._attempts.uri

    def _edge(self) -> str:
        """The edge as a person would name it."""
        flow = self.flows.get("B")
        return f"{flow.remote[0]}:{flow.remote[1]}" if flow else str(self.route.target)
