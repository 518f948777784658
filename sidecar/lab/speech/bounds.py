"""Where speech begins and ends in a clip whose samples are known: the truth that measurements are held against.

Definition: band power of 120–3700 Hz in a 6 ms window, every 1 ms; a boundary is the crossing of 30 dB under the active speech level.
So short a window lets a hum under the band leak into it; the clips carry none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RATE = 8000
WINDOW = 48
HOP = 8
FFT = 64
BAND = slice(1, 30)
"""Bins of 125 Hz: 125–3625 Hz at their centres, so 120–3700 Hz within half a bin."""
DEPTH_DB = 30.0
ACTIVE_MARGIN_DB = 15.9
"""ITU-T P.56: what lies further under the level is a pause and does not count towards it."""
MIN_RUN_S = 0.014
MAX_HOLE_S = 0.2
"""A hole up to this length (a stop consonant, a breath) is inside the speech around it."""

Pcm = NDArray[np.int16]


class Span(NamedTuple):
    """Speech from sample `start` up to sample `end`."""

    start: int
    end: int


def band_power(samples: Pcm) -> NDArray[np.float64]:
    """Band power for each window whose centre lies at sample `HOP * i`; silence is assumed around the clip."""
    padded = np.pad(samples.astype(np.float64), (WINDOW // 2, WINDOW // 2 + HOP))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * np.hanning(WINDOW)
    spectrum = np.fft.rfft(windows, FFT, axis=1)[:, BAND]
    return np.asarray((spectrum.real**2 + spectrum.imag**2).sum(axis=1), dtype=np.float64)


def active_level(power: NDArray[np.float64]) -> float:
    """Mean power of the windows that lie within 15.9 dB of that very mean; 0.0 for silence."""
    level = float(power.mean()) if len(power) else 0.0
    for _ in range(20):
        active = power[power > level * 10 ** (-ACTIVE_MARGIN_DB / 10)]
        if not len(active):
            return 0.0
        refined = float(active.mean())
        if abs(refined - level) <= 1e-6 * refined:
            break
        level = refined
    return level


def spans(samples: Pcm, *, level: float | None = None, depth_db: float = DEPTH_DB) -> list[Span]:
    """Stretches of speech in samples, holes up to 200 ms bridged and runs under 14 ms ignored.

    `level` is the active level to measure from when the clip's own is not meant (a clip that was cut short).
    """
    power = band_power(samples)
    reference = active_level(power) if level is None else level
    if reference <= 0.0:
        return []
    above = np.concatenate(([False], power > reference * 10 ** (-depth_db / 10), [False]))
    edges = np.flatnonzero(above[1:] != above[:-1])
    runs = [Span(int(a) * HOP, min(int(b - 1) * HOP, len(samples))) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return join([run for run in runs if run.end - run.start >= MIN_RUN_S * RATE], MAX_HOLE_S)


def join(runs: list[Span], gap_s: float) -> list[Span]:
    """The same runs with gaps up to `gap_s` seconds bridged."""
    joined: list[Span] = []
    for run in runs:
        if joined and run.start - joined[-1].end <= gap_s * RATE:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, run.end))
        else:
            joined.append(run)
    return joined
