"""Each definition of a turn, with its edges."""

from __future__ import annotations

import pytest

from control.contract.call import Turn
from sidecar.turns.floor import Conversation, fold
from sidecar.turns.settings import TurnSettings
from sidecar.turns.spans import Span

Spoken = list[tuple[float, float]]


def folded(caller: Spoken, agent: Spoken, **more: object) -> Conversation:
    return fold([Span(*s) for s in caller], [Span(*s) for s in agent], TurnSettings(), **more)  # type: ignore[arg-type]


def only(caller: Spoken, agent: Spoken) -> Turn:
    turns = folded(caller, agent).turns
    assert len(turns) == 1
    return turns[0]


def test_response_latency_is_end_of_caller_to_start_of_agent() -> None:
    turn = only([(1000, 3000)], [(3700, 5000)])
    assert turn.kind == "response"
    assert turn.response_latency_ms == 700
    assert (turn.caller_start_ms, turn.caller_end_ms, turn.agent_start_ms, turn.agent_end_ms) == (1000, 3000, 3700, 5000)


def test_a_pause_of_any_length_ends_no_turn_while_the_agent_is_silent() -> None:
    turn = only([(1000, 2000), (2400, 3000), (6000, 7000)], [(8000, 9000)])
    assert (turn.caller_start_ms, turn.caller_end_ms, turn.response_latency_ms) == (1000, 7000, 1000)


def test_a_greeting_is_no_turn_and_the_first_turn_is_number_one() -> None:
    turns = folded([(4000, 5000)], [(500, 3000), (5600, 7000)]).turns
    assert [(t.n, t.response_latency_ms) for t in turns] == [(1, 600)]


def test_an_agent_that_goes_on_after_a_pause_is_still_in_its_turn() -> None:
    turn = only([(0, 1000)], [(1500, 3000), (5000, 6000)])
    assert (turn.response_latency_ms, turn.agent_end_ms) == (500, 6000)


def test_every_answered_utterance_is_a_turn() -> None:
    turns = folded([(0, 1000), (4000, 5000), (9000, 9300)], [(1500, 3000), (5800, 8000), (9900, 11000)]).turns
    assert [t.response_latency_ms for t in turns] == [500, 800, 600]  # a short utterance in agent silence is a turn
    assert [t.n for t in turns] == [1, 2, 3]


def test_an_unanswered_utterance_is_no_turn() -> None:
    assert folded([(1000, 2000)], []).turns == []


@pytest.mark.parametrize(("lead", "kind"), [(1, "overlap"), (250, "overlap"), (251, "agent_interruption"), (900, "agent_interruption")])
def test_an_agent_that_starts_before_the_caller_ends(lead: float, kind: str) -> None:
    turn = only([(1000, 3000)], [(3000 - lead, 6000)])
    assert (turn.kind, turn.response_latency_ms) == (kind, -lead)
    assert turn.first_audio_ms is None


@pytest.mark.parametrize(("pause", "kind"), [(600, "agent_interruption"), (1000, "agent_interruption"), (1001, "response")])
def test_an_agent_that_starts_in_a_pause_after_which_the_caller_goes_on(pause: float, kind: str) -> None:
    turn = folded([(0, 2000), (2000 + pause, 6000)], [(2550, 9000)]).turns[0]
    assert turn.kind == kind


def test_a_pause_within_an_utterance_is_no_end_of_it() -> None:  # ≤ 500 ms is bridged, so the agent starts 1,600 ms too early
    turn = only([(0, 2000), (2400, 4000)], [(2200, 7000)])
    assert (turn.kind, turn.response_latency_ms) == ("agent_interruption", -1800)


def test_an_interrupted_caller_who_goes_on_is_answered_afterwards() -> None:
    conversation = folded([(0, 2000), (2800, 5000)], [(2500, 3200), (5600, 8000)])
    assert [(t.kind, t.response_latency_ms) for t in conversation.turns] == [("agent_interruption", -2500), ("response", 600)]
    assert conversation.overlaps == []  # the caller only went on: no barge-in


