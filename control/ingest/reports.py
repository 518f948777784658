"""Reports and traces of agents: stored as they came, matched, and put into the outbox, in one transaction."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from control.contract.call import Call
from control.ingest.spans import read_spans
from control.matching.claim import Claim, read_claim
from control.matching.verdict import UPLOAD_WAIT_US
from control.store import Store, announce, linking, rows, spans
from control.store.dialect import insert
from control.store.schema import calls, deliveries, reports

DESTINATION = "tuner"
_COMPLETE = sa.select(calls.c.complete).where(calls.c.id == sa.bindparam("its_call")).scalar_subquery()
_LEAVES_NOW = sa.update(deliveries).where(deliveries.c.id == sa.bindparam("this"), _COMPLETE).values(next_at_us=sa.bindparam("now"))


@dataclass(frozen=True, slots=True)
class Sender:
    """On whose behalf a report is delivered. `credential` is the sender's key, encrypted, or None when control has its own."""

    workspace: str
    agent: str
    credential: bytes | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """What is stored. `id` is control's own number for the report, `delivery` that of its way to the evaluator."""

    id: int
    provider_call_id: str
    is_new: bool
    delivery: int
    wants_upload: bool = False
    under_way: bool = True
    """The evaluator has not had it yet."""
    changed: list[Call] = field(default_factory=list)


async def accept(store: Store, body: bytes, sender: Sender, now: int, *, wait_us: int, origin: str = "agent") -> Accepted:
    """Store a Create Call and queue it. Raises Unreadable for a body that is no report and SQLAlchemyError when nothing was stored.

    The first report under a call_id counts: a repetition, whatever its body, changes nothing.
    """
    claim = read_claim(body)

    async def work(conn: AsyncConnection) -> Accepted:
        accepted = await add(conn, body, claim, sender, now, wait_us=wait_us, origin=origin)
        await announce.outcomes(conn, store.hooks, accepted.changed, now)
        return accepted

    return await store.run(work)


async def add(
    conn: AsyncConnection, body: bytes, claim: Claim, sender: Sender, now: int, *, wait_us: int, origin: str = "agent"
) -> Accepted:
    """As `accept`, within the caller's transaction."""
    key = {"provider_call_id": rows.clip(claim.provider_call_id, 200), "workspace": sender.workspace, "agent": sender.agent}
    values = {
        **key,
        "origin": origin,
        "received_us": now,
        "body": body,
        "credential": sender.credential,
        "sip_call_id": rows.clip(claim.sip_call_id) if claim.sip_call_id else None,
        "correlation_sha256": claim.correlation_sha256,
        "outcome": "unlinked",
        "confidence": 0.0,
        "exact": False,
        "candidates": "[]",
        "frozen": False,
    }
    report = (await conn.execute(insert(conn, reports).values(values).on_conflict_do_nothing().returning(*reports.c))).one_or_none()
    if report is None:
        same = sa.select(reports.c.id, deliveries.c.id.label("delivery"), deliveries.c.state)
        same = same.join(deliveries, deliveries.c.report == reports.c.id)
        old = (await conn.execute(same.where(*(reports.c[name] == value for name, value in key.items())))).one()
        return Accepted(old.id, claim.provider_call_id, False, old.delivery, claim.wants_upload, old.state == "pending")
    if claim.wants_upload:
        wait_us = min(wait_us, UPLOAD_WAIT_US)
    delivery = await _queue(conn, "create_call", claim.provider_call_id, sender, now, next_at=now + wait_us, report=report.id)
    await linking.save_claims(conn, report.id, claim)
    matched = await linking.link(conn, report)
    changed = [await linking.settle_verdict(conn, call, now) for call in matched.candidates]
    if matched.call is not None:
        await conn.execute(_LEAVES_NOW, {"this": delivery, "its_call": matched.call, "now": now})
    told = [call for call in changed if call is not None]
    return Accepted(report.id, claim.provider_call_id, True, delivery, claim.wants_upload, changed=told)


async def accept_traces(store: Store, body: bytes, content_type: str, sender: Sender, now: int) -> int:
    """Store an OTLP export and queue it as it came. Returns the delivery's number. Raises SQLAlchemyError when nothing was stored.

    Its spans that name their call are stored apart, to be shown with it.
    """
    found = await asyncio.to_thread(read_spans, body, content_type)  # ten MiB of them take their time

    async def work(conn: AsyncConnection) -> int:
        await spans.save(conn, found, sender.workspace, now)
        return await _queue(conn, "traces", "OTLP export", sender, now, next_at=now, body=body, content_type=rows.clip(content_type, 128))

    return await store.run(work)


async def _queue(
    conn: AsyncConnection,
    kind: str,
    label: str,
    sender: Sender,
    now: int,
    *,
    next_at: int,
    report: int | None = None,
    body: bytes | None = None,
    content_type: str = "application/json",
) -> int:
    values = {
        "destination": DESTINATION,
        "kind": kind,
        "report": report,
        "label": rows.clip(label, 256),
        "workspace": sender.workspace,
        "agent": sender.agent,
        "credential": sender.credential,
        "content_type": content_type,
        "body": body,
        "state": "pending",
        "attempts": 0,
        "next_at_us": next_at,
        "created_us": now,
    }
    result = await conn.execute(sa.insert(deliveries).values(values).returning(deliveries.c.id))
    number: int = result.scalar_one()
    return number
