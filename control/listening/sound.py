"""A call's audio as a WebRTC track: pieces come in when they come, frames go out every 20 ms."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from time import monotonic
from typing import Final

import av
import numpy as np
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

RATE: Final = 8000
_FRAME: Final = RATE // 50
_BYTES: Final = 4
"""Of a frame of both channels."""
_CUSHION: Final = RATE * 2 // 5
"""What is gathered before the first frame, and again when all was played: the sidecar tells five pieces a second."""
_MOST: Final = RATE * 3 // 2
"""More than that is behind the call by too much: the oldest goes until the cushion is left."""


class CallAudio(MediaStreamTrack):
    """Stereo, the caller left. Silence where nothing has come."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._pieces = bytearray()
        self._gathering = True
        self._begun: float | None = None
        self._sent = 0

    def feed(self, frames: bytes) -> None:
        """Take interleaved 16-bit samples, little end first, at 8 kHz."""
        self._pieces += frames
        if len(self._pieces) > _MOST * _BYTES:
            del self._pieces[: len(self._pieces) - _CUSHION * _BYTES]
        if len(self._pieces) >= _CUSHION * _BYTES:
            self._gathering = False

    async def recv(self) -> av.AudioFrame:
        """The next 20 ms, when they are due. Raises MediaStreamError once the track was stopped."""
        if self.readyState != "live":
            raise MediaStreamError
        if self._begun is None:
            self._begun = monotonic()
        await asyncio.sleep(max(0.0, self._begun + self._sent / RATE - monotonic()))
        frame = av.AudioFrame.from_ndarray(self._next(), format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE, self._sent, Fraction(1, RATE)
        self._sent += _FRAME
        return frame

    def _next(self) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
        size = _FRAME * _BYTES
        if self._gathering:
            return np.zeros((1, 2 * _FRAME), np.int16)
        taken, self._pieces = self._pieces[:size], self._pieces[size:]
        self._gathering = not self._pieces
        return np.frombuffer(bytes(taken.ljust(size, b"\0")), "<i2").astype(np.int16).reshape(1, -1)
