"""What empties the outbox: one worker a destination claims, sends, settles, so that a receiver that hangs delays no other.

A worker is woken when something is queued or falls due. It also looks from time to time, because another replica's leases end unannounced.
A destination that has failed several times in a row is left alone for longer and longer and then tried with one delivery: thousands that
wait would each find out for themselves otherwise, at the cost of what comes in meanwhile. Each delivery's own pauses are the outbox's.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError

from control.clock import SECOND, now_us
from control.contract.call import Call
from control.delivery import outbox
from control.delivery.destination import Delivered, Destination, Later, Parcel, Refused, Result
from control.store import Store
from control.store.faults import brief
from control.store.uploads import Seal

log = structlog.get_logger()

UPLOAD = "recording_upload"
"""The member of an answer that only the evaluator can give, and that the sender of the report needs."""
_LONGEST_SLEEP_S = 30.0
_LONGEST_SLEEP_BESIDE_OTHERS_S = 2.0
_DATABASE_PAUSE_S = 1.0
_MOST_REPLIES = 512
_SHORTEST_SLEEP_S = 0.02
"""Also what is waited for after being woken: under load, many wake-ups are one look."""
_ILL_AFTER = 8
"""Failures in a row after which the destination is ill, and not the delivery."""
_FIRST_REST_S = 0.25
_LONGEST_REST_S = 30.0


class Worker:
    """One a destination. `run` owns every attempt it starts; cancelling it cancels them, and their leases bring them back."""

    def __init__(
        self,
        store: Store,
        name: str,
        destination: Destination,
        key_of: Callable[[bytes | None], str | None],
        *,
        owner: str,
        waits: outbox.Patience,
        lease_s: float,
        changed: Callable[[Call], None],
        parallel: int = 8,
        seal: Seal | None = None,
    ) -> None:
        self._store = store
        self.name = name
        self._destination = destination
        self._key_of = key_of
        self._owner = owner
        self._waits = waits
        self._lease_us = int(lease_s * SECOND)
        self._changed = changed
        self._free = self._parallel = parallel
        self._seal = seal
        self.queued: Callable[[], None] = self.wake
        """Called when an answer has put something into the outbox, of whatever destination."""
        self._held_until = 0.0
        """On the monotonic clock: what is only this process's must not wait for a wall clock that was set back."""
        self._failures = 0
        self._longest_sleep_s = _LONGEST_SLEEP_S if store.single_process else _LONGEST_SLEEP_BESIDE_OTHERS_S
        self._wake = asyncio.Event()
        self._stopping = False
        self._waiters: dict[int, asyncio.Future[dict[str, object]]] = {}
        self._replies: OrderedDict[int, dict[str, object]] = OrderedDict()
        """The last answers that held something for the sender, by delivery: one that lost control's answer asks again."""
        self.results = {"delivered": 0, "later": 0, "dead": 0}

    def describe(self) -> dict[str, object]:
        """Free slots, how long the destination wants to be left alone (s), and what became of all attempts."""
        held = max(0.0, self._held_until - monotonic())
        return {"owner": self._owner, "free": self._free, "held_s": round(held, 1), "failures_in_a_row": self._failures, **self.results}

    def wake(self) -> None:
        """Look at the outbox now."""
        self._wake.set()

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping = True
        self._wake.set()

    async def reply(self, delivery: int, timeout_s: float) -> dict[str, object]:
        """The destination's answer to a delivery, for a sender that needs something out of it; empty when it does not come in time."""
        if delivery in self._replies:
            return self._replies[delivery]
        waiter = self._waiters.setdefault(delivery, asyncio.get_running_loop().create_future())
        self.wake()
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(waiter)
        except TimeoutError:
            return {}
        finally:
            self._waiters.pop(delivery, None)

    async def run(self) -> None:
        """Deliver until cancelled, or until `stop` and the attempts under way are over. A database that fails is waited for."""
        async with asyncio.TaskGroup() as attempts:
            while not self._stopping:
                self._wake.clear()
                try:
                    pause = await self._round(attempts)
                except SQLAlchemyError as error:
                    log.error("outbox cannot be read", destination=self.name, error=brief(error))
                    await asyncio.sleep(_DATABASE_PAUSE_S)
                    continue
                try:
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                        await asyncio.sleep(_SHORTEST_SLEEP_S)
                except TimeoutError:
                    continue

    async def _round(self, attempts: asyncio.TaskGroup) -> float:
        """Start what is due and say how long to sleep."""
        now = now_us()
        ill = self._failures >= _ILL_AFTER
        if self._free == 0 or (ill and self._free < self._parallel):
            return self._longest_sleep_s
        if (held := self._held_until - monotonic()) > 0:
            return min(self._longest_sleep_s, held)
        limit = 1 if ill else self._free
        claimed = await outbox.claim(self._store, self.name, self._owner, now, limit=limit, lease_us=self._lease_us, waits=self._waits)
        for call in claimed.changed:
            self._changed(call)
        for row in claimed.rows:
            self._free -= 1
            attempts.create_task(self._attempt(row), name=f"delivery-{row.id}")
        if claimed.next_due is None:
            return self._longest_sleep_s
        # What is due and was not claimed is another replica's just now, or waits for a free slot.
        return min(self._longest_sleep_s, max(_SHORTEST_SLEEP_S, (claimed.next_due - now) / SECOND))

    async def _attempt(self, row: sa.Row[Any]) -> None:
        try:
            result = await self._destination.send(self._parcel(row))
            await self._settle(row, result)
        except SQLAlchemyError as error:  # the lease ends by itself and the same bytes are sent again
            log.error("delivery not settled", delivery=row.id, error=brief(error))
        finally:
            self._free += 1
            self.wake()

    async def _settle(self, row: sa.Row[Any], result: Result) -> None:
        call = await outbox.settle(self._store, row, self._owner, result, now_us(), random.random(), self._seal)  # noqa: S311  jitter, no secret
        told = {"delivery": row.id, "kind": row.kind, "call_id": row.label, "attempt": row.attempts, "call": row.call}
        match result:
            case Delivered(evidence, reply):
                self._failures = 0
                self.results["delivered"] += 1
                log.info("delivered", evidence=evidence, **told)
                self._keep(row.id, reply)
                if UPLOAD in reply:
                    self.queued()
                waiter = self._waiters.get(row.id)
                if waiter is not None and not waiter.done():
                    waiter.set_result(reply)
            case Later(cause, after_s):
                self.results["later"] += 1
                self._hold(after_s)
                log.warning("delivery put off", cause=cause, **told)
            case Refused(cause):
                self._failures = 0
                self.results["dead"] += 1
                log.error("delivery refused", cause=cause, **told)
        if call is not None:
            self._changed(call)

    def _keep(self, delivery: int, reply: dict[str, object]) -> None:
        if UPLOAD in reply:
            self._replies[delivery] = reply
            while len(self._replies) > _MOST_REPLIES:
                self._replies.popitem(last=False)

    def _hold(self, after_s: float | None) -> None:
        """Leave the destination alone: as long as it asked for, which it did not for one delivery alone, or because it is ill."""
        if after_s is None:
            self._failures += 1
            again = self._failures - _ILL_AFTER
            after_s = min(_LONGEST_REST_S, _FIRST_REST_S * 2.0 ** min(again, 16)) if again >= 0 else 0.0
        self._held_until = max(self._held_until, monotonic() + after_s)

    def _parcel(self, row: sa.Row[Any]) -> Parcel:
        return Parcel(
            delivery=row.id,
            kind=row.kind,
            label=row.label,
            body=row.body,
            content_type=row.content_type,
            workspace=row.workspace,
            agent=row.agent,
            key=self._key_of(row.credential),
            attempts=row.attempts,
            report=row.report,
            call=row.call,
        )
