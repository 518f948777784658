"""The outcome of a call, and how long a report waits for it."""

from __future__ import annotations

from itertools import permutations

import pytest

from control.contract.call import Outcome
from control.matching.verdict import Answer, outcome_of_report, patience, repair_of, verdict

LINKED = Answer("linked", "a_leg_call_id", "SCL_abc", 1.0)
REPAIRED = Answer("repaired", "correlation_id", None, 0.99)
CONFLICT = Answer("conflict", "a_leg_call_id", candidates=("c1", "c2"))
LATE = Answer("unlinked", "correlation_id")


def outcome(*answers: Answer, simulation: bool = True, answered: bool = True, ended: bool = True, grace_over: bool = True) -> Outcome:
    return verdict(simulation=simulation, answered=answered, ended=ended, grace_over=grace_over, answers=answers)[0]


def test_a_simulation_is_pending_until_its_grace_is_over() -> None:
    assert outcome(ended=False, grace_over=False) == "pending"
    assert outcome(grace_over=False) == "pending"
    assert outcome() == "missing"


def test_a_call_that_nobody_answered_owes_no_report() -> None:
    assert outcome(answered=False) == "not_applicable"
    assert outcome(LINKED, answered=False) == "linked"


def test_production_has_no_verdict() -> None:
    assert outcome(LINKED, CONFLICT, simulation=False) == "not_applicable"


@pytest.mark.parametrize("answers", list(permutations([LINKED, REPAIRED, CONFLICT, LATE])))
def test_the_order_of_reports_does_not_matter(answers: tuple[Answer, ...]) -> None:
    assert outcome(*answers) == "linked"
    assert outcome(*(answer for answer in answers if answer is not LINKED)) == "repaired"
    assert outcome(*(answer for answer in answers if answer in (CONFLICT, LATE))) == "conflict"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"matched": True, "candidates": 1, "exact": True, "simulation": True}, "linked"),
        ({"matched": True, "candidates": 1, "exact": False, "simulation": True}, "repaired"),
        ({"matched": True, "candidates": 1, "exact": False, "simulation": True, "left_unlinked": True}, "unlinked"),
        ({"matched": True, "candidates": 1, "exact": True, "simulation": True, "left_unlinked": True}, "linked"),
        ({"matched": True, "candidates": 1, "exact": False, "simulation": False}, "not_applicable"),
        ({"matched": False, "candidates": 2, "exact": False, "simulation": True}, "conflict"),
        ({"matched": False, "candidates": 0, "exact": False, "simulation": True}, "unlinked"),
    ],
)
def test_what_a_match_means_for_the_report(facts: dict[str, bool | int], expected: Outcome) -> None:
    assert outcome_of_report(**facts) == expected  # type: ignore[arg-type]


def test_only_a_repair_is_shown_as_one() -> None:
    shown = repair_of(REPAIRED)
    assert shown is not None
    assert (shown.rule, shown.reported, shown.confidence) == ("correlation_id", None, 0.99)
    assert repair_of(LINKED) is None
    assert repair_of(None) is None


def test_patience_ends_with_the_trace_the_wait_or_the_cap() -> None:
    def until(**state: object) -> int:
        return patience(**({"arrived": 100, "complete": False, "live": False, "ended": None, "wait": 20, "cap": 300} | state))  # type: ignore[arg-type]

    assert until(complete=True) == 100
    assert until() == 120
    assert until(ended=90) == 120
    assert until(ended=150) == 170
    assert until(live=True) == 400
    assert until(ended=395) == 400
