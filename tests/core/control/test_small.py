"""Backoff, redaction, wire-only reports, percentiles."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from control.contract.call import Call, Percentiles, Turn
from control.contract.facts import FACT, CallStarted
from control.contract.fold import correlation_hash, fold
from control.contract.redact import redact_correlation, token_of
from control.delivery.destination import backoff_s
from control.matching.wireonly import wire_only_report
from tests.core.control.traces import TOKEN, complete

STARTED = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_backoff_doubles_to_five_minutes_and_jitter_only_shortens() -> None:
    assert [backoff_s(n, 0.0) for n in (1, 2, 3, 9, 10, 1000)] == [1, 2, 4, 256, 300, 300]
    assert backoff_s(10, 1.0) == 150


def test_every_correlation_header_is_hashed_and_nothing_else() -> None:
    text = "INVITE sip:a@b SIP/2.0\r\nX-Correlation-Id:  t0k \r\nX-Other: t0k\r\nx-correlation-id: t2\r\n\r\nbody"
    assert redact_correlation(text) == text.replace("Id:  t0k ", f"Id:  sha256:{correlation_hash('t0k')} ").replace(
        ": t2", f": sha256:{correlation_hash('t2')}"
    )


@pytest.mark.parametrize(
    "header",
    [
        "X-Correlation-Id:\r\n {}",
        "X-Correlation-Id: \r\n\t {}",
        "X-PH-Correlationid: {}",
        "x-my-correlation-id : {}",
        "Refer-To: <sip:a@b?X-Correlation-Id={}&Replaces=x>",
        "CorrelationID:{}",
    ],
)
def test_folded_and_renamed_correlation_headers_are_hashed_too(header: str) -> None:
    text = f"INVITE sip:a@b SIP/2.0\r\n{header.format(TOKEN)}\r\nX-Other: kept\r\n\r\n"
    assert redact_correlation(text) == text.replace(TOKEN, f"sha256:{correlation_hash(TOKEN)}")


def test_a_value_that_goes_on_over_several_lines_leaves_nothing_behind() -> None:
    text = "INVITE sip:a@b SIP/2.0\r\nX-Correlation-Id: first\r\n second\r\n\tthird \r\nX-Other: kept\r\n\r\n"
    shown = redact_correlation(text)
    assert shown == f"INVITE sip:a@b SIP/2.0\r\nX-Correlation-Id: sha256:{correlation_hash('first second third')} \r\nX-Other: kept\r\n\r\n"


def test_the_calls_own_token_is_hashed_wherever_it_stands_and_in_every_form() -> None:
    hexed = TOKEN.encode().hex()
    text = f"INVITE sip:a@b;t={TOKEN} SIP/2.0\r\nX-Plain: {TOKEN}\r\nX-Hexed: {hexed.upper()}\r\nX-Correlation-Id: {TOKEN}\r\n\r\n"
    shown = redact_correlation(text, TOKEN)
    assert TOKEN not in shown
    assert hexed not in shown.lower()
    assert shown.count(f"sha256:{correlation_hash(TOKEN)}") == 4
    assert redact_correlation("Subject: table\r\n", "table") == "Subject: table\r\n"  # what is short may be any word


def test_a_token_that_is_the_call_id_is_no_secret() -> None:
    first = {
        "call": "c1",
        "seq": 1,
        "at": STARTED,
        "elapsed_ms": 0,
        "sidecar": "e",
        "route": "r",
        "platform": "p",
        "call_kind": "simulation",
    }
    first |= {"direction": "inbound", "from": "a", "to": "b", "source": "s", "sip_call_id": "SCL_abc"}
    assert token_of([CallStarted(**first, correlation_id=TOKEN)]) == TOKEN
    assert token_of([CallStarted(**first, correlation_id="SCL_abc")]) is None
    assert token_of([]) is None


def test_wire_only_report_meets_the_schema_even_for_a_silent_call() -> None:
    call = Call(id="c1", sip_call_id="SCL_abc", started_at=STARTED, answered_at=STARTED, ended_at=STARTED + timedelta(seconds=9))
    report = json.loads(wire_only_report(call, None))
    assert len(report["transcript_with_tool_calls"]) == 1
    assert "sip_headers" not in report
    assert (report["end_timestamp"] - report["start_timestamp"], report["duration_ms"]) == (9000, 9000)


def test_wire_only_segments_never_begin_before_the_call_or_end_before_they_begin() -> None:
    turn = Turn(n=1, kind="overlap", caller_start_ms=-40.4, caller_end_ms=-1, agent_start_ms=-2, agent_end_ms=3.6, response_latency_ms=-1)
    call = Call(
        id="c1", sip_call_id="SCL_abc", started_at=STARTED, answered_at=STARTED, turns=[turn], direction="outbound", recipient="sip:sim-1@h"
    )
    report = json.loads(wire_only_report(call, "t"))
    assert [(segment["start_ms"], segment["end_ms"]) for segment in report["transcript_with_tool_calls"]] == [(0, 0), (0, 4)]
    assert "wire_response_latency" not in report["transcript_with_tool_calls"][1]["metadata"]
    assert (report["recipient"], report.get("sip_call_id")) == ("sip:sim-1@h", None)


def test_percentiles_are_nearest_rank() -> None:
    assert Percentiles.of([]).model_dump() == {"n": 0, "p50": None, "p90": None, "p95": None, "max": None}
    assert Percentiles.of(range(1, 101)).model_dump() == {"n": 100, "p50": 50, "p90": 90, "p95": 95, "max": 100}


def _told(offset_ms: float, uncertainty_ms: float) -> Call:
    trace = complete("c1", "SCL_abc", started=STARTED, clock={"offset_ms": offset_ms, "uncertainty_ms": uncertainty_ms})
    trace.facts.insert(1, trace.fact("hop_seen", 1, hop="received", evidence="INVITE"))
    call = fold(FACT.validate_python(fact) for fact in trace.facts)
    assert call is not None
    return call


def test_a_call_is_told_on_controls_clock_with_the_offset_beside_it() -> None:
    plain, shifted = _told(0.0, 0.5), _told(-90_000.0, 2.0)
    assert shifted.clock is not None
    assert (shifted.clock.offset_ms, shifted.clock.uncertainty_ms, shifted.clock.shifted) == (-90_000.0, 2.0, True)
    for name in ("started_at", "answered_at", "ended_at"):
        assert getattr(plain, name) - getattr(shifted, name) == timedelta(seconds=90), name
    assert plain.verdict.hops[0].at - shifted.verdict.hops[0].at == timedelta(seconds=90)
    same = {"started_at", "answered_at", "ended_at", "verdict", "clock"}
    assert plain.model_dump(exclude=same) == shifted.model_dump(exclude=same)  # durations and call time are no clock's


def test_an_offset_within_its_uncertainty_moves_nothing() -> None:
    call = _told(1.9, 2.0)
    assert call.clock is not None
    assert (call.started_at, call.clock.shifted) == (STARTED, False)
    for nonsense in (3.4e38, -1e300, float("nan"), float("inf")):
        assert _told(nonsense, 1.0).started_at == STARTED
    trace = complete("c1", "SCL_abc", started=STARTED)
    unmeasured = fold(FACT.validate_python(fact) for fact in trace.facts)
    assert unmeasured is not None
    assert (unmeasured.started_at, unmeasured.clock) == (STARTED, None)
