"""Session timers at work: what follows from a 2xx, refreshes of our own, and the end of a session that nobody refreshes (RFC 4028)."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.b2bua import outcome as o
from sidecar.b2bua.crossing import warning
from sidecar.b2bua.effects import Leg, MediaDescribed, other
from sidecar.b2bua.ending import Ending
from sidecar.b2bua.legs import Crossing, Own, Pair
from sidecar.b2bua.session_timer import (
    REFRESHING,
    TIMER,
    Agreement,
    LegTimer,
    Terms,
    agree,
    asking,
    expires_of,
    min_se,
    offers,
    stripped,
    too_small,
)
from sidecar.clocks import Mono
from sidecar.sip.headers import Headers
from sidecar.sip.layer import TxId
from sidecar.sip.message import Request, Response

SOON = 10.0
"""Seconds until a refresh that failed for a passing reason is tried again."""


class Refreshing(Ending):
    """The timers of a call's legs. The attributes are set by `Call`."""

    timers: dict[Leg, LegTimer]
    minimums: dict[Leg, int]
    """The largest Min-SE that each leg's party has named, in a request or with a 422."""
    allow: dict[Leg, str | None]
    """What each leg's party said that it serves (Allow), as far as it said so."""

    # -- what follows from messages that cross -----------------------------------------------------------------------------------------

    def refuses_timer(self, leg: Leg, tx: TxId, request: Request, now: Mono) -> bool:
        """Section 9: 422 with our Min-SE for an interval below it."""
        if not too_small(request.headers, self.board.settings.min_se):
            return False
        self.answer(leg, tx, request, 422, now, [("Min-SE", str(self.board.settings.min_se)), warning("the session interval is too small")])
        return True

    def note_minimum(self, leg: Leg, headers: Headers) -> None:
        """7.4: what a leg's party names as Min-SE stands in every refresh that it gets from us."""
        if (stated := min_se(headers)) is not None:
            self.minimums[leg] = max(stated, self.minimums.get(leg, 0))

    def carry_timer(self, far: Leg, request: Request) -> None:
        """7.4: a refreshing request keeps up the timer that is between us and the far leg alone."""
        timer = self.timers.get(far)
        if timer is None or other(far) in self.timers or expires_of(request.headers) is not None:
            return
        for name, value in asking(timer.terms.interval, "uac" if timer.terms.ours else "uas", self._minimum_with(far, request)):
            if name != "Supported" or not offers(request.headers, TIMER):
                request.headers.add(name, value)

    def _minimum_with(self, far: Leg, request: Request) -> int | None:
        """The Min-SE for a request that crosses, whose own one is taken away."""
        own = min_se(request.headers)
        request.headers.remove("Min-SE")
        return max((known for known in (own, self.minimums.get(far)) if known is not None), default=None)

    def agree_timers(
        self, near: Leg, request: Request, sent: Request | None, response: Response, headers: list[tuple[str, str]], now: Mono
    ) -> list[tuple[str, str]]:
        """Note what a 2xx to INVITE or UPDATE means for both legs' timers. Returns the headers of the answer to the near leg."""
        wanted = self.board.settings.session_interval
        agreement = agree(request.headers, sent.headers if sent is not None else request.headers, response.headers, wanted)
        if agreement.near is None and agreement.far is None and not self.timers:
            return headers
        self._set_timers(near, agreement, now)
        if agreement.strip:
            headers = stripped(headers, TIMER, "session-expires", "x")
        return [*headers, *agreement.added]

    def _set_timers(self, near: Leg, agreement: Agreement, now: Mono) -> None:
        for leg, terms in ((near, agreement.near), (other(near), agreement.far)):
            self._set_timer(leg, terms, now)

    def _set_timer(self, leg: Leg, terms: Terms | None, now: Mono) -> None:
        """7.2: without terms the session has no end. An interval of nothing, which section 4 forbids, is said by who wants no timer."""
        if terms is None or not terms.interval:
            self.timers.pop(leg, None)
        else:
            self.timers[leg] = LegTimer.start(terms, now)
        self.rearm()

    def refreshed_here(self, leg: Leg, tx: TxId, request: Request, now: Mono) -> bool:
        """Answer a refresh ourselves when the other leg's party does not serve UPDATE: the session between us two goes on."""
        far = self.allow.get(other(leg))
        if request.method != "UPDATE" or request.body or far is None or _allows(far, "UPDATE"):
            return False
        agreement = agree(request.headers, request.headers, Headers())
        self._set_timer(leg, agreement.near, now)
        self.answer(leg, tx, request, 200, now, agreement.added)
        return True

    # -- time --------------------------------------------------------------------------------------------------------------------------

    def on_timers(self, now: Mono) -> None:
        """Refresh what is ours to refresh; end the call when a session has run out."""
        for leg, timer in list(self.timers.items()):
            if now >= timer.expires_at:
                self.hang_up(o.session_expired("caller" if leg == "A" else "agent", timer.terms.interval), now)
                return
            if timer.refresh_at is not None and now >= timer.refresh_at:
                self._refresh(leg, timer, now)
        self.rearm()

    def timers_due(self) -> Mono | None:
        """When `on_timers` is due."""
        return min((timer.due for timer in self.timers.values()), default=None)

    def _refresh(self, leg: Leg, timer: LegTimer, now: Mono) -> None:
        """7.4: UPDATE where the peer serves it, else a re-INVITE with the description that is in force."""
        pair, offer = self.confirmed, self.said_to(leg)
        if pair is None or self._is_negotiating():
            timer.refresh_at = Mono(now + SOON)
            return
        timer.refresh_at = None
        if _allows(self.allow.get(leg) or "", "UPDATE") or offer is None:
            self._send_refresh(leg, pair, "UPDATE", b"", timer, now)
        else:
            self._send_refresh(leg, pair, "INVITE", offer, timer, now)

    def _is_negotiating(self) -> bool:
        """An INVITE is under way: it refreshes the session itself, and two at once are a glare (RFC 3261 14.1)."""
        crossing = any(isinstance(role, Crossing) and role.is_open and role.request.method in REFRESHING for role in self.clients.values())
        return crossing or bool(self.awaited)

    def _send_refresh(self, leg: Leg, pair: Pair, method: str, body: bytes, timer: LegTimer, now: Mono) -> None:
        headers = [*asking(timer.terms.interval, "uac", self.minimums.get(leg)), *([("Content-Type", "application/sdp")] if body else [])]
        request = pair.of(leg).request(method, headers=headers, body=body, contact=self.contact(leg))
        self.preauthorise(leg, request)
        self.send_request(leg, pair.of(leg), request, Own(leg, pair.of(leg), request), now)

    # -- answers to our refreshes ------------------------------------------------------------------------------------------------------

    def on_refresh_response(self, tx: TxId, role: Own, response: Response, now: Mono) -> None:
        """A final answer to a refresh of ours."""
        leg, timer = role.leg, self.timers.get(role.leg)
        if response.status // 100 == 2:
            self._refreshed(tx, role, response, now)
            return
        del self.clients[tx]
        if self.state != "answered" or timer is None:
            return
        if response.status in (408, 481):
            # RFC 3261 12.2.1.2: the dialog is gone.
            self.hang_up(o.peer_gone("caller" if leg == "A" else "agent", role.request.method), now)
            return
        minimum, asked = min_se(response.headers), expires_of(role.request.headers)
        if response.status == 422:
            self.note_minimum(leg, response.headers)
        if response.status == 422 and minimum is not None and asked is not None and minimum > asked.seconds:
            # 10: the session is over when it was before.
            timer.refresh_at = now
        elif role.request.method == "UPDATE" and response.status in (405, 501):
            self.allow[leg] = ""
            timer.refresh_at = now if self.said_to(leg) is not None else Mono(now + SOON)
        elif response.status == 491:
            timer.refresh_at = Mono(now + self._glare_wait(leg))
        else:
            timer.refresh_at = Mono(now + SOON)
        self.rearm()

    def _refreshed(self, tx: TxId, role: Own, response: Response, now: Mono) -> None:
        role.dialog.refresh(response)
        role.is_open = False
        granted = expires_of(response.headers)
        if role.request.method == "INVITE":
            self.send_ack(role.leg, role.dialog, [], b"", role, now)
            self._take_description(role.leg, response, now)
        else:
            del self.clients[tx]
        self._set_timer(role.leg, None if granted is None else Terms(granted.seconds, granted.refresher != "uas"), now)

    def _take_description(self, leg: Leg, response: Response, now: Mono) -> None:
        """The answer to our re-INVITE may name a new place for this leg's media; the other leg is not concerned."""

        def told(_: bytes, described: Sequence[MediaDescribed], __: Mono) -> None:
            self.tell_media(described)

        kept = dict(self.bodies.said)
        self.cross_body(response, leg, told, lambda _, __: None, now)
        self.bodies.said = kept

    def _glare_wait(self, leg: Leg) -> float:
        """RFC 3261 14.1: 2.1–4 s for the owner of the Call-ID, 0–2 s for the other, in steps of 10 ms. Leg B's dialog is of our making."""
        steps = int(self.board.ids.token()[:8], 16)
        return (210 + steps % 191) / 100 if leg == "B" else (steps % 201) / 100


def _allows(allow: str, method: str) -> bool:
    return method in (part.strip() for part in allow.split(","))
