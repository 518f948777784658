"""The floor passing from caller to agent: a pure fold over the speech of both, in call time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import hypot
from typing import NamedTuple

from control.contract.call import Turn, TurnKind
from sidecar.turns.barge import Overlapped, overlapped
from sidecar.turns.settings import TurnSettings
from sidecar.turns.spans import Span, bridge

FirstSound = Callable[[float, float], float | None]
"""Call time of the agent's first sound in a stretch of call time."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What the fold gives: turns in order and every caller utterance that began over agent speech."""

    turns: list[Turn]
    overlaps: list[Overlapped]


class _Turn(NamedTuple):
    kind: TurnKind
    caller: Span
    agent: Span


def fold(
    caller: Sequence[Span],
    agent: Sequence[Span],
    settings: TurnSettings,
    *,
    resets: Sequence[float] = (),
    first_sound: FirstSound = lambda start, end: None,
    n: int = 1,
) -> Conversation:
    """Turns and overlaps of a call, or of a part of it that begins between two turns.

    `caller` and `agent` are speech segments in order. `resets` are the times at which a hold ended: who had the floor before is forgotten.
    `n` numbers the first turn.
    """
    spurts = bridge(caller, settings.spurt_gap_ms)
    utterances = bridge(caller, settings.utterance_gap_ms)
    voiced = [s for s in bridge(agent, settings.spurt_gap_ms) if not _agent_backchannel(s, spurts, settings)]
    floor = _Floor(utterances, voiced, settings, list(resets))
    turns = [_model(turn, n + i, floor.overlaps, first_sound, settings) for i, turn in enumerate(floor.turns())]
    return Conversation(turns, [o for o in floor.overlaps if o.utterance not in floor.resumed])


def _agent_backchannel(spurt: Span, caller: Sequence[Span], settings: TurnSettings) -> bool:
    """A short agent spurt wholly inside one caller spurt."""
    if spurt.duration > settings.short_ms:
        return False
    index = bisect_right(caller, spurt.start, key=lambda s: s.start) - 1
    return index >= 0 and spurt.end <= caller[index].end


class _Floor:
    def __init__(self, utterances: list[Span], agent: list[Span], settings: TurnSettings, resets: list[float]) -> None:
        self._utterances = utterances
        self._agent = agent
        self._settings = settings
        self._resets = resets
        judged = [overlapped(u, agent, settings) for u in utterances]
        self.overlaps = [o for o in judged if o is not None]
        # When each utterance had the floor: at its start, where the agent was silent; None where it never did.
        self._floor_at = [u.start if o is None else o.floor_at for u, o in zip(utterances, judged, strict=True)]
        self.resumed: list[Span] = []
        """Utterances that only went on after a pause in which the agent had begun."""

    def turns(self) -> list[_Turn]:
        turns: list[_Turn] = []
        waiting: list[int] = []  # utterances that held the floor and have not been answered
        following = 0
        for index, spurt in enumerate(self._agent):
            while following < len(self._utterances) and self._utterances[following].start < spurt.start:
                if self._floor_at[following] is not None:
                    waiting.append(following)
                following += 1
            waiting = [w for w in waiting if not self._forgotten(w, spurt.start)]
            held = [w for w in waiting if (self._floor_at[w] or 0.0) <= spurt.start]
            if not held:
                if turns:  # the agent goes on
                    turns[-1] = turns[-1]._replace(agent=turns[-1].agent.until(spurt))
                continue
            turn, rest = self._transfer(held, index)
            turns.append(turn)
            waiting = rest + [w for w in waiting if w not in held]
        return turns

    def _forgotten(self, index: int, now: float) -> bool:
        return any(self._utterances[index].start < reset <= now for reset in self._resets)

    def _transfer(self, held: list[int], index: int) -> tuple[_Turn, list[int]]:
        """The turn that spurt `index` makes of the utterances that held the floor, and those that still wait for an answer after it."""
        spurt, last = self._agent[index], held[-1]
        utterance = self._utterances[last]
        caller = utterance._replace(start=self._utterances[held[0]].start)
        if spurt.start < utterance.end:
            kind: TurnKind = "overlap" if utterance.end - spurt.start <= self._settings.overlap_ms else "agent_interruption"
            # An agent that interrupts and falls silent again leaves the floor to the caller.
            rest = [last] if kind == "agent_interruption" and spurt.end < utterance.end else []
            return _Turn(kind, caller, spurt), rest
        resumed = self._resumption(last, spurt)
        if resumed is None:
            return _Turn("response", caller, spurt), []
        continued = self._utterances[resumed]
        self.resumed.append(continued)
        caller = caller.until(continued)
        self._floor_at[resumed] = spurt.end if spurt.end < continued.end else None
        return _Turn("agent_interruption", caller, spurt), []

    def _resumption(self, last: int, spurt: Span) -> int | None:
        """The utterance with which the caller went on, if the agent began in what was only a pause."""
        if last + 1 == len(self._utterances):
            return None
        ended, following = self._utterances[last].end, self._utterances[last + 1]
        goes_on = following.start - ended <= self._settings.resume_ms and spurt.start <= following.start < spurt.end
        return last + 1 if goes_on else None


def _model(turn: _Turn, n: int, overlaps: Sequence[Overlapped], first_sound: FirstSound, settings: TurnSettings) -> Turn:
    caller, agent = turn.caller, turn.agent
    latency = agent.start - caller.end
    heard: float | None = None
    if turn.kind == "response":
        first = first_sound(caller.end, agent.start)
        heard = latency if first is None or agent.start - first < settings.same_sound_ms else first - caller.end
    interrupted = any(o.kind in ("barge_in", "slow") and agent.start < o.utterance.start and o.agent_stop <= agent.end for o in overlaps)
    return Turn(
        n=n,
        kind=turn.kind,
        caller_start_ms=round(caller.start, 1),
        caller_end_ms=round(caller.end, 1),
        agent_start_ms=round(agent.start, 1),
        agent_end_ms=round(agent.end, 1),
        response_latency_ms=round(latency, 1),
        first_audio_ms=None if heard is None else round(heard, 1),
        interrupted=interrupted,
        uncertainty_ms=round(hypot(caller.end_uncertainty, agent.start_uncertainty), 1),
    )
