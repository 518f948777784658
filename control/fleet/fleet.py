"""The fleet as one control sees it: the sidecars that are connected here, and through the database those that are connected elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from control.clock import SECOND, as_text, now_us
from control.contract.fleet import Farewell, Order, SidecarSeen, Welcome
from control.fleet import registry, snapshots
from control.fleet.bell import Bell, ring
from control.fleet.link import SILENT_BEATS, Link, Step, Stranger, Undone
from control.fleet.registry import HEARTBEAT_S, Where
from control.fleet.relay import Relay
from control.fleet.snapshots import Stored
from control.store import Store
from control.store.faults import brief
from control.store.vault import Vault

log = structlog.get_logger()

MOST_LINKS = 2000
_LOOK_S = 5.0
"""Between two looks whether another replica has a newer snapshot, for a call that was not heard."""
_STORE_S = 2.0
"""A sidecar's state is stored no more often, unless it is news."""
_TWIN_S = 30.0
_SOON_S = 1.0
_STRANGER_S = 60.0
SNAPSHOT = "snapshot"
Allowed = Callable[[str], Awaitable[str | None]]
"""Why a sidecar of this name may not be served with the token that it showed, or not any more; None when it may."""


class Fleet:
    """Connections, snapshots and commands. Own it with a task that runs `run`."""

    def __init__(self, store: Store, vault: Vault, software: str) -> None:
        self.links: dict[str, Link] = {}
        self.current: Stored | None = None
        self.heartbeat_s = HEARTBEAT_S
        self._store = store
        self._vault = vault
        self._software = software
        self._relay = None if store.single_process else Relay(store, vault, self._order_here)
        self._bell = None if store.single_process else Bell(store, self._heard, self._back)
        self._look = asyncio.Event()
        self._closing = False

    def describe(self) -> dict[str, object]:
        """How many are connected here, the newest version, and why it cannot be handed out, if so."""
        told: dict[str, object] = {"connected": len(self.links), "version": self.current.version if self.current is not None else 0}
        if self.current is not None and self.current.passwords is None:
            told["problem"] = "the passwords of routes cannot be opened: secret_key_file is not the key that sealed them"
        return told | ({"replicas": {"connected": self._bell.connected}} if self._bell is not None else {})

    # -- life --------------------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read the newest snapshot. Nobody is connected to this process yet, whatever a former one left in the table."""
        await self._store.run(lambda conn: registry.forget(conn, None if self._store.single_process else self._store.name))
        await self.refresh()

    async def run(self) -> None:
        """Follow other replicas until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            if self._bell is not None:
                tasks.create_task(self._bell.run(), name="fleet bell")
            if self._relay is not None:
                tasks.create_task(self._relay.run(), name="fleet relay")
            while True:
                with contextlib.suppress(TimeoutError):  # nobody called: look all the same
                    async with asyncio.timeout(_LOOK_S):
                        await self._look.wait()
                self._look.clear()
                try:
                    await self.refresh()
                except SQLAlchemyError as error:
                    log.warning("the fleet's configuration cannot be read, the known one stays", error=brief(error))

    async def close(self) -> None:
        """End all connections: the sidecars come back to another replica, or when this one is here again."""
        self._closing = True
        await asyncio.gather(*(link.farewell("control is stopping", _SOON_S) for link in list(self.links.values())))

    def _heard(self, text: str) -> None:
        kind, _, rest = text.partition(" ")
        if kind == SNAPSHOT:
            self._look.set()
        elif self._relay is not None:
            self._relay.heard(kind, rest)

    def _back(self) -> None:
        self._look.set()
        if self._relay is not None:
            self._relay.back()

    # -- connections -------------------------------------------------------------------------------------------------------------------

    async def serve(self, socket: web.WebSocketResponse, source: str | None, allowed: Allowed) -> None:
        """Serve a connection until it ends. `allowed` is awaited with the sidecar's name, at first and now and then."""
        try:
            link = await Link.accept(socket)
        except Stranger as stranger:
            log.warning("no sidecar", source=source, detail=str(stranger))
            await socket.send_str(Farewell(reason=str(stranger), retry_s=_STRANGER_S).model_dump_json())
            return
        if self._closing or len(self.links) >= MOST_LINKS:
            await link.farewell(
                f"{MOST_LINKS} sidecars are connected here already" if not self._closing else "control is stopping", _SOON_S
            )
            return
        if (why := await allowed(link.name)) is not None:
            log.warning("no sidecar", source=source, detail=why)
            await link.farewell(why, _STRANGER_S)
            return
        await self._replace(link)
        self.links[link.name] = link
        log.info("sidecar connected", sidecar=link.name, source=source, software=link.hello.software)
        stored_at = 0

        async def changed(news: bool) -> None:
            nonlocal stored_at
            if (why := await allowed(link.name)) is not None:
                await link.farewell(why, _TWIN_S)
            elif news or link.heard_us - stored_at >= _STORE_S * SECOND:
                stored_at = link.heard_us
                await self._store.run(lambda conn: registry.note(conn, link, self._store.name))

        why = "connection closed"
        try:
            await link.send(Welcome(software=self._software, heartbeat_s=self.heartbeat_s))
            await changed(True)
            await self._offer(link)
            await link.follow(SILENT_BEATS * self.heartbeat_s, changed)
        except Stranger as stranger:
            why = str(stranger)
        except SQLAlchemyError as error:
            why = f"the database cannot be used: {brief(error)}"
        finally:
            link.end()
            if self.links.get(link.name) is link:
                del self.links[link.name]
            log.info("sidecar gone", sidecar=link.name, why=why)
        await self._gone(link)

    async def _replace(self, link: Link) -> None:
        before = self.links.pop(link.name, None)
        if before is None:
            return
        if before.hello.instance != link.hello.instance:
            log.warning("two sidecars of one name, or one that was started anew", sidecar=link.name)
        await before.farewell(f"another connection came under the name {link.name}: give each sidecar a name of its own", _TWIN_S)

    async def _gone(self, link: Link) -> None:
        try:
            await self._store.run(lambda conn: registry.gone(conn, link, self._store.name))
        except SQLAlchemyError as error:
            log.warning(
                "that a sidecar has gone is not stored: it shows within seconds all the same", sidecar=link.name, error=brief(error)
            )

    # -- snapshots ---------------------------------------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Read the newest snapshot, and send it to whoever has another. Raises SQLAlchemyError."""
        async with self._store.read() as conn:
            if await snapshots.newest_id(conn) == (self.current.id if self.current is not None else None):
                return
            self.current = await snapshots.newest(conn, self._vault)
        await asyncio.gather(*(self._offer(link) for link in list(self.links.values())))

    async def _offer(self, link: Link) -> None:
        snapshot = self.current.sent(link.name) if self.current is not None else None
        if snapshot is not None:
            await link.offer(snapshot)
        elif self.current is not None:
            log.error("snapshot not sent: its passwords cannot be opened with this key", sidecar=link.name, version=self.current.version)

    async def announce(self, conn: AsyncConnection) -> None:
        """Tell the other replicas of a new snapshot, when the transaction of `conn` is committed."""
        if self._bell is not None:
            await ring(conn, SNAPSHOT)

    # -- commands ----------------------------------------------------------------------------------------------------------------------

    async def connected(self) -> dict[str, Where]:
        """All sidecars that are connected, here or elsewhere."""
        async with self._store.read() as conn:
            found = await registry.connected(conn, now_us(), self.heartbeat_s)
        found |= {name: Where(self._store.name, link.heard_us, link.state) for name, link in self.links.items()}
        return found

    async def order(self, sidecar: str, order: Order, deadline_s: float, step: Step = lambda _: None) -> dict[str, Any]:
        """Have a sidecar do something; `step` hears of its progress. Raises Undone."""
        if sidecar in self.links:
            return await self._order_here(sidecar, order, deadline_s, step)
        where = (await self.connected()).get(sidecar)
        if where is None or where.replica is None:
            raise await self._absent(sidecar)
        if self._relay is None or where.replica == self._store.name:
            raise await self._absent(sidecar)
        return await self._relay.order(sidecar, where.replica, order, deadline_s, step)

    async def _order_here(self, sidecar: str, order: Order, deadline_s: float, step: Step) -> dict[str, Any]:
        link = self.links.get(sidecar)
        if link is None:
            raise await self._absent(sidecar)
        return await link.order(order, deadline_s, step)

    async def _absent(self, sidecar: str) -> Undone:
        async with self._store.read() as conn:
            heard_us = await registry.known(conn, sidecar)
        if heard_us is None:
            return Undone(404, f"no sidecar named {sidecar} was ever seen here: GET /v1/sidecars lists them")
        mend = "check that it runs, and that its control.url and control.token (scope sidecar) are right"
        return Undone(409, f"sidecar {sidecar} is not connected, it was last heard of at {as_text(heard_us)}: {mend}")

    async def seen(self) -> list[SidecarSeen]:
        """All sidecars that are known."""
        wanted = (self.current.id, self.current.version) if self.current is not None else None
        async with self._store.read() as conn:
            return await registry.seen(conn, wanted, now_us(), self.heartbeat_s)
