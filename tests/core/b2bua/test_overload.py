"""Too much to do: new calls are refused at once and forgotten, calls that live go on, and all are let in again soon after."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.b2bua.valve import Limits, Valve
from tests.core.b2bua.harness import ANSWER, Bench
from tests.core.b2bua.types import Make

LATE = 1.0
LIMITS = Limits(calls=2, lag_s=0.2)


def overload(bench: Bench, seconds: float = 10.0) -> None:
    """Messages wait too long, for so many seconds of ten looks each."""
    for _ in range(int(seconds * 10)):
        bench.engine.valve.late(LATE, LIMITS)


def test_a_refused_call_is_told_when_to_come_again_and_leaves_nothing(bench: Bench) -> None:  # RFC 3261 21.5.4
    overload(bench)
    sent = bench.invite()
    refusal = bench.caller.response(503)
    assert int(refusal.headers.get("Retry-After") or "") > 0
    assert refusal.to_tag is not None
    bench.edge.hears_nothing(1.0)
    assert not any(bench.engine.describe()["transactions"].values())  # type: ignore[attr-defined]
    assert (bench.facts(e.Started), bench.engine.counts["overloaded"]) == ([], 1)
    bench.caller.ack(sent, refusal)
    bench.caller.hears_nothing()


def test_a_repeated_invite_gets_the_same_answer_again(bench: Bench) -> None:
    overload(bench)
    sent = bench.invite()
    first = bench.caller.response(503)
    bench.caller.send(sent)
    assert bench.caller.response(503).to_tag == first.to_tag


def test_what_has_begun_goes_on(bench: Bench) -> None:
    sent, got = bench.ringing()
    overload(bench)
    bench.caller.send(sent)  # a repetition of an INVITE that was taken
    assert bench.caller.response(180).status == 180
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)
    assert bench.engine.counts["overloaded"] == 0


def test_no_more_calls_live_than_may(make: Make) -> None:
    bench = make(limits=Limits(calls=1))
    bench.answered()
    bench.invite(call_id="second@192.0.2.10", from_tag="second")
    bench.caller.response(503)
    bench.edge.hears_nothing()
    bench.hang_up(bench.caller)
    bench.run(1.0)
    bench.answered(call_id="third@192.0.2.10", from_tag="third")
    bench.hang_up(bench.caller)


def test_options_are_answered_all_the_same(bench: Bench) -> None:
    """Who asks whether somebody is there must not take a busy sidecar for a dead one: its calls live."""
    overload(bench)
    bench.caller.send(
        b"OPTIONS sip:192.0.2.1 SIP/2.0\r\nVia: %s\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:192.0.2.1>\r\nCall-ID: o\r\nCSeq: 1 OPTIONS\r\n"
        b"Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n" % bench.caller.via().encode()
    )
    assert bench.caller.response(200).status == 200


def admitted(valve: Valve, calls: int) -> int:
    return sum(valve.admits(0, LIMITS) for _ in range(calls))


def test_the_share_falls_at_once_and_comes_back_within_seconds() -> None:
    valve = Valve()
    assert admitted(valve, 100) == 100
    for _ in range(5):
        valve.late(LATE, LIMITS)
    assert 25 <= admitted(valve, 100) <= 40
    for _ in range(100):
        valve.late(LATE, LIMITS)
    assert admitted(valve, 100) == 2  # somebody is let in all the same
    for _ in range(25):
        valve.late(0.0, LIMITS)
    assert admitted(valve, 100) == 100


def test_a_machine_that_stands_still_for_a_moment_costs_no_call() -> None:
    valve = Valve()
    for lag in (LATE, LATE, 0.0, LATE, 0.0):
        valve.late(lag, LIMITS)
        assert admitted(valve, 100) == 100


@pytest.mark.parametrize("rate", [150, 200, 400])
def test_at_more_than_it_can_do_it_does_nearly_all_that_it_can(rate: int) -> None:
    """A server of 100 calls a second, asked for more: the queue stays short and the work goes on."""
    valve, waiting, done = Valve(), 0.0, 0.0
    worst = 0.0
    for step in range(600):
        waiting += admitted(valve, rate // 10)
        served = min(waiting, 10.0)
        waiting, done = waiting - served, done + (served if step >= 100 else 0)
        valve.late(waiting / 100, LIMITS)
        worst = max(worst, waiting / 100 if step >= 100 else 0)
    assert done > 0.85 * 5000
    assert worst < 0.5
