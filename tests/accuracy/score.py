"""Measured figures against the truth, by the definitions of the measurement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from control.contract.call import RelayDelay
from sidecar.clocks import Mono
from sidecar.speech.neural import Bench
from sidecar.turns.measured import Measured
from sidecar.turns.measurement import Measurement
from tests.accuracy.line import ANSWER, Call
from tests.accuracy.scene import Scene, Spans

_SAME_START_MS = 300.0
_SAME_END_MS = 600.0


@dataclass
class Tally:
    """Counts and errors (ms) over any number of calls."""

    found: int = 0
    true: int = 0
    told: int = 0
    errors: list[float] = field(default_factory=list)
    barge_found: int = 0
    barge_true: int = 0
    barge_told: int = 0
    barge_errors: list[float] = field(default_factory=list)
    greetings: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: Tally) -> None:
        """Count another's calls in."""
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def f1(self) -> float:
        return 2 * self.found / max(1, self.true + self.told)

    @property
    def barge_f1(self) -> float | None:
        return 2 * self.barge_found / (self.barge_true + self.barge_told) if self.barge_true else None

    @property
    def within_100(self) -> float:
        """Share of the true turns that were found with an error up to 100 ms."""
        return sum(error <= 100 for error in self.errors) / max(1, self.true)


def quantile(values: Sequence[float], share: float) -> float:
    """Of absolute errors; 0 of none."""
    return float(np.quantile(np.abs(values), share)) if len(values) else 0.0


def measured(call: Call, seconds: float, bench: Bench | None = None) -> Measured:
    """The figures of one call, offline, by the default detector or with the neural one's bench."""
    measurement = Measurement(bench=bench)
    measurement.negotiated("A", call.codecs)
    measurement.negotiated("B", call.codecs)
    measurement.answered(Mono(ANSWER - 0.001))
    measurement.packets(call.packets)
    return measurement.finish(Mono(ANSWER + seconds), tap_dropped=0, refused=0, relay_delay=RelayDelay())


def scored(scene: Scene, result: Measured) -> Tally:
    """One call's tally. A turn is found where both its edges are near; only responses and overlapped starts pass the floor."""
    tally = Tally(seconds=scene.seconds, true=len(scene.exchanges))
    told = [t for t in result.turns if t.kind != "agent_interruption"]
    tally.told = len(told)
    for exchange in scene.exchanges:
        near = [
            t
            for t in told
            if abs(t.agent_start_ms - exchange.agent_start) <= _SAME_START_MS and abs(t.caller_end_ms - exchange.caller_end) <= _SAME_END_MS
        ]
        if near:
            told.remove(near[0])
            tally.found += 1
            tally.errors.append(abs(near[0].response_latency_ms - exchange.latency))
    barges = [b for b in result.barge_ins if b.kind in ("barge_in", "slow")]
    tally.barge_true, tally.barge_told = len(scene.barge_ins), len(barges)
    for began, stop in scene.barge_ins:
        close = [b for b in barges if abs(b.caller_start_ms - began) <= _SAME_END_MS]
        if close and close[0].latency_ms is not None:
            barges.remove(close[0])
            tally.barge_found += 1
            tally.barge_errors.append(abs(close[0].latency_ms - (stop - began)))
    if result.greeting_ms is not None:
        tally.greetings.append(abs(result.greeting_ms - scene.greeting))
    caller, agent = _talk(scene.caller.spans), _talk(scene.agent.spans)
    tally.ratios.append(abs((result.speech.talk_ratio or 0.0) - agent / (agent + caller)))
    return tally


def _talk(spans: Spans) -> float:
    """Sum of the spurts, gaps up to 300 ms bridged."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += end - (start if start - until > 300 else until) if end > until else 0.0
        until = max(until, end)
    return total


def pooled(tallies: Iterable[Tally]) -> Tally:
    """All of them as one."""
    whole = Tally()
    for tally in tallies:
        whole.add(tally)
    return whole
