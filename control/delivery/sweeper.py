"""What happens because time passes: a simulation without a report becomes `missing`, or gets a wire-only one; old calls go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from control.clock import SECOND, now_us
from control.contract import facts as f
from control.contract.call import Call
from control.ingest import reports as ingest
from control.matching.claim import read_claim
from control.matching.wireonly import wire_only_report
from control.store import Store, linking
from control.store.schema import calls, deliveries, facts, reports

log = structlog.get_logger()

_BATCH = 200


@dataclass(frozen=True, slots=True)
class Policy:
    """When calls settle and go. `wire_sender` is set where control may report by itself. `keep_us` 0 keeps calls for good."""

    grace_us: int
    keep_us: int
    wire_sender: ingest.Sender | None = None


async def settle_due(store: Store, policy: Policy, now: int) -> list[Call]:
    """Close the time for a report of calls whose grace is over; queue wire-only reports where allowed. Returns the changed calls."""
    async with store.read() as conn:
        due = (~calls.c.settled) & (calls.c.ended_us <= now - policy.grace_us)
        ids = list(await conn.scalars(sa.select(calls.c.id).where(due).order_by(calls.c.ended_us).limit(_BATCH)))
    changed: list[Call] = []
    if ids:
        async with store.write() as conn:
            for call_id in ids:
                call = await linking.settle_verdict(conn, call_id, now, grace_over=True)
                if call is not None and call.verdict.outcome == "missing" and policy.wire_sender is not None:
                    call = await _report_wire_only(conn, call, policy.wire_sender, now) or call
                if call is not None:
                    changed.append(call)
    return changed


async def _report_wire_only(conn: AsyncConnection, call: Call, sender: ingest.Sender, now: int) -> Call | None:
    started = await conn.scalar(
        sa.select(facts.c.doc).where(facts.c.call == call.id, facts.c.kind == "call_started").order_by(facts.c.seq).limit(1)
    )
    first = f.FACT.validate_json(started) if started is not None else None
    token = first.correlation_id if isinstance(first, f.CallStarted) else None
    body = wire_only_report(call, token)
    stored = await ingest.add(conn, body, read_claim(body), sender, now, wait_us=0, origin="wire")
    log.info("no report came, sending what the wire knows", call=call.id, delivery=stored.delivery)
    return await linking.settle_verdict(conn, call.id, now)


async def drop_old(store: Store, policy: Policy, now: int) -> int:
    """Delete a batch of calls that are too old, with all that belongs to them; what is not delivered yet stays. Returns how many went."""
    if not policy.keep_us:
        return 0
    before = now - policy.keep_us
    undelivered = sa.select(deliveries.c.report).where(deliveries.c.state == "pending", deliveries.c.report.is_not(None))
    async with store.write() as conn:
        held = sa.select(reports.c.call).where(reports.c.call.is_not(None), reports.c.id.in_(undelivered))
        old = (calls.c.ended_us < before) & calls.c.id.not_in(held)
        ids = list(await conn.scalars(sa.select(calls.c.id).where(old).order_by(calls.c.started_us).limit(_BATCH)))
        for table, column in ((facts, facts.c.call), (calls, calls.c.id)):
            await conn.execute(sa.delete(table).where(column.in_(ids)))
        await conn.execute(sa.delete(reports).where(reports.c.received_us < before, reports.c.id.not_in(undelivered)))
        over = (deliveries.c.state != "pending") & (deliveries.c.created_us < before) & deliveries.c.report.is_(None)
        await conn.execute(sa.delete(deliveries).where(over))
    return len(ids)


async def run(store: Store, policy: Policy, changed: Callable[[Call], None], wake: Callable[[], None], every_s: float) -> None:
    """Sweep until cancelled; retention runs once an hour."""
    next_retention = 0
    while True:
        try:
            now = now_us()
            settled = await settle_due(store, policy, now)
            for call in settled:
                changed(call)
            if settled:
                wake()
            if now >= next_retention:
                dropped = await drop_old(store, policy, now)
                next_retention = now + 3600 * SECOND if dropped < _BATCH else 0
        except SQLAlchemyError as error:
            log.error("sweep failed", error=str(getattr(error, "orig", None) or error))
        await asyncio.sleep(every_s)
