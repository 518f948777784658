"""Recordings on disk: one WAV file a call, whole or not there, for so many days."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from control.clock import SECOND

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_UNFINISHED: Final = ".part"
_ABANDONED_US: Final = 3600 * SECOND


class TooLarge(Exception):
    """A recording goes beyond what one may have. The text says how much that is."""


class Recordings:
    """A folder, made with the first recording. Several processes may share it."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most = folder, most_bytes

    def find(self, call: str) -> Path | None:
        """The file of a call, if there is one."""
        path = self._folder / f"{call}.wav"
        return path if _ID.fullmatch(call) and path.is_file() else None

    async def keep(self, call: str, content: AsyncIterator[bytes]) -> int:
        """Store a recording, durably, in the place of an earlier one of the call; its octets.

        Raises TooLarge, ValueError for an id that is none, and OSError.
        """
        if not _ID.fullmatch(call):
            raise ValueError("an id of a call is up to 128 letters, digits, - and _")
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._folder / f"{call}.{uuid.uuid4().hex}{_UNFINISHED}"
        size = 0
        try:
            with part.open("wb") as file:
                async for chunk in content:
                    size += len(chunk)
                    if size > self._most:
                        raise TooLarge(f"a recording may have {self._most} octets")
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._folder / f"{call}.wav")
        finally:
            part.unlink(missing_ok=True)
        return size

    def drop(self, call: str) -> None:
        """Delete a call's recording, if there is one."""
        path = self.find(call)
        if path is not None:
            path.unlink(missing_ok=True)

    def drop_old(self, before_us: int, now_us: int) -> int:
        """Delete recordings that came before `before_us` and what uploads that broke off left; how many recordings went."""
        dropped = 0
        for path in self._folder.glob("*") if self._folder.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # another replica was quicker
                came = path.stat().st_mtime_ns // 1000
                if path.suffix == ".wav" and came < before_us:
                    path.unlink()
                    dropped += 1
                elif path.suffix == _UNFINISHED and came < now_us - _ABANDONED_US:
                    path.unlink()
        return dropped
