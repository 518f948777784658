"""Which call a report belongs to, rule by rule; and above all when it belongs to none."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.contract.fold import correlation_hash
from control.matching.claim import Claim
from control.matching.rules import Known, Match, Rival, against, match

TOKEN = "0123456789abcdef0123456789abcdef"
CALL = Known(
    id="c1",
    sip_call_id="SCL_abc",
    b_leg_call_ids=frozenset({"SCL_abc", "b-leg-1"}),
    platform_ids=frozenset({"CA0123456789"}),
    correlation_sha256=correlation_hash(TOKEN),
    caller="15550100",
    callee="agent@edge.example",
    started_ms=1_000_000,
    ended_ms=1_060_000,
)
OTHER = Known(id="c2", sip_call_id="SCL_def", caller="15550199", callee="agent@edge.example", started_ms=1_010_000, ended_ms=1_050_000)
BLANK = Claim("r1", start_ms=1_000_000, end_ms=1_060_000)


def said(*ids: str) -> Claim:
    return replace(BLANK, ids=frozenset(ids))


@pytest.mark.parametrize(
    ("claim", "rule", "confidence", "exact"),
    [
        (replace(BLANK, sip_call_id="SCL_abc"), "a_leg_call_id", 1.0, True),
        (said("SCL_abc"), "a_leg_call_id", 1.0, False),
        (replace(BLANK, sip_call_id="b-leg-1"), "b_leg_call_id", 1.0, False),
        (replace(BLANK, correlation_sha256=correlation_hash(TOKEN)), "correlation_id", 0.99, False),
        (replace(BLANK, sip_call_id=TOKEN), "correlation_id", 0.99, False),
        (said(TOKEN), "correlation_id", 0.99, False),
        (said("CA0123456789"), "platform_id", 0.95, False),
        (replace(BLANK, caller="15550100", callee="agent@edge.example"), "to_from_time", 0.7, False),
        (replace(BLANK, caller="15550100"), "to_from_time", 0.5, False),
        (replace(BLANK, sip_call_id="wrong", caller="15550100", callee="agent@edge.example"), "to_from_time", 0.7, False),
    ],
)
def test_each_rule_finds_its_call_and_says_how_sure_it_is(claim: Claim, rule: str, confidence: float, exact: bool) -> None:
    assert match(claim, [OTHER, CALL]) == Match("c1", rule, confidence, exact, ("c1",))


@pytest.mark.parametrize(
    "claim",
    [
        BLANK,
        replace(BLANK, sip_call_id="SCL_xyz"),
        replace(BLANK, callee="agent@edge.example"),  # every call of the agent has this in common
        replace(BLANK, caller="15550100", callee="someone@else.example"),
        replace(BLANK, caller="15550100", start_ms=2_000_000, end_ms=2_060_000),
        replace(BLANK, caller="15550100", start_ms=None, end_ms=None),
    ],
)
def test_what_proves_nothing_matches_nothing(claim: Claim) -> None:
    assert match(claim, [CALL, OTHER]).kind == "unlinked"


def test_two_callers_with_the_same_number_at_the_same_time_are_a_conflict() -> None:
    twin = replace(OTHER, caller="15550100")
    assert match(replace(BLANK, caller="15550100"), [CALL, twin]) == Match(rule="to_from_time", candidates=("c1", "c2"))


def test_the_next_call_of_the_same_number_does_not_take_the_report_of_the_last_one() -> None:
    first = replace(CALL, started_ms=1_000_000, ended_ms=1_060_000)
    for next_one in (
        replace(CALL, id="c2", sip_call_id="SCL_2", started_ms=1_062_000, ended_ms=1_120_000),
        replace(CALL, id="c2", sip_call_id="SCL_2", started_ms=1_058_000, ended_ms=None),
    ):
        report = replace(BLANK, caller="15550100")
        assert match(report, [first, next_one]).call == "c1"
        assert match(report, [next_one]).kind == "unlinked"  # its own call is not known yet
        late = replace(report, start_ms=1_064_000, end_ms=1_118_000)
        assert match(late, [first, next_one]).call == "c2"


def test_clocks_that_differ_by_seconds_do_not_hide_a_short_call() -> None:
    short = replace(CALL, started_ms=1_000_000, ended_ms=1_003_000)
    assert match(replace(BLANK, caller="15550100", start_ms=1_004_000, end_ms=1_007_000), [short]).call == "c1"


def test_call_id_and_correlation_that_disagree_are_a_conflict() -> None:
    claim = replace(BLANK, sip_call_id="SCL_def", correlation_sha256=correlation_hash(TOKEN))
    found = match(claim, [CALL, OTHER])
    assert (found.kind, found.candidates) == ("conflict", ("c1", "c2"))


def test_an_id_that_a_call_only_heard_of_names_the_call_that_owns_it() -> None:
    transferred = replace(CALL, platform_ids=frozenset({"SCL_def", "b-leg-2"}))
    other = replace(OTHER, b_leg_call_ids=frozenset({"b-leg-2"}))
    assert match(replace(BLANK, sip_call_id="SCL_def"), [transferred, other]) == Match("c2", "a_leg_call_id", 1.0, True, ("c2",))
    assert match(said("b-leg-2"), [transferred, other]).call == "c2"
    assert match(said("b-leg-2"), [transferred]).rule == "platform_id"  # nobody else's, so it is evidence


def test_a_weak_rule_never_contradicts_a_strong_one() -> None:
    claim = replace(BLANK, sip_call_id="SCL_def", caller="15550100")
    assert match(claim, [CALL, OTHER]).call == "c2"


def test_a_call_id_used_again_means_the_call_of_that_time_and_the_answered_one() -> None:
    claim = replace(BLANK, sip_call_id="SCL_abc")
    last_week = replace(CALL, id="c0", started_ms=1_000, ended_ms=2_000)
    refused = replace(CALL, id="c9", answered=False)
    assert match(claim, [last_week, CALL, refused]).call == "c1"
    assert match(claim, [CALL, replace(CALL, id="c8")]).kind == "conflict"


def test_recipient_links_an_outbound_call_byte_for_byte() -> None:
    outbound = Known("c1", "x", outbound=True, recipient="sip:sim-7Q@h", started_ms=1_000_000, ended_ms=1_060_000)
    exact = match(replace(BLANK, recipient="sip:sim-7Q@h"), [outbound])
    assert (exact.rule, exact.exact) == ("recipient", True)
    assert match(replace(BLANK, recipient="sip:sim-7q@h"), [outbound]).kind == "unlinked"
    wrong_clock = replace(BLANK, recipient="sip:sim-7Q@h", start_ms=1_900_000, end_ms=1_960_000)
    assert match(wrong_clock, [outbound]).call == "c1"
    number = replace(outbound, recipient="sip:+15550100@h")
    assert match(replace(wrong_clock, recipient="sip:+15550100@h"), [number]).kind == "unlinked"
    by_id = match(replace(BLANK, sip_call_id="x"), [outbound])
    assert (by_id.rule, by_id.exact) == ("a_leg_call_id", False)  # the evaluator links this direction by recipient


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_concurrent_calls_are_never_linked_wrongly(rng: random.Random) -> None:
    calls = [
        Known(
            f"c{n}", f"SCL_{n}", correlation_sha256=correlation_hash(f"token-{n}"), platform_ids=frozenset({f"CA{n:08}"}),
            caller=f"1555{rng.randrange(40):04}", callee="agent@edge.example",
            started_ms=rng.randrange(60_000), ended_ms=90_000 + rng.randrange(60_000),
        )
        for n in range(40)
    ]  # fmt: skip
    order = list(range(len(calls)))
    rng.shuffle(order)
    for n in order:
        call = calls[n]
        claim = Claim(f"r{n}", start_ms=call.started_ms, end_ms=call.ended_ms, caller=call.caller)
        forms = [
            {"sip_call_id": call.sip_call_id},
            {"correlation_sha256": call.correlation_sha256},
            {"ids": frozenset(call.platform_ids)},
            {},
        ]
        found = match(replace(claim, **rng.choice(forms)), calls)
        assert found.call in (call.id, None)
        assert found.call is None or found.rule is not None


def test_only_one_of_several_reports_of_a_call_is_repaired() -> None:
    mine = Match("c1", "correlation_id", 0.99, False, ("c1",))
    assert against(mine, []) == mine
    assert against(mine, [Rival("to_from_time", earlier=True)]) == mine
    assert against(mine, [Rival("correlation_id")]) == mine
    for rival in (
        Rival("correlation_id", earlier=True),
        Rival("b_leg_call_id"),
        Rival("recipient", exact=True),
        Rival("to_from_time", left=True),
    ):
        assert against(mine, [rival]).kind == "conflict"
    exact = replace(mine, exact=True)
    assert against(exact, [Rival("a_leg_call_id", exact=True, left=True, earlier=True)]) == exact
