"""A fixed part of the corpus, the same on every machine, held against the goals of the measurement."""

from __future__ import annotations

from functools import cache

import pytest

from sidecar.analysis.silero import Silero
from sidecar.speech.neural import Bench
from tests.accuracy import clips
from tests.accuracy.goals import misses
from tests.accuracy.groups import Case, Pair, calls
from tests.accuracy.line import Line
from tests.accuracy.score import pooled, quantile


@cache
def pairs() -> tuple[Pair, ...]:
    made, shipped = clips.made(), clips.shipped()
    return (made[::2], made[1::2]), (shipped, made)


@pytest.mark.parametrize(
    "case",
    [
        Case("clean"),
        Case("clean", Line(codec="PCMA")),
        Case("SNR 30 dB", Line(snr_db=30)),
        Case("SNR 10 dB", Line(snr_db=10)),
        Case("fillers", filling="typing"),
        Case("fillers", filling="spoken"),
    ],
    ids=lambda case: f"{case.group} {case.line.codec} {case.filling}",
)
def test_a_group_reaches_its_goals(case: Case) -> None:
    assert misses(case.group, pooled(calls(case, list(pairs()), 2, 41))) == []


@pytest.mark.parametrize(
    "line",
    [
        Line(dtx=True, jitter_ms=30),
        Line(loss=0.02, jitter_ms=40),
        Line(drift_ppm=100, ptime_ms=10),
        Line(ptime_ms=60),
    ],
    ids=["DTX", "loss and jitter", "drift", "ptime 60"],
)
def test_a_bad_line_stays_within_the_goals_of_the_whole(line: Line) -> None:
    assert misses("all", pooled(calls(Case("bad", line), list(pairs()), 3, 51))) == []


def test_echo_is_no_speech_of_the_caller() -> None:
    tally = pooled(calls(Case("echo", Line(echo_db=-20)), list(pairs()), 3, 51))
    assert [name for name in misses("all", tally) if not name.startswith("barge-in")] == []


def test_the_score_sees_a_shifted_truth() -> None:
    """A corpus whose labels are off by 60 ms cannot pass for a clean line."""
    tally = pooled(calls(Case("clean"), list(pairs()), 1, 61))
    tally.errors = [error + 60 for error in tally.errors]
    assert misses("clean", tally) == ["median", "p90"]
    assert quantile(tally.errors, 0.5) > 60


@cache
def network() -> Bench:
    return Bench(Silero())


@pytest.mark.parametrize(
    "case",
    [Case("clean"), Case("SNR 10 dB", Line(snr_db=10)), Case("fillers", filling="typing"), Case("fillers", filling="music")],
    ids=lambda case: f"{case.group} {case.filling}",
)
def test_a_group_reaches_its_goals_with_the_neural_detector(case: Case) -> None:
    """Only with voices that a speech synthesiser made: the network knows speech, and doubts what arithmetic says."""
    shipped = clips.shipped()
    assert misses(case.group, pooled(calls(case, [(shipped, shipped)], 2, 41, network())), "accurate") == []
