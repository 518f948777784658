"""Reading calls back: filters, keyset pages, percentiles, and finding the call an agent is in."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from control.api.problems import Problem
from control.clock import as_us
from control.contract.call import Call, Percentiles
from control.matching.claim import party
from control.store import rows
from control.store.schema import calls

_EQUAL = ("kind", "outcome", "route", "sidecar", "sip_call_id")
_LEAST_FOR_P95 = 20
MOST_PER_PAGE = 500


@dataclass(frozen=True, slots=True)
class Page:
    """A page of calls, newest first; `cursor` continues after it, None at the end."""

    calls: list[Call]
    cursor: str | None


def conditions(query: Mapping[str, str]) -> list[sa.ColumnElement[bool]]:
    """The filters of a query. Raises Problem 400 for one that cannot be read."""
    found: list[sa.ColumnElement[bool]] = [calls.c[name] == query[name] for name in _EQUAL if name in query]
    if "status" in query:
        found.append(calls.c.status == number(query, "status", 0, 0, 999))
    if "since" in query:
        found.append(calls.c.started_us >= moment(query["since"], "since"))
    if "until" in query:
        found.append(calls.c.started_us < moment(query["until"], "until"))
    return found


def moment(text: str, name: str) -> int:
    """An RFC 3339 time as microseconds; one without an offset is UTC. Raises Problem 400."""
    try:
        value = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise Problem(400, f"{name} must be an RFC 3339 time such as 2026-01-31T12:00:00Z") from None
    return as_us(value if value.tzinfo is not None else value.replace(tzinfo=UTC))


def number(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    """A whole number of the query. Raises Problem 400 when it is none, or out of range."""
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not least <= int(text[:12]) <= most:
        raise Problem(400, f"{name} must be a whole number from {least} to {most}")
    return int(text)


async def page(conn: AsyncConnection, query: Mapping[str, str]) -> Page:
    """One page under the filters of `query`. Keyset: a call that arrives meanwhile neither repeats nor hides another."""
    limit = number(query, "limit", 50, 1, MOST_PER_PAGE)
    statement = sa.select(calls.c.id, calls.c.started_us, calls.c.doc).where(*conditions(query))
    if "cursor" in query:
        started, call_id = _read_cursor(query["cursor"])
        statement = statement.where(sa.tuple_(calls.c.started_us, calls.c.id) < sa.tuple_(sa.literal(started), sa.literal(call_id)))
    statement = statement.order_by(calls.c.started_us.desc(), calls.c.id.desc()).limit(limit + 1)
    found = (await conn.execute(statement)).all()
    last = found[limit - 1] if len(found) > limit else None
    return Page([rows.read_call(row.doc) for row in found[:limit]], _write_cursor(last.started_us, last.id) if last is not None else None)


async def one(conn: AsyncConnection, call_id: str) -> Call:
    """The call with this id. Raises Problem 404."""
    doc = await conn.scalar(sa.select(calls.c.doc).where(calls.c.id == call_id))
    if doc is None:
        raise Problem(404, "no call has this id: ids are those of GET /v1/calls; a Call-ID goes into ?sip_call_id=")
    return rows.read_call(doc)


async def current(conn: AsyncConnection, query: Mapping[str, str]) -> list[Call]:
    """The calls that have not ended and that fit what is known of them. Raises Problem 400 when nothing is."""
    wanted = {name: query[name] for name in ("to", "from", "sip_call_id") if query.get(name)}
    if not wanted:
        raise Problem(400, "say which call: to=, from= or sip_call_id=")
    live = sa.select(calls.c.doc).where(calls.c.ended_us.is_(None)).order_by(calls.c.started_us.desc(), calls.c.id.desc())
    return [call for call in (rows.read_call(doc) for doc in await conn.scalars(live.limit(2000))) if _fits(call, wanted)]


async def summary(conn: AsyncConnection, query: Mapping[str, str]) -> dict[str, Any]:
    """Counts and percentiles (ms) over all calls under the filters of `query`, streamed so that memory stays flat."""
    counts: dict[str, dict[str, int]] = {"outcome": {}, "kind": {}, "status": {}, "reason": {}}
    latencies: list[float] = []
    greetings: list[float] = []
    differences: list[float] = []
    total = 0
    stream = await conn.stream_scalars(sa.select(calls.c.doc).where(*conditions(query)))
    async for doc in stream:
        call = rows.read_call(doc)
        total += 1
        for name, value in (("outcome", call.verdict.outcome), ("kind", call.kind), ("status", call.status), ("reason", call.reason)):
            counts[name][str(value)] = counts[name].get(str(value), 0) + 1
        latencies += [turn.response_latency_ms for turn in call.turns if turn.kind == "response"]
        greetings += [call.timings_ms.greeting] if call.timings_ms.greeting is not None else []
        differences += call.reported.difference_ms
    figures = {"response_latency_ms": latencies, "greeting_ms": greetings, "difference_ms": differences}
    return {"calls": total, **counts, **{name: percentiles(values).model_dump() for name, values in figures.items()}}


def percentiles(values: Iterable[float]) -> Percentiles:
    """Nearest-rank percentiles with n; no p95 under n = 20."""
    ordered = sorted(values)
    if not ordered:
        return Percentiles()

    def at(share: float) -> float:
        return round(ordered[max(0, ceil(share * len(ordered)) - 1)], 3)

    p95 = at(0.95) if len(ordered) >= _LEAST_FOR_P95 else None
    return Percentiles(n=len(ordered), p50=at(0.5), p90=at(0.9), p95=p95, max=round(ordered[-1], 3))


def _fits(call: Call, wanted: Mapping[str, str]) -> bool:
    to, from_, sip_call_id = wanted.get("to"), wanted.get("from"), wanted.get("sip_call_id")
    if sip_call_id is not None and sip_call_id != call.sip_call_id and sip_call_id not in call.b_leg_call_ids:
        return False
    if from_ is not None and party(from_) != party(call.from_):
        return False
    return to is None or party(to) in (party(call.to), party(call.recipient))


def _write_cursor(started_us: int, call_id: str) -> str:
    return base64.urlsafe_b64encode(f"{started_us}:{call_id}".encode()).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[int, str]:
    try:
        started, _, call_id = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition(":")
        return int(started), call_id
    except (ValueError, binascii.Error):
        raise Problem(400, "cursor is not one of ours: take it from the answer before") from None
