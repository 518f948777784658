"""The goals of both detectors, and the tables that hold the figures against them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tests.accuracy.score import Tally, pooled, quantile


@dataclass(frozen=True)
class Goal:
    """At least `f1`; at most `median` and `p90` (ms) of the latency's error. None: no goal."""

    f1: float | None = None
    median: float | None = None
    p90: float | None = None


Detector = Literal["default", "accurate"]
GOALS: dict[Detector, dict[str, Goal]] = {
    "default": {
        "all": Goal(0.92, 20, 120),
        "clean": Goal(1.0, 10, 30),
        "SNR 30 dB": Goal(0.97, 15, 70),
        "SNR 10 dB": Goal(0.60),
        "fillers": Goal(0.80),
    },
    "accurate": {
        "all": Goal(0.95, 20, 120),
        "clean": Goal(1.0, 10, 30),
        "SNR 30 dB": Goal(0.97, 15, 70),
        "SNR 10 dB": Goal(0.85),
        "fillers": Goal(0.93),
    },
}
BARGE_F1: dict[Detector, float] = {"default": 0.85, "accurate": 0.88}
BARGE_MEDIAN_MS = 15.0
GREETING_MEDIAN_MS, RATIO = 10.0, 0.03
_HEAD = (
    "| group | voices | turns | F1 | within 100 ms | median ms | p90 ms | barge-ins F1 | median ms | greeting ms | talk ratio | goal | |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|\n"
)


def misses(group: str, tally: Tally, detector: Detector = "default") -> list[str]:
    """The goals of a group that its figures miss. Those without a group of their own are held over everything."""
    goal = GOALS[detector].get(group, Goal())
    wanted = [
        ("F1", goal.f1 is not None and tally.f1 < goal.f1),
        ("median", goal.median is not None and quantile(tally.errors, 0.5) > goal.median),
        ("p90", goal.p90 is not None and quantile(tally.errors, 0.9) > goal.p90),
    ]
    if group == "all":
        wanted += [
            ("barge-in F1", (tally.barge_f1 or 0.0) < BARGE_F1[detector]),
            ("barge-in median", quantile(tally.barge_errors, 0.5) > BARGE_MEDIAN_MS),
            ("greeting", not tally.greetings or quantile(tally.greetings, 0.5) > GREETING_MEDIAN_MS),
            ("talk ratio", not tally.ratios or quantile(tally.ratios, 0.5) > RATIO),
        ]
    return [name for name, missed in wanted if missed]


def table(tallies: Mapping[tuple[str, str], Tally], detector: Detector) -> tuple[str, bool]:
    """Markdown, and whether every goal is reached by the pool of all voices and, for clean lines, by each kind of voice."""
    lines, passed = [], True
    groups = list(dict.fromkeys(group for group, _ in tallies))
    for group in ["all", *groups]:
        of_group = {kind: t for (g, kind), t in tallies.items() if group in ("all", g)}
        pool = pooled(t for (g, _), t in tallies.items() if group in ("all", g))
        missed = misses(group, pool, detector)
        passed &= not missed
        lines.append(_row(group, "all", pool, missed, GOALS[detector].get(group)))
        if group != "all" and len(of_group) > 1:
            for kind, tally in of_group.items():
                missed = misses(group, tally, detector)
                passed &= not missed
                lines.append(_row("", kind, tally, missed, None))
    return _HEAD + "".join(lines), passed


def _row(group: str, kind: str, tally: Tally, missed: list[str], goal: Goal | None) -> str:
    told = " ".join(
        f"{text} {value:g}"
        for text, value in (
            ("≥", goal.f1), ("≤", goal.median), ("≤", goal.p90),
        ) if value is not None
    ) if goal else ""  # fmt: skip
    verdict = "misses " + ", ".join(missed) if missed else "reached" if goal else ""
    barge = "" if tally.barge_f1 is None else f"{tally.barge_f1:.2f}"
    return (
        f"| {group} | {kind} | {tally.true} | {tally.f1:.3f} | {tally.within_100:.2f} | {quantile(tally.errors, 0.5):.1f} | "
        f"{quantile(tally.errors, 0.9):.0f} | {barge} | {quantile(tally.barge_errors, 0.5):.1f} | "
        f"{quantile(tally.greetings, 0.5):.1f} | {quantile(tally.ratios, 0.5):.3f} | {told} | {verdict} |\n"
    )
