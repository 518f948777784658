"""What happens because time passes: a simulation without a report becomes `missing`, or gets a wire-only one; old calls go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from control.clock import DAY, SECOND, Steps, now_us
from control.contract import facts as f
from control.contract.call import Call, Finding
from control.delivery import outbox
from control.ingest import reports as ingest
from control.matching.claim import read_claim
from control.matching.wireonly import wire_only_report
from control.store import Store, announce, linking
from control.store.faults import brief
from control.store.recordings import Recordings
from control.store.schema import audit, calls, deliveries, facts, fleet, reports, sidecars, spans, strays

log = structlog.get_logger()

_BATCH = 300
_UNSET = "the route wants control to report this call: set evaluator.api_key, workspace_id and agent_id in control's configuration"


@dataclass(frozen=True, slots=True)
class Policy:
    """When calls settle and things go; 0 keeps them for good, and messages as long as their calls.

    `wire_sender`: as whom control reports by itself, None where it has no credentials for that; `wire_only`: whether it does so for the
    calls of routes that leave it to control.
    """

    grace_us: int
    keep_us: int
    wire_sender: ingest.Sender | None = None
    keep_recordings_us: int = 0
    wire_only: bool = False
    keep_messages_us: int = 0
    keep_sidecars_us: int = 0
    keep_audit_us: int = 0

    def reports(self, call: Call) -> bool:
        """Whether a call without a report is one for control to report."""
        return self.wire_only if call.wire_only is None else call.wire_only


@dataclass(frozen=True, slots=True)
class Settled:
    """The calls that changed, and whether more are due already."""

    changed: list[Call]
    more: bool


async def settle_due(store: Store, policy: Policy, now: int) -> Settled:
    """Close the time for a report of calls whose grace is over; queue wire-only reports where allowed."""
    async with store.read() as conn:
        due = (~calls.c.settled) & (calls.c.ended_us <= now - policy.grace_us)
        ids = list(await conn.scalars(sa.select(calls.c.id).where(due).order_by(calls.c.ended_us).limit(_BATCH)))

    async def work(conn: AsyncConnection) -> list[Call]:
        changed = await linking.settle_all(conn, ids, now)
        for index, call in enumerate(changed):
            if call.verdict.outcome == "missing" and policy.reports(call):
                changed[index] = await _report_wire_only(conn, call, policy.wire_sender, now) or call
        await announce.outcomes(conn, store.hooks, changed, now)
        return changed

    return Settled(await store.run(work) if ids else [], more=len(ids) == _BATCH)


async def _report_wire_only(conn: AsyncConnection, call: Call, sender: ingest.Sender | None, now: int) -> Call | None:
    if sender is None:
        log.warning("a route wants reports of the wire alone, but nothing says as whom", call=call.id, route=call.route)
        return await linking.add_finding(conn, call.id, Finding(name=linking.WIRE_ONLY_UNSET, detail=_UNSET), now)
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
    """Delete a batch of what is too old; what is not delivered yet stays, with its call. Returns how many calls and stray traces went.

    A call that never ended counts from its beginning. What could not be delivered for as long as calls are kept becomes a dead letter.
    """
    if not policy.keep_us:
        return 0
    before = now - policy.keep_us

    async def work(conn: AsyncConnection) -> int:
        expired = {"state": "dead", "finished_us": now, "lease": None, "last_error": f"not delivered within {policy.keep_us // DAY} days"}
        pending = deliveries.c.state == "pending"
        await conn.execute(sa.update(deliveries).where(pending, deliveries.c.created_us < before).values(expired))
        owed = sa.select(deliveries.c.call).where(pending, deliveries.c.call == calls.c.id)
        old = (calls.c.ended_us < before) | (calls.c.ended_us.is_(None) & (calls.c.started_us < before))
        ids = list(await conn.scalars(sa.select(calls.c.id).where(old, ~owed.exists()).limit(_BATCH)))
        stray = list(await conn.scalars(sa.select(strays.c.call).where(strays.c.since_us < before).limit(_BATCH)))
        await conn.execute(sa.delete(facts).where(facts.c.call.in_(ids + stray)))
        await conn.execute(sa.delete(calls).where(calls.c.id.in_(ids)))
        await conn.execute(sa.delete(strays).where(strays.c.call.in_(stray)))
        finished = sa.select(deliveries.c.id).where(deliveries.c.finished_us < before, ~pending).limit(_BATCH)
        await conn.execute(sa.delete(deliveries).where(deliveries.c.id.in_(finished)))
        waiting = sa.select(deliveries.c.id).where(deliveries.c.report == reports.c.id)
        spent = sa.select(reports.c.id).where(reports.c.received_us < before, ~waiting.exists()).limit(_BATCH)
        await conn.execute(sa.delete(reports).where(reports.c.id.in_(spent)))
        await conn.execute(sa.delete(spans).where(spans.c.received_us < before))
        return len(ids) + len(stray)

    return await store.run(work)


async def drop_messages(store: Store, policy: Policy, now: int) -> int:
    """Delete the SIP messages of a batch of calls that ended too long ago for them. Returns of how many calls."""
    if not policy.keep_messages_us:
        return 0
    old = (~calls.c.messages_gone) & (calls.c.ended_us < now - policy.keep_messages_us)

    async def work(conn: AsyncConnection) -> int:
        ids = list(await conn.scalars(sa.select(calls.c.id).where(old).order_by(calls.c.ended_us).limit(_BATCH)))
        await conn.execute(sa.delete(facts).where(facts.c.call.in_(ids), facts.c.kind == "sip_message"))
        await conn.execute(sa.update(calls).where(calls.c.id.in_(ids)).values(messages_gone=True))
        return len(ids)

    return await store.run(work)


async def drop_absent(store: Store, policy: Policy, now: int) -> int:
    """Delete sidecars that were not heard of for too long, and a batch of the oldest changes. Returns how many changes."""

    async def work(conn: AsyncConnection) -> int:
        if policy.keep_sidecars_us:
            before = now - policy.keep_sidecars_us
            await conn.execute(sa.delete(fleet).where(fleet.c.heard_us < before))
            await conn.execute(sa.delete(sidecars).where(sidecars.c.last_seen_us < before))
        if not policy.keep_audit_us:
            return 0
        old = sa.select(audit.c.id).where(audit.c.at_us < now - policy.keep_audit_us).order_by(audit.c.at_us, audit.c.id).limit(_BATCH)
        return (await conn.execute(sa.delete(audit).where(audit.c.id.in_(old)))).rowcount

    return await store.run(work) if policy.keep_sidecars_us or policy.keep_audit_us else 0


async def run(
    store: Store,
    policy: Policy,
    changed: Callable[[Call], None],
    wake: Callable[[], None],
    every_s: float,
    recordings: Recordings | None = None,
) -> None:
    """Sweep until cancelled; the database's own upkeep runs once an hour, and retention then until nothing old is left."""
    next_upkeep = 0
    behind = False
    steps, back = Steps(), 0
    while True:
        more = False
        try:
            now = now_us()
            if back := back + steps.back_us():
                log.warning("the clock was set back", seconds=back / SECOND)
                await outbox.set_back(store, back, now)
                next_upkeep, back = min(next_upkeep, now), 0
                wake()
            settled = await settle_due(store, policy, now)
            for call in settled.changed:
                changed(call)
            if settled.changed:
                wake()
            more = settled.more
            if now >= next_upkeep or behind:
                if not behind:
                    await store.tend()
                dropped = max([await drop(store, policy, now) for drop in (drop_old, drop_messages, drop_absent)])
                if recordings is not None and policy.keep_recordings_us:
                    await asyncio.to_thread(recordings.drop_old, now - policy.keep_recordings_us, now)
                next_upkeep, behind = now + 3600 * SECOND, dropped >= _BATCH
        except SQLAlchemyError as error:
            log.error("sweep failed", error=brief(error))
        except OSError as error:
            log.error("recordings not swept", error=error.strerror)
        await asyncio.sleep(0 if more else every_s / 4 if behind else every_s)  # four batches a second are more than ever come in
