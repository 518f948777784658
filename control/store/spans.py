"""Agents' spans between an export and the call that they belong to.

They know their call by the `call_id` of its report and may come before it, so the two are brought together when they are asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from control.matching.spans import AgentSpan
from control.store.dialect import insert_many
from control.store.rows import clip
from control.store.schema import reports, spans

MOST_SHOWN = 2000


async def save(conn: AsyncConnection, found: Sequence[AgentSpan], workspace: str, now: int) -> None:
    """Store spans that are not stored yet: an exporter that heard no answer sends them again."""
    values = [
        {
            "trace_id": span.trace_id,
            "span_id": span.span_id,
            "workspace": clip(workspace, 64),
            "provider_call_id": clip(span.provider_call_id, 200),
            "started_us": span.start_us,
            "received_us": now,
            "doc": json.dumps(asdict(span)),
        }
        for span in found
    ]
    await insert_many(conn, spans, values, on_conflict="skip")


async def of_call(conn: AsyncConnection, call_id: str) -> tuple[int, list[AgentSpan]]:
    """How many spans belong to the reports of a call, and the first MOST_SHOWN of them in order of time.

    An export that named no workspace belongs to whatever workspace the report named; one of another workspace is another tenant's.
    """
    theirs = sa.select(reports.c.provider_call_id, reports.c.workspace).where(reports.c.call == call_id).distinct().subquery()
    same = (spans.c.provider_call_id == theirs.c.provider_call_id) & spans.c.workspace.in_(("", theirs.c.workspace))
    matching: sa.Select[Any] = sa.select(spans.c.doc).join(theirs, same)
    total = await conn.scalar(sa.select(sa.func.count()).select_from(matching.subquery()))
    docs = await conn.scalars(matching.order_by(spans.c.started_us, spans.c.span_id).limit(MOST_SHOWN))
    return int(total or 0), [AgentSpan(**json.loads(doc)) for doc in docs]
