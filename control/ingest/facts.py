"""Facts of sidecars: stored once each, folded into their calls.

However many posts arrive together, a transaction reads each call once and writes it once, and a statement is made once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from control.clock import as_us
from control.contract import facts as f
from control.contract.call import Call
from control.contract.fold import apply, fold
from control.store import Store, announce, linking, rows
from control.store.combine import Combiner
from control.store.dialect import insert, insert_by, insert_many, lock
from control.store.schema import calls, deliveries, facts, reports, sidecars, strays

_IDENTITY = (f.CallStarted, f.LegStarted, f.IdLearned, f.CallEnded, f.CallInterrupted)
"""Facts that can change which report belongs to a call."""
_CONTROLS_HOPS = ("echoed", "accepted")
_CONTROLS_FINDINGS = (linking.LEFT_EARLY, linking.SECOND_REPORT, linking.WIRE_ONLY_UNSET)
_SEQS = sa.select(facts.c.call, facts.c.seq).where(facts.c.call.in_(sa.bindparam("calls", expanding=True)))
_FACTS_OF_ROUND = 4000
_POSTS_WAITING = 500
_PACE_S = 0.03
"""A round costs some 6 ms however little it stores, which is a fifth of a core at this pace and all of it without."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The result of one batch: the receipt, and the calls that changed (of batches stored together, all with the first).

    `due`: something in the outbox may leave now.
    """

    receipt: f.FactReceipt
    changed: list[Call]
    due: bool = False


@dataclass(frozen=True, slots=True)
class _Told:
    """A call after its new facts. `row` is what was stored before, None for a call that is new."""

    kept: rows.Kept
    fresh: list[f.Fact]
    row: sa.Row[Any] | None

    @property
    def call(self) -> Call:
        return self.kept.call

    @property
    def identity(self) -> bool:
        return self.row is None or any(isinstance(fact, _IDENTITY) for fact in self.fresh)

    @property
    def completed(self) -> bool:
        return self.kept.complete and (self.row is None or not self.row.complete)


class Intake:
    """Where posts of facts come in: those that arrive while a transaction is written share the next one."""

    def __init__(self, store: Store, wait_us: int) -> None:
        self._store = store
        self._wait_us = wait_us
        self._batches: Combiner[tuple[f.FactBatch, int], Stored] = Combiner(
            self._accept, weight=lambda item: len(item[0].facts), weight_of_round=_FACTS_OF_ROUND, most=_POSTS_WAITING, pace_s=_PACE_S
        )

    def describe(self) -> dict[str, object]:
        """Posts and the transactions that they shared."""
        return {"posts": self._batches.items, "transactions": self._batches.rounds}

    async def accept(self, batch: f.FactBatch, now: int) -> Stored:
        """Store a batch. Raises SQLAlchemyError when nothing of it was stored."""
        return await self._batches.submit((batch, now))

    async def close(self) -> None:
        """Wait for what was begun."""
        await self._batches.close()

    async def _accept(self, items: Sequence[tuple[f.FactBatch, int]]) -> Sequence[Stored | BaseException]:
        now = max(now for _, now in items)
        try:
            return await accept_all(self._store, [batch for batch, _ in items], now, wait_us=self._wait_us)
        except OperationalError:
            raise  # the database itself fails: one by one would fail as often as there are posts
        except DBAPIError:
            return [await self._alone(batch, now) for batch, _ in items]  # one of them holds what cannot be stored

    async def _alone(self, batch: f.FactBatch, now: int) -> Stored | BaseException:
        try:
            return await accept(self._store, batch, now, wait_us=self._wait_us)
        except DBAPIError as error:
            return error


async def accept(store: Store, batch: f.FactBatch, now: int, *, wait_us: int) -> Stored:
    """Store the facts of a batch that are new and let them change their calls. Raises SQLAlchemyError when nothing was stored.

    `wait_us`: how long reports wait for the rest of a trace once its call has ended.
    """
    [stored] = await accept_all(store, [batch], now, wait_us=wait_us)
    return stored


async def accept_all(store: Store, batches: Sequence[f.FactBatch], now: int, *, wait_us: int) -> list[Stored]:
    """As `accept`, for several batches in one transaction."""

    async def work(conn: AsyncConnection) -> list[Stored]:
        return await _take(conn, store.hooks, batches, now, wait_us)

    return await store.run(work)


async def trace(conn: AsyncConnection, call_id: str, *, besides: str | None = None) -> list[f.Fact]:
    """The stored facts of a call in order: all, or all `besides` those of a kind."""
    return [f.FACT.validate_json(doc) for doc in await documents(conn, call_id, besides=besides)]


async def documents(conn: AsyncConnection, call_id: str, *, only: str | None = None, besides: str | None = None) -> Sequence[str]:
    """The same as JSON, as it is stored; `only` those of a kind."""
    wanted = sa.select(facts.c.doc).where(facts.c.call == call_id)
    if only is not None:
        wanted = wanted.where(facts.c.kind == only)
    if besides is not None:
        wanted = wanted.where(facts.c.kind != besides)
    return (await conn.scalars(wanted.order_by(facts.c.seq))).all()


async def live_calls(conn: AsyncConnection) -> list[Call]:
    """The calls that have not ended, newest first."""
    statement = sa.select(calls.c.doc).where(calls.c.ended_us.is_(None)).order_by(calls.c.started_us.desc(), calls.c.id.desc()).limit(1000)
    return [rows.read_call(doc) for doc in await conn.scalars(statement)]


async def _take(
    conn: AsyncConnection, hooks: Sequence[announce.Hook], batches: Sequence[f.FactBatch], now: int, wait_us: int
) -> list[Stored]:
    given: dict[str, dict[int, f.Fact]] = {}
    brought: list[list[f.Fact]] = []
    for batch in batches:  # a batch may repeat itself or another; the first of a kind counts
        brought.append([])
        for fact in batch.facts:
            by_seq = given.setdefault(fact.call, {})
            if fact.seq not in by_seq:
                by_seq[fact.seq] = fact
                brought[-1].append(fact)
    await lock(conn, given)
    before = await rows.load_all(conn, list(given))
    stored = await _stored(conn, [call for call in given if not _gapless(before.get(call))])
    fresh = {call: _unknown(by_seq, before.get(call), stored.get(call)) for call, by_seq in given.items()}
    fresh = {call: new for call, new in fresh.items() if new}
    await _insert(conn, [fact for new in fresh.values() for fact in new])
    told = [await _tell(conn, call, before.get(call), new, call in stored, now) for call, new in fresh.items()]
    changed, due = await _advance(conn, [each for each in told if each is not None], now, wait_us, hooks)
    known_as_new = {(fact.call, fact.seq) for new in fresh.values() for fact in new}
    counts = [sum((fact.call, fact.seq) in known_as_new for fact in theirs) for theirs in brought]
    await _seen(conn, batches, counts, now)
    receipts = [f.FactReceipt(stored=len(batch.facts), new=new) for batch, new in zip(batches, counts, strict=True)]
    return [Stored(receipt, changed if index == 0 else [], due) for index, receipt in enumerate(receipts)]


def _gapless(row: sa.Row[Any] | None) -> bool:
    """Whether a call's row alone tells which facts are stored: all from 1 to `last_seq`."""
    return row is not None and row.held == row.last_seq


