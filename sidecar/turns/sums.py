"""Sums and percentiles over a call."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from control.contract.call import Percentiles, Speech, Turn
from sidecar.turns.settings import TurnSettings
from sidecar.turns.spans import Span, bridge, gaps, total, union, without


def percentiles(values: Sequence[float], floor: int) -> Percentiles:
    """Nearest-rank percentiles with their n; no p95 under `floor` values."""
    ordered = sorted(values)
    n = len(ordered)
    if n == 0:
        return Percentiles()

    def at(share: float) -> float:
        return ordered[max(0, ceil(share * n) - 1)]

    return Percentiles(n=n, p50=at(0.5), p90=at(0.9), p95=at(0.95) if n >= floor else None, max=ordered[-1])


def speech(
    caller: Sequence[Span],
    agent: Sequence[Span],
    turns: Sequence[Turn],
    duration: float,
    holds: Sequence[Span],
    detector: str,
    settings: TurnSettings,
) -> Speech:
    """Talk, overlap and silence over `duration` ms of an answered call, less the time on hold; percentiles of ordinary responses only."""
    spoken_caller = without(bridge(caller, settings.spurt_gap_ms), holds)
    spoken_agent = without(bridge(agent, settings.spurt_gap_ms), holds)
    either = union(spoken_caller, spoken_agent)
    caller_ms, agent_ms, either_ms = total(spoken_caller), total(spoken_agent), total(either)
    pauses = gaps(union(either, holds), 0.0, duration)
    return Speech(
        caller_ms=round(caller_ms, 1),
        agent_ms=round(agent_ms, 1),
        overlap_ms=round(caller_ms + agent_ms - either_ms, 1),
        silence_ms=round(sum(pauses), 1),
        talk_ratio=round(agent_ms / (agent_ms + caller_ms), 4) if agent_ms + caller_ms > 0 else None,
        dead_air=sum(pause > settings.dead_air_ms for pause in pauses),
        detector=detector,
        response_latency_ms=percentiles([t.response_latency_ms for t in turns if t.kind == "response"], settings.percentile_floor),
    )
