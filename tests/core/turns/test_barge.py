"""What becomes of a caller utterance over agent speech."""

from __future__ import annotations

import pytest

from sidecar.turns.barge import Overlapped, overlapped
from sidecar.turns.settings import TurnSettings
from sidecar.turns.spans import Span


def judged(caller: tuple[float, float], *agent: tuple[float, float]) -> Overlapped | None:
    return overlapped(Span(*caller), [Span(*s) for s in agent], TurnSettings())


def kind(caller: tuple[float, float], *agent: tuple[float, float]) -> str:
    seen = judged(caller, *agent)
    assert seen is not None
    return seen.kind


def test_in_agent_silence_there_is_nothing_to_judge() -> None:
    assert judged((1000, 2000), (0, 900), (3000, 4000)) is None
    assert judged((1000, 2000)) is None


def test_latency_is_the_agents_stop_less_the_callers_start() -> None:
    seen = judged((1000, 3000), (0, 1450))
    assert seen is not None
    model = seen.model()
    assert (model.kind, model.caller_start_ms, model.agent_stop_ms, model.latency_ms) == ("barge_in", 1000, 1450, 450)


@pytest.mark.parametrize(("overlap", "expected"), [(50, "terminal_overlap"), (200, "terminal_overlap"), (201, "barge_in")])
def test_an_overlap_of_200_ms_is_terminal(overlap: float, expected: str) -> None:
    assert kind((1000, 3000), (0, 1000 + overlap)) == expected


@pytest.mark.parametrize(("after", "expected"), [(0, "slow"), (500, "slow"), (501, "failed")])
def test_an_agent_that_stops_after_the_caller_has_ended(after: float, expected: str) -> None:
    assert kind((1000, 2500), (0, 2500 + after)) == expected


@pytest.mark.parametrize(("length", "expected"), [(300, "backchannel"), (1000, "backchannel"), (1001, "failed")])
def test_a_short_utterance_over_an_agent_that_goes_on_is_a_backchannel(length: float, expected: str) -> None:
    assert kind((1000, 1000 + length), (0, 5000)) == expected


def test_never_stopped_has_no_latency() -> None:
    seen = judged((1000, 2500), (0, 9000))
    assert seen is not None
    assert (seen.model().agent_stop_ms, seen.model().latency_ms) == (None, None)


def test_an_agent_that_only_pauses_goes_on() -> None:  # silent for 500 ms, then on over the caller
    assert kind((1000, 4000), (0, 1500), (2000, 8000)) == "failed"


def test_an_agent_silent_for_600_ms_has_stopped() -> None:
    assert kind((1000, 4000), (0, 1500), (2100, 8000)) == "barge_in"


def test_an_agent_silent_until_the_caller_ends_has_stopped() -> None:
    assert kind((1000, 1900), (0, 1500), (1950, 8000)) == "barge_in"
