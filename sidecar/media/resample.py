"""Linear audio of any rate brought down to the 8 kHz that the analysis hears, in pieces, without a seam between them."""

from __future__ import annotations

from math import ceil, gcd
from typing import Final

import numpy as np
import numpy.typing as npt

RATE: Final = 8000
DELAY: Final = 8
"""Samples at 8 kHz by which the result lags: half the filter's length, the same for every rate."""
_CUT_HZ: Final = 3950.0
_BETA: Final = 4.0
Pcm = npt.NDArray[np.int16]


class Resampler:
    """One stream's resampler: a windowed-sinc low-pass, evaluated where the 8 kHz samples fall."""

    def __init__(self, rate: int) -> None:
        divisor = gcd(rate, RATE)
        self._up, self._down = RATE // divisor, rate // divisor
        half = ceil(DELAY * rate / RATE)
        self._taps = 2 * half
        offsets = np.arange(self._taps)[None, :] - half - (np.arange(self._up) / self._up)[:, None]
        window = np.i0(_BETA * np.sqrt(np.clip(1 - (offsets / half) ** 2, 0, 1))) / np.i0(_BETA)
        bank = np.sinc(2 * min(_CUT_HZ, rate / 2) / rate * offsets) * window
        self._bank: npt.NDArray[np.float32] = (bank / bank.sum(axis=1, keepdims=True)).astype(np.float32)
        self._held = np.zeros(self._taps, np.float32)
        self._phase = 0

    def take(self, samples: npt.NDArray[np.floating] | Pcm, wanted: int) -> Pcm:
        """The next `wanted` samples at 8 kHz from the next input, which lasts as long, to within one of them."""
        whole = np.concatenate([self._held, samples.astype(np.float32)])
        if self._up == 1 and self._phase == 0 and len(samples) == self._down * wanted:
            self._held = whole[len(whole) - self._taps :]
            return _rounded(np.lib.stride_tricks.sliding_window_view(whole, self._taps)[: len(samples) : self._down] @ self._bank[0])
        places = self._phase + self._down * np.arange(wanted)
        starts, phases = places // self._up, places % self._up
        frames = np.lib.stride_tricks.sliding_window_view(whole, self._taps)
        starts = np.minimum(starts, len(frames) - 1)
        result = np.einsum("ij,ij->i", frames[starts], self._bank[phases])
        # What was asked for and what came differ by less than a sample: the phase carries the rest, and never runs away.
        self._phase = min(max(0, self._phase + self._down * wanted - self._up * len(samples)), 2 * self._down)
        self._held = whole[len(whole) - self._taps :]
        return _rounded(result)


def _rounded(samples: npt.NDArray[np.floating]) -> Pcm:
    return np.clip(np.round(samples), -32768, 32767).astype(np.int16)
