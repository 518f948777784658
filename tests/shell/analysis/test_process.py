"""The analysis process: it answers, it is replaced when it dies, and it goes when the sidecar has gone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.analysis.process import AnalysisProcess
from sidecar.analysis.work import Ended
from sidecar.clocks import Mono
from tests.core.analysis.test_calls import ANSWER, DELAY, OPENING, PACKETS, SECONDS


@pytest.fixture
async def analysis() -> AsyncIterator[AnalysisProcess]:
    process = AnalysisProcess()
    await process.start()
    yield process
    await process.stop()


def over(call: str) -> Ended:
    return Ended(call, PACKETS, answered=True, at=Mono(ANSWER + SECONDS), tap_dropped=0, refused=0, relay_delay=DELAY)


def pid(analysis: AnalysisProcess) -> int:
    number = analysis.describe()["pid"]
    assert isinstance(number, int)
    return number


async def test_requests_that_are_asked_at_once_are_answered_each_with_its_own(analysis: AnalysisProcess) -> None:
    await asyncio.gather(*(analysis.look([(f"c{n}", OPENING)], Mono(ANSWER)) for n in range(5)))
    figures = await asyncio.gather(*(analysis.finish([over(f"c{n}")]) for n in range(5)))
    assert [len(found.turns) for [found] in figures if found is not None] == [3] * 5
    assert analysis.describe()["calls"] == 0


async def test_a_call_whose_process_died_has_no_figures_and_the_next_call_has(analysis: AnalysisProcess) -> None:
    await analysis.look([("c1", OPENING)], Mono(ANSWER))
    first = pid(analysis)
    os.kill(first, signal.SIGKILL)
    assert await analysis.look([("c1", PACKETS[:100])], Mono(ANSWER)) == []
    assert pid(analysis) != first
    assert await analysis.look([("c1", PACKETS[100:200])], Mono(ANSWER)) == [], "half of a call's packets is no measurement"
    await analysis.look([("c2", OPENING)], Mono(ANSWER))
    lost, found = await analysis.finish([over("c1"), over("c2")])
    assert lost is None
    assert found is not None
    assert len(found.turns) == 3
    assert (analysis.describe()["deaths"], analysis.describe()["lost"], analysis.describe()["calls"]) == (1, 0, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_for_the_whole_group_leave_the_figures_of_a_drain(analysis: AnalysisProcess, number: signal.Signals) -> None:
    await analysis.look([("c1", OPENING)], Mono(ANSWER))
    os.kill(pid(analysis), number)
    [found] = await analysis.finish([over("c1")])
    assert found is not None


async def test_an_end_that_waited_while_the_process_died_has_no_figures(analysis: AnalysisProcess) -> None:
    """What is left of a call's packets would be measured as if it were the call."""
    await analysis.look([("c1", [*OPENING, *PACKETS[:100]])], Mono(ANSWER))
    os.kill(pid(analysis), signal.SIGKILL)
    _, [figures] = await asyncio.gather(analysis.look([("c2", OPENING)], Mono(ANSWER)), analysis.finish([over("c1")]))
    assert figures is None


async def test_a_question_that_is_given_up_leaves_its_answer_to_nobody(analysis: AnalysisProcess) -> None:
    await analysis.look([("c1", OPENING)], Mono(ANSWER))
    given_up = asyncio.ensure_future(analysis.look([("c1", PACKETS)], Mono(ANSWER + SECONDS)))
    await asyncio.sleep(0)  # it has asked
    given_up.cancel()
    [found] = await analysis.finish([Ended("c1", [], True, Mono(ANSWER + SECONDS), tap_dropped=0, refused=0, relay_delay=DELAY)])
    assert found is not None
    assert len(found.turns) == 3
    assert given_up.cancelled()


async def test_a_process_that_hangs_is_replaced() -> None:
    analysis = AnalysisProcess(patience=0.5)
    await analysis.start()
    try:
        await analysis.look([("c1", OPENING)], Mono(ANSWER))
        first = pid(analysis)
        os.kill(first, signal.SIGSTOP)
        assert await analysis.finish([over("c1")]) == [None]
        assert pid(analysis) != first
        assert not Path(f"/proc/{first}").exists()
    finally:
        await analysis.stop()


async def test_it_ends_with_the_sidecar() -> None:
    process = AnalysisProcess()
    await process.start()
    number = pid(process)
    await process.stop()
    assert not Path(f"/proc/{number}").exists()
