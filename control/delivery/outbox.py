"""The outbox's transactions: claiming what is due, fixing a report's final body, and settling what became of an attempt.

Invariants. A body is written once, before its first attempt, in the transaction that claims it, so every attempt sends the same bytes.
A claim is a lease: the row stays pending and falls due again when the lease ends, so a process that dies loses nothing.
Of one call's deliveries to one destination only the earliest that is pending can be claimed, so they leave in order.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from control.clock import SECOND, as_datetime
from control.contract.call import Call, Hop
from control.delivery import upload
from control.delivery.destination import Delivered, Later, Refused, Result, backoff_s
from control.fleet import registry
from control.matching.claim import read_claim
from control.matching.rules import CIRCUMSTANTIAL
from control.matching.splice import compare, enrich, link_of
from control.matching.verdict import UPLOAD_WAIT_US, patience
from control.store import Store, announce, linking, rows, uploads
from control.store.schema import deliveries, reports

_AWAY_US = 600 * SECOND
"""For so long after a sidecar was lost its calls may still be told, and one of them be a report's."""
_LOOK_US = 5 * SECOND
_SPREAD_S = 0.5
"""What waited for the same Retry-After does not leave at the same instant."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a report waits for its call, microseconds: `wait_us` after its arrival or the call's end, `cap_us` while the call lives."""

    wait_us: int
    cap_us: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim brought: rows to send now, with their bodies, and calls whose verdict changed on the way.

    `next_due`: when the earliest other delivery falls due that no other one is ahead of, or None.
    """

    rows: list[sa.Row[Any]]
    changed: list[Call]
    next_due: int | None


async def claim(store: Store, destination: str, owner: str, now: int, *, limit: int, lease_us: int, waits: Patience) -> Claimed:
    """Lease up to `limit` due deliveries to `owner`. A report whose call deserves more time is put off instead."""

    async def work(conn: AsyncConnection) -> Claimed:
        taken: list[sa.Row[Any]] = []
        changed: list[Call] = []
        due = _claimable(destination) & (deliveries.c.next_at_us <= now)
        wanted = sa.select(deliveries).where(due).order_by(deliveries.c.next_at_us, deliveries.c.id).limit(limit)
        # Another replica's claims under way are stepped over, not waited for.
        found = (await conn.execute(wanted.with_for_update(skip_locked=True))).all()
        ready = [row.id for row in found if row.body is not None or await _freeze(conn, row, now, waits, changed, store.uploads)]
        if ready:
            lease = {"lease": owner, "next_at_us": now + lease_us, "attempts": deliveries.c.attempts + 1}
            await conn.execute(sa.update(deliveries).where(deliveries.c.id.in_(ready)).values(lease))
            leased = sa.select(deliveries).where(deliveries.c.id.in_(ready)).order_by(deliveries.c.id)
            taken += (await conn.execute(leased)).all()
        await announce.outcomes(conn, store.hooks, changed, now)
        first = sa.select(deliveries.c.next_at_us).where(_claimable(destination)).order_by(deliveries.c.next_at_us).limit(1)
        return Claimed(taken, changed, await conn.scalar(first))

    return await store.run(work)


def _claimable(destination: str) -> sa.ColumnElement[bool]:
    ahead = deliveries.alias("ahead")
    before = (ahead.c.call == deliveries.c.call) & (ahead.c.destination == deliveries.c.destination) & (ahead.c.id < deliveries.c.id)
    blocked = sa.exists().where(before, ahead.c.state == sa.literal_column("'pending'"))
    return (deliveries.c.state == sa.literal_column("'pending'")) & (deliveries.c.destination == destination) & ~blocked


async def release_leases(store: Store, now: int) -> None:
    """Make leased deliveries due at once: for a store that only one process uses, whose previous holder is gone."""

    async def work(conn: AsyncConnection) -> None:
        held = (deliveries.c.state == "pending") & deliveries.c.lease.is_not(None)
        await conn.execute(sa.update(deliveries).where(held).values(lease=None, next_at_us=now))

    await store.run(work)


async def give_back(store: Store, owner: str, now: int) -> None:
    """Make the deliveries that `owner` has leased due at once: when it stops before their attempts are over."""

    async def work(conn: AsyncConnection) -> None:
        mine = (deliveries.c.state == "pending") & (deliveries.c.lease == owner)
        await conn.execute(sa.update(deliveries).where(mine).values(lease=None, next_at_us=now))

    await store.run(work)


async def set_back(store: Store, by_us: int, now: int) -> None:
    """The wall clock was set back: what was to wait a minute still waits a minute, and not the hour that came on top of it."""

    async def work(conn: AsyncConnection) -> None:
        later = (deliveries.c.state == "pending") & (deliveries.c.next_at_us > now)
        await conn.execute(sa.update(deliveries).where(later).values(next_at_us=deliveries.c.next_at_us - by_us))

    await store.run(work)


async def abandon(store: Store, destinations: Sequence[str], now: int) -> int:
    """Make dead letters of what waits for a destination that is no longer configured. Returns how many."""

    async def work(conn: AsyncConnection) -> int:
        gone = (deliveries.c.state == "pending") & deliveries.c.destination.not_in(destinations)
        values = {"state": "dead", "finished_us": now, "lease": None, "last_error": "this destination is no longer configured"}
        return (await conn.execute(sa.update(deliveries).where(gone).values(values))).rowcount

    return await store.run(work)


async def settle(
    store: Store, row: sa.Row[Any], owner: str, result: Result, now: int, spread: float, seal: uploads.Seal | None = None
) -> Call | None:
    """Write down what became of an attempt; `spread` (0–1) is the jitter of the next one. Returns the call whose evidence grew.

    Does nothing when the lease has passed to another owner. With `seal`, a form for the recording that the answer to a report brings goes
    into the outbox in the same transaction, unless the agent asked for it.
    """
    match result:
        case Delivered():
            values: dict[str, object] = {"state": "delivered", "finished_us": now, "last_error": None}
        case Later(cause, after_s):
            pause = backoff_s(row.attempts, spread) if after_s is None else max(after_s, 0.1) + spread * _SPREAD_S
            values = {"next_at_us": now + int(pause * SECOND), "last_error": cause}
        case Refused(cause):
            values = {"state": "dead", "finished_us": now, "last_error": cause}
        case _ as never:
            assert_never(never)

    async def work(conn: AsyncConnection) -> Call | None:
        mine = (deliveries.c.id == row.id) & (deliveries.c.lease == owner) & (deliveries.c.state == "pending")
        done = await conn.execute(sa.update(deliveries).where(mine).values(lease=None, **values))
        if done.rowcount == 1 and row.kind == upload.KIND and not isinstance(result, Later):
            told = result.evidence if isinstance(result, Delivered) else result.cause
            return await uploads.settled(conn, row, told, now, delivered=isinstance(result, Delivered))
        if done.rowcount != 1 or not isinstance(result, Delivered) or row.report is None:
            return None
        report = (await conn.execute(sa.select(reports).where(reports.c.id == row.report))).one()
        if report.call is None:
            return None
        hop = Hop(hop="accepted", at=as_datetime(now), evidence=f"{result.evidence} to call_id {report.provider_call_id}")
        grown = await linking.add_hop(conn, report.call, hop, now)
        given = result.reply.get("recording_upload")
        if seal is None or given is None or read_claim(report.body).wants_upload or not read_claim(row.body).wants_upload:
            return grown
        form = upload.read_form(given)
        text = form.model_dump_json() if form is not None else None
        return await uploads.queue(conn, row, report.call, text, store.uploads, seal, now) or grown

    return await store.run(work)


async def retry(
    store: Store, delivery: int, now: int, *, also: Callable[[AsyncConnection], Awaitable[None]] | None = None
) -> sa.Row[Any] | None:
    """Make a dead or superseded delivery due again. Returns its row, unchanged when it was neither, None when there is none.

    `also` is done in the same transaction when something changed.
    """

    async def work(conn: AsyncConnection) -> sa.Row[Any] | None:
        over = (deliveries.c.id == delivery) & deliveries.c.state.in_(("dead", "superseded"))
        fresh = {"state": "pending", "next_at_us": now, "attempts": 0, "finished_us": None, "lease": None}
        again = await conn.execute(sa.update(deliveries).where(over).values(fresh))
        row = (await conn.execute(sa.select(deliveries).where(deliveries.c.id == delivery))).one_or_none()
        if also is not None and again.rowcount == 1:
            await also(conn)
        if row is not None and again.rowcount == 1 and row.body is None:
            await _fix(conn, row, await _report(conn, row), now, [], store.uploads)
        return row

    return await store.run(work)


async def _freeze(
    conn: AsyncConnection, row: sa.Row[Any], now: int, waits: Patience, changed: list[Call], policy: uploads.UploadPolicy
) -> bool:
    """Decide a report's final body. False when it is not to be sent now: its call deserves more time, or another report stands for it."""
    report = await _report(conn, row)
    if report.origin == "agent":
        matched = await linking.link(conn, report)
        report = await _report(conn, row)
    else:
        matched = None
    call_row = await rows.load(conn, report.call) if report.call is not None else None
    until = await _due(conn, report, call_row, waits, now) if report.origin == "agent" else now
    if until > now:
        await conn.execute(sa.update(deliveries).where(deliveries.c.id == row.id).values(next_at_us=until))
        return False
    standing = await _standing_in(conn, report)
    if standing is not None:
        values = {"state": "superseded", "finished_us": now, "last_error": standing}
        await conn.execute(sa.update(deliveries).where(deliveries.c.id == row.id).values(values))
        if report.origin == "wire":
            await conn.execute(sa.update(reports).where(reports.c.id == report.id).values(call=None))
        return False
    await _fix(conn, row, report, now, changed, policy)
    for candidate in matched.candidates if matched is not None and matched.call is None else ():
        changed += [call for call in [await linking.settle_verdict(conn, candidate, now)] if call is not None]
    return True


