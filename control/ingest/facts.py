"""Facts of sidecars: stored once each, folded into their calls."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from control.clock import as_us
from control.contract import facts as f
from control.contract.call import Call
from control.contract.fold import apply, fold
from control.store import Store, linking, rows
from control.store.dialect import insert
from control.store.schema import calls, deliveries, facts, reports, sidecars

_IDENTITY = (f.CallStarted, f.LegStarted, f.IdLearned, f.CallEnded, f.CallInterrupted)
"""Facts that can change which report belongs to a call."""
_CONTROLS_HOPS = ("echoed", "accepted")
_CONTROLS_FINDINGS = (linking.LEFT_EARLY, linking.SECOND_REPORT)


class Stored:
    """The result of one batch: the receipt, and the calls that changed."""

    def __init__(self, receipt: f.FactReceipt, changed: list[Call]) -> None:
        self.receipt = receipt
        self.changed = changed


async def accept(store: Store, batch: f.FactBatch, now: int, *, wait_us: int) -> Stored:
    """Store the facts of a batch that are new and let them change their calls. Raises SQLAlchemyError when nothing was stored.

    `wait_us`: how long reports wait for the rest of a trace once its call has ended.
    """
    changed: list[Call] = []
    async with store.write() as conn:
        new = await _insert(conn, batch.facts)
        for call_id in dict.fromkeys(fact.call for fact in batch.facts):
            fresh = [fact for fact in batch.facts if (fact.call, fact.seq) in new and fact.call == call_id]
            if fresh:
                changed += await _advance(conn, call_id, sorted(fresh, key=lambda fact: fact.seq), now, wait_us)
        await _seen(conn, batch, len(new), now)
    return Stored(f.FactReceipt(stored=len(batch.facts), new=len(new)), changed)


async def trace(conn: AsyncConnection, call_id: str) -> list[f.Fact]:
    """All stored facts of a call, in order."""
    docs = await conn.scalars(sa.select(facts.c.doc).where(facts.c.call == call_id).order_by(facts.c.seq))
    return [f.FACT.validate_json(doc) for doc in docs]


async def _insert(conn: AsyncConnection, batch: Sequence[f.Fact]) -> set[tuple[str, int]]:
    """The keys that were new. A batch may repeat itself; the first of a kind counts."""
    unique = {(fact.call, fact.seq): fact for fact in reversed(batch)}
    if not unique:
        return set()
    values = [
        {
            "call": fact.call,
            "seq": fact.seq,
            "kind": fact.kind,
            "at_us": as_us(fact.at),
            "doc": f.FACT.dump_json(fact, by_alias=True).decode(),
        }
        for fact in reversed(unique.values())
    ]
    statement = insert(conn, facts).on_conflict_do_nothing().returning(facts.c.call, facts.c.seq)
    return {(row.call, row.seq) for row in await conn.execute(statement, values)}


async def _advance(conn: AsyncConnection, call_id: str, fresh: list[f.Fact], now: int, wait_us: int) -> list[Call]:
    row = await rows.load(conn, call_id)
    if row is not None and fresh[0].seq == row.last_seq + 1:
        call: Call | None = rows.read_call(row.doc)
        for fact in fresh:
            apply(call, fact)  # type: ignore[arg-type]
    else:  # out of order, or the first of a call: the whole trace tells
        call = fold(await trace(conn, call_id))
        if call is not None and row is not None:
            _keep_controls(rows.read_call(row.doc), call)
    if call is None:
        return []
    last = max(fresh[-1].seq, row.last_seq if row is not None else 0)
    held = await conn.scalar(sa.select(sa.func.count()).select_from(facts).where(facts.c.call == call_id)) if call.complete else 0
    await rows.save(conn, call, now, last_seq=last, complete=call.complete and held == last)
    touched: set[str] = set()
    if any(isinstance(fact, _IDENTITY) for fact in fresh) or row is None:
        await rows.save_identifiers(conn, call)
        touched = await linking.relink_waiting(conn, call, now)
    changed = [await linking.settle_verdict(conn, other, now) for other in sorted(touched)]
    call = await linking.settle_verdict(conn, call_id, now) or call
    if call.ended_at is not None:
        await _release(conn, call_id, now if call.complete and held == last else now + wait_us)
    return [call, *(other for other in changed if other is not None)]


def _keep_controls(before: Call, after: Call) -> None:
    """Carry over what control itself knows of a call whose trace was folded anew."""
    after.reported = before.reported
    kept, ours = before.verdict, after.verdict
    ours.outcome, ours.repair, ours.candidates = kept.outcome, kept.repair, kept.candidates
    ours.hops += [hop for hop in kept.hops if hop.hop in _CONTROLS_HOPS]
    ours.findings += [finding for finding in kept.findings if finding.name in _CONTROLS_FINDINGS]


async def _release(conn: AsyncConnection, call_id: str, at: int) -> None:
    """Reports that waited for this call leave at `at`, if not sooner."""
    waiting = sa.select(reports.c.id).where(reports.c.call == call_id, ~reports.c.frozen)
    untouched = (deliveries.c.state == "pending") & deliveries.c.body.is_(None) & deliveries.c.lease.is_(None)
    late = untouched & (deliveries.c.next_at_us > at)
    await conn.execute(sa.update(deliveries).where(late, deliveries.c.report.in_(waiting)).values(next_at_us=at))


async def _seen(conn: AsyncConnection, batch: f.FactBatch, new: int, now: int) -> None:
    row = {"name": rows.clip(batch.sidecar, 128), "version": batch.version, "first_seen_us": now, "last_seen_us": now, "facts": new}
    statement = insert(conn, sidecars).values(row)
    update = {"version": batch.version, "last_seen_us": now, "facts": sidecars.c.facts + new}
    await conn.execute(statement.on_conflict_do_update(index_elements=["name"], set_=update))


async def live_calls(conn: AsyncConnection) -> list[Call]:
    """The calls that have not ended, newest first."""
    statement = sa.select(calls.c.doc).where(calls.c.ended_us.is_(None)).order_by(calls.c.started_us.desc(), calls.c.id.desc()).limit(1000)
    return [rows.read_call(doc) for doc in await conn.scalars(statement)]
