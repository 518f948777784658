"""The store by itself: shared commits, what retention takes and what it leaves, order in the outbox, matching by index."""

from __future__ import annotations

import asyncio
import json
from array import array
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from control.audit import Actor, record
from control.clock import DAY, SECOND, as_us, now_us
from control.contract.facts import FactBatch
from control.delivery import outbox, sweeper
from control.delivery.destination import Delivered, Later
from control.ingest import facts, reports
from control.ingest.facts import Intake
from control.ingest.reports import Sender
from control.store import Store, migrate, migrations
from control.store.combine import Combiner
from control.store.faults import Unavailable
from control.store.migrations import HEAD
from control.store.schema import audit, calls, claims, conflicts, deliveries, figures, fleet, metadata, probe, sidecars, spans, strays
from control.store.schema import facts as stored_facts
from control.store.schema import reports as stored_reports
from tests.core.control.test_spans import span as _span
from tests.core.control.traces import Trace, complete, report, turn
from tests.shell.control import kit

SENDER = Sender("7", "agent-1", None)
WAITS = outbox.Patience(20 * SECOND, 300 * SECOND)
KEEP = sweeper.Policy(grace_us=60 * SECOND, keep_us=30 * DAY)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = Store(kit.ENGINE.database(tmp_path))
    yield opened
    await opened.close()


def batch(*traces: Trace) -> FactBatch:
    return FactBatch.model_validate({"version": 1, "sidecar": "edge-1", "facts": [fact for trace in traces for fact in trace.facts]})


async def take(store: Store, trace: Trace, now: int) -> None:
    await facts.accept(store, batch(trace), now, wait_us=WAITS.wait_us)


async def send(store: Store, body: dict[str, object], now: int) -> None:
    await reports.accept(store, json.dumps(body).encode(), SENDER, now, wait_us=WAITS.wait_us)


async def count(store: Store, table: sa.Table) -> int:
    async with store.read() as conn:
        return int(await conn.scalar(sa.select(sa.func.count()).select_from(table)) or 0)


async def claim(store: Store, now: int, owner: str = "me", limit: int = 8) -> outbox.Claimed:
    return await outbox.claim(store, "tuner", owner, now, limit=limit, lease_us=SECOND, waits=WAITS)


async def test_the_migrations_lead_to_the_schema_that_the_code_expects(store: Store) -> None:
    assert await _differences(store) == (HEAD, [])


async def _differences(store: Store) -> tuple[str | None, list[object]]:
    """The version of a database's schema, and how it differs from the code's."""

    def differences(connection: sa.Connection) -> tuple[str | None, list[object]]:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        return context.get_current_revision(), list(compare_metadata(context, metadata))

    async with store.read() as conn:
        return await conn.run_sync(differences)


async def test_a_transaction_that_fails_takes_none_of_its_neighbours_along(store: Store) -> None:
    async def write(conn: AsyncConnection, number: int) -> int:
        await conn.execute(sa.insert(probe).values(id=number, at_us=0))
        return number

    numbers = [2, 3, 2, 4, 5]  # the third breaks the primary key
    results = await asyncio.gather(*(store.run(lambda conn, n=n: write(conn, n)) for n in numbers), return_exceptions=True)  # type: ignore[misc]
    failed = [result for result in results if isinstance(result, IntegrityError)]
    assert len(failed) == 1
    assert sorted(result for result in results if isinstance(result, int)) == [2, 3, 4, 5]
    assert await count(store, probe) >= 4


async def test_posts_that_arrive_together_share_a_transaction_and_each_has_its_own_receipt(store: Store) -> None:
    intake = Intake(store, 0)
    posts = [batch(complete(f"c{number}", f"SCL_{number}", token=None)) for number in range(20)]
    receipts = await asyncio.gather(*(intake.accept(post, now_us()) for post in [*posts, posts[3]]))
    assert [stored.receipt.new for stored in receipts] == [8] * 20 + [0]
    assert int(str(intake.describe()["transactions"])) < 5
    assert await count(store, calls) == 20
    await intake.close()


