"""What becomes of a caller utterance that begins while the agent speaks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from control.contract.call import BargeIn, BargeInKind
from sidecar.turns.settings import TurnSettings
from sidecar.turns.spans import Span


@dataclass(frozen=True, slots=True)
class Overlapped:
    """A caller utterance over agent speech. `floor_at` is when the caller had the floor, None where the agent kept it."""

    kind: BargeInKind
    utterance: Span
    agent_stop: float
    floor_at: float | None

    def model(self) -> BargeIn:
        """As the call object shows it. A failed interruption has no stop and no latency; a backchannel wanted none."""
        stopped = self.kind in ("barge_in", "slow", "terminal_overlap")
        return BargeIn(
            kind=self.kind,
            caller_start_ms=round(self.utterance.start, 1),
            agent_stop_ms=round(self.agent_stop, 1) if stopped else None,
            latency_ms=round(self.agent_stop - self.utterance.start, 1) if stopped else None,
        )


def overlapped(utterance: Span, agent: Sequence[Span], settings: TurnSettings) -> Overlapped | None:
    """Judge one caller utterance against the agent's spurts (in order); None where it began in agent silence."""
    index = bisect_right(agent, utterance.start, key=lambda s: s.start) - 1
    if index < 0 or agent[index].end <= utterance.start or agent[index].start == utterance.start:
        return None
    # A pause of the agent that is neither long nor lasts until the caller ends is no stop: the agent goes on.
    while index + 1 < len(agent) and agent[index + 1].start < min(agent[index].end + settings.agent_silent_ms, utterance.end):
        index += 1
    stop = agent[index].end
    kind = _kind(utterance, stop, settings)
    return Overlapped(kind, utterance, stop, None if kind in ("backchannel", "failed") else stop)


def _kind(utterance: Span, stop: float, settings: TurnSettings) -> BargeInKind:
    if stop - utterance.start <= settings.terminal_overlap_ms:
        return "terminal_overlap"
    if stop < utterance.end:
        return "barge_in"
    if utterance.duration <= settings.short_ms:
        return "backchannel"
    return "slow" if stop - utterance.end <= settings.slow_ms else "failed"
