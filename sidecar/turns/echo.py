"""Echo of the agent in what the caller sends: found by its likeness to what the agent has just said, and taken out of the caller's speech.

A level gate alone cannot do that: the echo of a loud agent is as loud as a soft-spoken caller. But an echo rises and falls as the agent
does, always as much later and always as much fainter; nobody who speaks does that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from sidecar.speech.refine import Levels
from sidecar.turns.spans import Span

FRAME_MS: Final = 10.0
"""Levels on the grid of call time are those of so many ms each."""
LONGEST: Final = 50
"""Frames that an echo may be late."""
_ACTIVE_DB: Final = 20.0
"""An agent this far under its loudest says nothing that could be heard again."""
_FAINTER_DB: Final = 4.0
"""An echo is at least this much fainter than what it repeats."""
_AUDIBLE_DB: Final = -62.0
_ENOUGH: Final = 120
"""Frames that must agree, and how well."""
_LIKENESS: Final = 0.6
_OVER_DB: Final = 6.0
"""What is this much louder than the echo has to be is the caller's own."""
_SMEARED: Final = 2
"""Frames over which an echo is spread."""
_ROW: Final = 4
_OF: Final = 6
"""So many of so many frames in a row are."""
_APART: Final = 30
"""Echo for longer than this parts what the caller said before from what came after."""
_KEEP_MS: Final = 40.0
"""A boundary moves only where it is further off: what was refined is more exact than the grid."""
_LEAST_MS: Final = 80.0
_UNCERTAIN_MS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Echo:
    """By how many frames it is late, and its level over what it repeats (dB, negative)."""

    late: int
    gain: float


def find(caller: Levels, agent: Levels) -> Echo | None:
    """The agent's echo in the caller's levels, both on the same grid; None where there is none worth the name."""
    if len(agent) <= LONGEST + _ENOUGH or np.count_nonzero(caller > _AUDIBLE_DB) < _ENOUGH:
        return None
    active = agent > max(float(np.quantile(agent, 0.99)) - _ACTIVE_DB, _AUDIBLE_DB)
    best = max(((_alike(caller, agent, active, late), late) for late in range(0, LONGEST, 2)), default=((0.0, 0.0), 0))
    near = [(_alike(caller, agent, active, late), late) for late in (best[1] - 1, best[1] + 1) if late >= 0]
    (likeness, gain), late = max([best, *near])
    return Echo(late, gain) if likeness >= _LIKENESS else None


def _alike(caller: Levels, agent: Levels, active: npt.NDArray[np.bool_], late: int) -> tuple[float, float]:
    """How the caller's levels follow the agent's of so many frames before (correlation), and how much fainter they are."""
    then, now = agent[: len(agent) - late], caller[late:]
    both = active[: len(then)] & (now > _AUDIBLE_DB) & (now < then - _FAINTER_DB)
    if np.count_nonzero(both) < _ENOUGH:
        return 0.0, 0.0
    then, now = then[both], now[both]
    spread = float(then.std() * now.std())
    return float(((then - then.mean()) * (now - now.mean())).mean()) / spread if spread > 0 else 0.0, float(np.median(now - then))


def without_echo(spans: Sequence[Span], caller: Levels, agent: Levels, first: int, echo: Echo) -> list[Span]:
    """The caller's segments less what is echo at their edges; those that are nothing else are gone. The grid begins with frame `first`."""
    expected = np.full(len(caller), -200.0, np.float32)
    expected[echo.late :] = agent[: len(agent) - echo.late] + echo.gain
    own = caller > np.max([np.roll(expected, by) for by in range(-_SMEARED, _SMEARED + 1)], axis=0) + _OVER_DB
    return [part for span in spans for part in _own_parts(span, own, first)]


def _own_parts(span: Span, own: npt.NDArray[np.bool_], first: int) -> list[Span]:
    start, end = round(span.start / FRAME_MS) - first, round(span.end / FRAME_MS) - first
    flags = own[max(0, start) : max(0, end)]
    if start < 0 or len(flags) < _OF or flags.all():
        return [span]
    rows = np.flatnonzero(np.convolve(flags, np.ones(_OF, np.int64), "valid") >= _ROW)
    if len(rows) == 0:
        return []
    breaks = np.flatnonzero(np.diff(rows) > _APART)
    parts = zip(rows[np.r_[0, breaks + 1]].tolist(), rows[np.r_[breaks, -1]].tolist(), strict=True)
    found = [_part(span, flags, low, high + _OF) for low, high in parts]
    return [part for part in found if part.end - part.start >= _LEAST_MS]


def _part(span: Span, flags: npt.NDArray[np.bool_], low: int, high: int) -> Span:
    """The part of a segment between two of its frames, from the first to the last that is the caller's own."""
    begins = span.start + FRAME_MS * (low + int(flags[low:high].argmax()))
    ends = span.start + FRAME_MS * (high - int(flags[low:high][::-1].argmax()))
    if begins - span.start > _KEEP_MS:
        span = replace(span, start=begins, start_uncertainty=max(span.start_uncertainty, _UNCERTAIN_MS))
    if span.end - ends > _KEEP_MS:
        span = replace(span, end=ends, end_uncertainty=max(span.end_uncertainty, _UNCERTAIN_MS))
    return span
