"""Recordings on their way to the evaluator: asked for with a report, queued when its answer brings a form, told in the call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from control.contract.call import Call, RecordingFormat, RecordingUpload
from control.store import rows
from control.store.schema import deliveries

Seal = Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class UploadPolicy:
    """Of which calls the recordings go to the evaluator, and under which names they stand in the outbox."""

    kinds: frozenset[str] = frozenset()
    destination: str = ""
    kind: str = ""

    def wanted(self, call: Call, *, agents_own: bool) -> RecordingFormat | None:
        """The form of the recording to offer with a report; None for none. `agents_own`: the agent brings a recording itself."""
        recording = call.media.recording
        return None if agents_own or recording is None or call.kind not in self.kinds else recording.format


async def queue(
    conn: AsyncConnection, row: sa.Row[Any], call: str, form: str | None, policy: UploadPolicy, seal: Seal, now: int
) -> Call | None:
    """Put a recording into the outbox whose form came with the answer to the report `row`; None: one that cannot be used.

    Returns the call when it changed.
    """
    if form is None:
        return await _tell(conn, call, "refused", "the evaluator's answer held a form that is none", row.id, now)
    mine = (deliveries.c.call == call) & (deliveries.c.kind == policy.kind)
    if await conn.scalar(sa.select(sa.func.count()).where(mine, deliveries.c.state.in_(("pending", "delivered")))):
        return None
    try:
        sealed = seal(form)
    except ValueError:
        detail = "the evaluator's form is kept encrypted only: set secret_key_file"
        return await _tell(conn, call, "refused", detail, row.id, now)
    values = {
        "destination": policy.destination,
        "kind": policy.kind,
        "call": call,
        "label": row.label,
        "workspace": row.workspace,
        "agent": row.agent,
        "credential": sealed,
        "content_type": "multipart/form-data",
        "body": b"",  # the recording is a file of its own
        "state": "pending",
        "attempts": 0,
        "next_at_us": now,
        "created_us": now,
    }
    number = (await conn.execute(sa.insert(deliveries).values(values).returning(deliveries.c.id))).scalar_one()
    return await _tell(conn, call, "pending", "the evaluator gave a form for it", number, now)


async def settled(conn: AsyncConnection, row: sa.Row[Any], detail: str, now: int, *, delivered: bool) -> Call | None:
    """Tell the call what became of its recording's upload. Returns it when it changed."""
    return None if row.call is None else await _tell(conn, row.call, "delivered" if delivered else "refused", detail, row.id, now)


async def hasten(conn: AsyncConnection, call: str, policy: UploadPolicy, now: int) -> bool:
    """A recording came: make its upload due, if one waits for it. Whether one does."""
    waits = (
        (deliveries.c.call == call) & (deliveries.c.kind == policy.kind) & (deliveries.c.state == "pending") & deliveries.c.lease.is_(None)
    )
    return bool((await conn.execute(sa.update(deliveries).where(waits).values(next_at_us=now))).rowcount)


async def _tell(conn: AsyncConnection, call_id: str, state: Any, detail: str, delivery: int, now: int) -> Call | None:
    row = await rows.load(conn, call_id)
    if row is None:
        return None
    call = rows.read_call(row.doc)
    told = RecordingUpload(state=state, detail=detail, delivery=delivery)
    if call.recording_upload == told:
        return None
    call.recording_upload = told
    await rows.save(conn, call, now)
    return call
