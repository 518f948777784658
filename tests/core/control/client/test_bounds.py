"""What a pipeline asserts of calls."""

from __future__ import annotations

from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import pytest

from control.client import junit
from control.client.bounds import Bounds, Check, check, settled
from control.contract.call import Call, Repair, Verdict
from tests.core.control.client.calls import barge_in, call


def breaches(calls: list[Call], bounds: Bounds) -> list[str]:
    return [line for each in check(calls, bounds) for line in each.breaches]


def test_a_latency_bound_holds_over_the_turns_of_all_calls_together() -> None:
    calls = [call("c1", *[500.0] * 9), call("c2", 900.0)]
    assert breaches(calls, Bounds(response={"p90": 500})) == []  # the tenth of ten turns may be slower
    assert breaches(calls, Bounds(response={"max": 500})) == ["max response 900 ms (n 10) is over 500 ms"]
    assert breaches(calls, Bounds(response={"p50": 499.5})) == ["p50 response 500 ms (n 10) is over 499.5 ms"]


def test_what_was_not_measured_is_a_breach_and_never_green() -> None:
    assert breaches([call("c1")], Bounds(response={"p90": 800})) == ["p90 response: nothing was measured"]
    assert breaches([call("c1", 500.0)], Bounds(response={"p95": 800})) == ["p95 response: needs 20 turns, there are 1"]
    assert breaches([], Bounds()) == ["0 calls, at least 1 expected"]
    assert breaches([], Bounds(min_calls=0, max_loss=1)) == ["loss: nothing was measured"]


def test_overlaps_and_interruptions_count_in_no_latency_bound() -> None:
    odd = call("c1", 500.0)
    odd.turns.append(odd.turns[0].model_copy(update={"n": 2, "kind": "agent_interruption", "response_latency_ms": 9000.0}))
    assert breaches([odd], Bounds(response={"max": 500})) == []


def test_media_bounds_hold_for_each_direction_of_each_call() -> None:
    calls = [call("c1", loss=0.5), call("c2", loss=2.25)]
    assert breaches(calls, Bounds(max_loss=1)) == ["call c2: loss of the caller 2.25 % is over 1 %"]
    assert breaches(calls, Bounds(max_jitter=2)) == [f"call c{n}: jitter of the agent 2.50 ms is over 2 ms" for n in (1, 2)]
    assert breaches(calls, Bounds(min_mos=4.35)) == [f"call c{n}: MOS of the agent 4.30 is under 4.35" for n in (1, 2)]
    assert breaches(calls, Bounds(max_loss=2.25, max_jitter=2.5, min_mos=4.3)) == []


def test_every_simulation_that_owes_a_report_must_be_linked() -> None:
    calls = [
        call("c1"),
        call("c2", outcome="missing"),
        call("c3", outcome="pending"),
        call("c4", kind="production", outcome="not_applicable"),
    ]
    assert breaches(calls, Bounds(all_linked=True)) == [
        "call c2: missing",
        "call c3: pending: its report has not come yet; give --wait SECONDS",
    ]
    assert breaches(calls[3:], Bounds(all_linked=True)) == ["no simulation that owes a report is among the calls"]


def test_a_repair_is_a_link_unless_repairs_are_refused() -> None:
    repaired = call("c1", verdict=Verdict(outcome="repaired", repair=Repair(rule="correlation_id", reported=None, confidence=0.9)))
    assert breaches([repaired], Bounds(all_linked=True)) == []
    assert breaches([repaired], Bounds(no_repairs=True)) == ["call c1: repaired by correlation_id"]


def test_failed_calls_are_named_once_there_are_too_many() -> None:
    calls = [
        call("c1"),
        call("c2", status=486, cause="the agent's edge is busy"),
        call("c3", status=None, ended_at=None, cause=None, reason=None),
    ]
    assert breaches(calls, Bounds(max_failed=2)) == []
    assert breaches(calls, Bounds(max_failed=1)) == [
        "call c2: not answered: the agent's edge is busy",
        "call c3: not answered: not over yet",
    ]


def test_greetings_and_barge_ins_have_bounds_of_their_own() -> None:
    calls = [call("c1", barge_ins=[barge_in(300), barge_in(None)])]
    assert breaches(calls, Bounds(p90_greeting=399, p90_barge_in=300)) == ["p90 greeting 400 ms (n 1) is over 399 ms"]
    assert breaches(calls, Bounds(p90_barge_in=299)) == ["p90 barge-in 300 ms (n 1) is over 299 ms"]


@pytest.mark.parametrize(("changes", "expected"), [({}, True), ({"complete": False}, False), ({"outcome": "pending"}, False)])
def test_a_call_is_settled_once_its_figures_and_its_verdict_are_final(changes: dict[str, object], expected: bool) -> None:
    assert settled(call("c1", **changes)) is expected  # type: ignore[arg-type]


def test_junit_has_a_case_for_each_check_and_a_failure_with_every_breach() -> None:
    checks = [Check("calls", "2 calls"), Check("linked", "0 of 2", ("call c1: missing", "call \x00<c2>: missing"))]
    root = ET.fromstring(junit.document(checks, datetime(2026, 3, 1, tzinfo=UTC), 0.25))
    assert root.tag == "testsuites"
    suite = root[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("timestamp")) == ("2", "1", "2026-03-01T00:00:00+00:00")
    assert [(case.get("name"), [child.tag for child in case]) for case in suite] == [
        ("calls", ["system-out"]),
        ("linked", ["failure", "system-out"]),
    ]
    failure = suite[1][0]
    assert failure.get("message") == "call c1: missing"
    assert failure.text == "call c1: missing\ncall  <c2>: missing"
