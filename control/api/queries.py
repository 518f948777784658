"""Reading calls back: filters, keyset pages, percentiles, and finding the call an agent is in."""

from __future__ import annotations

import asyncio
import base64
import binascii
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from control.api.parameters import CallFilter, CallQuery, CurrentQuery
from control.api.problems import Problem
from control.clock import as_us
from control.contract.answers import Histogram, SlowTurn, Summary
from control.contract.call import Call, Percentiles
from control.matching.claim import party
from control.store import Store, rows
from control.store.schema import calls

_EQUAL = ("kind", "outcome", "route", "sidecar", "sip_call_id", "status")
_EXPORT_PAGE = 200
_SUMMARY_BATCH = 500
_HISTOGRAM_STEP_MS = 100.0
_HISTOGRAM_STEPS = 31
_SLOWEST = 5


@dataclass(frozen=True, slots=True)
class Page:
    """A page of calls, newest first; `cursor` continues after it, None at the end."""

    calls: list[Call]
    cursor: str | None


def conditions(query: CallFilter) -> list[sa.ColumnElement[bool]]:
    """The filters of a query."""
    asked = {name: getattr(query, name) for name in _EQUAL}
    found: list[sa.ColumnElement[bool]] = [calls.c[name] == value for name, value in asked.items() if value is not None]
    if query.since is not None:
        found.append(calls.c.started_us >= as_us(query.since))
    if query.until is not None:
        found.append(calls.c.started_us < as_us(query.until))
    if query.min_latency_ms is not None:
        found.append(calls.c.latency_ms >= query.min_latency_ms)
    if query.max_latency_ms is not None:
        found.append(calls.c.latency_ms <= query.max_latency_ms)
    return found


async def page(conn: AsyncConnection, query: CallQuery) -> Page:
    """One page under the filters of `query`. Keyset: a call that arrives meanwhile neither repeats nor hides another."""
    after = _read_cursor(query.cursor) if query.cursor is not None else None
    found = (await conn.execute(_newest_first(query, after).limit(query.limit + 1))).all()
    last = found[query.limit - 1] if len(found) > query.limit else None
    shown = [rows.read_call(row.doc) for row in found[: query.limit]]
    return Page(shown, _write_cursor(last.started_us, last.id) if last is not None else None)


async def lines(store: Store, query: CallFilter) -> AsyncIterator[bytes]:
    """All calls under the filters of `query`, newest first, one JSON object a line: a page of them at a time, each its own transaction."""
    after: tuple[int, str] | None = None
    while True:
        async with store.read() as conn:
            found = (await conn.execute(_newest_first(query, after).limit(_EXPORT_PAGE))).all()
        if found:
            shown = (rows.read_call(row.doc).model_dump_json(by_alias=True) for row in found)
            yield "".join(f"{line}\n" for line in shown).encode("utf-8", "replace")
        if len(found) < _EXPORT_PAGE:
            return
        after = (found[-1].started_us, found[-1].id)


def _newest_first(query: CallFilter, after: tuple[int, str] | None) -> sa.Select[tuple[int, str, str]]:
    statement = sa.select(calls.c.started_us, calls.c.id, calls.c.doc).where(*conditions(query))
    if after is not None:
        statement = statement.where(sa.tuple_(calls.c.started_us, calls.c.id) < sa.tuple_(sa.literal(after[0]), sa.literal(after[1])))
    return statement.order_by(calls.c.started_us.desc(), calls.c.id.desc())


async def one(conn: AsyncConnection, call_id: str) -> Call:
    """The call with this id. Raises Problem 404."""
    doc = await conn.scalar(sa.select(calls.c.doc).where(calls.c.id == rows.clip(call_id)))
    if doc is None:
        raise Problem(404, "no call has this id: ids are those of GET /v1/calls; a Call-ID goes into ?sip_call_id=")
    return rows.read_call(doc)


async def current(conn: AsyncConnection, query: CurrentQuery) -> list[Call]:
    """The calls that have not ended and that fit what is known of them. Raises Problem 400 when nothing is."""
    if not (query.to or query.from_ or query.sip_call_id):
        raise Problem(400, "say which call: to=, from= or sip_call_id=")
    live = sa.select(calls.c.doc).where(calls.c.ended_us.is_(None)).order_by(calls.c.started_us.desc(), calls.c.id.desc())
    return [call for call in (rows.read_call(doc) for doc in await conn.scalars(live.limit(2000))) if _fits(call, query)]


