"""True turns from known speech."""

from __future__ import annotations

from sidecar.clocks import Mono
from sidecar.lab.truth import truth


def seconds(*pairs: tuple[float, float]) -> list[tuple[Mono, Mono]]:
    return [(Mono(start), Mono(end)) for start, end in pairs]


def test_greeting_responses_and_their_places() -> None:
    found = truth(Mono(100.0), seconds((102.0, 103.0), (105.5, 106.0)), seconds((100.4, 101.5), (103.62, 105.0), (106.85, 108.0)))
    assert found.greeting_ms == 400.0
    assert found.response_latency_ms == [620.0, 850.0]
    assert found.turns == [(3000.0, 3620.0), (6000.0, 6850.0)]
    assert found.barge_in_ms == []


def test_a_pause_in_which_the_agent_stays_silent_ends_no_turn() -> None:
    found = truth(Mono(0.0), seconds((1.0, 2.0), (2.9, 4.0)), seconds((4.5, 5.0)))
    assert found.response_latency_ms == [500.0]
    assert found.greeting_ms is None


def test_a_pause_inside_the_agents_answer_is_no_second_turn() -> None:
    found = truth(Mono(0.0), seconds((1.0, 2.0)), seconds((2.5, 3.0), (3.6, 4.0)))
    assert found.response_latency_ms == [500.0]


def test_a_barge_in_is_measured_and_the_answer_to_it_is_a_turn() -> None:
    found = truth(Mono(0.0), seconds((1.0, 2.0), (4.0, 5.5)), seconds((2.5, 4.3), (6.0, 7.0)))
    assert found.barge_in_ms == [300.0]
    assert found.response_latency_ms == [500.0, 500.0]


def test_an_agent_that_was_about_to_stop_was_not_interrupted() -> None:
    assert truth(Mono(0.0), seconds((1.0, 2.0), (4.0, 5.5)), seconds((2.5, 4.15), (6.0, 7.0))).barge_in_ms == []


def test_an_agent_that_goes_on_was_not_interrupted() -> None:
    assert truth(Mono(0.0), seconds((1.0, 2.0), (4.0, 4.4)), seconds((2.5, 6.0))).barge_in_ms == []


def test_an_answer_over_the_caller_is_no_ordinary_response() -> None:
    found = truth(Mono(0.0), seconds((1.0, 3.0)), seconds((2.5, 4.0)))
    assert found.response_latency_ms == []