async def test_a_batch_that_cannot_be_stored_is_refused_alone(store: Store) -> None:
    intake = Intake(store, 0)
    ill = batch(complete("c-ill", "SCL_ill", token=None))
    ill.facts[0].seq = 2**40  # no column takes it
    well = [batch(complete(f"c{number}", f"SCL_{number}", token=None)) for number in range(5)]
    results = await asyncio.gather(*(intake.accept(post, now_us()) for post in [*well, ill, *well]), return_exceptions=True)
    if store.single_process:  # SQLite's integers have room for it
        assert not any(isinstance(result, BaseException) for result in results)
    else:
        assert [isinstance(result, BaseException) for result in results] == [False] * 5 + [True] + [False] * 5
    assert await count(store, calls) >= 5
    await intake.close()


async def test_too_many_waiting_posts_are_turned_away() -> None:
    gate = asyncio.Event()

    async def handle(items: object) -> list[int]:
        await gate.wait()
        return [1] * len(list(items))  # type: ignore[call-overload]

    combiner: Combiner[int, int] = Combiner(handle, weight_of_round=1, most=2)
    first = asyncio.create_task(combiner.submit(0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(combiner.submit(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await combiner.submit(3)
    gate.set()
    assert await asyncio.gather(first, *waiting) == [1, 1, 1]
    await combiner.close()


async def test_retention_takes_what_is_old_with_all_that_belongs_to_it_and_leaves_what_is_owed(store: Store) -> None:
    old = complete("c-old", "SCL_old", token=None)
    began = as_us(old.started)
    await take(store, old, began)
    await send(store, report("r-old", old, sip_call_id="SCL_old"), began)
    [row] = (await claim(store, began)).rows
    await outbox.settle(store, row, "me", Delivered("201"), began, 0.5)
    await take(store, Trace("c-endless", "SCL_endless", token=None), began)
    stray = complete("c-stray", "SCL_stray", token=None)
    stray.facts = stray.facts[1:]  # the fact that makes the call never came
    await take(store, stray, began)
    owed = complete("c-owed", "SCL_owed", token=None)
    await take(store, owed, began)
    late = began + 20 * DAY
    await send(store, report("r-owed", owed, sip_call_id="SCL_owed"), late)
    assert await count(store, strays) == 1

    await sweeper.drop_old(store, KEEP, began + 31 * DAY)
    async with store.read() as conn:
        assert list(await conn.scalars(sa.select(calls.c.id))) == ["c-owed"]
        assert set(await conn.scalars(sa.select(stored_facts.c.call))) == {"c-owed"}
        assert list(await conn.scalars(sa.select(stored_reports.c.provider_call_id))) == ["r-owed"]
    assert await count(store, strays) == 0

    await sweeper.drop_old(store, KEEP, late + 31 * DAY)  # the evaluator never took it: now it is a dead letter, and no call is owed
    async with store.read() as conn:
        [dead] = (await conn.execute(sa.select(deliveries.c.state, deliveries.c.last_error))).all()
    assert (dead.state, dead.last_error) == ("dead", "not delivered within 30 days")
    assert await count(store, calls) == 0
    await sweeper.drop_old(store, KEEP, late + 62 * DAY)
    for table in (deliveries, stored_reports, claims):
        assert await count(store, table) == 0


async def test_messages_may_go_before_their_calls(store: Store) -> None:
    policy = sweeper.Policy(grace_us=60 * SECOND, keep_us=30 * DAY, keep_messages_us=3 * DAY)
    old = Trace("c-old", "SCL_old", token=None).message(0, "A", "in", "INVITE sip:a@b SIP/2.0\r\n\r\n").answered().ended()
    began = as_us(old.started)
    await take(store, old, began)
    await take(store, Trace("c-live", "SCL_live", token=None).message(0, "A", "in", "INVITE sip:a@b SIP/2.0\r\n\r\n"), began)
    assert await sweeper.drop_messages(store, policy, began + 2 * DAY) == 0
    assert await sweeper.drop_messages(store, policy, began + 4 * DAY) == 1
    assert await sweeper.drop_messages(store, policy, began + 4 * DAY) == 0  # once is enough
    async with store.read() as conn:
        messages = sa.select(stored_facts.c.call).where(stored_facts.c.kind == "sip_message")
        assert list(await conn.scalars(messages)) == ["c-live"]  # it has not ended
        kept = sa.select(sa.func.count()).where(stored_facts.c.call == "c-old")
        assert await conn.scalar(kept) == len(old.facts) - 1
    before = await _figures(store)
    await take(store, old, began + 4 * DAY)  # a sidecar that sends its spool again brings nothing back
    assert await count(store, stored_facts) == len(old.facts) - 1 + 2
    assert await _figures(store) == before


async def test_sidecars_that_are_silent_and_old_changes_go_when_their_time_is_over(store: Store) -> None:
    policy = sweeper.Policy(grace_us=60 * SECOND, keep_us=0, keep_sidecars_us=7 * DAY, keep_audit_us=30 * DAY)
    row = {"instance": "i", "software": "", "facts_version": 1, "first_seen_us": 0, "connected_us": 0, "state": "{}"}

    async def write(conn: AsyncConnection) -> None:
        for name, heard in (("gone", 0), ("quiet", 5 * DAY)):
            await conn.execute(sa.insert(fleet).values(name=name, heard_us=heard, **row))
            await conn.execute(sa.insert(sidecars).values(name=name, version=1, first_seen_us=0, last_seen_us=heard, facts=1))
        for day in (0, 1, 29):
            await record(conn, Actor("somebody"), "verify", f"day {day}", day * DAY)

    await store.run(write)
    assert await sweeper.drop_absent(store, KEEP, 60 * DAY) == 0  # nothing is said of them there
    assert await sweeper.drop_absent(store, policy, 8 * DAY) == 0
    async with store.read() as conn:
        assert (await conn.scalars(sa.select(fleet.c.name))).all() == ["quiet"]
        assert (await conn.scalars(sa.select(sidecars.c.name))).all() == ["quiet"]
    assert await sweeper.drop_absent(store, policy, 32 * DAY) == 2
    async with store.read() as conn:
        assert (await conn.scalars(sa.select(audit.c.target))).all() == ["day 29"]
        assert (await conn.scalars(sa.select(fleet.c.name))).all() == []


async def test_spans_go_with_the_calls_of_their_time(store: Store) -> None:
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [_span("a" * 16)]}]}]}).encode()
    await reports.accept_traces(store, body, "application/json", SENDER, SECOND)
    assert await count(store, spans) == 1
    await sweeper.drop_old(store, KEEP, 29 * DAY)
    assert await count(store, spans) == 1
    await sweeper.drop_old(store, KEEP, 31 * DAY)
    assert await count(store, spans) == 0


