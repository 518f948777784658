"""Life inside a call with SIPp at both ends: each case passes as both ends wrote it, and leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.sipp_cases import CASES
from tests.e2e.test_sipp import KINDS, Bench, bench, clean
from tests.support.product import free_port
from tests.support.sipp import Sipp
from tests.support.sipp_script import Agent, Caller

pytestmark = pytest.mark.peer

CALLS = 3
NAMES = [*(name for name, case in CASES.items() if not case.seconds), *(name for name, case in CASES.items() if case.seconds)]


WAYS = (("udp", "udp"), ("udp", "tcp"), ("tcp", "udp"), ("tcp", "tcp"))
"""Transports of the legs. The state machines are tried over UDP at every run; what a stream changes in them, by `make matrix`."""
SIPP = {"udp": "u1", "tcp": "t1"}


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Bench]]:
    """One sidecar for all the cases whose route has the same options, over the same transports."""
    started: dict[str, Bench] = {}
    with ExitStack() as stack:

        def started_with(route: dict[str, Any], near: str, far: str) -> Bench:
            key = json.dumps([route, near, far], sort_keys=True)
            if key not in started:
                started[key] = stack.enter_context(bench(tmp_path_factory.mktemp("sidecar"), near=near, far=far, **route))
            return started[key]

        yield started_with


LONG = ("refreshed-by-the-sidecar",)
"""Half of the shortest session interval goes by in them (RFC 4028 section 5); core tests go through it on a clock of their own."""


def _marks(name: str, way: tuple[str, str]) -> list[pytest.MarkDecorator]:
    return [*([pytest.mark.load] if name in LONG else []), *([pytest.mark.matrix] if way != WAYS[0] else [])]


@pytest.mark.parametrize(
    ("name", "near", "far"),
    [
        pytest.param(name, *way, marks=_marks(name, way))
        for way in WAYS
        for name in NAMES
        if not (CASES[name].needs_udp and way[0] != "udp")
    ],
)
def test_a_case_passes_at_both_ends(
    tmp_path: Path, benches: Callable[..., Bench], name: str, near: str, far: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("scenario", (name.replace("-", " "), f"{near} → {far}", "SIPp → SIPp"))
    case = CASES[name]
    run = benches(case.route, near, far)
    known = set(run.traces())
    with ExitStack() as stack:
        agent = case.agent(Agent("agent")).write(tmp_path / "scenarios")
        caller = case.caller(Caller("caller")).write(tmp_path / "scenarios")
        patient = ["-max_retrans", "20"]
        edge = Sipp("agent", tmp_path, run.edge, run.edge_port, calls=CALLS, options=[*patient, "-t", SIPP[far]], file=agent)
        stack.callback(edge.stop)
        options = ["-r", "10", "-s", "agent", *patient, "-t", SIPP[near]]
        port = free_port(run.caller, KINDS[near])
        dialler = Sipp("caller", tmp_path, run.caller, port, calls=CALLS, options=options, target=run.sip, file=caller)
        stack.callback(dialler.stop)
        figures = dialler.wait(case.seconds + 20), edge.wait(10)
        told = dialler.errors() + edge.errors()
        assert [figure.successful for figure in figures] == [CALLS, CALLS], told
        if not case.seconds:
            assert figures == (clean(CALLS), clean(CALLS)), told
    run.quiet()
    ended = [fact for call, trace in run.traces().items() if call not in known for fact in trace if fact["kind"] == "call_ended"]
    assert [(fact["reason"], fact["status"]) for fact in ended] == [(case.reason, case.status)] * CALLS
    engine = run.admin("/v1/state")["engine"]
    assert (engine["calls"], engine["dialogs"]) == (0, 0)
    assert run.sidecar.faults == []
