"""Dialling the edge: target after target, with credentials, and as the edge wants it (RFC 3261 8.1.3, RFC 3263 4.3)."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.b2bua import outcome as o
from sidecar.b2bua.adapting import adapted, ask_for_timer
from sidecar.b2bua.dialling import Attempts, b_invite, is_sips, next_hop_of, retry_after
from sidecar.b2bua.effects import Dialled, HopProven, Leg, MediaDescribed
from sidecar.b2bua.legs import Dialling, Stopwatch
from sidecar.b2bua.progress import Progress
from sidecar.b2bua.replaces import translate_headers
from sidecar.clocks import Mono
from sidecar.identity import trace_context
from sidecar.identity.digest import Refusal
from sidecar.identity.inbound import Identity
from sidecar.sip.flow import Flow
from sidecar.sip.layer import TxId
from sidecar.sip.message import Request, Response
from sidecar.sip.targets import Target

AVOIDED_S = 60.0
"""How long a target that failed is tried after all others (RFC 3263 4.3), unless its 503 says for how long."""


class Attempting(Progress):
    """The edge's side of the set-up. The attributes are set by `Call`."""

    identity: Identity
    caller_is_sips: bool
    _attempts: Attempts
    _b_tag: str
    _b_tags: set[str]
    _dialling: TxId | None
    _ring_deadline: Mono | None
    _watch: Stopwatch

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
                self.ringing = None
                self.pairs.clear()
            self.is_numbered = False
            self.receipts.last.clear()
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
            self._attempt(o.rejected(response.status, response.reason, edge), now, attempts.untried(response))
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
        if self.is_numbered:
            # RFC 3262 3: within a dialog RSeq rises by one, and the edge begins anew.
            self.a_tag = self.board.ids.tag()
            self.is_numbered = False
        self.receipts.last.clear()
        self.pairs.clear()
        self._send_invite(request, now)

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

    def _ring_until(self, now: Mono) -> None:
        """16.6, timer C: each provisional response starts it anew."""
        self._ring_deadline = Mono(now + self.board.ring_limit)
        self.board.wake_at(self, self._ring_deadline)

    def is_sips(self, leg: Leg) -> bool:
        """Whether the party on `leg` is to be given a sips: URI (8.1.1.8, 12.1.1)."""
        return self.caller_is_sips if leg == "A" else is_sips(self._attempts.uri) or is_sips(next_hop_of(self.route, self._attempts.uri))

    def _edge(self) -> str:
        """The edge as a person would name it."""
        flow = self.flows.get("B")
        return f"{flow.remote[0]}:{flow.remote[1]}" if flow else str(self.route.target)
