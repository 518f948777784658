"""Sets an agent's own spans beside the wire's turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from control.contract.call import Turn

Value = str | int | float | bool | list[Any] | None


@dataclass(frozen=True, slots=True)
class AgentSpan:
    """One span, its ids in lower-case hex, its times in microseconds since the epoch on the agent's own clock."""

    provider_call_id: str
    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    service: str | None
    start_us: int
    end_us: int
    status: str
    attributes: Mapping[str, Value]


def turn_of(start_ms: float, end_ms: float, turns: Sequence[Turn]) -> int | None:
    """The number of the turn during which most of a span went by, None when it touches none. Times are call time.

    A turn lasts from the beginning of the caller's speech to the end of the agent's: what the agent computes for its answer lies within.
    """
    best: tuple[float, int] | None = None
    for turn in turns:
        shared = min(end_ms, turn.agent_end_ms) - max(start_ms, turn.caller_start_ms)
        if shared >= 0 and (best is None or shared > best[0]):
            best = (shared, turn.n)
    return best[1] if best is not None else None
