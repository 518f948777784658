"""Whatever the network does to a call, and whoever ends it when: one end, nothing left, no exception."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.b2bua import effects as e
from sidecar.b2bua import outcome as o
from sidecar.clocks import Addr, Mono
from sidecar.identity.digest import Accepted, Credentials, DigestServer
from sidecar.sip import events as ev
from sidecar.sip.dialog import Dialog, DialogState
from sidecar.sip.events import TxId
from sidecar.sip.message import Request, Response, parse, response_to
from tests.core.b2bua.harness import ANSWER, CALLER, EDGE, OFFER, SDP_TYPE, SIDECAR, Bench
from tests.support.clock import FakeClock
from tests.support.sip import Party
from tests.support.wire import Wire


@dataclass(frozen=True)
class Habits:
    """How a peer behaves."""

    answer: int = 200
    answer_after: float = 1.0
    provisionals: tuple[int, ...] = (180,)
    forks: int = 1
    challenges: bool = False
    reinvite: int = 200
    reinvite_after: float = 0.0
    asks: tuple[tuple[str, str], ...] = ()
    """Headers of its INVITE."""
    reliable: bool = False
    """Its provisional responses want a PRACK (RFC 3262)."""
    insists: str = ""
    """The option without which it takes no call (421)."""
    refresher: str = ""
    """Who is to refresh the session (RFC 4028); empty: it knows no timer."""
    silent_after: float = 1e9
    """From then on it says nothing more, not even to retransmissions."""


class Peer(Party):
    """An ordinary user agent: acknowledges what it must, answers what it is asked, repeats what gets lost."""

    def __init__(self, bench: Bench, addr: Addr, habits: Habits) -> None:
        super().__init__(bench.wire, addr, SIDECAR, f"p{addr[1]}-")
        self.bench, self.habits = bench, habits
        self.dialogs: list[Dialog] = []
        self.invite: tuple[TxId, Request] | None = None
        self.later: list[tuple[float, Callable[[Mono], None]]] = []
        self.guard = DigestServer("edge", {"sidecar": "secret"}, b"0123456789abcdef", proxy=False)
        self._finals: dict[TxId, Request] = {}
        self._acks: dict[tuple[int, str], bytes] = {}
        self._reinvites: dict[TxId, tuple[Dialog, Request]] = {}
        self._pracked: set[tuple[str, str]] = set()
        self._early: dict[str, Dialog] = {}

    # -- time --------------------------------------------------------------------------------------------------------------------------

    def pump(self, now: Mono) -> None:
        """Drain the layer; a peer that has fallen silent sends nothing of it."""
        if now < self.habits.silent_after:
            super().pump(now)
        else:
            self.layer.take()

    def next_deadline(self) -> Mono | None:
        """The layer's or the script's."""
        due = [Mono(at) for at, _ in self.later]
        if (own := self.layer.next_deadline()) is not None:
            due.append(own)
        return min(due, default=None)

    def on_time(self, now: Mono) -> None:
        """What the script wants done now."""
        ready = [do for at, do in self.later if at <= now]
        self.later = [(at, do) for at, do in self.later if at > now]
        for do in ready:
            do(now)
        super().on_time(now)

    # -- as a caller -------------------------------------------------------------------------------------------------------------------

    def dial(self, now: Mono, offer: bytes) -> None:
        """Place the call."""
        invite = Request(
            "INVITE",
            f"sip:agent@{SIDECAR[0]}",
            [
                ("Max-Forwards", "70"),
                ("From", "<sip:alice@caller.example>;tag=caller"),
                ("To", f"<sip:agent@{SIDECAR[0]}>"),
                ("Call-ID", "interleaved"),
                ("CSeq", "1 INVITE"),
                ("Contact", f"<sip:alice@{self.address[0]}:{self.address[1]}>"),
                *self.habits.asks,
                *([SDP_TYPE] if offer else []),
            ],
            offer,
        )
        self.invite = (self.layer.request(invite, self.flow, self.address, now), invite)

    def cancel(self, now: Mono) -> None:
        """Give up."""
        if self.invite is not None:
            self.layer.cancel(self.invite[0], now)

    # -- as either -----------------------------------------------------------------------------------------------------------------

    def ask(self, method: str, body: bytes, now: Mono) -> None:
        """Send a request inside the first dialog that is up."""
        dialog = next((dialog for dialog in self.dialogs if dialog.state is DialogState.CONFIRMED), None)
        if dialog is None:
            return
        contact = f"<sip:me@{self.address[0]}:{self.address[1]}>" if method in ("INVITE", "UPDATE") else None
        request = dialog.request(method, headers=[SDP_TYPE] if body else [], body=body, contact=contact)
        if method == "BYE":
            dialog.terminate()
        tx = self.layer.request(request, self.flow, self.address, now)
        if method == "INVITE":
            self._reinvites[tx] = (dialog, request)

    def handle(self, event: ev.Output, now: Mono) -> None:
        """React as RFC 3261 wants."""
        match event:
            case ev.RequestReceived(tx, request):
                self._asked(tx, request, now)
            case ev.CancelReceived(tx) if tx in self._finals:
                self.layer.respond(tx, self._respond(self._finals.pop(tx), 487), now)
            case ev.AckReceived(request):
                for dialog in self.dialogs:
                    if dialog.local_tag == request.to_tag and dialog.state is DialogState.EARLY:
                        dialog.confirm()
                for tx, cseq in list(self._waiting.items()):
                    if cseq == request.cseq.number:
                        self.layer.acknowledge(tx, now)
            case ev.ResponseReceived(tx, response) if response.cseq.method == "INVITE" and 200 <= response.status < 300:
                self._accepted(tx, response, now)
            case ev.ResponseReceived(_, response) if response.status < 200 and "RSeq" in response.headers:
                self._receipt(response, now)
            case _:
                pass

    def _receipt(self, response: Response, now: Mono) -> None:
        """PRACK, once a response."""
        assert self.invite is not None
        rseq, tag = response.headers.get("RSeq") or "", response.to_tag or ""
        if (rseq, tag) not in self._pracked:
            self._pracked.add((rseq, tag))
            dialog = self._early.setdefault(tag, Dialog.uac(self.invite[1], response))
            prack = dialog.request("PRACK", headers=[("RAck", f"{rseq} {response.cseq}")])
            self.layer.request(prack, self.flow, self.address, now)

    @property
    def _waiting(self) -> dict[TxId, int]:
        return self.__dict__.setdefault("_waiting_acks", {})

    def _accepted(self, tx: TxId, response: Response, now: Mono) -> None:
        if tx in self._reinvites:
            dialog, invite = self._reinvites[tx]
        else:
            assert self.invite is not None
            invite = self.invite[1]
            known = [dialog for dialog in self.dialogs if dialog.remote_tag == response.to_tag]
            dialog = known[0] if known else Dialog.uac(invite, response)
            if not known:
                self.dialogs.append(dialog)
        body = b"" if invite.body else OFFER
        ack = dialog.ack(invite.cseq.number, headers=[SDP_TYPE] if body else [], body=body)
        self.layer.send_ack(ack, self.flow, self.address, now)

    def _asked(self, tx: TxId, request: Request, now: Mono) -> None:
        if request.method != "INVITE":
            if request.method == "BYE":
                for dialog in self.dialogs:
                    if dialog.local_tag == request.to_tag:
                        dialog.terminate()
            self.layer.respond(tx, self._respond(request, 200), now)
        elif request.to_tag is not None:
            self._finals[tx] = request
            self.later.append((now + self.habits.reinvite_after, lambda at: self._answer_reinvite(tx, at)))
        elif self.habits.challenges and self.guard.check(request, now) != Accepted("sidecar"):
            headers = self.guard.challenge(self.ids.token(), now)
            self.layer.respond(tx, response_to(request, 401, to_tag=self.ids.tag(), headers=headers), now)
        elif self.habits.insists and self.habits.insists not in ", ".join(request.headers.all("Supported")):
            headers = (("Require", self.habits.insists),)
            self.layer.respond(tx, response_to(request, 421, to_tag=self.ids.tag(), headers=headers), now)
        elif not self.habits.reliable and "100rel" in ", ".join(request.headers.all("Require")):
            self.layer.respond(tx, response_to(request, 420, to_tag=self.ids.tag(), headers=(("Unsupported", "100rel"),)), now)
        else:
            self._ring(tx, request, now)

    def _answer_reinvite(self, tx: TxId, now: Mono) -> None:
        request = self._finals.pop(tx, None)
        if request is not None:
            self._waiting[tx] = request.cseq.number
            body = ANSWER if self.habits.reinvite == 200 else b""
            self.layer.respond(tx, self._respond(request, self.habits.reinvite, body=body), now)

    def _ring(self, tx: TxId, request: Request, now: Mono) -> None:
        self._finals[tx] = request
        tags = [self.ids.tag() for _ in range(self.habits.forks)]
        for number, status in enumerate(self.habits.provisionals):
            for tag in tags:
                answer = self._respond(request, status, tag=tag, body=ANSWER if status == 183 else b"")
                if self.habits.reliable and status != 100:
                    answer.headers.add("Require", "100rel")
                    answer.headers.add("RSeq", str(number + 7))
                self.layer.respond(tx, answer, now)

        def final(at: Mono) -> None:
            if self._finals.pop(tx, None) is None:
                return
            if self.habits.answer >= 300:
                self.layer.respond(tx, self._respond(request, self.habits.answer), at)
                return
            self._waiting[tx] = request.cseq.number
            for tag in tags:
                answer = self._respond(request, 200, tag=tag, body=ANSWER)
                self.dialogs.append(Dialog.uas(request, response_to(request, 180, to_tag=tag)))
                self.layer.respond(tx, answer, at)

        self.later.append((now + self.habits.answer_after, final))

    def _respond(self, request: Request, status: int, *, tag: str | None = None, body: bytes = b"") -> Response:
        headers = [("Contact", f"<sip:me@{self.address[0]}:{self.address[1]}>")] if request.method in ("INVITE", "UPDATE") else []
        if body:
            headers.append(SDP_TYPE)
        if status == 200 and request.method in ("INVITE", "UPDATE") and self.habits.refresher:
            headers.append(("Session-Expires", f"90;refresher={self.habits.refresher}"))
        return response_to(request, status, to_tag=tag or self.ids.tag(), headers=headers, body=body)


HABITS = st.builds(
    Habits,
    answer=st.sampled_from([200, 200, 200, 200, 200, 200, 200, 302, 486]),
    answer_after=st.sampled_from([0.0, 0.01, 0.4, 0.4, 3.0, 45.0]),
    provisionals=st.lists(st.sampled_from([100, 180, 183]), max_size=3).map(tuple),
    forks=st.sampled_from([1, 1, 1, 2]),
    challenges=st.booleans(),
    reinvite=st.sampled_from([200, 200, 488, 491]),
    reinvite_after=st.sampled_from([0.0, 0.3, 5.0]),
    reliable=st.booleans(),
    insists=st.sampled_from(["", "", "", "100rel"]),
    refresher=st.sampled_from(["", "", "uas", "uac"]),
    silent_after=st.sampled_from([1e9, 1e9, 1e9, 1e9, 0.5, 5.0]),
)
ASKS = st.lists(
    st.sampled_from(
        [
            ("Require", "100rel"),
            ("Supported", "100rel"),
            ("Supported", "timer"),
            ("Session-Expires", "90;refresher=uas"),
            ("Session-Expires", "90;refresher=uac"),
            ("Allow", "INVITE, UPDATE"),
            ("Expires", "2"),
        ]
    ),
    max_size=3,
    unique_by=lambda header: header[0] + header[1][:3],
).map(tuple)
WIRE = st.builds(
    Wire,
    seed=st.integers(0, 2**16),
    loss=st.sampled_from([0.0, 0.1, 0.3]),
    duplicate=st.sampled_from([0.0, 0.2]),
    delay=st.just(0.01),
    jitter=st.sampled_from([0.0, 0.05, 0.8]),
)
BASE = st.sampled_from([0.0, 0.4, 1.0, 2.0, 3.0, 6.0, 40.0])
MOMENTS = st.sampled_from([0.0, 0.005, 0.01, 0.02, 0.04, 0.06])
WHAT = ["BYE", "INVITE", "INVITE", "INFO", "UPDATE", "REFER", "NOTIFY"]
DEEDS = st.tuples(
    st.tuples(BASE, MOMENTS).map(sum),
    st.sampled_from(["cancel", "drain", *[f"caller {method}" for method in WHAT], *[f"edge {method}" for method in WHAT]]),
)


@settings(max_examples=250, deadline=None)
@given(
    wire=WIRE,
    edge=HABITS,
    caller_silent=st.sampled_from([1e9, 1e9, 1e9, 2.0]),
    deeds=st.lists(DEEDS, max_size=8),
    delayed=st.booleans(),
    asks=ASKS,
    interval=st.sampled_from([None, None, 90]),
    ports=st.sampled_from([100, 100, 100, 100, 0]),
    relay_after=st.sampled_from([None, None, 0.0, 0.015, 1.5]),
)
def test_every_call_ends_once_and_leaves_nothing(
    wire: Wire,
    edge: Habits,
    caller_silent: float,
    deeds: list[tuple[float, str]],
    delayed: bool,
    asks: tuple[tuple[str, str], ...],
    interval: int | None,
    ports: int,
    relay_after: float | None,
) -> None:
    bench = Bench(wire=wire, credentials=Credentials("sidecar", "secret"), ports=ports, session_interval=interval, relay_after=relay_after)
    clock: FakeClock = bench.clock
    caller, callee = (
        Peer(bench, CALLER, Habits(silent_after=caller_silent, asks=asks, refresher="uac" if asks else "")),
        Peer(bench, EDGE, edge),
    )

    def do(deed: str, now: Mono) -> None:
        who, _, method = deed.partition(" ")
        if deed == "cancel":
            caller.cancel(now)
        elif deed == "drain":
            for call in list(bench.engine.calls):
                bench.engine.hang_up(call, o.overrun("the deadline came"), now)
            bench.pump()
        else:
            (caller if who == "caller" else callee).ask(method, OFFER if method in ("INVITE", "UPDATE") else b"", now)

    # Whatever happened, somebody ends the call at last.
    for at, deed in [*deeds, (60.0, "caller BYE"), (100.0, "edge BYE"), (140.0, "drain")]:
        caller.later.append((at, lambda now, deed=deed: do(deed, now)))
    caller.later.append((0.0, lambda now: caller.dial(now, b"" if delayed else OFFER)))
    clock.run(500.0, wire, caller, callee, bench)
    bench.over()
    assert len(bench.facts(e.Started)) <= 1
    finals = [fact for fact in bench.facts(e.Message) if fact.leg == "A" and fact.direction == "out" and not fact.retransmission]
    answers = [message for fact in finals if isinstance(message := parse(fact.data), Response) and message.status >= 200]
    # 13.3.1: one final answer to the caller's INVITE, whatever else was said.
    assert len([answer for answer in answers if answer.cseq == (1, "INVITE")]) == len(bench.facts(e.Started))
    offers_are_answered(bench)
    if not wire.loss and not wire.jitter and caller_silent > 1e6 and ports == 100 and not deeds and edge == Habits():
        assert bench.fact(e.Ended).reason == "completed"


def offers_are_answered(bench: Bench) -> None:
    """13.2.2.4: whoever takes it or not, an offer in a 2xx of the edge has its answer in each ACK."""
    left = [message for _, source, dest, data in bench.wire.sent if (source, dest) == (SIDECAR, EDGE) and (message := parse(data))]
    invites = [message for message in left if isinstance(message, Request) and message.method == "INVITE"]
    without = {invite.cseq.number for invite in invites if not invite.body}
    for message in left:
        if isinstance(message, Request) and message.method == "ACK" and message.cseq.number in without:
            refused = any(invite.via.branch == message.via.branch for invite in invites)
            assert bool(message.body) != refused, message.encode()
