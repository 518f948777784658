"""What the database knows of sidecars: who is connected, to which replica, and what each told last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from control.clock import SECOND, as_datetime
from control.contract.fleet import Configuration, SidecarSeen, SidecarState
from control.fleet.link import SILENT_BEATS, Link
from control.store.dialect import insert
from control.store.rows import clip
from control.store.schema import calls, fleet, sidecars

HEARTBEAT_S = 5.0
NAME_LENGTH = 128


@dataclass(frozen=True, slots=True)
class Where:
    """Where a sidecar is connected. `replica` None: nowhere."""

    replica: str | None
    heard_us: int
    state: SidecarState


def silence_us(heartbeat_s: float) -> int:
    """After so long without a word a sidecar counts as gone, whatever the table says: its replica may have died."""
    return int((SILENT_BEATS + 1) * heartbeat_s * SECOND)


async def note(conn: AsyncConnection, link: Link, replica: str) -> None:
    """A sidecar is connected here; again with each beat."""
    values = {
        "name": clip(link.name, NAME_LENGTH),
        "instance": clip(link.hello.instance, 64),
        "software": clip(link.hello.software, 64),
        "facts_version": link.hello.facts_version,
        "replica": replica,
        "first_seen_us": link.connected_us,
        "connected_us": link.connected_us,
        "heard_us": link.heard_us,
        "state": link.state.model_dump_json(),
    }
    update = {name: value for name, value in values.items() if name not in ("name", "first_seen_us")}
    await conn.execute(insert(conn, fleet).values(values).on_conflict_do_update(index_elements=["name"], set_=update))


async def gone(conn: AsyncConnection, link: Link, replica: str) -> None:
    """This connection has ended. One that the same sidecar has made since, here or elsewhere, is left alone."""
    this = (fleet.c.name == clip(link.name, NAME_LENGTH)) & (fleet.c.replica == replica) & (fleet.c.connected_us == link.connected_us)
    await conn.execute(sa.update(fleet).where(this).values(replica=None, heard_us=link.heard_us))


async def forget(conn: AsyncConnection, replica: str | None) -> None:
    """Nobody is connected to this replica; None: to any. For a start."""
    wanted = sa.update(fleet).values(replica=None)
    await conn.execute(wanted if replica is None else wanted.where(fleet.c.replica == replica))


async def connected(conn: AsyncConnection, now: int, heartbeat_s: float) -> dict[str, Where]:
    """The sidecars that are connected to any replica, by name."""
    alive = fleet.c.replica.is_not(None) & (fleet.c.heard_us > now - silence_us(heartbeat_s))
    found = await conn.execute(sa.select(fleet).where(alive).order_by(fleet.c.name))
    return {row.name: Where(row.replica, row.heard_us, SidecarState.model_validate_json(row.state)) for row in found}


async def away(conn: AsyncConnection, now: int, within_us: int, settling_us: int, heartbeat_s: float = HEARTBEAT_S) -> bool:
    """Whether a sidecar may know of calls that it has not told: it went within the last `within_us` without having drained, or it came
    back less than `settling_us` ago."""
    silent = fleet.c.replica.is_(None) | (fleet.c.heard_us <= now - silence_us(heartbeat_s))
    gone_or_new = (silent & (fleet.c.heard_us > now - within_us)) | (~silent & (fleet.c.connected_us > now - settling_us))
    states = await conn.scalars(sa.select(fleet.c.state).where(gone_or_new))
    return any(not SidecarState.model_validate_json(state).draining for state in states)


async def known(conn: AsyncConnection, name: str) -> int | None:
    """When a sidecar of this name was last heard of, over either way; None: never."""
    key = clip(name, NAME_LENGTH)
    times = [
        await conn.scalar(sa.select(fleet.c.heard_us).where(fleet.c.name == key)),
        await conn.scalar(sa.select(sidecars.c.last_seen_us).where(sidecars.c.name == key)),
    ]
    return max((at for at in times if at is not None), default=None)


async def seen(conn: AsyncConnection, wanted: tuple[str, int] | None, now: int, heartbeat_s: float) -> list[SidecarSeen]:
    """All sidecars that ever uploaded or connected, by name. `wanted`: id and version of the newest snapshot."""
    connections = {row.name: row for row in await conn.execute(sa.select(fleet))}
    uploads = {row.name: row for row in await conn.execute(sa.select(sidecars))}
    open_calls = sa.select(calls.c.sidecar, sa.func.count().label("n")).where(calls.c.ended_us.is_(None)).group_by(calls.c.sidecar)
    live = {row.sidecar: row.n for row in await conn.execute(open_calls)}
    names = sorted({*connections, *uploads})
    return [_seen(name, connections.get(name), uploads.get(name), live.get(name, 0), wanted, now, heartbeat_s) for name in names]


def _seen(
    name: str, link: Any | None, upload: Any | None, live: int, wanted: tuple[str, int] | None, now: int, heartbeat_s: float
) -> SidecarSeen:
    state = SidecarState.model_validate_json(link.state) if link is not None else SidecarState()
    alive = link is not None and link.replica is not None and link.heard_us > now - silence_us(heartbeat_s)
    return SidecarSeen(
        name=name,
        version=upload.version if upload is not None else link.facts_version if link is not None else 0,
        software=link.software if link is not None else None,
        first_seen_at=as_datetime(min(_times(link, upload, "first_seen_us", "first_seen_us"))),
        last_seen_at=as_datetime(max(_times(link, upload, "heard_us", "last_seen_us"))),
        facts=upload.facts if upload is not None else 0,
        live_calls=live,
        connected=alive,
        connected_at=as_datetime(link.connected_us) if link is not None else None,
        draining=state.draining,
        not_ready=state.not_ready,
        ended_calls=state.ended_calls,
        drops=state.drops,
        routes=state.routes,
        configuration=_configuration(state, wanted),
        clock=state.clock,
    )


def _times(link: Any | None, upload: Any | None, of_link: str, of_upload: str) -> Iterator[int]:
    if link is not None:
        yield getattr(link, of_link)
    if upload is not None:
        yield getattr(upload, of_upload)


def _configuration(state: SidecarState, wanted: tuple[str, int] | None) -> Configuration:
    has, refused = state.configuration, state.configuration.refused
    told = {"source": has.source, "version": has.version, "wanted": wanted[1] if wanted is not None else None}
    if wanted is None:
        return Configuration(state="none", reason=None, **told)
    if has.id == wanted[0]:
        return Configuration(state="applied", reason=None, **told)
    if refused is not None and refused.id == wanted[0]:
        return Configuration(state="refused", reason=refused.reason, **told)
    return Configuration(state="pending", reason=None, **told)
