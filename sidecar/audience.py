"""Those who listen in on one live call. None of them can hold up the call, its analysis, or another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

MOST: Final = 4
"""Listeners to one call."""
_PIECES: Final = 25
"""Pieces of audio, five seconds or so, that wait for a listener; the oldest goes when one more comes."""


class Full(Exception):
    """As many listen already as may."""


class Audience:
    """`changed` is told when the first one comes and when the last one goes."""

    def __init__(self, changed: Callable[[bool], None]) -> None:
        self._changed = changed
        self._queues: set[asyncio.Queue[bytes | None]] = set()
        self._over = False

    def __len__(self) -> int:
        return len(self._queues)

    def hear(self, audio: bytes) -> None:
        """Give everyone a piece of audio."""
        for queue in self._queues if audio else ():
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(audio)

    def end(self) -> None:
        """There is nothing more to hear."""
        self._over = True
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)

    async def listen(self) -> AsyncIterator[bytes]:
        """Pieces of audio until the end, an empty one at once. Close it when done. Raises Full."""
        if len(self._queues) >= MOST:
            raise Full
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_PIECES)
        self._queues.add(queue)
        if len(self._queues) == 1:
            self._changed(True)
        try:
            yield b""
            while not self._over and (audio := await queue.get()) is not None:
                yield audio
        finally:
            self._queues.discard(queue)
            if not self._queues:
                self._changed(False)
