"""Reading calls back: filters, keyset pages, and finding the call an agent is in."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from control.api.parameters import CallFilter, CallQuery, CurrentQuery
from control.api.problems import Problem
from control.clock import as_us
from control.contract.call import Call
from control.contract.endpoints import same_address
from control.matching.claim import party
from control.matching.rules import SLACK_MS
from control.store import Store, rows
from control.store.schema import calls

_EQUAL = ("kind", "outcome", "route", "sidecar", "sip_call_id", "status")
_EXPORT_PAGE = 200
_MOST_LIVE = 2000


@dataclass(frozen=True, slots=True)
class Page:
    """A page of calls, newest first; `cursor` continues after it, None at the end."""

    calls: list[Call]
    cursor: str | None


def conditions(query: CallFilter, table: sa.Table = calls) -> list[sa.ColumnElement[bool]]:
    """The filters of a query, on one of the tables that have their columns."""
    asked = {name: getattr(query, name) for name in _EQUAL}
    found: list[sa.ColumnElement[bool]] = [table.c[name] == value for name, value in asked.items() if value is not None]
    if query.since is not None:
        found.append(table.c.started_us >= as_us(query.since))
    if query.until is not None:
        found.append(table.c.started_us < as_us(query.until))
    if query.min_latency_ms is not None:
        found.append(table.c.latency_ms >= query.min_latency_ms)
    if query.max_latency_ms is not None:
        found.append(table.c.latency_ms <= query.max_latency_ms)
    return found


async def page(conn: AsyncConnection, query: CallQuery) -> Page:
    """One page under the filters of `query`. Keyset: a call that arrives meanwhile neither repeats nor hides another."""
    after = _read_cursor(query.cursor) if query.cursor is not None else None
    found = (await conn.execute(_newest_first(query, after).limit(query.limit + 1))).all()
    last = found[query.limit - 1] if len(found) > query.limit else None
    shown = [rows.read_call(row.doc) for row in found[: query.limit]]
    return Page(shown, _write_cursor(last.started_us, last.id) if last is not None else None)


async def batches(store: Store, query: CallFilter) -> AsyncIterator[list[Call]]:
    """All calls under the filters of `query`, newest first: a page of them at a time, each its own transaction."""
    after: tuple[int, str] | None = None
    while True:
        async with store.read() as conn:
            found = (await conn.execute(_newest_first(query, after).limit(_EXPORT_PAGE))).all()
        if found:
            yield [rows.read_call(row.doc) for row in found]
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
    """The calls that fit what an agent knows of its own, live now or at the moment it names. Raises Problem 400 when it knows nothing."""
    if not (query.to or query.from_ or query.sip_call_id or query.media or query.at):
        raise Problem(400, "say which call: to=, from=, media=, at= or sip_call_id=")
    live: sa.ColumnElement[bool] = calls.c.ended_us.is_(None)
    if query.at is not None:
        at, slack = as_us(query.at), SLACK_MS * 1000
        live = (calls.c.started_us <= at + slack) & (live | (calls.c.ended_us >= at - slack))
    wanted = sa.select(calls.c.doc).where(live).order_by(calls.c.started_us.desc(), calls.c.id.desc())
    return [call for call in (rows.read_call(doc) for doc in await conn.scalars(wanted.limit(_MOST_LIVE))) if _fits(call, query)]


def _fits(call: Call, query: CurrentQuery) -> bool:
    if query.sip_call_id and query.sip_call_id != call.sip_call_id and query.sip_call_id not in call.b_leg_call_ids:
        return False
    if query.from_ and party(query.from_) != party(call.from_):
        return False
    if query.media and not same_address(query.media, call.agent_media):
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