async def _due(conn: AsyncConnection, report: sa.Row[Any], call: sa.Row[Any] | None, waits: Patience, now: int) -> int:
    """Until when a report waits for the figures of its call, and for calls that nobody has told of yet.

    While a sidecar is away, its call may be the report's: so long one waits that names no call, or one by numbers and time alone.
    """
    until: int = 0
    if call is not None:
        until = patience(
            arrived=report.received_us,
            complete=call.complete,
            live=call.ended_us is None,
            ended=call.ended_us,
            wait=waits.wait_us,
            cap=waits.cap_us,
        )
    if call is None or report.rule in CIRCUMSTANTIAL:  # another call may fit better, or as well, which makes a conflict
        until = max(until, report.received_us + waits.wait_us)
        cap = report.received_us + waits.cap_us
        if until <= now < cap and await registry.away(conn, now, _AWAY_US, waits.wait_us):
            until = min(cap, now + min(_LOOK_US, waits.wait_us))
    if until > report.received_us + UPLOAD_WAIT_US and read_claim(report.body).wants_upload:
        return int(report.received_us) + UPLOAD_WAIT_US
    return until


async def _fix(
    conn: AsyncConnection, row: sa.Row[Any], report: sa.Row[Any], now: int, changed: list[Call], policy: uploads.UploadPolicy
) -> None:
    await conn.execute(sa.update(reports).where(reports.c.id == report.id).values(frozen=True))
    body: bytes = report.body
    if report.call is not None:
        changed += [call for call in [await linking.settle_verdict(conn, report.call, now)] if call is not None]
        call_row = await rows.load(conn, report.call)
        if call_row is not None:
            call = rows.read_call(call_row.doc)
            mend = link_of(call) if report.outcome == "repaired" and call.kind == "simulation" else None
            offer = policy.wanted(call, agents_own=read_claim(body).wants_upload)
            body = enrich(body, call, repair=mend, pairs=compare(body, call) if report.origin == "agent" else (), recording=offer)
    await conn.execute(sa.update(deliveries).where(deliveries.c.id == row.id).values(body=body, call=report.call))


async def _standing_in(conn: AsyncConnection, report: sa.Row[Any]) -> str | None:
    """Why `report` is not to be sent: see `control.matching.wireonly`. None when it is."""
    candidates = json.loads(report.candidates)
    # One candidate and no call: a second report of the agent, which gives way to its first.
    call = report.call or (candidates[0] if len(candidates) == 1 else None)
    if call is None:
        return None
    same_call = sa.select(sa.func.count()).select_from(reports).where(reports.c.call == call, reports.c.id != report.id)
    if report.origin == "wire":
        theirs = same_call.where(reports.c.origin == "agent", reports.c.outcome.in_(("linked", "repaired")))
        return "the agent's own report came in time" if await conn.scalar(theirs) else None
    ours = same_call.where(reports.c.origin == "wire", reports.c.frozen)
    return "a wire-only report of this call has already been sent; retry to send this one too" if await conn.scalar(ours) else None


async def _report(conn: AsyncConnection, row: sa.Row[Any]) -> sa.Row[Any]:
    return (await conn.execute(sa.select(reports).where(reports.c.id == row.report))).one()
