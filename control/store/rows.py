"""Calls between their object and their row. A write here is a part of the caller's transaction."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from control.clock import as_us
from control.contract.call import Call
from control.matching.claim import Claim, party
from control.matching.rules import SLACK_MS
from control.store.dialect import insert_many
from control.store.schema import calls, figures, identifiers

STRONG = ("call_id", "b_leg", "correlation", "platform", "recipient")
MOST_PARAMETERS = 400
"""Values in one IN list: engines limit how many parameters a statement has."""


_LOCKED_ONE = sa.select(calls).where(calls.c.id == sa.bindparam("this")).with_for_update()
_KNOWN_AS = sa.select(identifiers.c.call).where(
    identifiers.c.kind.in_(STRONG), identifiers.c.value.in_(sa.bindparam("values", expanding=True))
)
_DOCUMENTS = sa.select(calls.c.doc).where(calls.c.id.in_(sa.bindparam("ids", expanding=True)))
_LOCKED = sa.select(calls).where(calls.c.id.in_(sa.bindparam("ids", expanding=True))).order_by(calls.c.id).with_for_update()


def clip(value: str, limit: int = 512) -> str:
    """`value` as it fits a column: engines differ in what they do with the rest, and in NUL."""
    return value.replace("\x00", "\ufffd")[:limit]


def read_call(doc: str) -> Call:
    """The call object of a row's document."""
    return Call.model_validate_json(doc)


def slowest_response(call: Call) -> float | None:
    """The largest latency of an ordinary response, milliseconds: what a filter on latency looks at."""
    return max((turn.response_latency_ms for turn in call.turns if turn.kind == "response"), default=None)


async def load(conn: AsyncConnection, call_id: str) -> sa.Row[Any] | None:
    """The row of a call, locked against other writers until the transaction ends."""
    return (await conn.execute(_LOCKED_ONE, {"this": call_id})).one_or_none()


async def load_all(conn: AsyncConnection, call_ids: Sequence[str]) -> dict[str, sa.Row[Any]]:
    """The rows of several calls, as `load` gives one. Locked in the order of their ids, so that two writers cannot lock each other out."""
    found: list[sa.Row[Any]] = []
    for part in parts(sorted(call_ids)):
        found += (await conn.execute(_LOCKED, {"ids": part})).all()
    return {row.id: row for row in found}


@dataclass(frozen=True, slots=True)
class Kept:
    """A call and how much of its trace is stored: the highest seq, the number of facts, and whether that is all of it."""

    call: Call
    last_seq: int
    held: int
    complete: bool


async def save(conn: AsyncConnection, call: Call, now: int, **columns: object) -> None:
    """Write a stored call and its filter columns; `columns` adds `settled` or `told`."""
    shown = _columns(call, now)
    await conn.execute(sa.update(calls).where(calls.c.id == call.id).values(shown | columns))
    await insert_many(conn, figures, [_figures(call, shown)], on_conflict="update")


async def save_all(conn: AsyncConnection, kept: Iterable[Kept], now: int) -> None:
    """Write calls that are stored, and calls that are not yet, in one statement a table."""
    shown = [(each, _columns(each.call, now)) for each in kept]
    values = [
        {
            "id": each.call.id,
            "settled": False,
            **columns,
            "last_seq": each.last_seq,
            "held": each.held,
            "complete": each.complete,
        }
        for each, columns in shown
    ]
    await insert_many(conn, calls, values, on_conflict="update")
    await insert_many(conn, figures, [_figures(each.call, columns) for each, columns in shown], on_conflict="update")


def _columns(call: Call, now: int) -> dict[str, object]:
    return {
        "sip_call_id": clip(call.sip_call_id),
        "kind": call.kind,
        "outcome": call.verdict.outcome,
        "route": clip(call.route, 128),
        "sidecar": clip(call.sidecar, 128),
        "status": call.status,
        "started_us": as_us(call.started_at),
        "ended_us": as_us(call.ended_at) if call.ended_at else None,
        "updated_us": now,
        "latency_ms": slowest_response(call),
        "doc": call.model_dump_json(by_alias=True),
    }


_SHARED = ("sip_call_id", "kind", "outcome", "route", "sidecar", "status", "started_us", "latency_ms")


def _figures(call: Call, columns: Mapping[str, object]) -> dict[str, object]:
    """The row of `figures`; what it shares with the call's own row comes from there."""
    greeting = call.timings_ms.greeting
    return {
        "call": call.id,
        **{name: columns[name] for name in _SHARED},
        "reason": clip(call.reason, 64) if call.reason is not None else None,
        "responses": _packed(turn.response_latency_ms for turn in call.turns if turn.kind == "response"),
        "greeting": _packed([greeting] if greeting is not None else ()),
        "differences": _packed(call.reported.difference_ms),
    }


def _packed(values: Iterable[float]) -> bytes | None:
    return array("d", values).tobytes() or None


async def save_identifiers(conn: AsyncConnection, known: Iterable[Call]) -> None:
    """Make calls findable under everything they are known by."""
    found: list[dict[str, str]] = []
    for call in known:
        names = {("call_id", call.sip_call_id), *(("b_leg", value) for value in call.b_leg_call_ids)}
        names |= {("platform", value) for value in call.platform_ids}
        names |= {("correlation", call.correlation_sha256), ("recipient", call.recipient)}  # type: ignore[arg-type]
        names |= {("caller", party(call.from_)), ("callee", party(call.recipient or call.to))}  # type: ignore[arg-type]
        found += [{"call": call.id, "kind": kind, "value": clip(value)} for kind, value in sorted(names, key=str) if value]
    await insert_many(conn, identifiers, found, on_conflict="skip")


def parts(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """`values` in pieces that fit an IN list."""
    for at in range(0, len(values), MOST_PARAMETERS):
        yield values[at : at + MOST_PARAMETERS]


async def candidates(conn: AsyncConnection, values: Iterable[str], claim: Claim) -> list[Call]:
    """All calls that any matching rule could name for `claim`; `values` are its identifiers, hashes included."""
    ids: set[str] = set()
    for part in parts(sorted({clip(value) for value in values})):
        ids |= set(await conn.scalars(_KNOWN_AS, {"values": part}))
    if claim.caller is not None and claim.start_ms is not None and claim.end_ms is not None:
        first, last = (claim.start_ms - SLACK_MS) * 1000, (claim.end_ms + SLACK_MS) * 1000
        at_the_time = (calls.c.started_us <= last) & ((calls.c.ended_us >= first) | calls.c.ended_us.is_(None))
        same_caller = (identifiers.c.kind == "caller") & (identifiers.c.value == clip(claim.caller))
        joined = sa.select(calls.c.id).join(identifiers, identifiers.c.call == calls.c.id)
        ids |= set(await conn.scalars(joined.where(same_caller, at_the_time)))
    return await _calls(conn, sorted(ids))


async def _calls(conn: AsyncConnection, ids: list[str]) -> list[Call]:
    found: list[Call] = []
    for part in parts(ids):
        found += [read_call(doc) for doc in await conn.scalars(_DOCUMENTS, {"ids": part})]
    return found
