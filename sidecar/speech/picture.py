"""How loud one direction was, and where its audio never arrived: a byte for 10 ms, so that hours can be kept."""

from __future__ import annotations

import numpy as np

from sidecar.media.decode import RATE
from sidecar.speech.refine import FLOOR_DB, Levels

STEP = RATE // 10
"""Samples in a step."""
_FRAMES = 10
_NEAR = RATE // 4
"""Losses this close are one."""
_MOST_LOSSES = 500


class Picture:
    """Taken on the stream's time line as the audio comes in."""

    def __init__(self) -> None:
        self._frames = bytearray()
        self._near = _NEAR
        self.losses: list[tuple[int, int]] = []
        """Start and end of what never arrived, some 500 entries at most."""

    def frames(self, levels: Levels) -> None:
        """Take the levels (dB) of the 10 ms frames that follow those before."""
        self._frames += np.minimum(np.maximum(0.5 - levels, 0), -FLOOR_DB).astype(np.uint8).tobytes()

    def lost(self, start: int, samples: int) -> None:
        """Note that [start, start + samples) never arrived."""
        self.losses.append((start, start + samples))
        if len(self.losses) < 2:
            return
        self._join_last()
        while len(self.losses) > _MOST_LOSSES:
            self._near *= 2
            known, self.losses = self.losses, []
            for loss in known:
                self.losses.append(loss)
                self._join_last()

    def _join_last(self) -> None:
        if len(self.losses) > 1 and self.losses[-1][0] - self.losses[-2][1] <= self._near:
            (first, _), (_, last) = self.losses[-2:]
            self.losses[-2:] = [(first, last)]

    def between(self, first: int, last: int) -> bytearray:
        """How far under full scale (whole dB) the 10 ms frames [first, last) are, as far as there are any."""
        return self._frames[max(0, first) : max(0, last)]

    def levels(self, most: int) -> tuple[int, list[int]]:
        """Samples in a step, and the greatest level of each step in whole dB of full scale, in `most` steps or fewer."""
        whole = len(self._frames) // _FRAMES * _FRAMES
        steps = np.frombuffer(self._frames[:whole], np.uint8).reshape(-1, _FRAMES).min(axis=1)
        factor = max(1, -(-len(steps) // most))
        padded = np.concatenate((steps, np.full(-len(steps) % factor, -FLOOR_DB, np.uint8)))
        return STEP * factor, (-padded.reshape(-1, factor).min(axis=1).astype(np.int64)).tolist() if len(steps) else []
