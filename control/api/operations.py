"""Handlers for whoever runs control: the outbox, health and metrics."""

from __future__ import annotations

import json
from typing import Any, get_args

import sqlalchemy as sa
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from control.api.parameters import AuditQuery, DeliveryQuery, Query
from control.api.problems import Problem
from control.api.state import STATE
from control.api.table import IDENTITY
from control.audit import record
from control.clock import as_datetime, as_us, now_us
from control.contract.answers import AuditEntry, AuditPage, Delivery, DeliveryPage, DeliveryState, Health, Readiness
from control.delivery import outbox
from control.store.schema import audit, calls, deliveries

_SHOWN = [column for column in deliveries.c if column.name not in ("body", "credential")]


async def list_deliveries(request: web.Request, query: DeliveryQuery) -> DeliveryPage:
    """A page of the outbox, newest first."""
    statement = sa.select(*_SHOWN)
    if query.state is not None:
        statement = statement.where(deliveries.c.state == query.state)
    if query.call is not None:
        statement = statement.where(deliveries.c.call == query.call)
    if query.call_id is not None:
        statement = statement.where(deliveries.c.label == query.call_id)
    if query.cursor is not None:
        statement = statement.where(deliveries.c.id < query.cursor)
    async with request.app[STATE].store.read() as conn:
        found = (await conn.execute(statement.order_by(deliveries.c.id.desc()).limit(query.limit + 1))).all()
    following = str(found[query.limit - 1].id) if len(found) > query.limit else None
    return DeliveryPage(deliveries=[_delivery(row) for row in found[: query.limit]], next=following)


async def retry_delivery(request: web.Request, query: Query) -> Delivery:
    """Make a dead or superseded delivery due now. 404 for an unknown one, 409 for one that is under way or done."""
    state = request.app[STATE]
    async with state.store.read() as conn:
        wanted = int(request.match_info["id"][:18])
        before = (await conn.execute(sa.select(*_SHOWN).where(deliveries.c.id == wanted))).one_or_none()
    if before is None:
        raise Problem(404, "no delivery has this id: ids are those of GET /v1/deliveries")
    if before.state not in ("dead", "superseded"):
        raise Problem(409, f"this delivery is {before.state}: only a dead or superseded one can be tried again")
    actor, now = state.access.actor(request, request[IDENTITY]), now_us()

    async def note(conn: AsyncConnection) -> None:
        await record(conn, actor, "delivery.retry", str(before.id), now, call_id=before.label, was=before.state)

    row = await outbox.retry(state.store, before.id, now, also=note)
    state.worker.wake()
    return _delivery(row if row is not None else before)


def _delivery(row: sa.Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        destination=row.destination,
        kind=row.kind,
        call_id=row.label,
        call=row.call,
        workspace_id=row.workspace,
        agent_id=row.agent,
        state=row.state,
        attempts=row.attempts,
        next_at=as_datetime(row.next_at_us) if row.state == "pending" else None,
        under_way=row.state == "pending" and row.lease is not None,
        last_error=row.last_error,
        created_at=as_datetime(row.created_us),
        finished_at=as_datetime(row.finished_us) if row.finished_us is not None else None,
    )


async def list_audit(request: web.Request, query: AuditQuery) -> AuditPage:
    """A page of the audit log, newest first."""
    statement = sa.select(audit)
    if query.actor is not None:
        statement = statement.where(audit.c.actor == query.actor)
    if query.action is not None:
        statement = statement.where(audit.c.action == query.action)
    if query.since is not None:
        statement = statement.where(audit.c.at_us >= as_us(query.since))
    if query.until is not None:
        statement = statement.where(audit.c.at_us < as_us(query.until))
    if query.cursor is not None:
        # Retention takes the oldest first: where the row of a cursor is gone, so is all that follows it.
        at = sa.select(audit.c.at_us).where(audit.c.id == query.cursor).scalar_subquery()
        statement = statement.where(sa.tuple_(audit.c.at_us, audit.c.id) < sa.tuple_(at, sa.literal(query.cursor)))
    async with request.app[STATE].store.read() as conn:
        found = (await conn.execute(statement.order_by(audit.c.at_us.desc(), audit.c.id.desc()).limit(query.limit + 1))).all()
    following = str(found[query.limit - 1].id) if len(found) > query.limit else None
    return AuditPage(entries=[_entry(row) for row in found[: query.limit]], next=following)


def _entry(row: sa.Row[Any]) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at=as_datetime(row.at_us),
        actor=row.actor,
        action=row.action,
        target=row.target,
        detail=json.loads(row.detail),
        source=row.source,
        request_id=row.request_id,
    )


async def livez(request: web.Request, query: None) -> Health:
    """200 while all tasks run: what failed here only a restart mends."""
    failures = request.app[STATE].failures
    if failures:
        raise Problem(500, "; ".join(f"{name} stopped: {why}" for name, why in failures.items()))
    return Health()


async def readyz(request: web.Request, query: None) -> Readiness:
    """200 when reports and facts can be stored, else 503 with the reason."""
    state = request.app[STATE]
    why = [f"{name} stopped: {reason}" for name, reason in state.failures.items()]
    try:
        await state.store.check()
    except SQLAlchemyError as error:
        why.append(f"the database cannot be written: {str(getattr(error, 'orig', None) or error).splitlines()[0]}")
    if why:
        raise Problem(503, "; ".join(why))
    return Readiness(delivery=state.worker.describe(), events=state.events(), access=state.access.describe(), fleet=state.fleet.describe())


async def metrics(request: web.Request, query: None) -> web.Response:
    """The outbox, the calls by outcome, the watchers, distributions; as Prometheus text, or with exemplars for who accepts OpenMetrics."""
    state = request.app[STATE]
    async with state.store.read() as conn:
        queued = (await conn.execute(sa.select(deliveries.c.state, sa.func.count().label("n")).group_by(deliveries.c.state))).all()
        outcomes = (
            await conn.execute(sa.select(calls.c.kind, calls.c.outcome, sa.func.count().label("n")).group_by(calls.c.kind, calls.c.outcome))
        ).all()
        oldest = await conn.scalar(sa.select(sa.func.min(deliveries.c.created_us)).where(deliveries.c.state == "pending"))
    held = GaugeMetricFamily("trunkside_deliveries", "Deliveries in the outbox by state.", labels=["state"])
    counts = dict.fromkeys(get_args(DeliveryState), 0) | {row.state: row.n for row in queued}
    for name, count in counts.items():
        held.add_metric([name], count)
    known = GaugeMetricFamily("trunkside_calls", "Stored calls by kind and outcome.", labels=["kind", "outcome"])
    for row in outcomes:
        known.add_metric([row.kind, row.outcome], row.n)
    age = GaugeMetricFamily(
        "trunkside_outbox_oldest_seconds", "Age of the oldest pending delivery.", value=(now_us() - oldest) / 1e6 if oldest else 0.0
    )
    attempts = CounterMetricFamily("trunkside_delivery_attempts", "Attempts of this process by result.", labels=["result"])
    for name, count in state.worker.results.items():
        attempts.add_metric([name], count)
    dropped = CounterMetricFamily(
        "trunkside_event_readers_dropped", "Event readers dropped for reading too slowly.", value=state.broker.dropped
    )
    fleet = GaugeMetricFamily("trunkside_sidecars_connected", "Sidecars connected to this process.", value=len(state.fleet.links))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected([held, known, age, attempts, dropped, fleet, *state.figures.collect()]))
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(registry), headers={"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"})


class _Collected:
    """Families that were gathered beforehand, because a collector cannot await."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        """The families."""
        return self._families
