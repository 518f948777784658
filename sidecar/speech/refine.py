"""Where speech really begins and ends: the crossing of a level on the audio itself, and how much of it the noise hides."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from sidecar.media.decode import RATE, Pcm
from sidecar.speech.settings import SpeechSettings

Levels = npt.NDArray[np.float32]
"""dB, full scale 0."""
HOP: Final = 16
"""2 ms: one band power value each, averaged over three (6 ms)."""
FLOOR_DB: Final = -96.0
_FULL_SCALE: Final = 32768.0
Side = Literal["onset", "end"]
_FAST: Final = sorted(2**a * 3**b * 5**c for a in range(4, 18) for b in range(5) for c in range(4) if 2**a * 3**b * 5**c < 1 << 17)
"""Lengths without large prime factors."""

# How much of a boundary is lost when all but the top `depth` dB of the speech are hidden: depth → (median, 90th percentile) in ms.
_END_LOST: Final = np.transpose(
    [
        (5.0, 105.0, 260.0),
        (7.5, 86.0, 224.0),
        (10.0, 67.0, 210.0),
        (15.0, 37.0, 146.0),
        (20.0, 20.0, 92.0),
        (25.0, 5.0, 36.0),
        (27.5, 0.0, 12.0),
        (30.0, 0.0, 8.0),
    ]
)
_ONSET_LOST: Final = np.transpose(
    [(5.0, 14.0, 70.0), (10.0, 6.0, 48.0), (15.0, 3.0, 36.0), (20.0, 1.0, 20.0), (25.0, 0.0, 5.0), (30.0, 0.0, 4.0)]
)


@dataclass(frozen=True, slots=True)
class Boundary:
    """A refined boundary: `position` corrected for what is expected to be hidden, ± `uncertainty_ms` (90 %)."""

    position: int
    uncertainty_ms: float
    settled: bool


def band_power(pcm: Pcm, settings: SpeechSettings) -> Levels:
    """Power of the speech band in dB, one value for each 2 ms hop of `pcm`, averaged over 6 ms around its middle."""
    size = len(pcm) // HOP * HOP
    if size == 0:
        return np.zeros(0, np.float32)
    length = _fast_size(size)
    spectrum = np.fft.rfft(pcm[:size].astype(np.float32), length)
    hertz = RATE / length
    spectrum[: round(settings.low_hz / hertz)] = 0
    spectrum[round(settings.high_hz / hertz) + 1 :] = 0
    rows = np.fft.irfft(spectrum, length)[:size].reshape(-1, HOP)
    power = np.einsum("ij,ij->i", rows, rows) / np.float32(HOP)
    smooth = power.copy()
    smooth[1:] += power[:-1]
    smooth[:-1] += power[1:]
    smooth[1:-1] /= 3
    smooth[0] /= 2
    if len(smooth) > 1:
        smooth[-1] /= 2
    return decibels(smooth)


def mean_power(samples: npt.NDArray[np.float32], size: int) -> Levels:
    """Mean square in dB of consecutive frames of `size` samples."""
    rows = samples.reshape(-1, size)
    return decibels(np.einsum("ij,ij->i", rows, rows) / size)


def stretches(flags: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Starts and ends of the rows of True in `flags`."""
    padded = np.zeros(len(flags) + 2, np.bool_)
    padded[1:-1] = flags
    edges = (padded[1:] != padded[:-1]).nonzero()[0]
    return edges[::2], edges[1::2]


def _fast_size(size: int) -> int:
    """The next length that a Fourier transform takes quickly, at least 1 ms longer: the transform is circular."""
    needed = size + RATE // 1000
    index = bisect_left(_FAST, needed)
    return _FAST[index] if index < len(_FAST) else needed


def decibels(power: npt.NDArray[np.floating]) -> Levels:
    """Mean square of 16-bit samples to dB of full scale, never below the floor."""
    levels: Levels = np.maximum(power, 1e-9).astype(np.float32, copy=False)
    levels /= _FULL_SCALE**2
    np.log10(levels, out=levels)
    levels *= 10
    return np.maximum(levels, FLOOR_DB, out=levels)


def active_level(levels: Levels) -> float:
    """Mean power over what is active, in dB: pauses (16 dB and more under the mean) do not count, after the manner of ITU-T P.56."""
    if len(levels) == 0:
        return -100.0
    power = np.power(10.0, levels.astype(np.float64) / 10)
    mean, count = float(np.add.reduce(power)) / len(power), len(power)
    for _ in range(3):
        active = power[power > mean * 10**-1.59]
        if len(active) in (0, count):
            break
        mean, count = float(np.add.reduce(active)) / len(active), len(active)
    return 10 * float(np.log10(max(mean, 1e-10)))


def bridge_lost(power: Levels, spans: list[tuple[int, int]]) -> float:
    """Let the level go straight, in dB, over each lost span (in samples of the region); the longest span that speech touches, in ms."""
    for start, end in spans:
        low, high = max(0, start // HOP - 1), min(len(power), -(-end // HOP) + 1)
        left = float(power[low - 1]) if low > 0 else FLOOR_DB
        right = float(power[high]) if high < len(power) else FLOOR_DB
        power[low:high] = np.linspace(left, right, high - low + 2, dtype=np.float32)[1:-1]
    return max(((end - start) * 1000 / RATE for start, end in spans), default=0.0)


def threshold(level: float, noise: float | None, settings: SpeechSettings) -> tuple[float, float]:
    """The level to cross, and how many dB of the speech are visible above it (`depth_db` when nothing is hidden)."""
    wanted = level - settings.depth_db
    if noise is None or noise + settings.noise_margin_db <= wanted:
        return wanted, settings.depth_db  # to the bit: what is hidden decides how runs and holes are read
    return noise + settings.noise_margin_db, level - (noise + settings.noise_margin_db)


def crossing(power: Levels, level: float, core: int, side: Side, *, noisy: bool, settings: SpeechSettings) -> int | None:
    """Hop at which speech starts (first above `level`) or stops (first no longer above it), seen from hop `core` outwards.

    None where nothing near the core is above the level for long enough.
    """
    above = power > level
    if side == "onset":
        above = above[::-1]
        core = len(above) - 1 - core
    starts, ends = stretches(above)
    long_enough = ends - starts >= (settings.shortest_run_in_noise_ms if noisy else settings.shortest_run_ms) // 2
    starts, ends = starts[long_enough], ends[long_enough]
    if len(starts) == 0:
        return None
    index = max(0, int(starts.searchsorted(core, side="right")) - 1)
    hole = (settings.onset_hole_ms if side == "onset" else settings.hole_ms) // 2
    if noisy:
        hole = min(hole, settings.hole_in_noise_ms // 2)
    while index + 1 < len(starts) and starts[index + 1] - ends[index] <= hole:
        index += 1
    found = int(ends[index])
    return len(above) - found if side == "onset" else found


def expected_loss(depth: float, side: Side) -> tuple[float, float]:
    """What hiding all but the top `depth` dB costs: (bias to correct, uncertainty left) in ms."""
    table = _END_LOST if side == "end" else _ONSET_LOST
    median, ninety = (float(np.interp(depth, table[0], lost)) for lost in table[1:])
    return median, max(ninety - median, median)
