"""The last seconds of one direction's audio, addressed by position."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sidecar.media.decode import Pcm


class History:
    """Keeps at least the last `keep` samples; older ones read as silence."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._buffer: Pcm = np.zeros(0, np.int16)  # until there is something to keep
        self._first = 0
        self._lost: list[tuple[int, int]] = []
        self.head = 0
        """Position after the newest sample."""

    def append(self, pcm: Pcm, *, lost: bool = False) -> None:
        """Add samples at the head. `lost` marks them as a gap of the network, of which nothing is known."""
        if lost:
            self._lost = [span for span in self._lost if span[1] > self._first]
            self._lost.append((self.head, self.head + len(pcm)))
        if not len(self._buffer):
            self._buffer = np.zeros(2 * self._keep, np.int16)
        used = self.head - self._first
        if used + len(pcm) > len(self._buffer):
            kept = min(self._keep, used)
            self._buffer[:kept] = self._buffer[used - kept : used]
            self._first += used - kept
            used = kept
            if used + len(pcm) > len(self._buffer):
                raise ValueError("more samples at once than the history holds")
        self._buffer[used : used + len(pcm)] = pcm
        self.head += len(pcm)

    def between(self, start: int, end: int) -> Pcm:
        """Samples of [start, end); what is older than the history or not there yet reads as silence."""
        low, high = max(start, self._first), min(end, self.head)
        if low >= high:
            return np.zeros(max(0, end - start), np.int16)
        inner = self._buffer[low - self._first : high - self._first]
        if low == start and high == end:
            return inner
        return np.concatenate([np.zeros(low - start, np.int16), inner, np.zeros(end - high, np.int16)])

    def lost_between(self, start: int, end: int) -> list[tuple[int, int]]:
        """The lost spans that touch [start, end), cut to it."""
        return [(max(a, start), min(b, end)) for a, b in self._lost if a < end and b > start]

    def lost_mask(self, start: int, frames: int, size: int) -> npt.NDArray[np.bool_] | None:
        """Which of `frames` frames of `size` samples from `start` hold lost samples; None when none does."""
        spans = self.lost_between(start, start + frames * size)
        if not spans:
            return None
        mask = np.zeros(frames, np.bool_)
        for a, b in spans:
            mask[(a - start) // size : -(-(b - start) // size)] = True
        return mask
