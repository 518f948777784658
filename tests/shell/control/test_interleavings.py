"""Any order of trace, reports, repetitions, failures, crashes and restarts: one body under one call_id, one verdict that agrees."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncConnection

from control.clock import SECOND, as_us
from control.contract.facts import FactBatch
from control.delivery import outbox, sweeper
from control.delivery.destination import Delivered, Later
from control.ingest import facts, reports
from control.ingest.reports import Sender
from control.store import Store
from control.store.rows import read_call
from control.store.schema import calls, deliveries, metadata
from tests.core.control.traces import TOKEN, complete, report
from tests.shell.control import kit

SENDER = Sender("7", "agent-1", None)
WAITS = outbox.Patience(20 * SECOND, 300 * SECOND)
LEASE = 45 * SECOND
TRACE = complete("c1", "SCL_abc")
CHUNKS = (TRACE.facts[:1], TRACE.facts[1:5], TRACE.facts[5:7], TRACE.facts[7:])
BY_ID = json.dumps(report("r1", TRACE, sip_call_id="SCL_abc")).encode()
BY_TOKEN = json.dumps(report("r2", TRACE, sip_headers={"X-Correlation-Id": TOKEN})).encode()


@dataclass
class World:
    """Control's logic over a real database, with its clock, its process and the evaluator in the test's hands."""

    store: Store
    now: int = as_us(TRACE.started) + 60 * SECOND
    wire_only: bool = False
    life: int = 0
    accepted: list[tuple[str, bytes]] = field(default_factory=list)
    sent: dict[str, set[bytes]] = field(default_factory=dict)

    async def begin(self) -> None:
        """Forget what an example before left."""

        async def work(conn: AsyncConnection) -> None:
            for table in reversed(metadata.sorted_tables):
                await conn.execute(sa.delete(table))

        await self.store.run(work)

    async def play(self, action: str) -> None:
        match action.split():
            case ["facts", n]:
                batch = FactBatch.model_validate({"version": 1, "sidecar": "edge-1", "facts": CHUNKS[int(n)]})
                await facts.accept(self.store, batch, self.now, wait_us=WAITS.wait_us)
            case ["report", body]:
                await reports.accept(self.store, {"id": BY_ID, "token": BY_TOKEN}[body], SENDER, self.now, wait_us=WAITS.wait_us)
            case ["deliver", how]:
                await self.deliver(how)
            case ["wait", seconds]:
                self.now += int(seconds) * SECOND
            case ["restart"]:
                await self.store.close()
                self.store = Store(self.store.url)
                self.life += 1
                await outbox.release_leases(self.store, self.now)
            case ["sweep"]:
                await sweeper.settle_due(self.store, sweeper.Policy(30 * SECOND, 0, SENDER, wire_only=self.wire_only), self.now)
        self.now += SECOND // 10

    async def deliver(self, how: str) -> None:
        owner = f"life-{self.life}"
        claimed = await self.claim(owner, limit=8)
        for row in claimed.rows:
            if how == "crash-before":
                continue
            self.sent.setdefault(row.label, set()).add(row.body)
            if how in ("ok", "crash-after"):
                self.accepted.append((row.label, row.body))
            if how in ("ok", "fails"):
                result = Delivered("the evaluator answered 201") if how == "ok" else Later("500")
                await outbox.settle(self.store, row, owner, result, self.now, 0.5)

    async def claim(self, owner: str, limit: int) -> outbox.Claimed:
        return await outbox.claim(self.store, "tuner", owner, self.now, limit=limit, lease_us=LEASE, waits=WAITS)

    async def drain(self) -> None:
        """Let time pass until nothing is pending."""
        while (due := (await self.claim("nobody", limit=0)).next_due) is not None:
            self.now = max(self.now, due)
            await self.deliver("ok")
        self.now += 60 * SECOND
        await self.play("sweep")

    async def call(self) -> Any:
        async with self.store.read() as conn:
            return read_call((await conn.execute(sa.select(calls.c.doc))).scalar_one())

    async def states(self) -> set[str]:
        async with self.store.read() as conn:
            return set(await conn.scalars(sa.select(deliveries.c.state)))


NOISE = st.sampled_from(
    ["deliver ok", "deliver fails", "deliver crash-before", "deliver crash-after", "restart", "wait 1", "wait 25", "wait 400", "sweep"]
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[str], set[str]]:
    """The trace's chunks in order, the reports anywhere among them and more than once, noise everywhere."""
    bodies = draw(st.sampled_from([("id",), ("token",), ("id", "token")]))
    history = [f"facts {n}" for n in range(len(CHUNKS))]
    others = [f"report {body}" for body in bodies for _ in range(draw(st.integers(1, 3)))] + draw(st.lists(NOISE, max_size=10))
    others += draw(st.lists(st.sampled_from([f"facts {n}" for n in range(len(CHUNKS))]), max_size=2))
    for other in others:
        history.insert(draw(st.integers(0, len(history))), other)
    return history, set(bodies)


