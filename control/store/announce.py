"""Events for webhooks: written into the outbox in the transaction of what they tell, one row for each receiver that wants them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from control.clock import as_text
from control.contract import facts as f
from control.contract.call import Call
from control.contract.fold import on_our_clock
from control.store.rows import clip, parts
from control.store.schema import calls, deliveries

_UNSAID = ("pending", "not_applicable")
"""Outcomes that are no news."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A receiver as the store knows it: the destination of its rows, and the events it wants."""

    destination: str
    events: frozenset[str]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a call. `key` tells it from others of its type, so that it has one id however often it is sent."""

    type: str
    call: str
    key: str
    at: str
    data: dict[str, object]

    @property
    def id(self) -> str:
        """The `webhook-id`."""
        return (
            "msg_" + hashlib.blake2b(f"{self.call}\n{self.type}\n{self.key}".encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        )


def of_fact(call: Call, fact: f.Fact) -> Event | None:
    """The event that a new fact is, if any."""
    at = on_our_clock(call.clock, fact.at).isoformat()
    match fact:
        case f.CallStarted():
            return Event("call.started", call.id, "", at, _brief(call))
        case f.CallAnswered():
            return Event("call.answered", call.id, str(fact.seq), at, _brief(call))
        case f.TurnMeasured():
            return Event("turn.completed", call.id, str(fact.seq), at, _brief(call) | {"turn": fact.turn.model_dump(mode="json")})
        case _:
            return None


def of_end(call: Call, now: int) -> Event:
    """The event of a call whose trace is complete: it carries the whole call object."""
    return Event("call.ended", call.id, "", str(as_text(now)), {"call": call.as_json()})


async def outcomes(conn: AsyncConnection, hooks: Sequence[Hook], changed: Iterable[Call], now: int) -> None:
    """Queue `report.<outcome>` for those of the changed calls whose outcome is another than the one told last."""
    by_id = {call.id: call for call in changed}
    if not hooks or not by_id:
        return
    told: dict[str, str | None] = {}
    for part in parts(sorted(by_id)):
        told |= {row.id: row.told for row in await conn.execute(sa.select(calls.c.id, calls.c.told).where(calls.c.id.in_(part)))}
    news = [call for call in by_id.values() if call.verdict.outcome not in (*_UNSAID, told.get(call.id))]
    for call in news:
        await conn.execute(sa.update(calls).where(calls.c.id == call.id).values(told=call.verdict.outcome))
    await queue(conn, hooks, [_of_outcome(call, told.get(call.id), now) for call in news], now)


async def queue(conn: AsyncConnection, hooks: Sequence[Hook], events: Iterable[Event], now: int) -> None:
    """One row an event and receiver."""
    values = [
        {
            "destination": hook.destination,
            "kind": event.type,
            "call": event.call,
            "label": clip(event.id, 256),
            "workspace": "",
            "agent": "",
            "content_type": "application/json",
            "body": json.dumps({"type": event.type, "timestamp": event.at, "data": event.data}).encode(),
            "state": "pending",
            "attempts": 0,
            "next_at_us": now,
            "created_us": now,
        }
        for event in events
        for hook in hooks
        if event.type in hook.events
    ]
    if values:
        await conn.execute(sa.insert(deliveries), values)


def _of_outcome(call: Call, before: str | None, now: int) -> Event:
    # An outcome may come back after another (linked, conflict, linked): what it follows tells one from the other.
    key = f"{before}>{call.verdict.outcome}@{now}"
    data = _brief(call) | {"verdict": call.verdict.model_dump(mode="json")}
    return Event(f"report.{call.verdict.outcome}", call.id, key, str(as_text(now)), data)


def _brief(call: Call) -> dict[str, object]:
    shown = {"call": call.id, "sip_call_id": call.sip_call_id, "kind": call.kind, "direction": call.direction, "route": call.route}
    return {**shown, "sidecar": call.sidecar, "from": call.from_, "to": call.to, "recipient": call.recipient}