async def _stored(conn: AsyncConnection, call_ids: list[str]) -> dict[str, set[int]]:
    """The seqs that are stored of each call, without the calls of which nothing is."""
    found: dict[str, set[int]] = {}
    for part in rows.parts(sorted(call_ids)):
        for row in await conn.execute(_SEQS, {"calls": part}):
            found.setdefault(row.call, set()).add(row.seq)
    return found


def _unknown(by_seq: Mapping[int, f.Fact], row: sa.Row[Any] | None, stored: set[int] | None) -> list[f.Fact]:
    """The facts of a call that are not stored yet, in order."""
    if row is not None and _gapless(row):
        return [by_seq[seq] for seq in sorted(by_seq) if seq > row.last_seq]
    return [by_seq[seq] for seq in sorted(by_seq) if stored is None or seq not in stored]


async def _insert(conn: AsyncConnection, fresh: Sequence[f.Fact]) -> None:
    values = [
        {"call": fact.call, "seq": fact.seq, "kind": fact.kind, "at_us": as_us(fact.at), "doc": fact.model_dump_json(by_alias=True)}
        for fact in fresh
    ]
    await insert_many(conn, facts, values)


async def _tell(
    conn: AsyncConnection, call_id: str, row: sa.Row[Any] | None, fresh: list[f.Fact], more_stored: bool, now: int
) -> _Told | None:
    """The call as its facts tell it now; None while `call_started` is missing."""
    consecutive = fresh[-1].seq - fresh[0].seq == len(fresh) - 1
    if row is not None and _gapless(row) and consecutive and fresh[0].seq == row.last_seq + 1:
        known = rows.read_call(row.doc)
        for fact in fresh:
            apply(known, fact)
        return _Told(_kept(known, fresh[-1].seq, row.held + len(fresh)), fresh, row)
    everything = await trace(conn, call_id) if row is not None or more_stored else fresh
    call = fold(everything)
    if call is None:
        await conn.execute(insert(conn, strays).values(call=call_id, since_us=now).on_conflict_do_nothing())
        return None
    if row is not None:
        _keep_controls(rows.read_call(row.doc), call)
    elif more_stored:
        await conn.execute(sa.delete(strays).where(strays.c.call == call_id))
    return _Told(_kept(call, everything[-1].seq, len(everything)), fresh, row)


