"""Sums, silences and percentiles."""

from __future__ import annotations

import pytest

from control.contract.call import Turn
from sidecar.turns.settings import TurnSettings
from sidecar.turns.spans import Span, bridge, gaps, without
from sidecar.turns.sums import percentiles, speech


def spans(*pairs: tuple[float, float]) -> list[Span]:
    return [Span(*pair) for pair in pairs]


def test_talk_overlap_and_silence_by_hand() -> None:
    seen = speech(spans((1000, 3000)), spans((2500, 5500)), [], 10_000, [], "webrtc3", TurnSettings())
    assert (seen.caller_ms, seen.agent_ms, seen.overlap_ms, seen.silence_ms) == (2000, 3000, 500, 5500)
    assert seen.talk_ratio == pytest.approx(0.6)
    assert seen.dead_air == 1  # 4,500 ms at the end; the first second is no dead air


def test_gaps_of_300_ms_are_part_of_a_spurt() -> None:
    seen = speech(spans((0, 1000), (1300, 2000), (2301, 3000)), [], [], 3000, [], "webrtc3", TurnSettings())
    assert (seen.caller_ms, seen.silence_ms) == (2699, 301)


def test_nothing_counts_on_hold() -> None:
    seen = speech(spans((0, 4000)), [], [], 20_000, spans((2000, 18_000)), "webrtc3", TurnSettings())
    assert (seen.caller_ms, seen.silence_ms, seen.dead_air) == (2000, 2000, 0)


def test_nobody_spoke() -> None:
    seen = speech([], [], [], 2000, [], "webrtc3", TurnSettings())
    assert (seen.talk_ratio, seen.silence_ms, seen.response_latency_ms.n) == (None, 2000, 0)


def test_percentiles_are_nearest_rank_with_n() -> None:
    seen = percentiles([float(v) for v in range(1, 21)], 20)
    assert (seen.n, seen.p50, seen.p90, seen.p95, seen.max) == (20, 10, 18, 19, 20)


def test_no_p95_under_twenty() -> None:
    assert percentiles([float(v) for v in range(19)], 20).p95 is None


def test_only_ordinary_responses_are_in_the_percentiles() -> None:
    def turn(kind: str, latency: float) -> Turn:
        return Turn(n=1, kind=kind, caller_start_ms=0, caller_end_ms=0, agent_start_ms=0, agent_end_ms=0, response_latency_ms=latency)  # type: ignore[arg-type]

    seen = speech([], [], [turn("response", 500), turn("overlap", -90), turn("agent_interruption", -900)], 1, [], "webrtc3", TurnSettings())
    assert (seen.response_latency_ms.n, seen.response_latency_ms.max) == (1, 500)


def test_spans_bridge_cut_and_leave_gaps() -> None:
    assert bridge(spans((0, 10), (15, 20), (18, 19), (30, 40)), 5) == spans((0, 20), (30, 40))
    assert without(spans((0, 100)), spans((10, 20), (90, 200))) == spans((0, 10), (20, 90))
    assert gaps(spans((10, 20), (30, 50)), 0, 60) == [10, 10, 10]
