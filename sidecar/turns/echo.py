"""Echo of the agent in what the caller sends: found by its likeness to what the agent has just said, and taken out of the caller's speech.

A level gate alone cannot do that: the echo of a loud agent is as loud as a soft-spoken caller. But an echo rises and falls as the agent
does, always as much later and always as much fainter; nobody who speaks does that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
import numpy.typing as npt

from sidecar.speech.refine import FLOOR_DB, Levels
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
    search = _Search(caller, agent)
    best = max((search.likeness(late), late) for late in range(0, LONGEST, 2))
    likeness, late = max([best, *((search.likeness(late), late) for late in (best[1] - 1, best[1] + 1) if late >= 0)])
    return Echo(late, search.gain(late)) if likeness >= _LIKENESS else None


class _Search:
    """The caller's levels beside those of the agent so many frames before."""

    def __init__(self, caller: Levels, agent: Levels) -> None:
        active = agent > max(_loudest(agent) - _ACTIVE_DB, _AUDIBLE_DB)
        self._size = len(agent)
        self._said = agent
        self._heard = np.concatenate((caller, np.full(LONGEST, FLOOR_DB, np.float32)))
        self._audible = self._heard > _AUDIBLE_DB
        self._bound = np.where(active, agent - np.float32(_FAINTER_DB), np.float32(-np.inf))
        """An echo is under this."""
        # In double precision, where sums of whole dB and of their products are exact.
        self._x = np.stack((agent, agent * agent)).astype(np.float64)
        self._y = np.stack((self._heard, self._heard * self._heard)).astype(np.float64)

    def _repeated(self, late: int) -> npt.NDArray[np.bool_]:
        """Frames of the agent whose echo may be what was heard so many frames later."""
        after = slice(late, late + self._size)
        return self._audible[after] & (self._heard[after] < self._bound)

    def likeness(self, late: int) -> float:
        """How what was heard follows what was said (correlation)."""
        repeated = self._repeated(late)
        n = int(np.count_nonzero(repeated))
        if n < _ENOUGH:
            return 0.0
        weights, after = repeated.astype(np.float64), self._y[:, late : late + self._size]
        x, xx = (self._x @ weights).tolist()
        y, yy = (after @ weights).tolist()
        xy = float(self._x[0] @ (weights * after[0]))
        spread = (n * xx - x * x) * (n * yy - y * y)
        return (n * xy - x * y) / sqrt(spread) if spread > 0 else 0.0

    def gain(self, late: int) -> float:
        """How much louder (dB) than what was said it is, which is less than nothing."""
        repeated = self._repeated(late)
        return float(np.median(self._heard[late : late + self._size][repeated] - self._said[repeated]))


def _loudest(levels: Levels) -> float:
    """What one frame in a hundred exceeds (the 99th percentile, between two frames where it falls there)."""
    below, rest = divmod(0.99 * (len(levels) - 1), 1)
    low, high = np.partition(levels, (int(below), int(below) + 1))[int(below) : int(below) + 2].tolist()
    return float(low + (high - low) * rest)


def without_echo(spans: Sequence[Span], caller: Levels, agent: Levels, first: int, echo: Echo) -> list[Span]:
    """The caller's segments less what is echo at their edges; those that are nothing else are gone. The grid begins with frame `first`."""
    expected = np.full(len(caller), -200.0, np.float32)
    expected[echo.late :] = agent[: len(agent) - echo.late] + echo.gain
    around = np.concatenate((expected[-_SMEARED:], expected, expected[:_SMEARED]))
    for by in range(2 * _SMEARED + 1):
        np.maximum(expected, around[by : by + len(expected)], out=expected)
    own = caller > expected + _OVER_DB
    rows = np.convolve(own, np.ones(_OF, np.int64), "valid") >= _ROW if len(own) >= _OF else own[:0]
    return [part for span in spans for part in _own_parts(span, own, rows, first)]


def _own_parts(span: Span, own: npt.NDArray[np.bool_], rows: npt.NDArray[np.bool_], first: int) -> list[Span]:
    """What is left of a segment. `own` frames are louder than the echo; in `rows`, enough of a frame and those after it are."""
    start, end = round(span.start / FRAME_MS) - first, round(span.end / FRAME_MS) - first
    flags = own[max(0, start) : max(0, end)]
    if start < 0 or len(flags) < _OF or flags.all():
        return [span]
    begins = rows[start : start + len(flags) - _OF + 1].nonzero()[0]
    if len(begins) == 0:
        return []
    breaks = (begins[1:] - begins[:-1] > _APART).nonzero()[0]
    parts = zip([begins[0], *begins[breaks + 1]], [*begins[breaks], begins[-1]], strict=True)
    found = [_part(span, flags, int(low), int(high) + _OF) for low, high in parts]
    return [part for part in found if part.end - part.start >= _LEAST_MS]


def _part(span: Span, flags: npt.NDArray[np.bool_], low: int, high: int) -> Span:
    """The part of a segment between two of its frames, from the first to the last that is the caller's own."""
    begins = span.start + FRAME_MS * (low + int(flags[low:high].argmax()))
    ends = span.start + FRAME_MS * (high - int(flags[low:high][::-1].argmax()))
    if begins - span.start > _KEEP_MS:
        span = span._replace(start=begins, start_uncertainty=max(span.start_uncertainty, _UNCERTAIN_MS))
    if span.end - ends > _KEEP_MS:
        span = span._replace(end=ends, end_uncertainty=max(span.end_uncertainty, _UNCERTAIN_MS))
    return span
