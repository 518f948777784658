"""The corpus: lines by group, and which voices talk over them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sidecar.speech.neural import Bench
from tests.accuracy import clips
from tests.accuracy.clips import Clip
from tests.accuracy.line import Call, Line, carried
from tests.accuracy.scene import Filling, Scene, scene
from tests.accuracy.score import Tally, measured, scored

Pair = tuple[list[Clip], list[Clip]]


GOOD_LINE = Line()


@dataclass(frozen=True)
class Case:
    """One kind of call."""

    group: str
    line: Line = GOOD_LINE
    filling: Filling = "nothing"


CASES = (
    Case("clean"),
    Case("clean", Line(codec="PCMA")),
    Case("SNR 30 dB", Line(snr_db=30)),
    Case("SNR 20 dB", Line(snr_db=20)),
    Case("SNR 10 dB", Line(snr_db=10)),
    Case("DTX", Line(dtx=True)),
    Case("DTX", Line(dtx=True, jitter_ms=30, loss=0.01)),
    Case("fillers", filling="typing"),
    Case("fillers", filling="beeps"),
    Case("fillers", filling="spoken"),
    Case("music", filling="music"),
    Case("echo", Line(echo_db=-20)),
    Case("echo", Line(echo_db=-28)),
    Case("loss 2–5 %", Line(loss=0.02)),
    Case("loss 2–5 %", Line(loss=0.05)),
    Case("jitter 40–60 ms", Line(jitter_ms=40)),
    Case("jitter 40–60 ms", Line(jitter_ms=60, loss=0.02)),
    Case("drift ±100 ppm", Line(drift_ppm=100)),
    Case("drift ±100 ppm", Line(drift_ppm=-100, jitter_ms=20)),
    Case("ptime 10–60 ms", Line(ptime_ms=10)),
    Case("ptime 10–60 ms", Line(ptime_ms=40)),
    Case("ptime 10–60 ms", Line(ptime_ms=60)),
    Case("G.722", Line(codec="G722")),
    Case("Opus", Line(codec="OPUS")),
    Case("Opus", Line(codec="OPUS", jitter_ms=40, loss=0.02)),
    Case("L16", Line(codec="L16/16000")),
    Case("L16", Line(codec="L16/44100")),
)


def voices() -> dict[str, list[Pair]]:
    """Pairs of caller and agent by the kind of their voices; only what this machine has."""
    made = clips.made()
    found = {"made": [(made[::2], made[1::2])]}
    shipped, espeak, flite = clips.shipped(), clips.espeak(), clips.flite()
    synthetic = [(a, b) for a, b in ((espeak, shipped), (flite, espeak)) if a and b]
    if synthetic:
        found["synthetic"] = synthetic
    people = clips.recorded()
    if len(people) > 1:
        found["recorded"] = [(speaker, people[(i + 1) % len(people)]) for i, speaker in enumerate(people)]
    return found


def calls(case: Case, pairs: list[Pair], count: int, seed: int, bench: Bench | None = None) -> Iterator[Tally]:
    """Score `count` calls of a case, by the default detector or with the neural one's bench."""
    for told, call in made(case, pairs, count, seed):
        yield scored(case.line.drifted(told), measured(call, told.seconds, bench))


def made(case: Case, pairs: list[Pair], count: int, seed: int, exchanges: int = 8) -> Iterator[tuple[Scene, Call]]:
    """`count` calls of a case: what is said, and its packets."""
    for i in range(count):
        caller, agent = pairs[(seed + i) % len(pairs)]
        told = scene(seed * 1000 + i, caller, agent, exchanges, case.filling)
        yield told, carried(told, case.line, seed + i)
