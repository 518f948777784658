"""The reporter as the rest of the sidecar sees it: append, close, and two tasks that make traces durable and bring them to control."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from sidecar.reporter.pace import Pace
from sidecar.reporter.spool import Spool
from sidecar.reporter.uploader import Uploader

log = structlog.get_logger()


class Reporter:
    """A spool with its keeper (fsync, grouped, off the event loop) and its uploader."""

    def __init__(self, spool: Spool, *, url: str, token: str | None, sidecar: str, pace: Pace | None = None) -> None:
        """Arguments as for `Uploader`. Must be made inside a running event loop."""
        self.spool = spool
        self._pace = pace or Pace()
        self._uploader = Uploader(spool, url=url, token=token, sidecar=sidecar, pace=self._pace)
        self._changed = asyncio.Event()
        self._changed.set()
        spool.on_change = self._on_change

    def append(self, call: str, facts: Sequence[bytes]) -> None:
        """Add serialised facts to a call's trace; never raises for what the disk or control does."""
        self.spool.append(call, facts)

    def close(self, call: str) -> None:
        """The call's last fact was appended."""
        self.spool.close(call)

    async def run(self) -> None:
        """Keep and upload until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep(), name="spool keeper")
            tasks.create_task(self._uploader.run(), name="spool uploader")

    async def flush(self, deadline: float) -> int:
        """For a drain: sync what was closed, then upload for at most `deadline` seconds. Returns the traces that stay in the spool."""
        await self._tidy()
        await self._sync()
        return await self._uploader.flush(deadline)

    async def aclose(self) -> None:
        """Sync what was closed since, and give connections, descriptors and the lock back. Call it after `run` has ended."""
        await self._sync()
        await self._uploader.aclose()
        self.spool.shut()

    def describe(self) -> dict[str, Any]:
        """State of spool and uploader, for the admin API."""
        return {"spool": self.spool.describe(), "uploader": self._uploader.describe()}

    def _on_change(self) -> None:
        self._changed.set()
        self._uploader.wake()

    async def _keep(self) -> None:
        while True:
            if self.spool.refused_by_disk:
                await asyncio.sleep(self._pace.disk_retry)
                self.spool.retry()
                self._uploader.wake()
            else:
                await self._changed.wait()
                await asyncio.sleep(self._pace.sync)
            self._changed.clear()
            await self._tidy()
            await self._sync()

    async def _tidy(self) -> None:
        """Make files ahead, and give those that got a call its name."""
        chores = self.spool.take_chores()
        if chores.names or chores.spares:
            self.spool.done(await asyncio.to_thread(self.spool.do, chores))

    async def _sync(self) -> None:
        """All traces closed while the last sync ran share the next one."""
        traces = self.spool.take_unsynced()
        if traces:
            self.spool.note_sync(await asyncio.to_thread(self.spool.sync, traces))
