"""Two layers over a network that loses, repeats and reorders: calls come about, end once, and leave nothing behind."""

from __future__ import annotations

from collections import Counter

import pytest

from sidecar.clocks import Mono
from sidecar.sip.dialog import Dialog, key_of_request
from sidecar.sip.events import AckReceived, AckTimedOut, CancelReceived, Output, RequestReceived, ResponseReceived, TimedOut, TxId
from sidecar.sip.message import Request, response_to
from tests.support.clock import FakeClock
from tests.support.sip import CALLEE, CALLER, OUT, Party, request
from tests.support.wire import Wire

CALLS = 25
TALK = 3.0


class Caller(Party):
    """Dials, acknowledges every 2xx, hangs up after the talk."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire, CALLER, CALLEE, "c")
        self.results: Counter[str] = Counter()
        self.invites: dict[TxId, Request] = {}
        self.acks: dict[str, bytes] = {}
        self.hang_ups: list[tuple[Mono, Dialog]] = []

    def dial(self, number: int, now: Mono) -> TxId:
        invite = request(call_id=f"call-{number}", from_=f"<sip:a@b>;tag=a{number}", body=b"v=0\r\n")
        tx = self.layer.request(invite, OUT, CALLER, now)
        self.invites[tx] = invite
        self.pump(now)
        return tx

    def handle(self, event: Output, now: Mono) -> None:
        match event:
            case ResponseReceived(tx, response, _, again) if tx in self.invites and response.status >= 200:
                if again:
                    self.layer.resend(self.acks[response.call_id], OUT)
                    return
                self.results[str(response.status)] += 1
                if response.status < 300:
                    dialog = Dialog.uac(self.invites[tx], response)
                    self.acks[response.call_id] = self.layer.send_ack(dialog.ack(response.cseq.number), OUT, CALLER, now)
                    self.hang_ups.append((Mono(now + TALK), dialog))
            case ResponseReceived(_, response, _, _) if response.status >= 200:
                self.results[f"bye {response.status}"] += 1
            case TimedOut():
                self.results["timed out"] += 1

    def next_deadline(self) -> Mono | None:
        due = [at for at in (super().next_deadline(), *(at for at, _ in self.hang_ups)) if at is not None]
        return min(due, default=None)

    def on_time(self, now: Mono) -> None:
        for at, dialog in [entry for entry in self.hang_ups if entry[0] <= now]:
            self.hang_ups.remove((at, dialog))
            self.layer.request(dialog.request("BYE"), OUT, CALLER, now)
        super().on_time(now)


class Callee(Party):
    """Rings, answers every call but each fifth, which is busy; answers BYE; 487 on CANCEL."""

    def __init__(self, wire: Wire, answers: bool = True) -> None:
        super().__init__(wire, CALLEE, CALLER, "s")
        self.answers = answers
        self.new: Counter[str] = Counter()
        self.invites: dict[TxId, Request] = {}
        self.accepted: dict[object, TxId] = {}
        self.unacknowledged = 0

    def handle(self, event: Output, now: Mono) -> None:
        match event:
            case RequestReceived(tx, invite, _) if invite.method == "INVITE":
                self.new[invite.call_id] += 1
                self.invites[tx] = invite
                tag = self.ids.tag()
                self.layer.respond(tx, response_to(invite, 180, to_tag=tag), now)
                if not self.answers:
                    return
                status = 486 if invite.call_id.endswith(("0", "5")) else 200
                response = response_to(invite, status, to_tag=tag, headers=[("Contact", "<sip:bob@192.0.2.2>")])
                self.layer.respond(tx, response, now)
                if status == 200:
                    self.accepted[Dialog.uas(invite, response).key] = tx
            case RequestReceived(tx, other, _):
                self.new[f"{other.method} {other.call_id}"] += 1
                self.layer.respond(tx, response_to(other, 200), now)
            case AckReceived(ack, _):
                self.layer.acknowledge(self.accepted[key_of_request(ack)], now)
            case CancelReceived(tx, _):
                self.layer.respond(tx, response_to(self.invites[tx], 487, to_tag="c"), now)
            case AckTimedOut():
                self.unacknowledged += 1


@pytest.mark.parametrize(
    ("loss", "duplicate", "jitter"),
    [(0.0, 0.0, 0.0), (0.0, 0.5, 0.6), (0.1, 0.1, 0.1), (0.3, 0.2, 0.3)],
    ids=["clean", "twice", "10 %", "30 %"],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_every_call_is_set_up_once_and_ends_once(seed: int, loss: float, duplicate: float, jitter: float) -> None:
    wire, clock = Wire(seed, loss=loss, duplicate=duplicate, jitter=jitter), FakeClock()
    caller, callee = Caller(wire), Callee(wire)
    for number in range(CALLS):
        caller.dial(number, clock.advance(0.02))
    clock.run(200.0, wire, caller, callee)
    assert caller.results == {"200": CALLS * 4 // 5, "486": CALLS // 5, "bye 200": CALLS * 4 // 5}
    assert set(callee.new.values()) == {1}
    assert callee.unacknowledged == 0
    for party in (caller, callee):
        assert not any(party.layer.describe().values())
        assert party.layer.next_deadline() is None
    if loss:
        assert wire.lost > 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_cancelled_calls_end_with_487_over_a_bad_line(seed: int) -> None:
    wire, clock = Wire(seed, loss=0.1, duplicate=0.2, jitter=0.3), FakeClock()
    caller, callee = Caller(wire), Callee(wire, answers=False)
    txs = [caller.dial(number, clock.now) for number in range(CALLS)]
    clock.run(1.0, wire, caller, callee)
    for tx in txs:
        caller.layer.cancel(tx, clock.now, [("Reason", "SIP;cause=487")])
        caller.pump(clock.now)
    clock.run(200.0, wire, caller, callee)
    assert caller.results == {"487": CALLS}
    assert not any(caller.layer.describe().values())
    assert not any(callee.layer.describe().values())


def test_a_dead_line_times_every_call_out() -> None:
    wire, clock = Wire(loss=1.0), FakeClock()
    caller = Caller(wire)
    for number in range(3):
        caller.dial(number, clock.now)
    clock.run(100.0, wire, caller)
    assert caller.results == {"timed out": 3}
    assert len(wire.sent) == 21
    assert not any(caller.layer.describe().values())


def test_a_ring_of_90_seconds_lives() -> None:
    wire, clock = Wire(), FakeClock()
    caller, callee = Caller(wire), Callee(wire, answers=False)
    caller.dial(1, clock.now)
    clock.run(90.0, wire, caller, callee)
    [tx] = callee.invites
    callee.layer.respond(tx, response_to(callee.invites[tx], 200, to_tag="stag-1", headers=[("Contact", "<sip:b@c>")]), clock.now)
    callee.accepted[("call-1", "stag-1", "a1")] = tx
    callee.pump(clock.now)
    clock.run(91.0, wire, caller, callee)
    assert caller.results == {"200": 1}


def test_a_200_that_is_lost_six_times_still_makes_the_call() -> None:
    left = [6]

    def lose(data: bytes, _source: object, _dest: object) -> bool:
        if data.startswith(b"SIP/2.0 200") and b"INVITE" in data and left[0]:
            left[0] -= 1
            return True
        return False

    wire, clock = Wire(lose=lose), FakeClock()
    caller, callee = Caller(wire), Callee(wire)
    caller.dial(1, clock.now)
    clock.run(100.0, wire, caller, callee)
    assert caller.results == {"200": 1, "bye 200": 1}
    assert callee.unacknowledged == 0