EXAMPLES = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@EXAMPLES
@given(histories())
def test_one_body_a_call_id_and_one_verdict_that_agrees_with_it(tmp_path: Path, drawn: tuple[list[str], set[str]]) -> None:
    history, bodies = drawn
    asyncio.run(check(kit.ENGINE.database(tmp_path), history, bodies))


async def check(database: str, history: list[str], bodies: set[str]) -> None:
    world = World(Store(database))
    try:
        await world.begin()
        for action in history:
            await world.play(action)
        await world.drain()
        names = {{"id": "r1", "token": "r2"}[body] for body in bodies}
        assert await world.states() == {"delivered"}
        assert {call_id for call_id, _ in world.accepted} == names
        assert all(len(versions) == 1 for versions in world.sent.values())
        call = await world.call()
        assert call.complete
        links = {call_id: json.loads(body).get("sip_call_id") for call_id, body in world.accepted}
        assert call.verdict.outcome == expected(links, bodies)
        assert list(links.values()).count("SCL_abc") <= 1 or call.verdict.findings
        for action in ("facts 0", "facts 3", *(f"report {body}" for body in bodies), "sweep", "deliver ok"):
            await world.play(action)
        again = await world.call()
        assert again == call
        assert {call_id for call_id, _ in world.accepted} == names
    finally:
        await world.store.close()


def expected(links: dict[str, str | None], bodies: set[str]) -> str:
    """The verdict that what the evaluator got deserves."""
    if "id" in bodies:
        return "linked"
    return "repaired" if links["r2"] == "SCL_abc" else "unlinked"


@EXAMPLES
@given(histories(), st.booleans())
def test_a_wire_only_report_and_the_agents_own_never_both_reach_the_evaluator(
    tmp_path: Path, drawn: tuple[list[str], set[str]], reports_at_all: bool
) -> None:
    history = [action for action in drawn[0] if reports_at_all or not action.startswith("report")]
    asyncio.run(check_wire_only(kit.ENGINE.database(tmp_path), history, drawn[1] if reports_at_all else set()))


async def check_wire_only(database: str, history: list[str], bodies: set[str]) -> None:
    world = World(Store(database), wire_only=True)
    try:
        await world.begin()
        for action in history:
            await world.play(action)
        await world.play("wait 400")
        await world.play("sweep")
        await world.drain()
        names = {call_id for call_id, _ in world.accepted}
        assert all(len(versions) == 1 for versions in world.sent.values())
        assert names in ({"trunkside-c1"}, {"r1" if body == "id" else "r2" for body in bodies})
        call = await world.call()
        assert call.verdict.outcome in ("linked", "repaired", "unlinked")
        before = len(world.accepted)
        for action in ("wait 400", "sweep", "deliver ok", *(f"report {body}" for body in bodies), "sweep", "deliver ok"):
            await world.play(action)
        assert (await world.call(), len(world.accepted)) == (call, before)
    finally:
        await world.store.close()


async def test_the_agents_own_report_withdraws_a_wire_only_one_that_has_not_left(tmp_path: Path) -> None:
    world = World(Store(kit.ENGINE.database(tmp_path)), wire_only=True)
    try:
        for action in (*(f"facts {n}" for n in range(len(CHUNKS))), "wait 60", "sweep"):
            await world.play(action)
        assert (await world.call()).verdict.repair.rule == "wire_only"
        await world.play("report id")
        await world.drain()
        assert [call_id for call_id, _ in world.accepted] == ["r1"]
        assert await world.states() == {"delivered", "superseded"}
        assert (await world.call()).verdict.outcome == "linked"
    finally:
        await world.store.close()
