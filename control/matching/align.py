"""Sets the agent's transcript beside the wire's turns: both tell the same speech, on time bases that differ by an unknown shift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from control.contract.call import Call

TOLERANCE_MS = 700.0
"""A segment belongs to a turn when, after the shift, they begin at most this far apart."""
SHIFT_RANGE_MS = 15_000.0
"""The agent's session begins at most this long before or after what the timestamps say."""
_STEP_MS = 50.0
_SAMPLE = 300
"""The shift is found from this many segments and turns: it is one number, and a report may hold 10 MiB of them."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """An agent segment: its index in the transcript, its start on the report's time base, and the latency that the agent claims (ms)."""

    index: int
    start_ms: float
    claimed_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A segment and the wire's response latency for it (ms)."""

    segment: Spoken
    wire_ms: float
    turn: int = 0
    """`n` of the turn."""
    start_ms: float = 0.0
    """Start of the agent's speech in it, call time."""


def pair(segments: Sequence[Spoken], call: Call, prior_ms: float = 0.0) -> list[Pair]:
    """The segments that answer a turn of kind `response`, with the wire's figure.

    `prior_ms`: call time minus report time as the timestamps have it. The shift that matches most segments wins, then the one with the
    smallest median distance, then the one nearest to the prior.
    """
    anchors = sorted(
        {turn.agent_start_ms for turn in call.turns} | ({call.timings_ms.greeting} if call.timings_ms.greeting is not None else set())
    )
    wire = {turn.agent_start_ms: turn for turn in call.turns if turn.kind == "response"}
    if not segments or not anchors:
        return []
    ordered = sorted(segments, key=lambda segment: segment.start_ms)
    starts = [segment.start_ms for segment in ordered]
    sample, marks = starts[:_SAMPLE], anchors[:_SAMPLE]
    best = min(_shifts(sample, marks, prior_ms), key=lambda shift: _badness(sample, marks, shift, prior_ms))
    return [
        Pair(ordered[index], turn.response_latency_ms, turn.n, anchor)
        for index, anchor in _assign(starts, anchors, best)
        if (turn := wire.get(anchor)) is not None
    ]


def _shifts(starts: Sequence[float], anchors: Sequence[float], prior: float) -> set[float]:
    exact = {prior} | {anchor - start for start in starts for anchor in anchors if abs(anchor - start - prior) <= SHIFT_RANGE_MS}
    if len(exact) <= 2 * SHIFT_RANGE_MS / _STEP_MS:
        return exact
    return {prior + round((shift - prior) / _STEP_MS) * _STEP_MS for shift in exact}


def _badness(starts: Sequence[float], anchors: Sequence[float], shift: float, prior: float) -> tuple[int, float, float]:
    matched = _assign(starts, anchors, shift)
    distance = median(abs(starts[index] + shift - anchor) for index, anchor in matched) if matched else 0.0
    return -len(matched), round(distance, 3), abs(shift - prior)


def _assign(starts: Sequence[float], anchors: Sequence[float], shift: float) -> list[tuple[int, float]]:
    """One-to-one pairs in time order, each the nearest that is still free; both inputs are sorted."""
    pairs: list[tuple[int, float]] = []
    at = 0
    for index, start in enumerate(starts):
        where = start + shift
        while at < len(anchors) and anchors[at] < where - TOLERANCE_MS:
            at += 1
        if at == len(anchors):
            break
        if abs(anchors[at] - where) <= TOLERANCE_MS:
            while at + 1 < len(anchors) and abs(anchors[at + 1] - where) < abs(anchors[at] - where):
                at += 1
            pairs.append((index, anchors[at]))
            at += 1
    return pairs
