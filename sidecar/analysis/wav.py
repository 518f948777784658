"""Recordings as WAV files in one folder that never holds more than it may. Runs in the analysis process, far from the media path."""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from control.contract.call import Recording
from sidecar.media.decode import RATE

log = structlog.get_logger()

_HEADER: Final = struct.Struct("<4sI4s4sIHHIIHH4sI")
_CHANNELS, _BYTES = 2, 4
UNFINISHED: Final = ".wav.part"
FINISHED: Final = ".wav"


def header(data_bytes: int) -> bytes:
    """RIFF header of 16-bit stereo at 8 kHz; sizes beyond 4 GiB are told as the most there is, which readers take as "to the end"."""
    told = min(data_bytes, 0xFFFFFFFF - 36)
    return _HEADER.pack(b"RIFF", 36 + told, b"WAVE", b"fmt ", 16, 1, _CHANNELS, RATE, RATE * _BYTES, _BYTES, 16, b"data", told)


@dataclass(slots=True)
class _Open:
    file: BinaryIO
    path: Path
    written: int = 0
    cut: bool = False


class WavFolder:
    """One file a call, `<call>.wav.part` while it grows, `<call>.wav` once it is whole. Where room is short the oldest whole one goes."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """What an earlier process left unfinished is finished: a call that a crash cut short keeps what was heard of it."""
        self._folder, self._most = folder, most_bytes
        self._open: dict[str, _Open] = {}
        self._failed: set[str] = set()
        """Live calls whose recording could not begin: begun later, it would not begin with the call."""
        self._used: int | None = None
        """Octets in the folder, at most: what is uploaded and goes meanwhile is noticed when room is short. None: not counted yet."""
        for path in folder.glob(f"*{UNFINISHED}"):
            with path.open("r+b") as file:
                _seal(file, path.stat().st_size - _HEADER.size)
            path.replace(path.with_name(path.name.removesuffix(UNFINISHED) + FINISHED))

    def append(self, call: str, frames: bytes) -> None:
        """Add frames; where there is no room left or the disk fails, the recording ends here and the call goes on."""
        if call in self._failed:
            return
        try:
            recording = self._open.get(call) or self._begin(call)
            if recording.cut:
                return
            if not self._room(len(frames)):
                recording.cut = True
                log.warning("recording cut", call=call, cause=f"the folder holds {self._most} bytes; raise recordings.max_mb")
                return
            recording.file.write(frames)
            recording.written += len(frames)
            if self._used is not None:
                self._used += len(frames)
        except OSError as error:
            log.error("recording cut", call=call, cause=error.strerror)
            if call in self._open:
                self._open[call].cut = True
            else:
                self._failed.add(call)

    def finish(self, call: str) -> Recording | None:
        """Seal the file and give it its name."""
        self._failed.discard(call)
        recording = self._open.pop(call, None)
        if recording is None:
            return None
        try:
            with recording.file as file:
                _seal(file, recording.written)
                os.fsync(file.fileno())
            whole = recording.path.with_name(f"{call}{FINISHED}")
            with recording.path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            recording.path.replace(whole)
        except OSError as error:
            log.error("recording lost", call=call, cause=error.strerror)
            return None
        return Recording(
            seconds=round(recording.written / (RATE * _BYTES), 3),
            bytes=_HEADER.size + recording.written,
            sha256=digest,
            cut=recording.cut,
        )

    def _begin(self, call: str) -> _Open:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{call}{UNFINISHED}"
        file = path.open("w+b")
        file.write(header(0))
        if self._used is not None:
            self._used += _HEADER.size
        recording = self._open[call] = _Open(file, path)
        return recording

    def _room(self, wanted: int) -> bool:
        """Whether so many bytes fit, after the oldest recordings have gone if need be."""
        if self._used is not None and self._used + wanted <= self._most:
            return True
        growing = {recording.path: _HEADER.size + recording.written for recording in self._open.values()}
        self._used = used = sum(_size(path) for path in self._folder.iterdir() if path not in growing) + sum(growing.values())
        if used + wanted <= self._most:
            return True
        for path in sorted(self._folder.glob(f"*{FINISHED}"), key=_age):
            size = _size(path)
            path.unlink(missing_ok=True)
            log.warning("recording dropped", file=path.name, cause="the folder is full; raise recordings.max_mb")
            self._used = used = used - size
            if used + wanted <= self._most:
                return True
        return False


def _size(path: Path) -> int:
    """Octets; 0 of a file that was uploaded and went meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _seal(file: BinaryIO, data_bytes: int) -> None:
    file.seek(0)
    file.write(header(max(0, data_bytes)))
    file.flush()
