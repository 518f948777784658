"""Commands for a sidecar that is connected to another replica: they go through the database, sealed, and so do their answers.

Whoever asks writes the order and calls; whoever has the sidecar does it and writes each answer. Both also look by themselves every second.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from control.clock import SECOND, now_us
from control.contract.fleet import ORDER, Done, Order, Progress, Trouble
from control.fleet.bell import ring
from control.fleet.link import Step, Undone
from control.store import Store
from control.store.faults import brief
from control.store.rows import clip
from control.store.schema import answers, commands
from control.store.vault import Vault

log = structlog.get_logger()

COMMAND, ANSWER = "command", "answer"
_LOOK_S = 1.0
_MARGIN_S = 2.0
_KEPT_US = 60 * SECOND

Here = Callable[[str, Order, float, Step], Awaitable[dict[str, Any]]]


class Relay:
    """Both ends of it. `here` does an order with a sidecar of this replica; raises Undone."""

    def __init__(self, store: Store, vault: Vault, here: Here) -> None:
        self._store = store
        self._vault = vault
        self._here = here
        self._called = asyncio.Event()
        self._waiting: dict[str, asyncio.Event] = {}
        self._begun: set[str] = set()

    def heard(self, kind: str, rest: str) -> None:
        """A call came: its kind, and the command and the replica that it is for."""
        command, _, replica = rest.partition(" ")
        if replica != self._store.name:
            return
        if kind == COMMAND:
            self._called.set()
        elif kind == ANSWER and command in self._waiting:
            self._waiting[command].set()

    def back(self) -> None:
        """Calls may have been missed."""
        self._called.set()

    # -- the replica that asks ---------------------------------------------------------------------------------------------------------

    async def order(self, sidecar: str, replica: str, order: Order, deadline_s: float, step: Step) -> dict[str, Any]:
        """Have the sidecar at `replica` do something. Raises Undone."""
        try:
            sealed = self._vault.seal(order.model_dump_json())
        except ValueError:
            detail = (
                f"sidecar {sidecar} is connected to another replica, and orders go there encrypted: set secret_key_file, the same for all"
            )
            raise Undone(409, detail) from None
        name, now = uuid.uuid4().hex, now_us()
        row = {
            "id": name,
            "sidecar": clip(sidecar, 128),
            "asked_by": self._store.name,
            "meant_for": replica,
            "deadline_us": now + int(deadline_s * SECOND),
            "sealed": sealed,
        }

        async def ask(conn: AsyncConnection) -> None:
            await conn.execute(sa.delete(commands).where(commands.c.deadline_us < now - _KEPT_US))
            await conn.execute(sa.insert(commands).values(row))
            await ring(conn, f"{COMMAND} {name} {replica}")

        called = self._waiting[name] = asyncio.Event()
        try:
            await self._store.run(ask)
            async with asyncio.timeout(deadline_s + _MARGIN_S):
                return await self._answered(name, called, step)
        except TimeoutError:
            raise Undone(504, f"sidecar {sidecar}, at another replica, did not answer within {deadline_s:g} s: ask again") from None
        finally:
            del self._waiting[name]
            await self._forget(name)

    async def _answered(self, name: str, called: asyncio.Event, step: Step) -> dict[str, Any]:
        last = 0
        while True:
            async with self._store.read() as conn:
                new = sa.select(answers.c.n, answers.c.doc).where(answers.c.command == name, answers.c.n > last).order_by(answers.c.n)
                found = (await conn.execute(new)).all()
            for row in found:
                last = row.n
                done = _answer(row.doc)
                if isinstance(done, Progress):
                    step(done.step)
                elif done.trouble is not None:
                    raise Undone(done.trouble.status, done.trouble.detail)
                else:
                    return done.result or {}
            if found:
                await self._store.run(lambda conn, last=last: _read(conn, name, last))  # type: ignore[misc]
            await _heard(called)

    async def _forget(self, name: str) -> None:
        async def work(conn: AsyncConnection) -> None:
            await conn.execute(sa.delete(commands).where(commands.c.id == name))

        try:
            await self._store.run(work)
        except SQLAlchemyError as error:
            log.warning("a command stays in the table until the next one", error=brief(error))

    # -- the replica that has the sidecar ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Do what other replicas ask for, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await _heard(self._called)
                try:
                    async with self._store.read() as conn:
                        mine = (commands.c.meant_for == self._store.name) & (commands.c.deadline_us > now_us())
                        found = (await conn.execute(sa.select(commands).where(mine))).all()
                except SQLAlchemyError as error:
                    log.warning("what other replicas ask for cannot be read", error=brief(error))
                    continue
                self._begun &= {row.id for row in found}
                for row in found:
                    if row.id not in self._begun:
                        self._begun.add(row.id)
                        tasks.create_task(self._do(row), name=f"command {row.id}")

    async def _do(self, row: Any) -> None:
        """Do one command and write down every answer, in order, as long as somebody waits for them."""
        told: asyncio.Queue[Progress | None] = asyncio.Queue()
        working = asyncio.create_task(self._result(row, lambda step: told.put_nowait(Progress(id=row.id, step=step))), name="work")
        working.add_done_callback(lambda _: told.put_nowait(None))
        try:
            n = 1
            while (step := await told.get()) is not None:
                if not await self._tell(row, n, step):
                    return
                n += 1
            await self._tell(row, n, working.result())
        except SQLAlchemyError as error:
            log.warning("the answer to another replica's command is lost", command=row.id, error=brief(error))
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _tell(self, row: Any, n: int, answer: Progress | Done) -> bool:
        """Write an answer; False where nobody waits for it any more."""
        told = False

        async def write(conn: AsyncConnection) -> None:
            nonlocal told
            # Whoever asked takes the command away when it gives up.
            told = await conn.scalar(sa.select(commands.c.id).where(commands.c.id == row.id).with_for_update()) is not None
            if told:
                await conn.execute(sa.insert(answers).values(command=row.id, n=n, doc=answer.model_dump_json()))
                await ring(conn, f"{ANSWER} {row.id} {row.asked_by}")

        await self._store.run(write)
        return told

    async def _result(self, row: Any, step: Step) -> Done:
        opened = self._vault.open(row.sealed)
        if opened is None:
            detail = "the replica that has the sidecar cannot open the order: give all replicas the same secret_key_file"
            return Done(id=row.id, trouble=Trouble(status=409, detail=detail))
        left_s = max(0.1, (row.deadline_us - now_us()) / SECOND)
        try:
            return Done(id=row.id, result=await self._here(row.sidecar, ORDER.validate_json(opened), left_s, step))
        except Undone as undone:
            return Done(id=row.id, trouble=Trouble(status=undone.status, detail=undone.detail))


async def _read(conn: AsyncConnection, name: str, last: int) -> None:
    """Answers that were read are not kept: one command may have thousands, as when somebody listens in."""
    await conn.execute(sa.delete(answers).where(answers.c.command == name, answers.c.n <= last))


async def _heard(called: asyncio.Event) -> None:
    """Wait for a call, or a while: what nobody called out is looked for all the same."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LOOK_S):
            await called.wait()
    called.clear()


def _answer(doc: str) -> Progress | Done:
    return Done.model_validate_json(doc) if '"type":"done"' in doc[:20] else Progress.model_validate_json(doc)