def test_an_agent_that_talks_over_the_rest_has_had_its_turn() -> None:
    conversation = folded([(0, 2000), (2800, 4000)], [(2500, 6000), (6800, 8000)])
    assert [t.kind for t in conversation.turns] == ["agent_interruption"]


def test_a_short_agent_spurt_inside_a_caller_spurt_is_no_turn() -> None:
    turns = folded([(0, 6000)], [(2000, 3000), (6500, 8000)]).turns
    assert [(t.kind, t.response_latency_ms) for t in turns] == [("response", 500)]


def test_a_longer_agent_spurt_inside_a_caller_spurt_interrupts() -> None:
    turns = folded([(0, 6000)], [(2000, 3001), (6500, 8000)]).turns
    assert [t.kind for t in turns] == ["agent_interruption", "response"]


def test_a_backchannel_leaves_the_turn_with_the_agent() -> None:
    conversation = folded([(0, 1000), (3000, 3500)], [(1500, 6000), (6800, 8000)])
    assert [(t.response_latency_ms, t.agent_end_ms, t.interrupted) for t in conversation.turns] == [(500, 8000, False)]
    assert [o.kind for o in conversation.overlaps] == ["backchannel"]


def test_a_barge_in_interrupts_the_turn_and_opens_the_next() -> None:
    conversation = folded([(0, 1000), (3000, 5000)], [(1500, 3400), (5700, 7000)])
    assert [(t.response_latency_ms, t.interrupted, t.agent_end_ms) for t in conversation.turns] == [(500, True, 3400), (700, False, 7000)]
    assert [o.kind for o in conversation.overlaps] == ["barge_in"]


def test_a_failed_interruption_is_no_turn() -> None:
    conversation = folded([(0, 1000), (3000, 5000)], [(1500, 5600), (6500, 8000)])
    assert [o.kind for o in conversation.overlaps] == ["failed"]
    assert len(conversation.turns) == 1
    assert not conversation.turns[0].interrupted


def test_a_slow_barge_in_is_answered() -> None:
    conversation = folded([(0, 1000), (3000, 5000)], [(1500, 5400), (6500, 8000)])
    assert [o.kind for o in conversation.overlaps] == ["slow"]
    assert [(t.response_latency_ms, t.interrupted) for t in conversation.turns] == [(500, True), (1500, False)]


def test_a_terminal_overlap_is_an_ordinary_next_turn() -> None:
    conversation = folded([(0, 1000), (2900, 4000)], [(1500, 3050), (4600, 5000)])
    assert [o.kind for o in conversation.overlaps] == ["terminal_overlap"]
    assert [(t.response_latency_ms, t.interrupted) for t in conversation.turns] == [(500, False), (600, False)]


def test_first_audio_is_the_first_sound_of_any_kind() -> None:
    typing_at = 3300.0
    turn = folded([(1000, 3000)], [(4500, 6000)], first_sound=lambda start, end: typing_at if start <= typing_at <= end else None).turns[0]
    assert (turn.first_audio_ms, turn.response_latency_ms) == (300, 1500)


def test_first_audio_is_the_response_where_nothing_came_before() -> None:
    turn = only([(1000, 3000)], [(4500, 6000)])
    assert turn.first_audio_ms == turn.response_latency_ms == 1500


def test_a_hold_forgets_who_had_the_floor() -> None:
    turns = folded([(1000, 3000), (22000, 23000)], [(20500, 21000), (23400, 25000)], resets=[20000.0]).turns
    assert [t.response_latency_ms for t in turns] == [400]


def test_uncertainty_is_that_of_both_edges() -> None:
    turn = fold([Span(0, 1000, 1, 30)], [Span(1500, 2000, 40, 2)], TurnSettings()).turns[0]
    assert turn.uncertainty_ms == 50
