"""Live events for watchers: every change of a call as a snapshot of its state, bounded queues, and a slow reader is dropped with a reason.

An event's id is the time of the change in microseconds. A watcher that comes back with `Last-Event-ID` is told of all calls that changed
since, from the store, so it may have been away through a restart or talk to another replica. Because an event is a snapshot, one that comes
twice does no harm, and what happened shortly before the id is told again: transactions do not end in the order of their clocks.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from aiohttp import web

from control.api.problems import Problem
from control.clock import SECOND, now_us
from control.contract.answers import CallEvent
from control.contract.call import Call
from control.store import Store, rows
from control.store.schema import calls

QUEUE = 4096
MOST_WATCHERS = 256
_KEEPALIVE_S = 15.0
_LOOK_S = 1.0
_STALLED_S = 30.0
"""A reader that takes nothing for so long is cut off: it would not read a reason either."""
_OVERLAP_US = 15 * SECOND
_PAGE = 200
_MOST_REPLAYED = 5000

Wants = Callable[[Call], bool]


class _Watcher:
    def __init__(self, wants: Wants) -> None:
        self.wants = wants
        self.queue: asyncio.Queue[str] = asyncio.Queue(QUEUE)
        self.overrun = False


class Broker:
    """Tells every watcher about every call that changed."""

    def __init__(self) -> None:
        self._watchers: set[_Watcher] = set()
        self._closing = asyncio.Event()
        self._last_id = 0
        self.dropped = 0

    def describe(self) -> dict[str, object]:
        """How many watch, and how many were dropped because they read too slowly."""
        return {"watchers": len(self._watchers), "dropped": self.dropped}

    def call_changed(self, call: Call) -> None:
        """Announce a call: its identity, state and verdict; details are for the API."""
        self._last_id = max(now_us(), self._last_id + 1)
        message = _event(call, self._last_id)
        for watcher in [each for each in self._watchers if each.wants(call)]:
            try:
                watcher.queue.put_nowait(message)
            except asyncio.QueueFull:
                self._watchers.discard(watcher)
                watcher.overrun = True
                self.dropped += 1

    def close(self) -> None:
        """End all streams."""
        self._closing.set()

    @contextmanager
    def _watch(self, wants: Wants) -> Iterator[_Watcher]:
        watcher = _Watcher(wants)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    def make_room(self) -> None:
        """Raises Problem 503 when as many watch as may."""
        if len(self._watchers) >= MOST_WATCHERS:
            raise Problem(503, f"{MOST_WATCHERS} readers watch already: try again later", headers={"Retry-After": "10"})

    async def stream(self, request: web.Request, response: web.StreamResponse, wants: Wants, missed: AsyncIterator[str]) -> None:
        """Write what was `missed`, then events as they come, until the reader goes, falls behind, or control stops."""
        with self._watch(wants) as watcher:  # before the store is asked, so that nothing falls between the two
            closing = asyncio.create_task(self._closing.wait())
            began = now_us()
            try:
                async with asyncio.timeout(None) as patience:
                    await _write(response, patience, ": trunkside events\nretry: 2000\n\n")
                    async for message in missed:
                        await _write(response, patience, message)
                    # Not sooner: a reader that breaks off among what it missed would come back as one that has heard all of it.
                    await _write(response, patience, f"id: {began}\n\n")
                    while not closing.done():
                        if watcher.overrun and watcher.queue.empty():
                            reason = {"reason": f"the reader is too slow: {QUEUE} events waited for it"}
                            await _write(response, patience, f"event: dropped\ndata: {json.dumps(reason)}\n\n")
                            return
                        message = await _next(watcher.queue, closing, request)
                        await _write(response, patience, message)
            except TimeoutError:
                self.dropped += 1
                if request.transport is not None:
                    request.transport.abort()
            except ConnectionError:
                return  # the reader went
            finally:
                closing.cancel()


async def _write(response: web.StreamResponse, patience: asyncio.Timeout, message: str) -> None:
    patience.reschedule(asyncio.get_running_loop().time() + _STALLED_S)
    await response.write(message.encode("utf-8", "replace"))
    patience.reschedule(None)


async def _next(queue: asyncio.Queue[str], closing: asyncio.Task[bool], request: web.Request) -> str:
    """The next event, or a comment when nothing happens for a while. Raises ConnectionResetError when the reader has gone."""
    message = asyncio.create_task(queue.get())
    quiet_until = asyncio.get_running_loop().time() + _KEEPALIVE_S
    try:
        while not message.done() and not closing.done() and asyncio.get_running_loop().time() < quiet_until:
            await asyncio.wait({message, closing}, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if request.transport is None:  # nothing else tells that a reader went while there was nothing to write
                raise ConnectionResetError
        return message.result() if message.done() else ": still here\n\n"
    finally:
        message.cancel()


async def changed_since(store: Store, last_id: int | None, wants: Wants) -> AsyncIterator[str]:
    """Events for the calls that changed after the event `last_id`, oldest change first; none for None.

    When there are too many, an event `gap` says so: then the list of calls tells more quickly.
    """
    if last_id is None:
        return
    after: tuple[int, str] = (last_id - _OVERLAP_US, "")
    for _ in range(_MOST_REPLAYED // _PAGE):
        later = sa.tuple_(calls.c.updated_us, calls.c.id) > sa.tuple_(sa.literal(after[0]), sa.literal(after[1]))
        wanted = sa.select(calls.c.updated_us, calls.c.id, calls.c.doc).where(later).order_by(calls.c.updated_us, calls.c.id).limit(_PAGE)
        async with store.read() as conn:
            found = (await conn.execute(wanted)).all()
        for row in found:
            call = rows.read_call(row.doc)
            if wants(call):
                yield _event(call, row.updated_us)
        if len(found) < _PAGE:
            return
        after = (found[-1].updated_us, found[-1].id)
    reason = {"reason": f"more than {_MOST_REPLAYED} calls changed since: read GET /v1/calls, then go on from here"}
    yield f"event: gap\ndata: {json.dumps(reason)}\n\n"


def last_event_id(request: web.Request) -> int | None:
    """The id that a watcher saw last. Raises Problem 400 for one that is none of ours."""
    text = request.headers.get("Last-Event-ID", "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 17:
        raise Problem(400, "Last-Event-ID is not one of ours: send the id of the last event that came, or none", parameter="Last-Event-ID")
    return int(text)


def wanted(**columns: Any) -> Wants:
    """Whether a call has all of these values; None means any."""
    asked = {name: value for name, value in columns.items() if value is not None}
    return lambda call: all(getattr(call, name) == value for name, value in asked.items())


def _event(call: Call, number: int) -> str:
    data = CallEvent(
        id=call.id,
        sip_call_id=call.sip_call_id,
        kind=call.kind,
        route=call.route,
        sidecar=call.sidecar,
        status=call.status,
        ended=call.ended_at is not None,
        outcome=call.verdict.outcome,
        turns=len(call.turns),
    )
    return f"id: {number}\nevent: call\ndata: {data.model_dump_json()}\n\n"
