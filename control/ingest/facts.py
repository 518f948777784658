"""Facts of sidecars: stored once each, folded into their calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
        fresh: dict[str, dict[int, f.Fact]] = {}
        for fact in batch.facts:
            if (fact.call, fact.seq) in new:
                fresh.setdefault(fact.call, {}).setdefault(fact.seq, fact)
        before = await rows.load_all(conn, list(fresh))
        for call_id, by_seq in fresh.items():
            changed += await _advance(conn, before.get(call_id), [by_seq[seq] for seq in sorted(by_seq)], now, wait_us)
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


async def _advance(conn: AsyncConnection, row: sa.Row[Any] | None, fresh: list[f.Fact], now: int, wait_us: int) -> list[Call]:
    """Let the new facts of one call, in order, change it. Returns what changed: the call, and others whose reports it touched."""
    told = await _told(conn, row, fresh)
    if told is None:
        return []
    call, last, held = told
    whole = call.complete and held == last
    identity = row is None or any(isinstance(fact, _IDENTITY) for fact in fresh)
    touched: set[str] = set()
    if identity:  # reports can only be matched to what is stored
        await rows.save(conn, call, now, last_seq=last, held=held, complete=whole)
        await rows.save_identifiers(conn, call)
        touched = await linking.relink_waiting(conn, call)
    stored = call.model_copy(deep=True)
    waited_for = await linking.judge(conn, call, row is not None and row.settled)
    if not identity or call != stored:
        await rows.save(conn, call, now, last_seq=last, held=held, complete=whole)
    if waited_for and call.ended_at is not None:
        await _release(conn, call.id, now if whole else now + wait_us)
    others = [await linking.settle_verdict(conn, other, now) for other in sorted(touched)]
    return [call, *(other for other in others if other is not None)]


async def _told(conn: AsyncConnection, row: sa.Row[Any] | None, fresh: list[f.Fact]) -> tuple[Call, int, int] | None:
    """The call as its facts tell it now, its highest seq, and how many facts are stored; None while `call_started` is missing."""
    if row is not None and row.held == row.last_seq == fresh[0].seq - 1 and fresh[-1].seq - fresh[0].seq == len(fresh) - 1:
        known = rows.read_call(row.doc)
        for fact in fresh:
            apply(known, fact)
        return known, fresh[-1].seq, row.held + len(fresh)
    everything = await trace(conn, fresh[0].call)  # a new call, or facts out of order: all that is stored tells
    call = fold(everything)
    if call is None:
        return None
    if row is not None:
        _keep_controls(rows.read_call(row.doc), call)
    return call, everything[-1].seq, len(everything)


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
