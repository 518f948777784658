"""Speech or another sound: what tells a voice from typing, tones and music once a detector has been fooled by them.

A voice has a pitch, which typing lacks, and its spectrum never stands still, as that of a tone or a held chord does.
"""

from __future__ import annotations

from math import sqrt
from typing import Final

import numpy as np
import numpy.typing as npt

from sidecar.media.decode import RATE, Pcm
from sidecar.speech.settings import SpeechSettings

BLOCK: Final = RATE // 2
"""Half a second is judged at a time."""
STEP: Final = RATE // 5
_SIZE: Final = 512
_HOP: Final = 128
_LAGS: Final = slice(20, 133)
"""Pitch periods from 60 to 400 Hz."""
_APART: Final = 8
_LOWEST_BIN: Final = 4
_WINDOW: Final = (np.hanning(_SIZE) * sqrt(_SIZE)).astype(np.float32)
"""Scaled for the orthonormal transform, which numpy calculates in the precision of its input, several frames at once."""
_TAPER: Final = 1 - 0.9 * np.arange(20, 133) / _SIZE
"""How the window lets the autocorrelation fall with the lag."""
Spectra = npt.NDArray[np.float32]


def is_voice(pcm: Pcm, settings: SpeechSettings) -> bool:
    """Whether up to half a second of sound can be speech. In doubt it can."""
    power = _spectra(pcm)
    energy = power.sum(axis=1)
    loudest = energy.max()
    if loudest <= 0:
        return True
    power = power[energy > loudest * 0.01]
    if len(power) < 2:
        return False  # a stroke: no voice is so short
    voiced = float((_periodicity(power) > settings.voiced_correlation).mean())
    if voiced < settings.voiced_share:
        return False
    near, far = _likeness(power)
    steady = near > settings.steady_likeness and _held(power, settings.held_pitch) > settings.held_share
    return not steady and far < (settings.frozen_likeness if voiced > settings.clearly_voiced_share else settings.frozen_chord_likeness)


def first_pitch(pcm: Pcm, settings: SpeechSettings) -> int:
    """Sample at which a voice with a pitch sets in for good (three frames in a row), or 0."""
    voiced = _periodicity(_spectra(pcm)) > settings.voiced_correlation
    lasting = np.flatnonzero(voiced[:-2] & voiced[1:-1] & voiced[2:])
    return int(lasting[0]) * _HOP + _SIZE // 2 if len(lasting) and lasting[0] > 0 else 0


def _spectra(pcm: Pcm) -> Spectra:
    """Power spectra of overlapping frames of up to half a second of sound."""
    size = min(len(pcm), BLOCK)
    hops = np.zeros((max(-(-size // _HOP), _SIZE // _HOP + 2), _HOP), np.float32)
    hops.reshape(-1)[:size] = pcm[:size]
    frames = np.concatenate([hops[i : len(hops) - _SIZE // _HOP + 1 + i] for i in range(_SIZE // _HOP)], axis=1)
    frames *= _WINDOW
    spectra = np.fft.rfft(frames, axis=1, norm="ortho")
    power: Spectra = np.square(spectra.real) + np.square(spectra.imag)
    return power


def _periodicity(power: Spectra) -> Spectra:
    """Highest peak of each frame's normalised autocorrelation at a voice's periods."""
    correlation = np.fft.irfft(power.astype(np.complex64), axis=1)
    peaks: Spectra = (correlation[:, _LAGS] / np.maximum(correlation[:, :1], 1e-9) / _TAPER).max(axis=1)
    return peaks


def _likeness(power: Spectra) -> tuple[float, float]:
    """Median likeness (0–1) of spectra one hop apart and eight hops apart (0 where the sound is too short for that)."""
    shape = np.sqrt(power)
    shape /= np.maximum(np.sqrt((shape * shape).sum(axis=1, keepdims=True)), 1e-9)
    near = _median((shape[1:] * shape[:-1]).sum(axis=1))
    if len(shape) <= _APART + 1:
        return near, 0.0
    return near, _median((shape[_APART:] * shape[:-_APART]).sum(axis=1))


def _median(values: Spectra) -> float:
    """As `np.median`, which takes five times as long over so few."""
    ordered = np.sort(values)
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    return float(middle.sum() / np.float32(len(middle)))


def _held(power: Spectra, same: float) -> float:
    """Share of steps from frame to frame in which the strongest component keeps its frequency."""
    bands = np.log(power[:, _LOWEST_BIN:] + 1.0)
    rows = np.arange(len(bands))
    peak = np.clip(bands.argmax(axis=1), 1, bands.shape[1] - 2)
    left, middle, right = bands[rows, peak - 1], bands[rows, peak], bands[rows, peak + 1]
    offset = 0.5 * (left - right) / np.minimum(left - 2 * middle + right, -1e-6)  # the top of the parabola through three bins
    frequency = peak + _LOWEST_BIN + np.clip(offset, -0.5, 0.5)
    return float((np.abs(np.diff(frequency)) < same * frequency[1:]).mean())