async def test_reports_of_one_call_leave_in_order_and_one_that_is_put_off_holds_the_next(store: Store) -> None:
    trace, other = complete("c1", "SCL_abc", token=None), complete("c2", "SCL_def", token=None)
    now = as_us(trace.started) + 60 * SECOND
    await take(store, trace, now)
    await take(store, other, now)
    for name, call in (("r1", "SCL_abc"), ("r2", "SCL_abc"), ("r3", "SCL_def")):
        await send(store, report(name, trace, sip_call_id=call), now)
    first = (await claim(store, now)).rows
    assert [row.label for row in first] == ["r1", "r3"]
    assert (await claim(store, now, "another")).rows == []
    await outbox.settle(store, first[0], "me", Later("500", 100.0), now, 0.0)
    assert (await claim(store, now + 50 * SECOND, limit=1)).rows[0].label == "r3"  # its lease is over; r2 waits behind r1
    [again] = [row for row in (await claim(store, now + 101 * SECOND)).rows if row.label != "r3"]
    assert again.label == "r1"
    await outbox.settle(store, again, "me", Delivered("201"), now + 101 * SECOND, 0.0)
    assert "r2" in [row.label for row in (await claim(store, now + 101 * SECOND)).rows]


async def test_a_lease_that_passed_on_cannot_be_settled_by_its_first_holder(store: Store) -> None:
    now = now_us()
    await send(store, report("r1"), now)
    later = now + 30 * SECOND
    [row] = (await claim(store, later, "first")).rows
    [same] = (await claim(store, later + 2 * SECOND, "second")).rows
    assert (row.id, row.body) == (same.id, same.body)
    await outbox.settle(store, row, "first", Later("too late"), later + 2 * SECOND, 0.0)
    await outbox.settle(store, same, "second", Delivered("201"), later + 2 * SECOND, 0.0)
    async with store.read() as conn:
        assert (await conn.scalar(sa.select(deliveries.c.state))) == "delivered"


