"""The audit log: who changed what, and when. An entry is written in the transaction of the change, so neither exists without the other."""

from __future__ import annotations

import json
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from control.store.rows import clip
from control.store.schema import audit


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks for a change. `name` is `token:NAME`, `cli:USER`, or `anonymous` where no token is asked for."""

    name: str
    source: str | None = None
    """The network address that asked."""
    request_id: str | None = None


async def record(conn: AsyncConnection, actor: Actor, action: str, target: str, now: int, **detail: object) -> None:
    """Append an entry; `detail` must hold no secret."""
    values = {
        "at_us": now,
        "actor": clip(actor.name, 256),
        "action": action,
        "target": clip(target, 256),
        "detail": json.dumps(detail, ensure_ascii=False),
        "source": clip(actor.source, 128) if actor.source is not None else None,
        "request_id": actor.request_id,
    }
    await conn.execute(sa.insert(audit).values(values))
