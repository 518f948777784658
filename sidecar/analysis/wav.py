"""WAV: 16-bit stereo at 8 kHz, the sizes in its header written once they are known."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, Final

from sidecar.media.decode import RATE

_HEADER: Final = struct.Struct("<4sI4s4sIHHIIHH4sI")
_CHANNELS, _BYTES = 2, 4


def header(data_bytes: int) -> bytes:
    """RIFF header; sizes beyond 4 GiB are told as the most there is, which readers take as "to the end"."""
    told = min(max(0, data_bytes), 0xFFFFFFFF - 36)
    return _HEADER.pack(b"RIFF", 36 + told, b"WAVE", b"fmt ", 16, 1, _CHANNELS, RATE, RATE * _BYTES, _BYTES, 16, b"data", told)


class Wav:
    """The form."""

    def begin(self, file: BinaryIO) -> WavWriter:
        """With a header that says that there is nothing yet."""
        file.write(header(0))
        return WavWriter(file)

    def mend(self, file: BinaryIO) -> None:
        """Tell the sizes that the file has."""
        WavWriter(file).seal()


class WavWriter:
    """Frames as they are."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def most(self, content: bytes) -> int:
        """Just as much."""
        return len(content)

    def add(self, content: bytes) -> None:
        """Add frames."""
        self._file.write(content)

    def seal(self) -> None:
        """Tell the sizes."""
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        self._file.write(header(size - _HEADER.size))
        self._file.seek(0, os.SEEK_END)
