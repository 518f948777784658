"""What truly happened in a call between two stand-ins, computed from what each one sent.

Spurts, utterances, turns and barge-ins are what the sidecar calls by these names; the computation shares no code with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sidecar.clocks import Mono

SPURT_GAP_S = 0.3
UTTERANCE_GAP_S = 0.5
OVERLAP_S = 0.2
"""An agent that stops within this time of the caller's start had been about to stop anyway."""
SILENT_S = 0.6

Speech = Sequence[tuple[Mono, Mono]]


@dataclass(frozen=True, slots=True)
class Truth:
    """Milliseconds. `turns` are (caller's end, agent's start) in milliseconds since the answer, in the order of `response_latency_ms`."""

    greeting_ms: float | None
    response_latency_ms: list[float] = field(default_factory=list)
    turns: list[tuple[float, float]] = field(default_factory=list)
    barge_in_ms: list[float] = field(default_factory=list)
    """Agent's stop minus caller's start."""

    def as_json(self) -> dict[str, object]:
        """The same under its public names."""
        return {
            "response_latency_ms": self.response_latency_ms,
            "greeting_ms": self.greeting_ms,
            "barge_in_ms": self.barge_in_ms,
        }


def join(speech: Speech, gap_s: float) -> list[tuple[Mono, Mono]]:
    """Stretches with gaps up to `gap_s` seconds bridged, in order."""
    joined: list[tuple[Mono, Mono]] = []
    for start, end in sorted(speech):
        if joined and start - joined[-1][1] <= gap_s:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def truth(answered: Mono, caller: Speech, agent: Speech) -> Truth:
    """Greeting, ordinary responses and barge-ins of a call that was answered at `answered`.

    A response is the first agent spurt after caller speech, so a pause in which the agent stays silent ends no turn.
    Agent spurts that begin over the caller are no ordinary response and are left out.
    """
    spoken, answers = join(caller, SPURT_GAP_S), join(agent, SPURT_GAP_S)
    turns = list(_transfers(spoken, answers))
    return Truth(
        greeting_ms=_ms(answers[0][0] - answered) if answers and (not spoken or answers[0][0] < spoken[0][0]) else None,
        response_latency_ms=[_ms(start - end) for end, start in turns],
        turns=[(_ms(end - answered), _ms(start - answered)) for end, start in turns],
        barge_in_ms=list(_barge_ins(join(caller, UTTERANCE_GAP_S), answers)),
    )


def _transfers(caller: Speech, agent: Speech) -> list[tuple[Mono, Mono]]:
    found = []
    previous_start = Mono(float("-inf"))
    for start, _ in agent:
        before = [(begun, ended) for begun, ended in caller if previous_start < ended and begun < start]
        if before and before[-1][1] <= start:
            found.append((before[-1][1], start))
        previous_start = start
    return found


def _barge_ins(caller: Speech, agent: Speech) -> list[float]:
    found = []
    for begun, ended in caller:
        for index, (start, stop) in enumerate(agent):
            resumed = agent[index + 1][0] if index + 1 < len(agent) else Mono(float("inf"))
            silent = resumed - stop >= SILENT_S or resumed >= ended
            if start < begun and begun + OVERLAP_S < stop <= ended and silent:
                found.append(_ms(stop - begun))
    return found


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
