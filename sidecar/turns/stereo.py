"""Both parties on one clock: the caller left, the agent right, each sample at the call time at which it passed.

Every sender's clock runs a little fast or slow. Its samples are moved by the mapping of media time to arrival time that the measurement
uses, so that a position in the recording is a call time, in the first minute and after an hour.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
import numpy.typing as npt

from sidecar.media.decode import RATE, Pcm
from sidecar.media.stream import Sink, Stream

_PHASES: Final = 32
_TAPS: Final = 16
_GRID: Final = RATE // 2
"""Samples from one point of the mapping that is looked up to the next."""
_PIECE: Final = 4 * RATE


def _kernels() -> npt.NDArray[np.float32]:
    """Windowed sinc filters, one for each fraction of a sample; `np.convolve` turns them round."""
    at = np.arange(_TAPS) - (_TAPS // 2 - 1)
    rows = [np.sinc(at - phase / _PHASES) * np.kaiser(_TAPS + 2, 6.0)[1:-1] for phase in range(_PHASES)]
    return np.array([row / row.sum() for row in rows], np.float32)[:, ::-1].copy()


_KERNELS: Final = _kernels()


class Channel:
    """A stream's sink in front of another one: keeps what was heard until it is written."""

    def __init__(self, inner: Sink) -> None:
        self._inner = inner
        self._kept: deque[Pcm] = deque()
        self._first = 0
        self.head = 0
        """Position after the newest sample."""
        self._grid: list[tuple[float, float]] = []

    def audio(self, pcm: Pcm) -> None:
        """Take decoded samples."""
        self._inner.audio(pcm)
        self._keep(pcm)

    def silence(self, samples: int) -> None:
        """Take a stretch in which nothing was sent."""
        self._inner.silence(samples)
        self._keep(np.zeros(samples, np.int16))

    def lost(self, samples: int) -> None:
        """Take a stretch that never arrived: silence as well, since what was said is not known."""
        self._inner.lost(samples)
        self._keep(np.zeros(samples, np.int16))

    def _keep(self, pcm: Pcm) -> None:
        self._kept.append(pcm)
        self.head += len(pcm)

    def between(self, start: int, end: int) -> Pcm:
        """Samples of [start, end); silence where nothing is known."""
        whole = np.zeros(max(0, end - start), np.int16)
        at = self._first
        for pcm in self._kept:
            low, high = max(at, start), min(at + len(pcm), end)
            if low < high:
                whole[low - start : high - start] = pcm[low - at : high - at]
            at += len(pcm)
            if at >= end:
                break
        return whole

    def placed(self, stream: Stream, start: float, count: int) -> Pcm:
        """`count` samples from arrival time `start` on, one every 1/8000 s of our clock."""
        if stream.origin is None or self.head == 0:
            return np.zeros(count, np.int16)
        known = self._mapping(stream, start, start + count / RATE)
        times, positions = np.array([t for t, _ in known]), np.array([p for _, p in known])
        wanted = start + np.arange(count) / RATE
        quantised = np.rint(np.interp(wanted, times, positions) * _PHASES).astype(np.int64)
        outside = (wanted < times[0]) | (wanted > times[-1])
        made = np.zeros(count, np.int16)
        breaks = np.flatnonzero(np.diff(quantised) != _PHASES) + 1
        for low, high in zip([0, *breaks.tolist()], [*breaks.tolist(), count], strict=True):
            made[low:high] = self._shifted(int(quantised[low]), high - low)
        made[outside] = 0
        self._forget(int(quantised[-1]) // _PHASES - RATE)
        return made

    def _shifted(self, position: int, count: int) -> Pcm:
        """Samples from a position given in fractions of a sample."""
        whole, phase = divmod(position, _PHASES)
        if phase == 0:
            return self.between(whole, whole + count)
        before = _TAPS // 2 - 1
        source = self.between(whole - before, whole - before + count + _TAPS - 1).astype(np.float32)
        moved: Pcm = np.clip(np.rint(np.convolve(source, _KERNELS[phase], "valid")), -32768, 32767).astype(np.int16)
        return moved

    def _mapping(self, stream: Stream, start: float, end: float) -> list[tuple[float, float]]:
        """Points (arrival time, position) from `start` to `end`, as far as there is audio. What was looked up stays as it was."""
        grid = self._grid
        at = int(grid[-1][1]) if grid else -_GRID
        while (not grid or grid[-1][0] < end) and at < self.head:
            at = min(at + _GRID, self.head)
            time = stream.locate(at)
            if not grid or time > grid[-1][0]:
                grid.append((time, float(at)))
        while len(grid) > 2 and grid[1][0] < start:
            grid.pop(0)
        return grid

    def _forget(self, before: int) -> None:
        while self._kept and self._first + len(self._kept[0]) <= before:
            self._first += len(self._kept.popleft())


class Stereo:
    """Writes one call, from its answer on."""

    def __init__(self, left: Channel, right: Channel, left_stream: Stream, right_stream: Stream) -> None:
        self._sides = (left, left_stream), (right, right_stream)
        self._answered: float | None = None
        self._written = 0
        """Frames so far."""

    def begin(self, answered: float) -> None:
        """Frame 0 is this moment."""
        self._answered = answered

    def take(self, until: float) -> bytes:
        """All frames not given yet up to arrival time `until`: interleaved 16-bit samples, little end first, at 8 kHz."""
        if self._answered is None:
            return b""
        pieces = []
        while (count := min(_PIECE, int((until - self._answered) * RATE) - self._written)) > 0:
            start = self._answered + self._written / RATE
            frames = np.empty((count, 2), "<i2")
            for side, (channel, stream) in enumerate(self._sides):
                frames[:, side] = channel.placed(stream, start, count)
            pieces.append(frames.tobytes())
            self._written += count
        return b"".join(pieces)
