"""Changes of calls from other replicas on the same PostgreSQL: a trigger notifies in the transaction of the change, here they are heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from control.clock import SECOND, now_us
from control.contract.call import Call
from control.store import rows
from control.store.database import Store
from control.store.faults import brief
from control.store.schema import calls

log = structlog.get_logger()

CHANNEL = "trunkside_calls"
"""The payload is the call's id, a space, and the `application_name` of who changed it."""
_PAUSE_S = 1.0
_OVERLAP_US = 5 * SECOND
_MOST = 5000
_MOST_MISSED = 500


class Listener:
    """Tells `changed` of calls that another replica wrote, while they are `wanted`.

    A connection that breaks is made again, and what changed since it was last seen alive is told then. One that is quiet for `quiet_s` is
    tried, since a server may go without a word.
    """

    def __init__(self, store: Store, changed: Callable[[Call], None], wanted: Callable[[], bool], quiet_s: float = 10.0) -> None:
        self._store = store
        self._quiet_s = quiet_s
        self._changed = changed
        self._wanted = wanted
        self._heard: dict[str, None] = {}
        self._ring = asyncio.Event()
        self._alive_us: int | None = None
        self.connected = False
        self.dropped = 0

    def describe(self) -> dict[str, object]:
        """Whether it listens, and how many changes it could not keep up with."""
        return {"connected": self.connected, "dropped": self.dropped}

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except SQLAlchemyError as error:
                log.warning("live events of other replicas are not heard", error=brief(error))
            else:
                log.warning("live events of other replicas are not heard", error="the connection was closed")
            finally:
                self.connected = False
            await asyncio.sleep(_PAUSE_S)

    async def _listen(self) -> None:
        async with self._store.connected() as conn:
            driver: Any = (await conn.get_raw_connection()).driver_connection
            driver.add_termination_listener(self._ended)
            await driver.add_listener(CHANNEL, self._hear)
            try:
                self.connected = True
                await self._catch_up(now_us())
                while not driver.is_closed():
                    await self._next(conn)
            finally:
                if not driver.is_closed():
                    await driver.remove_listener(CHANNEL, self._hear)

    async def _next(self, conn: AsyncConnection) -> None:
        try:
            async with asyncio.timeout(self._quiet_s):
                await self._ring.wait()
        except TimeoutError:
            now = now_us()
            await conn.execute(sa.select(1))
            self._alive_us = now
            return
        now = now_us()
        self._ring.clear()
        ids, self._heard = list(self._heard), {}
        if ids and self._wanted():
            await self._tell(sa.select(calls.c.doc).where(calls.c.id.in_(ids[: rows.MOST_PARAMETERS])))
            for call_id in ids[rows.MOST_PARAMETERS :]:
                self._keep(call_id)
        self._alive_us = now

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: str) -> None:
        call_id, _, writer = payload.partition(" ")
        if writer != self._store.name:
            self._keep(call_id)

    def _ended(self, _connection: object) -> None:
        self._ring.set()

    def _keep(self, call_id: str) -> None:
        if len(self._heard) >= _MOST:
            self.dropped += 1
            return
        self._heard[call_id] = None
        self._ring.set()

    async def _catch_up(self, now: int) -> None:
        if self._alive_us is not None:
            since = self._alive_us - _OVERLAP_US
            await self._tell(sa.select(calls.c.doc).where(calls.c.updated_us > since).order_by(calls.c.updated_us).limit(_MOST_MISSED))
        self._alive_us = now

    async def _tell(self, wanted: sa.Select[Any]) -> None:
        async with self._store.read() as conn:
            found = list(await conn.scalars(wanted))
        for doc in found:
            self._changed(rows.read_call(doc))
