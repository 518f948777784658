"""Opus in Ogg (RFC 7845): a tenth of a WAV file's size. A position stays a call time, since a player skips what the encoder puts ahead."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np

from sidecar.media.decode import RATE

if TYPE_CHECKING:
    import av

BIT_RATE: Final = 48_000
"""Of both channels. Telephone speech is transparent at half of it; more keeps the two parties out of each other's channel."""
_BYTES: Final = 4
_LEAST_SAVED: Final = 4
"""An encoder at this rate makes less than a quarter of the frames' octets, headers of pages included."""


class Ogg:
    """The form. A file that nobody finished ends with its last whole page, which players take as its end."""

    def begin(self, file: BinaryIO) -> OggWriter:
        """Nothing is written before the first frame."""
        return OggWriter(file)

    def mend(self, file: BinaryIO) -> None:
        """There is nothing to mend."""


class OggWriter:
    """Frames through libopus, about a second a page."""

    def __init__(self, file: BinaryIO) -> None:
        import av  # 30 MB, which only recordings of this form need

        self._av = av
        self._container = av.open(_Growing(file), "w", format="ogg")
        # `audio`, not `voip`: the latter codes the sum and the difference of both parties.
        self._stream = self._container.add_stream("libopus", rate=RATE, options={"application": "audio"})
        self._stream.layout = "stereo"
        self._stream.bit_rate = BIT_RATE
        self._frames = 0

    def most(self, content: bytes) -> int:
        """Never more than a part of it."""
        return len(content) // _LEAST_SAVED

    def add(self, content: bytes) -> None:
        """Encode frames."""
        if not content:
            return
        frame = self._av.AudioFrame.from_ndarray(np.frombuffer(content, "<i2").reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE, self._frames, Fraction(1, RATE)
        self._frames += len(content) // _BYTES
        self._encode(frame)

    def seal(self) -> None:
        """Encode what is left and end the stream, its length told to the sample."""
        try:
            self._encode(None)
            self._container.close()
        except self._av.error.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error

    def _encode(self, frame: av.AudioFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except self._av.error.FFmpegError as error:  # not an OSError, though the disk is most often the cause
            raise OSError(error.errno, error.strerror) from error


class _Growing:
    """A file that is written from front to back: the container must not look for its beginning, nor close it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        """Append."""
        return self._file.write(data)
