"""What the demo prints, from a call object and a truth."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from control.contract.call import BargeIn, Call, Hop, Repair, Turn, Verdict
from sidecar.lab.demo import Result
from sidecar.lab.truth import Truth
from sidecar.lab.view import View

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)


def result() -> Result:
    """Two true turns of which one was found, a barge-in, a repaired link."""
    call = Call(
        id="a" * 32,
        sip_call_id="dialled-1",
        started_at=AT,
        turns=[
            Turn(
                n=1,
                kind="response",
                caller_start_ms=2000,
                caller_end_ms=3010,
                agent_start_ms=3632,
                agent_end_ms=5000,
                response_latency_ms=622,
            )
        ],
        barge_ins=[BargeIn(kind="barge_in", caller_start_ms=9000, agent_stop_ms=9310, latency_ms=310)],
        verdict=Verdict(
            outcome="repaired",
            hops=[Hop(hop="received", at=AT, evidence="INVITE with [brackets]")],
            repair=Repair(rule="platform_id", reported=None, confidence=0.95),
        ),
    )
    return Result(
        call=call.as_json(),
        ladder="call x\nfrom -> to\n\n  ms  caller\n 0.0  | INVITE ->|\n\nverdict repaired\n",
        truth=Truth(390.0, [620.0, 850.0], [(3000.0, 3620.0), (7000.0, 7850.0)], [300.0]),
        linked=True,
        received={
            "call_id": "call_1",
            "sip_call_id": "dialled-1",
            "transcript_with_tool_calls": [{"role": "agent", "metadata": {"e2e_latency": 370, "wire_response_latency": 622.0}}],
            "general_meta_data_raw": {"trunkside": {}},
        },
    )


def shown(capsys: pytest.CaptureFixture[str], found: Result) -> str:
    View().show(found)
    return capsys.readouterr().out


def row(text: str, name: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.strip().startswith(name))


def test_each_true_turn_has_its_measurement_and_the_agents_claim_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, result())
    assert row(text, "turn 1") == ["turn", "1", "620", "ms", "622", "ms", "+2.0", "ms", "20", "370", "ms"]
    assert row(text, "turn 2") == ["turn", "2", "850", "ms", "not", "found"]
    assert row(text, "greeting") == ["greeting", "390", "ms", "not", "found"]
    assert row(text, "barge-in") == ["barge-in", "300", "ms", "310", "ms", "+10.0", "ms"]


def test_ladder_identity_and_report_are_shown_plainly_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, result())
    assert "| INVITE ->|" in text
    assert "verdict repaired" not in text  # the ladder's foot says what follows below anyway
    assert "identity: repaired by platform_id, confidence 0.95" in text
    assert "✔ received  03:04:05.678  INVITE with [brackets]" in text
    assert "call_id call_1, sip_call_id dialled-1: linked to the call it dialled" in text
    assert "1 segments, 1 with wire_response_latency; the wire's figures inside" in text
    assert "✔ repaired and accepted" in text
    assert "\x1b" not in text


def test_nothing_received_and_not_linked_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    found = result()
    found.received, found.failure = None, "no report"
    text = shown(capsys, found)
    assert "the evaluator received\n  nothing" in text
    assert "accepted" not in text


def test_the_failure_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    View().fail(
        "credentials refused by 127.0.0.1:5070: realm [edge], and much more text that would not fit into eighty columns of a terminal"
    )
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert "realm [edge]" in output.err
