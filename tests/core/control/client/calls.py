"""Call objects for tests of what a client makes of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from control.contract.call import BargeIn, Call, Media, Percentiles, Speech, Stream, Timings, Turn, Verdict

BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def turn(n: int, latency: float, **more: Any) -> Turn:
    """The n-th turn: the caller ends at n × 10 s."""
    end = n * 10_000
    return Turn(
        **{
            "n": n,
            "kind": "response",
            "caller_start_ms": end - 2000,
            "caller_end_ms": end,
            "agent_start_ms": end + latency,
            "agent_end_ms": end + latency + 3000,
            "response_latency_ms": latency,
            **more,
        }
    )


def call(call_id: str = "c1", *latencies: float, outcome: str = "linked", loss: float = 0.0, **more: Any) -> Call:
    """An answered simulation of a minute with these response latencies."""
    return Call(
        **{
            "id": call_id,
            "sip_call_id": f"SCL_{call_id}",
            "kind": "simulation",
            "route": "agent",
            "sidecar": "edge-1",
            "from_": "sip:caller@example",
            "to": "sip:agent@example",
            "started_at": BEGAN,
            "answered_at": BEGAN + timedelta(seconds=1),
            "ended_at": BEGAN + timedelta(seconds=61),
            "complete": True,
            "status": 200,
            "ended_by": "caller",
            "reason": "completed",
            "cause": "the caller hung up",
            "timings_ms": Timings(to_answer=1000.0, greeting=400.0),
            "turns": [turn(n, latency) for n, latency in enumerate(latencies, 1)],
            "speech": Speech(response_latency_ms=Percentiles(n=len(latencies), p50=max(latencies, default=None))),
            "media": Media(
                caller=Stream(codec="PCMU", packets=3000, loss_pct=loss, jitter_ms=1.5, mos_lq=4.4),
                agent=Stream(codec="PCMU", packets=3000, jitter_ms=2.5, mos_lq=4.3),
            ),
            "verdict": Verdict(outcome=outcome),
            **more,
        }
    )


def barge_in(latency: float | None) -> BargeIn:
    """One at 5 s."""
    return BargeIn(kind="barge_in", caller_start_ms=5000, agent_stop_ms=None if latency is None else 5000 + latency, latency_ms=latency)
