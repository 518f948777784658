"""The facts that a sidecar would send of a call, and the report that an agent would send of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

TOKEN = "5f0c1e2d3a4b59687766554433221100"


class Trace:
    """The facts of one call, numbered as they are made. Without `open` the call was answered, had two turns, and is complete."""

    def __init__(
        self,
        call: str,
        sip_call_id: str,
        *,
        kind: str = "simulation",
        token: str | None = TOKEN,
        started: datetime | None = None,
        **more: Any,
    ) -> None:
        self.call, self.sip_call_id = call, sip_call_id
        self.started = started or datetime.now(UTC) - timedelta(seconds=20)
        self.seq = 0
        first: dict[str, Any] = {
            "sidecar": "edge-1", "route": "agent", "platform": "generic", "call_kind": kind, "direction": "inbound",
            "sip_call_id": sip_call_id,
            "correlation_id": token, "from": "sip:+15550100@evaluator.example", "to": "sip:agent@edge.example", "source": "127.0.0.1:5080",
        }  # fmt: skip
        self.facts = [self.fact("call_started", 0, **(first | more))]

    def fact(self, kind: str, ms: float, **values: Any) -> dict[str, Any]:
        self.seq += 1
        at = (self.started + timedelta(milliseconds=ms)).isoformat()
        return {"kind": kind, "call": self.call, "seq": self.seq, "at": at, "elapsed_ms": ms, **values}

    def add(self, kind: str, ms: float, **values: Any) -> Trace:
        self.facts.append(self.fact(kind, ms, **values))
        return self

    def message(self, ms: float, leg: str, direction: str, text: str, **values: Any) -> Trace:
        return self.add(
            "sip_message",
            ms,
            leg=leg,
            direction=direction,
            transport="udp",
            local="127.0.0.1:5060",
            remote="127.0.0.1:5080",
            text=text,
            **values,
        )

    def answered(self, ms: float = 100.0) -> Trace:
        self.add("hop_seen", 1, hop="received", evidence="INVITE of the evaluator")
        self.add("leg_started", 2, call_id=self.sip_call_id, target="sip:agent@127.0.0.1:5070")
        self.add("hop_seen", 2, hop="carried", evidence="Call-ID kept on the B leg")
        return self.add("call_answered", ms)

    def ended(self, ms: float = 12_000.0, status: int = 200, close: bool = True) -> Trace:
        turns = [turn(1, 1000, 2000, 2600, 4000), turn(2, 5000, 6500, 7400, 9000)]
        speech = {"caller_ms": 2500, "agent_ms": 3000, "overlap_ms": 0, "silence_ms": 5000, "talk_ratio": 0.55}
        self.add(
            "call_ended",
            ms,
            status=status,
            ended_by="caller",
            reason="caller-bye",
            cause="the caller hung up",
            timings_ms={"to_answer": 100.0},
        )
        if status == 200:
            self.add("call_measured", ms + 50, turns=turns, barge_ins=[], speech=speech, media={}, greeting_ms=300.0)
        return self.add("call_closed", ms + 60) if close else self


def turn(n: int, caller_start: float, caller_end: float, agent_start: float, agent_end: float) -> dict[str, Any]:
    return {
        "n": n, "kind": "response", "caller_start_ms": caller_start, "caller_end_ms": caller_end, "agent_start_ms": agent_start,
        "agent_end_ms": agent_end, "response_latency_ms": agent_start - caller_end,
    }  # fmt: skip


def complete(call: str, sip_call_id: str, **more: Any) -> Trace:
    return Trace(call, sip_call_id, **more).answered().ended()


def report(call_id: str, trace: Trace | None = None, **more: Any) -> dict[str, Any]:
    """What an agent posts after the call that `trace` tells, without any identity."""
    started = int((trace.started if trace is not None else datetime.now(UTC) - timedelta(days=3)).timestamp())
    segments = [
        {"role": "agent", "text": "hello", "start_ms": 310, "end_ms": 900, "metadata": {}},
        {"role": "user", "text": "hi", "start_ms": 1010, "end_ms": 2000, "metadata": {}},
        {"role": "agent", "text": "how can I help", "start_ms": 2620, "end_ms": 4000, "metadata": {"e2e_latency": 410}},
        {"role": "user", "text": "a table", "start_ms": 5010, "end_ms": 6500, "metadata": {}},
        {"role": "agent", "text": "sure", "start_ms": 7410, "end_ms": 9000, "metadata": {"e2e_latency": 700.5}},
    ]
    return {
        "call_id": call_id, "call_type": "phone_call", "start_timestamp": started, "end_timestamp": started + 12,
        "recording_url": "pending", "transcript_with_tool_calls": segments,
        "general_meta_data_raw": {"ai_models": {"asr_model": "", "llm_model": "", "tts_model": ""}, "usage_token": {}}, **more,
    }  # fmt: skip
