"""Live events for watchers: bounded queues, and a slow reader is dropped with a reason."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from control.contract.call import Call

QUEUE = 256
_KEEPALIVE_S = 15.0


class Broker:
    """Tells every watcher about every call that changed."""

    def __init__(self) -> None:
        self._watchers: set[asyncio.Queue[str]] = set()
        self._overrun: set[asyncio.Queue[str]] = set()
        self._closing = asyncio.Event()
        self.dropped = 0

    def describe(self) -> dict[str, object]:
        """How many watch, and how many were dropped because they read too slowly."""
        return {"watchers": len(self._watchers), "dropped": self.dropped}

    def call_changed(self, call: Call) -> None:
        """Announce a call: its identity, state and verdict; details are for the API."""
        brief: dict[str, object] = {"id": call.id, "sip_call_id": call.sip_call_id, "kind": call.kind, "route": call.route}
        brief |= {"sidecar": call.sidecar}
        brief |= {"status": call.status, "ended": call.ended_at is not None, "outcome": call.verdict.outcome, "turns": len(call.turns)}
        message = f"event: call\ndata: {json.dumps(brief)}\n\n"
        for queue in list(self._watchers):
            try:
                queue.put_nowait(message)
            except asyncio.QueueFull:
                self._watchers.discard(queue)
                self._overrun.add(queue)
                self.dropped += 1

    def close(self) -> None:
        """End all streams."""
        self._closing.set()

    @contextmanager
    def watch(self) -> Iterator[asyncio.Queue[str]]:
        """A queue of messages for as long as the block lasts."""
        queue: asyncio.Queue[str] = asyncio.Queue(QUEUE)
        self._watchers.add(queue)
        try:
            yield queue
        finally:
            self._watchers.discard(queue)
            self._overrun.discard(queue)

    async def stream(self, response: web.StreamResponse) -> None:
        """Write events until the reader goes, falls behind, or control stops."""
        with self.watch() as queue:
            closing = asyncio.create_task(self._closing.wait())
            try:
                await response.write(b": trunkside events\n\n")
                while not closing.done():
                    if queue in self._overrun and queue.empty():
                        await response.write(b'event: dropped\ndata: {"reason": "the reader is too slow"}\n\n')
                        return
                    await self._next(queue, closing, response)
            finally:
                closing.cancel()

    async def _next(self, queue: asyncio.Queue[str], closing: asyncio.Task[bool], response: web.StreamResponse) -> None:
        message = asyncio.create_task(queue.get())
        try:
            await asyncio.wait({message, closing}, timeout=_KEEPALIVE_S, return_when=asyncio.FIRST_COMPLETED)
            if message.done():
                await response.write(message.result().encode())
            elif not closing.done():
                await response.write(b": still here\n\n")
        finally:
            message.cancel()
