"""Measures how long SIP messages wait before they are read, and says so when new calls have to be refused for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from sidecar.net.clock import mono

log = structlog.get_logger()

PERIOD: Final = 0.1
_OCTETS_A_MESSAGE: Final = 2304
"""What the kernel books for an ordinary SIP datagram that waits."""


class Pressure:
    """`waiting`: octets that the kernel holds for us; `tell`: told the seconds that a message waits, returns the share that is let in."""

    def __init__(self, waiting: Callable[[], int], tell: Callable[[float], float]) -> None:
        self._waiting = waiting
        self._tell = tell
        self._refusing = False
        self.read = 0
        """Messages so far. Whoever reads them counts them here."""

    async def watch(self) -> None:
        """Until cancelled."""
        waited = False
        while True:
            began, before = mono(), self.read
            await asyncio.sleep(PERIOD)
            elapsed = mono() - began
            messages = self._waiting() / _OCTETS_A_MESSAGE
            # While messages wait the loop reads them as fast as it can, so what it read tells how long the rest will take. That says
            # nothing where none waited when it began: the loop was idle until a moment ago, when these came together.
            queued = messages * elapsed / max(1, self.read - before) if waited else 0.0
            waited = messages > 0
            self._say(self._tell(max(elapsed - PERIOD, queued)))

    def _say(self, share: float) -> None:
        refusing = share < 1.0
        if refusing and not self._refusing:
            log.warning("overloaded", note="some new calls get 503 with Retry-After; live ones go on")
        elif self._refusing and not refusing:
            log.info("overload is over")
        self._refusing = refusing
