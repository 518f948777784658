"""A Create Call that control writes itself, for a simulation whose agent reports nothing.

How a later report of the agent is reconciled. The evaluator keys calls by `call_id` and offers no way to add to one, so a second
Create Call would file the same simulation twice. Therefore:
- the agent's report arrives while ours was not tried yet: ours is withdrawn (`superseded`) and the agent's goes;
- it arrives later: it is stored, matched and shown beside the wire's figures, the verdict counts it, but it is not sent (`superseded`);
  `POST /v1/deliveries/{id}/retry` sends it nevertheless, if an operator wants the evaluator to have both.
"""

from __future__ import annotations

import json
from datetime import datetime

from control.contract.call import Call, EndedBy

_REASONS: dict[EndedBy | None, str] = {"caller": "user_hangup", "agent": "agent_hangup", "sidecar": "error", None: "unknown"}


def provider_call_id(call: Call) -> str:
    """The `call_id` of the wire-only report: the same for every attempt."""
    return f"trunkside-{call.id}"


def wire_only_report(call: Call, correlation_id: str | None) -> bytes:
    """The Create Call body: turns without words, the link, no recording. Times are relative to the answer."""
    started = call.answered_at or call.started_at
    ended = max(call.ended_at or started, started)
    report: dict[str, object] = {
        "call_id": provider_call_id(call),
        "call_type": "sip_call",
        "transcript_with_tool_calls": _segments(call),
        "start_timestamp": _ms(started),
        "end_timestamp": _ms(ended),
        "duration_ms": _ms(ended) - _ms(started),
        "recording_url": "trunkside://no-recording",
        "call_status": "error" if call.ended_by == "sidecar" else "call_ended",
        "disconnection_reason": _REASONS[call.ended_by],
        "general_meta_data_raw": {
            "ai_models": {"asr_model": "", "llm_model": "", "tts_model": ""},
            "usage_token": {},
            "reported_by": "trunkside",
        },
    }
    if call.direction == "outbound" and call.recipient is not None:
        report["recipient"] = call.recipient
    else:
        report["sip_call_id"] = call.sip_call_id
    if correlation_id:
        report["sip_headers"] = {"X-Correlation-Id": correlation_id}
    return json.dumps(report).encode("utf-8")


def _segments(call: Call) -> list[dict[str, object]]:
    segments: list[dict[str, object]] = []
    for turn in call.turns:
        segments.append({"role": "user", "text": "", **_span(turn.caller_start_ms, turn.caller_end_ms), "metadata": {}})
        figures: dict[str, object] = {"interrupted": turn.interrupted}
        if turn.kind == "response":
            figures["wire_response_latency"] = round(turn.response_latency_ms, 3)
        segments.append({"role": "agent", "text": "", **_span(turn.agent_start_ms, turn.agent_end_ms), "metadata": figures})
    if not segments:  # the schema asks for one segment at least, and inventing speech would be a lie
        node = {"from": "call", "to": "end", "reason": "no turn was heard on the wire"}
        segments.append({"role": "node_transition", "text": "", "start_ms": 0, "end_ms": 0, "node": node})
    return segments


def _span(start: float, end: float) -> dict[str, int]:
    first = max(0, round(start))
    return {"start_ms": first, "end_ms": max(first, round(end))}


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