async def summary(conn: AsyncConnection, query: CallFilter) -> Summary:
    """Counts and percentiles (ms) over all calls under the filters of `query`, streamed: only the figures themselves are held.

    Other requests are served meanwhile.
    """
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("outcome", "kind", "status", "reason")}
    latencies, greetings, differences = array("d"), array("d"), array("d")
    slowest: list[SlowTurn] = []
    total = 0
    wanted = sa.select(calls.c.id, calls.c.outcome, calls.c.kind, calls.c.status, calls.c.doc).where(*conditions(query))
    stream = await conn.stream(wanted.execution_options(yield_per=_SUMMARY_BATCH))
    async for batch in stream.partitions():
        for row in batch:
            told = _Figures.model_validate_json(row.doc)
            for name, value in (("outcome", row.outcome), ("kind", row.kind), ("status", row.status), ("reason", told.reason)):
                counts[name][str(value)] += 1
            responses = [turn for turn in told.turns if turn.kind == "response"]
            latencies.extend(turn.response_latency_ms for turn in responses)
            slowest = _slowest(slowest, row.id, told, responses)
            greetings.extend([told.timings_ms.greeting] if told.timings_ms.greeting is not None else [])
            differences.extend(told.reported.difference_ms)
        total += len(batch)
        await asyncio.sleep(0)
    return Summary(
        calls=total,
        **{name: dict(count) for name, count in counts.items()},
        response_latency_ms=Percentiles.of(latencies),
        greeting_ms=Percentiles.of(greetings),
        difference_ms=Percentiles.of(differences),
        latency_histogram=histogram(latencies),
        slowest_turns=slowest,
    )


def _slowest(known: list[SlowTurn], call: str, told: _Figures, responses: list[_Turn]) -> list[SlowTurn]:
    """The slowest turns of `known` and of one more call."""
    least = known[-1].response_latency_ms if len(known) == _SLOWEST else float("-inf")
    more = [
        SlowTurn(call=call, n=turn.n, response_latency_ms=turn.response_latency_ms, started_at=told.started_at, route=told.route)
        for turn in responses
        if turn.response_latency_ms > least
    ]
    return sorted([*known, *more], key=lambda turn: -turn.response_latency_ms)[:_SLOWEST] if more else known


def histogram(values: Iterable[float]) -> Histogram:
    """How many values (ms) lie in each step."""
    counts = [0] * _HISTOGRAM_STEPS
    for value in values:
        counts[max(0, min(_HISTOGRAM_STEPS - 1, int(value // _HISTOGRAM_STEP_MS)))] += 1
    return Histogram(step_ms=_HISTOGRAM_STEP_MS, counts=counts)


class _Turn(BaseModel):
    n: int
    kind: str
    response_latency_ms: float


class _Timings(BaseModel):
    greeting: float | None = None


class _Reported(BaseModel):
    difference_ms: list[float] = []


class _Figures(BaseModel):
    """The few members of a call that a summary reads: to read them all would take five times as long."""

    started_at: datetime
    route: str = ""
    reason: str | None = None
    turns: list[_Turn] = []
    timings_ms: _Timings = _Timings()
    reported: _Reported = _Reported()


def _fits(call: Call, query: CurrentQuery) -> bool:
    if query.sip_call_id and query.sip_call_id != call.sip_call_id and query.sip_call_id not in call.b_leg_call_ids:
        return False
    if query.from_ and party(query.from_) != party(call.from_):
        return False
    return not query.to or party(query.to) in (party(call.to), party(call.recipient))


def _write_cursor(started_us: int, call_id: str) -> str:
    return base64.urlsafe_b64encode(f"{started_us}:{call_id}".encode()).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[int, str]:
    try:
        started, colon, call_id = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition(":")
        if not colon or not -(2**62) < int(started) < 2**62 or "\x00" in call_id:
            raise ValueError
        return int(started), call_id
    except (ValueError, binascii.Error):
        raise Problem(400, "cursor is not one of ours: take it from the answer before", parameter="cursor") from None
