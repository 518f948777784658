"""OPTIONS to the targets of a route that asks for it, and what their silence means for the next call."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.sip.flow import Flow
from tests.core.b2bua.harness import EDGE, SIDECAR, Bench, Party
from tests.core.b2bua.test_failover import SECOND, finish, target


@pytest.fixture
def bench() -> Bench:
    """Two targets, pinged every 10 s. Nothing is asked of the bench at its end: pings go on for ever."""
    made = Bench(target="sip:agent@edge.example", names={"edge.example": (target(EDGE), target(SECOND))}, route={"ping": 10.0})
    made.second = Party(made, SECOND, "second")  # type: ignore[attr-defined]
    return made


def states(bench: Bench) -> object:
    pings = bench.engine.describe()["pings"]
    assert isinstance(pings, dict)
    return pings["agent"]


def test_every_target_is_asked_at_the_start_and_then_at_each_period(bench: Bench) -> None:
    second: Party = bench.second  # type: ignore[attr-defined]
    for _ in range(3):
        for party in (bench.edge, second):
            options = party.request("OPTIONS", within=10.1)
            assert (options.uri, options.to_tag) == ("sip:agent@edge.example", None)
            party.reply(options, 404)
    bench.run(0.1)
    assert bench.edge.times("OPTIONS") == [0.0, 10.0, 20.0]
    assert states(bench) == {"udp:192.0.2.20:5070": "404", "udp:192.0.2.21:5070": "404"}
    assert bench.engine.ways.avoided(bench.clock.now) == []


def test_a_target_that_is_silent_gets_the_next_call_last_until_it_answers_again(bench: Bench) -> None:
    second: Party = bench.second  # type: ignore[attr-defined]
    second.reply(second.request("OPTIONS"), 200)
    bench.run(0.05)
    bench.engine.transport_failed(Flow("udp", SIDECAR, EDGE), bench.clock.now, "unreachable")
    bench.pump()
    assert states(bench) == {"udp:192.0.2.20:5070": "unreachable", "udp:192.0.2.21:5070": "200"}
    bench.edge.inbox.clear()
    sent = bench.invite()
    finish(bench, second, sent, second.request("INVITE"))
    assert bench.edge.inbox == []
    bench.edge.reply(bench.edge.request("OPTIONS", within=11.0), 200)
    bench.run(0.1)
    assert bench.engine.ways.avoided(bench.clock.now) == []


def test_a_503_and_silence_count_as_failure(bench: Bench) -> None:
    second: Party = bench.second  # type: ignore[attr-defined]
    second.reply(second.request("OPTIONS"), 503, headers=[("Retry-After", "100")])
    bench.run(33.0)
    assert set(bench.engine.ways.avoided(bench.clock.now)) == {"udp:192.0.2.20:5070", "udp:192.0.2.21:5070"}


def test_routes_that_are_replaced_end_the_pings_of_those_that_went(bench: Bench) -> None:
    bench.run(0.1)
    settings = bench.engine.settings
    bench.engine.settings = replace(settings, routes=(replace(settings.routes[0], ping=None),))
    heard = len(bench.edge.times("OPTIONS"))
    bench.run(32.0)  # of what was asked already, until it is given up
    bench.edge.all.clear()
    bench.run(60.0)
    assert heard > 0
    assert bench.edge.times("OPTIONS") == []
    assert bench.engine.describe()["pings"] == {}
    assert bench.engine.next_deadline() is None