def _kept(call: Call, last_seq: int, held: int) -> rows.Kept:
    return rows.Kept(call, last_seq, held, call.complete and held == last_seq)


def _keep_controls(before: Call, after: Call) -> None:
    """Carry over what control itself knows of a call whose trace was folded anew."""
    after.reported, after.recording_upload = before.reported, before.recording_upload
    kept, ours = before.verdict, after.verdict
    ours.outcome, ours.repair, ours.candidates = kept.outcome, kept.repair, kept.candidates
    ours.hops += [hop for hop in kept.hops if hop.hop in _CONTROLS_HOPS]
    ours.findings += [finding for finding in kept.findings if finding.name in _CONTROLS_FINDINGS]


async def _advance(
    conn: AsyncConnection, told: list[_Told], now: int, wait_us: int, hooks: Sequence[announce.Hook]
) -> tuple[list[Call], bool]:
    """Write the calls, their verdicts and what follows. Returns what changed, and whether something may leave the outbox now.

    Changed are these calls, and others whose reports they touched.
    """
    if not told:
        return [], False
    ours = {each.call.id: each.call for each in told}
    identity = [each for each in told if each.identity]
    waiting = await linking.waiting_for(conn, [each.call for each in identity]) if identity else []
    touched: set[str] = set()
    if waiting:  # reports can only be matched to what is stored
        await rows.save_all(conn, [each.kept for each in identity], now)
        await rows.save_identifiers(conn, [each.call for each in identity])
        touched = await linking.relink(conn, waiting) - ours.keys()
    settled = {each.call.id: each.row is not None and bool(each.row.settled) for each in told}
    waited_for = await linking.judge_all(conn, {call_id: (call, settled[call_id]) for call_id, call in ours.items()})
    await rows.save_all(conn, [each.kept for each in told], now)
    if not waiting:
        await rows.save_identifiers(conn, [each.call for each in identity])
    ended = [each for each in told if each.call.id in waited_for and each.call.ended_at is not None]
    await _release(conn, [each.call.id for each in ended if each.kept.complete], now)
    await _release(conn, [each.call.id for each in ended if not each.kept.complete], now + wait_us)
    others = [await linking.settle_verdict(conn, other, now) for other in sorted(touched)]
    changed = [*ours.values(), *(other for other in others if other is not None)]
    await _announce(conn, hooks, told, changed, now)
    return changed, bool(ended or hooks)


async def _release(conn: AsyncConnection, call_ids: Sequence[str], at: int) -> None:
    """Reports that waited for these calls leave at `at`, if not sooner."""
    if not call_ids:
        return
    untouched = (deliveries.c.state == "pending") & deliveries.c.body.is_(None) & deliveries.c.lease.is_(None)
    late = untouched & (deliveries.c.next_at_us > at)
    for part in rows.parts(call_ids):
        waiting = sa.select(reports.c.id).where(reports.c.call.in_(part), ~reports.c.frozen)
        await conn.execute(sa.update(deliveries).where(late, deliveries.c.report.in_(waiting)).values(next_at_us=at))


async def _announce(conn: AsyncConnection, hooks: Sequence[announce.Hook], told: Iterable[_Told], changed: list[Call], now: int) -> None:
    if not hooks:
        return
    events: list[announce.Event] = []
    for each in told:
        events += [event for event in (announce.of_fact(each.call, fact) for fact in each.fresh) if event is not None]
        events += [announce.of_end(each.call, now)] if each.completed else []
    await announce.queue(conn, hooks, events, now)
    await announce.outcomes(conn, hooks, changed, now)


async def _seen(conn: AsyncConnection, batches: Sequence[f.FactBatch], counts: Sequence[int], now: int) -> None:
    """When a sidecar was last heard, and how many facts it has brought."""
    heard: dict[str, dict[str, object]] = {}
    totals: dict[str, int] = {}
    for batch, new in zip(batches, counts, strict=True):
        name = rows.clip(batch.sidecar, 128)
        totals[name] = totals.get(name, 0) + new
        heard[name] = {"name": name, "version": batch.version, "first_seen_us": now, "last_seen_us": now, "facts": totals[name]}
    for name in sorted(heard):
        await conn.execute(_heard(conn.dialect.name), heard[name])


@cache
def _heard(dialect: str) -> Any:
    statement = insert_by(dialect, sidecars)
    new = statement.excluded
    update = {"version": new.version, "last_seen_us": new.last_seen_us, "facts": sidecars.c.facts + new.facts}
    return statement.on_conflict_do_update(index_elements=["name"], set_=update)
