"""Life inside a call with SIPp at both ends: each case passes as both ends wrote it, and leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.sipp_cases import CASES
from tests.e2e.test_sipp import Bench, bench, clean
from tests.support.product import free_port
from tests.support.sipp import Sipp
from tests.support.sipp_script import Agent, Caller

pytestmark = pytest.mark.peer

CALLS = 3
NAMES = [*(name for name, case in CASES.items() if not case.seconds), *(name for name, case in CASES.items() if case.seconds)]


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[dict[str, Any]], Bench]]:
    """One sidecar for all the cases whose route has the same options."""
    started: dict[str, Bench] = {}
    with ExitStack() as stack:

        def started_with(route: dict[str, Any]) -> Bench:
            key = json.dumps(route, sort_keys=True)
            if key not in started:
                started[key] = stack.enter_context(bench(tmp_path_factory.mktemp("sidecar"), **route))
            return started[key]

        yield started_with


LONG = ("refreshed-by-the-sidecar",)
"""Half of the shortest session interval goes by in them (RFC 4028 section 5); core tests go through it on a clock of their own."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.load) if name in LONG else name for name in NAMES])
def test_a_case_passes_at_both_ends(tmp_path: Path, benches: Callable[[dict[str, Any]], Bench], name: str) -> None:
    case = CASES[name]
    run = benches(case.route)
    known = set(run.traces())
    with ExitStack() as stack:
        agent = case.agent(Agent("agent")).write(tmp_path / "scenarios")
        caller = case.caller(Caller("caller")).write(tmp_path / "scenarios")
        patient = ["-max_retrans", "20"]
        edge = Sipp("agent", tmp_path, run.edge, run.edge_port, calls=CALLS, options=patient, file=agent)
        stack.callback(edge.stop)
        options = ["-r", "10", "-s", "agent", *patient]
        dialler = Sipp("caller", tmp_path, run.caller, free_port(run.caller), calls=CALLS, options=options, target=run.sip, file=caller)
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
