"""Recordings and captures on disk: one of each a call, whole or not there, for so many days."""

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
AUDIO: Final = {".wav": "audio/wav", ".ogg": "audio/ogg"}
"""Endings of recordings, and as what they are given out."""
_CAPTURE: Final = ".pcap"
_ABANDONED_US: Final = 3600 * SECOND


class TooLarge(Exception):
    """A recording goes beyond what one may have. The text says how much that is."""


class Recordings:
    """A folder, made with the first recording. Several processes may share it."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most = folder, most_bytes

    def find(self, call: str) -> Path | None:
        """The recording of a call, if there is one; its ending is one of `AUDIO`."""
        return next((path for ending in AUDIO if (path := self._file(call, ending)) is not None), None)

    def find_capture(self, call: str) -> Path | None:
        """The packets of a call, if they were kept."""
        return self._file(call, _CAPTURE)

    async def keep(self, call: str, content: AsyncIterator[bytes], ending: str = ".wav") -> int:
        """Store a recording, durably, in the place of an earlier one of the call, whatever its form; its octets.

        Raises TooLarge, ValueError for an id that is none, and OSError.
        """
        size = await self._keep(call, content, ending)
        for other in AUDIO:
            if other != ending and (path := self._file(call, other)) is not None:
                path.unlink(missing_ok=True)
        return size

    async def keep_capture(self, call: str, content: AsyncIterator[bytes]) -> int:
        """As `keep`, of a call's packets."""
        return await self._keep(call, content, _CAPTURE)

    async def _keep(self, call: str, content: AsyncIterator[bytes], ending: str) -> int:
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
            part.replace(self._folder / f"{call}{ending}")
        finally:
            part.unlink(missing_ok=True)
        return size

    def drop(self, call: str) -> None:
        """Delete what is kept of a call, if there is anything."""
        for ending in (*AUDIO, _CAPTURE):
            if (path := self._file(call, ending)) is not None:
                path.unlink(missing_ok=True)

    def _file(self, call: str, ending: str) -> Path | None:
        path = self._folder / f"{call}{ending}"
        return path if _ID.fullmatch(call) and path.is_file() else None

    def drop_old(self, before_us: int, now_us: int) -> int:
        """Delete recordings and captures that came before `before_us` and what uploads that broke off left; how many went."""
        dropped = 0
        for path in self._folder.glob("*") if self._folder.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # another replica was quicker
                came = path.stat().st_mtime_ns // 1000
                if path.suffix in (*AUDIO, _CAPTURE) and came < before_us:
                    path.unlink()
                    dropped += 1
                elif path.suffix == _UNFINISHED and came < now_us - _ABANDONED_US:
                    path.unlink()
        return dropped
