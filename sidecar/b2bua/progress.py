"""What the edge says before it answers, told to the caller: reliably where the caller wants that (RFC 3262), else as it came."""

from __future__ import annotations

from collections.abc import Callable

from sidecar.b2bua.crossing import crossing_answer
from sidecar.b2bua.effects import Leg
from sidecar.b2bua.indialog import InDialog
from sidecar.b2bua.legs import Dialling, Own, Pair
from sidecar.b2bua.reliable import REL, Receipts, Sender, has_offer, requires, rseq_of
from sidecar.b2bua.session_timer import offers, stripped
from sidecar.clocks import Mono
from sidecar.sip.layer import TxId
from sidecar.sip.message import Request, Response, response_to

Headers = list[tuple[str, str]]
RING_AGAIN = 60.0
"""Seconds between two provisional responses to the caller, at most (13.3.1.1)."""


class Progress(InDialog):
    """The caller's side of the set-up. The attributes are set by `Call`."""

    server: TxId
    """The transaction of the caller's INVITE."""
    a_tag: str
    receipts: Receipts
    senders: dict[str, Sender]
    """Where the caller requires reliable provisional responses and the edge sends none; by our tag of the early dialog."""
    is_numbered: bool
    """The edge's own RSeq numbers were told to the caller."""
    ringing: Response | None
    """What the caller was told last, where that may be repeated."""
    ring_again_at: Mono
    held: dict[str, Callable[[Mono], None]]
    """Answers of the edge that wait for a PRACK of the caller, likewise."""

    def answer_caller(self, pair: Pair | None, response: Response, body: bytes, now: Mono) -> None:
        """Send the edge's 1xx or 2xx on to the caller, in the early dialog that its To-tag stands for."""
        self.respond_caller(pair, response, crossing_answer(response, body=body), body, now)

    def respond_caller(self, pair: Pair | None, response: Response, headers: Headers, body: bytes, now: Mono) -> None:
        """The same with headers of one's own choice."""
        answer = self._answer_of(pair, response, headers, body)
        self.respond(self.server, answer, now)
        # RFC 3262 3: what has a number is not said again but for want of its PRACK, and then by whoever numbered it.
        self.ringing = answer if answer.status < 200 and rseq_of(answer) is None else None
        self.ring_again_at = Mono(now + RING_AGAIN)
        self.rearm()

    def ring_again(self, now: Mono) -> None:
        """13.3.1.1: tell the caller once more what it heard last, so that no proxy on the way gives the call up."""
        if self.ringing is not None:
            self.respond(self.server, self.ringing.copy(), now)
        self.ring_again_at = Mono(now + RING_AGAIN)
        self.rearm()

    def _answer_of(self, pair: Pair | None, response: Response, headers: Headers, body: bytes) -> Response:
        tag = self.a_tag if pair is None else pair.a.local_tag
        kept = [("Contact", self.contact("A")), *headers]
        return response_to(self.invite, response.status, response.reason, to_tag=tag, headers=kept, body=body)

    def tell_progress(self, role: Dialling, pair: Pair | None, response: Response, body: bytes, now: Mono) -> None:
        """Send a provisional response on, reliably where the caller wants that, and acknowledge it where the caller cannot (RFC 3262)."""
        rseq = None if pair is None else rseq_of(response)  # without a To-tag there is no dialog that its PRACK could come in
        if rseq is not None and offers(self.invite.headers, REL):
            self.is_numbered = True
            self.answer_caller(pair, response, body, now)
            return
        headers = stripped(crossing_answer(response, body=body), REL, "rseq")
        if requires(self.invite.headers):
            # 3: nothing is told unreliably. 5: nor reliably where the first such response would have to offer what the edge only hints at.
            if pair is not None and has_offer(self.invite) and not self.is_numbered:
                sender = self._sender(pair.a.local_tag)
                self.send_reliably(sender.offer(self._answer_of(pair, response, headers, body), now), now)
            return
        if rseq is not None and pair is not None:
            prack = pair.b.request("PRACK", headers=[("RAck", f"{rseq} {role.request.cseq}")])
            self.preauthorise("B", prack)
            self.send_request("B", pair.b, prack, Own("B", pair.b, prack), now)
        self.respond_caller(pair, response, headers, body, now)

    def _sender(self, tag: str) -> Sender:
        if tag not in self.senders:
            # 3: the first number is random, and well below 2**31.
            self.senders[tag] = Sender(1 + int(self.board.ids.token()[:7], 16), self.board.settings.timing)
        return self.senders[tag]

    def send_reliably(self, response: Response | None, now: Mono) -> None:
        """Send a response that waits for its PRACK, or nothing."""
        if response is not None:
            self.respond(self.server, response, now)
        self.rearm()

    def takes_prack(self, leg: Leg, pair: Pair, tx: TxId, request: Request, now: Mono) -> bool:
        """Answer a PRACK for a response of ours. 3: also one that comes after the final answer."""
        tag = pair.a.local_tag
        sender = self.senders.get(tag) if leg == "A" else None
        if sender is None:
            return False
        fits, following = sender.acknowledged(request.headers.get("RAck") or "", str(self.invite.cseq), now)
        if not fits and self.state != "setup":
            return False
        # 5: an offer here could only be answered by the edge, which knows no PRACK.
        self.answer(leg, tx, request, 481 if not fits else 488 if has_offer(request) else 200, now)
        self.send_reliably(following, now)
        if sender.is_settled and (held := self.held.pop(tag, None)) is not None:
            held(now)
        return True

    def release(self, now: Mono) -> None:
        """The caller has its final answer: no other one waits any longer."""
        while self.held:
            _, held = self.held.popitem()
            held(now)