async def test_a_waiting_report_is_found_by_any_of_its_values(store: Store) -> None:
    now = now_us()
    platform = Trace("c1", "SCL_abc", token=None)
    await send(store, report("r1", general_meta_data_raw={"conversation": "plat-12345"}), now)
    for number in range(30):  # reports that concern nobody
        await send(store, report(f"x{number}"), now)
    platform.add("id_learned", 5, name="conversation", value="plat-12345")
    await take(store, platform.answered().ended(), now)
    async with store.read() as conn:
        found = sa.select(stored_reports.c.call, stored_reports.c.rule).where(stored_reports.c.provider_call_id == "r1")
        assert (await conn.execute(found)).one() == ("c1", "platform_id")


async def test_figures_are_filled_from_the_calls_of_an_older_schema_and_kept_in_step(store: Store) -> None:
    several = [complete("c1", "SCL_1"), complete("c2", "SCL_2", token=None).add("turn_measured", 1, turn=turn(3, 1, 2, 3.25, 4))]
    await facts.accept(store, batch(*several, Trace("c3", "SCL_3", token=None)), now_us(), wait_us=0)
    kept = await _figures(store)
    assert [(row.call, row.status, row.reason) for row in kept] == [
        ("c1", 200, "caller-bye"),
        ("c2", 200, "caller-bye"),
        ("c3", None, None),
    ]
    assert array("d", kept[1].responses).tolist() == [600.0, 900.0, 1.25]

    await _back_to(store, "0004")
    await store.upgrade()
    assert await _figures(store) == kept


def _versions() -> list[str]:
    """The older ones, newest first."""
    found = ScriptDirectory(str(Path(migrations.__file__).parent)).walk_revisions("base", "heads")
    return [script.revision for script in found if script.revision != HEAD]


@pytest.mark.parametrize("version", _versions())
async def test_a_database_of_every_older_version_is_brought_up_to_date_with_what_it_holds(tmp_path: Path, version: str) -> None:
    config = kit.settings(tmp_path, "http://127.0.0.1:9")
    store = Store(config.database)
    traces = [complete("c1", "SCL_1"), Trace("c2", "SCL_2", token=None), complete("c3", "SCL_3", token="0" * 32)]
    await facts.accept(store, batch(*traces), now_us(), wait_us=0)
    await send(store, report("r1", traces[0], sip_call_id="SCL_1"), now_us())
    await send(store, report("r2"), now_us())
    await send(store, report("r3", sip_call_id="SCL_1", sip_headers={"X-Correlation-Id": "0" * 32}), now_us())
    stray = complete("c4", "SCL_4", token=None)
    await facts.accept(store, FactBatch.model_validate({"version": 1, "sidecar": "edge-1", "facts": stray.facts[1:]}), now_us(), wait_us=0)
    before = await _held(store)
    assert all(before.values())
    await _back_to(store, version)
    await store.close()
    await migrate(config)
    store = Store(config.database)
    assert await _differences(store) == (HEAD, [])
    assert await _held(store) == before
    async with kit.control(config) as client:
        assert [call["id"] for call in (await client.get("/v1/calls"))["calls"]] == ["c3", "c2", "c1"]
        assert (await client.get("/v1/summary"))["calls"] == 3
    await store.close()


async def _held(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of the tables that the first version had, and of those that later ones fill from them."""
    kept = (calls, figures, stored_facts, stored_reports, claims, conflicts, deliveries, strays)
    async with store.read() as conn:
        return {
            table.name: [tuple(row) for row in await conn.execute(sa.select(*_without_since(table)).order_by(*table.primary_key.columns))]
            for table in kept
        }


def _without_since(table: sa.Table) -> list[sa.Column[Any]]:
    return [column for column in table.c if column.name != "since_us"]  # of a stray trace, it is now that of its first fact


async def _back_to(store: Store, version: str) -> None:
    def back(connection: sa.Connection) -> None:
        settings = Config()
        settings.set_main_option("script_location", str(Path(migrations.__file__).parent))
        settings.attributes["connection"] = connection
        command.downgrade(settings, version)

    async with store.write() as conn:
        await conn.run_sync(back)


async def _figures(store: Store) -> list[sa.Row[Any]]:
    async with store.read() as conn:
        return list((await conn.execute(sa.select(figures).order_by(figures.c.call))).all())
