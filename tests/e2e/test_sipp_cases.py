"""Life inside a call with SIPp at both ends: each case passes as both ends wrote it, and leaves nothing behind."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.sipp_cases import CASES
from tests.e2e.test_sipp import bench, clean
from tests.support.product import free_port
from tests.support.sipp import Sipp
from tests.support.sipp_script import Agent, Caller

pytestmark = pytest.mark.peer

CALLS = 3
QUICK = [name for name, case in CASES.items() if not case.seconds]
SLOW = [name for name, case in CASES.items() if case.seconds]


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_a_case_passes_at_both_ends(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    with bench(tmp_path, **case.route) as run, ExitStack() as stack:
        agent = case.agent(Agent("agent")).write(tmp_path / "scenarios")
        caller = case.caller(Caller("caller")).write(tmp_path / "scenarios")
        edge = Sipp("agent", tmp_path, run.edge, run.edge_port, calls=CALLS, file=agent)
        stack.callback(edge.stop)
        options = ["-r", "10", "-s", "agent"]
        dialler = Sipp("caller", tmp_path, run.caller, free_port(run.caller), calls=CALLS, options=options, target=run.sip, file=caller)
        stack.callback(dialler.stop)
        figures = dialler.wait(case.seconds + 20), edge.wait(10)
        told = dialler.errors() + edge.errors()
        assert [figure.successful for figure in figures] == [CALLS, CALLS], told
        run.quiet()
        assert [(fact["reason"], fact["status"]) for fact in run.facts("call_ended")] == [(case.reason, case.status)] * CALLS
        engine = run.admin("/v1/state")["engine"]
        assert (engine["calls"], engine["dialogs"]) == (0, 0)
        assert run.sidecar.faults == []
        if not case.seconds:
            assert figures == (clean(CALLS), clean(CALLS)), told
