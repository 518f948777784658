"""Calls between the replicas of control on one PostgreSQL: short texts on a channel, heard by whoever listens.

A lost one costs a second or two, since everything that is called out can be found in a table too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from control.store import Store
from control.store.faults import brief

log = structlog.get_logger()

CHANNEL = "trunkside_fleet"
_PAUSE_S = 1.0
_QUIET_S = 10.0


async def ring(conn: AsyncConnection, text: str) -> None:
    """Call out, when the transaction of `conn` is committed. PostgreSQL only."""
    await conn.execute(sa.select(sa.func.pg_notify(CHANNEL, text)))


class Bell:
    """Listens, and gives each text to `heard`; `back` is called whenever it listens anew, for what was missed."""

    def __init__(self, store: Store, heard: Callable[[str], None], back: Callable[[], None]) -> None:
        self._store = store
        self._heard = heard
        self._back = back
        self.connected = False

    async def run(self) -> None:
        """Listen until cancelled; a connection that breaks is made again."""
        while True:
            try:
                await self._listen()
            except SQLAlchemyError as error:
                log.warning("the fleet's calls of other replicas are not heard", error=brief(error))
            finally:
                self.connected = False
            await asyncio.sleep(_PAUSE_S)

    async def _listen(self) -> None:
        async with self._store.connected() as conn:
            driver: Any = (await conn.get_raw_connection()).driver_connection
            over = asyncio.Event()
            driver.add_termination_listener(lambda _: over.set())
            await driver.add_listener(CHANNEL, self._hear)
            try:
                self.connected = True
                self._back()
                while not over.is_set():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_QUIET_S):
                            await over.wait()
                    await conn.execute(sa.select(1))  # notices a server that went without a word
            finally:
                if not driver.is_closed():
                    await driver.remove_listener(CHANNEL, self._hear)

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: str) -> None:
        self._heard(payload)
