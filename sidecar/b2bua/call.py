"""One call: a UAS towards the caller (leg A), a UAC towards the edge (leg B), and what ties them together.

Set-up lives here, the life inside the dialogs in `indialog`. RFC 3261 sections 9, 12–15; RFC 6026.

Invariants: the caller's INVITE gets exactly one final response, and `Ended` is emitted exactly once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sidecar.b2bua import outcome as o
from sidecar.b2bua.attempting import Attempting
from sidecar.b2bua.bodies import Bodies
from sidecar.b2bua.crossing import crossing_answer, crossing_cancel, warning
from sidecar.b2bua.dialling import Attempts, target_of, wants_sips
from sidecar.b2bua.effects import Answered, Ended, Found, HopProven, Learned, Leg, MediaDescribed, Replaces, Started, other
from sidecar.b2bua.ending import reason_of
from sidecar.b2bua.legs import AwaitedAck, Crossing, Dialling, Goodbye, Own, Pair, Role, Stopwatch
from sidecar.b2bua.negotiation import State
from sidecar.b2bua.reliable import REL, Receipts, Sender
from sidecar.b2bua.replaces import key_in
from sidecar.b2bua.routes import Route
from sidecar.b2bua.session_timer import REFRESHING, LegTimer, offers
from sidecar.b2bua.switchboard import Switchboard
from sidecar.b2bua.transfers import Transfers
from sidecar.b2bua.ways import dialled_from_itself
from sidecar.clocks import Mono
from sidecar.identity.carriage import reported_forms, shortfalls
from sidecar.identity.digest import DigestClient
from sidecar.identity.inbound import Identity
from sidecar.identity.learned import learned, replaced
from sidecar.sip.dialog import Dialog, DialogState
from sidecar.sip.flow import Flow
from sidecar.sip.layer import TxId
from sidecar.sip.message import Request, Response, response_to

RETRY_AFTER_REFUSAL = ("Retry-After", "5")
"""Seconds, on every 503 of our own."""
MOST_LEARNED = 64
"""Ids a call: a peer can make up as many as it likes."""


class Call(Attempting):
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
        self.confirmed: Pair | None = None
        self.clients: dict[TxId, Role] = {}
        self.awaited: list[AwaitedAck] = []
        self.unacknowledged: set[TxId] = set()
        self.lookups = 0
        self.transfers = Transfers()
        self.digest: dict[Leg, DigestClient] = {"A": DigestClient(None), "B": DigestClient(route.credentials)}
        self.bodies = Bodies(call_id, board.emit, route.srtp, apart=board.settings.relayed_apart)
        self.told: dict[tuple[Leg, int], MediaDescribed] = {}
        self.server = server
        self.a_tag = board.ids.tag()
        self._b_tag = board.ids.tag()
        self._b_tags = {self._b_tag}
        self._attempts = Attempts(target_of(route, invite))
        self.caller_is_sips = wants_sips(invite)
        self.agent_contact = invite.contact.uri if dialled_from_itself(invite) and invite.contact is not None else None
        self._dialling: TxId | None = None
        self._ring_deadline: Mono | None = None
        self._valid = _expires(invite)
        self._began = now
        self.timers: dict[Leg, LegTimer] = {}
        self.minimums: dict[Leg, int] = {}
        self.note_minimum("A", invite.headers)
        self.allow: dict[Leg, str | None] = {}
        self.receipts = Receipts()
        self.senders: dict[str, Sender] = {}
        self.is_numbered = False
        self.ringing: Response | None = None
        self.ring_again_at = now
        self.held: dict[str, Callable[[Mono], None]] = {}
        self._watch = Stopwatch(now)
        self._learned: set[tuple[str, str]] = set()
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
                wire_only=self.route.wire_only,
            )
        )
        self.emit(HopProven(self.id, "received", f"INVITE {self.invite.uri} with Call-ID {self.invite.call_id}"))
        self.rearm()
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
        self.learn(replaced(self.invite.headers))
        unfit = (finding.detail for finding in missing if finding.name in self.route.policy.reject)
        return self.identity.rejected or next(unfit, None)

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
        standing = self.receipts.take(response)
        if standing == "early" or (standing == "again" and not offers(self.invite.headers, REL)):
            return
        self.learn(learned(response.headers))

        def relay(body: bytes, all_described: Sequence[MediaDescribed], at: Mono) -> None:
            if self.state == "setup":
                described = all_described if standing == "next" else ()
                self.tell_media(described)
                # 12.1: without a To-tag there is no dialog yet.
                pair = self._pair(role, response, described) if response.to_tag else None
                self.tell_progress(role, pair, response, body, at)

        # A description that cannot be relayed must not cost the call: the response crosses without it.
        self.cross_body(response, "B", relay, lambda _, at: relay(b"", (), at), now)

    def _success(self, role: Dialling, response: Response, again: bool, now: Mono) -> None:
        tag = response.to_tag or ""
        if (ack := role.acks.get(tag)) is not None:
            self.repeat_ack(ack, now)
            return
        if again:
            return  # the caller has not acknowledged yet; its ACK will cross
        if not role.request.body:
            role.offers[tag] = response
        known = self.pairs.get(tag)
        if self.state != "setup" or (known is not None and known.a.state is DialogState.TERMINATED):
            self._decline(role, response, now)
            return
        self._watch.answered(now)
        self.learn(learned(response.headers))

        def relay(body: bytes, described: Sequence[MediaDescribed], at: Mono) -> None:
            pair = self.pairs.get(tag)
            sender = self.senders.get(pair.a.local_tag) if pair is not None else None
            if self.state == "setup" and pair is not None and sender is not None and sender.has_description:
                self.held[pair.a.local_tag] = lambda later: relay(body, described, later)
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
        self.settle_relay()
        pair.a.confirm()
        self.confirmed = pair
        self.state = "answered"
        self.release(now)
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
            pair = Pair(Dialog.serving(self.invite, ours), Dialog.uac(role.request, response))
            self.pairs[tag] = pair
            self.board.adopt(pair.a, self, pair, "A")
            self.board.adopt(pair.b, self, pair, "B")
        pair.b.refresh(response)
        pair.described = described or pair.described
        return pair

    def _decline(self, role: Dialling, response: Response, now: Mono) -> None:
        """A 2xx that nobody wants: a second fork, or the answer that crossed our CANCEL. ACK, then BYE (13.2.2.4, 15)."""
        dialog = Dialog.uac(role.request, response)
        self.send_ack("B", dialog, [], None, role, now)
        self.send_bye("B", dialog, Goodbye([]), now)

    def learn(self, ids: Iterable[tuple[str, str]]) -> None:
        """Tell ids under which the edge's side may know this call, each once; its own Call-ID is none of them."""
        for pair in ids:
            if pair not in self._learned and pair[1] != self.invite.call_id and len(self._learned) < MOST_LEARNED:
                self._learned.add(pair)
                self.emit(Learned(self.id, *pair))

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
            cancel_headers = [reason_of(outcome)]
            headers = [warning(outcome.cause), *outcome.headers, *([RETRY_AFTER_REFUSAL] if outcome.status == 503 else [])]
        tag = next((pair.a.local_tag for pair in self.pairs.values()), self.a_tag)
        self.respond(self.server, response_to(self.invite, outcome.status, reason, to_tag=tag, headers=headers, body=body), now)
        self.end(outcome)
        self.transfers.waiting.clear()
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

    def on_failure_acknowledged(self, tx: TxId) -> None:
        """The ACK to our non-2xx came."""
        self.unacknowledged.discard(tx)

    def on_terminated(self, tx: TxId) -> None:
        """The layer forgot a transaction."""
        self.clients.pop(tx, None)
        self.unacknowledged.discard(tx)

    # -- time and views ----------------------------------------------------------------------------------------------------------------

    def rearm(self) -> None:
        """The call's deadline may have changed."""
        if (due := self.next_deadline()) is not None:
            self.board.wake_at(self, due)

    def on_time(self, now: Mono) -> None:
        """A session timer is due, a reliable response has to be repeated, or the ring limit of an INVITE has come."""
        if self.state == "answered":
            self.on_reinvites(now)
            self.on_timers(now)
        elif self.state == "ended":
            self.transfers.on_time(now)
        elif self._valid is not None and now >= self._began + self._valid:
            expired = o.expired(self._valid)
            self.refuse(expired, now, cancel_headers=[reason_of(expired)])
        elif self._ring_deadline is not None and now >= self._ring_deadline:
            self.refuse(o.edge_never_answered(self._edge(), self.board.ring_limit), now)
        elif any(sender.current is not None and now >= sender.give_up for sender in self.senders.values()):
            self.refuse(o.prack_missing(), now)
        elif self.ringing is not None and now >= self.ring_again_at:
            self.ring_again(now)
        else:
            for sender in self.senders.values():
                self.send_reliably(sender.on_time(now), now)

    def next_deadline(self) -> Mono | None:
        """When `on_time` wants to be called; once the call is over, only for who is still to hear of a transfer."""
        if self.state == "answered":
            return min((due for due in (self.timers_due(), *self.reinvites_due()) if due is not None), default=None)
        if self.state == "ended":
            return self.transfers.until if self.transfers.is_open else None
        due = [] if self._valid is None else [Mono(self._began + self._valid)]
        if self.ringing is not None:
            due.append(self.ring_again_at)
        if self._ring_deadline is not None:
            due.append(self._ring_deadline)
            due += [sender.due for sender in self.senders.values() if sender.current is not None]
        return min(due, default=None)

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


def _expires(invite: Request) -> int | None:
    """For how many seconds an INVITE is valid (20.19); None where it does not say."""
    stated = (invite.headers.get("Expires") or "").strip()
    return int(stated) if stated.isascii() and stated.isdigit() and len(stated) <= 9 and int(stated) else None
