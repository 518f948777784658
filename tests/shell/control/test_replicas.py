"""Several controls on one PostgreSQL: they start together, share the outbox and the live events, and take over from one that dies."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
import yaml
from sqlalchemy import text

from control.clock import now_us
from control.contract.facts import FactBatch
from control.ingest import facts
from control.store import Store, migrate
from control.store.live import Listener
from tests.core.control.traces import Trace, complete, report
from tests.shell.control import kit
from tests.shell.control.kit import Client, control, evaluator, process, settings, until
from tests.support.postgres import Databases

ENGINES = ("postgresql",)
NOWHERE = "http://127.0.0.1:9"


async def test_replicas_that_start_together_migrate_once(tmp_path: Path, databases: Databases) -> None:
    databases.server.sql("DROP DATABASE IF EXISTS together WITH (FORCE)")
    databases.server.sql("CREATE DATABASE together")
    config = settings(tmp_path, NOWHERE, database=databases.server.url("together"))
    await asyncio.gather(*(migrate(config) for _ in range(4)))
    store = Store(config.database)
    async with store.read() as conn:
        assert (await conn.execute(text("SELECT count(*) FROM alembic_version"))).scalar_one() == 1
    await store.close()


async def test_a_watcher_of_one_replica_sees_what_another_stored(tmp_path: Path) -> None:
    config = settings(tmp_path, NOWHERE)
    async with control(config) as here, control(config) as there, there.http.get(there.url + "/v1/events") as stream:
        assert stream.status == 200
        await until(lambda: _hears(there))
        await here.facts(*Trace("c1", "SCL_abc").facts)
        async with asyncio.timeout(5):
            while not (line := await stream.content.readline()).startswith(b'data: {"id":"c1"'):
                assert line, "the stream ended"


async def test_what_a_broken_connection_missed_is_told_when_it_is_back(tmp_path: Path, databases: Databases) -> None:
    url = kit.ENGINE.database(tmp_path)
    here, there = Store(url), Store(url)
    heard: list[str] = []
    listener = Listener(there, lambda call: heard.append(call.id), lambda: True)
    task = asyncio.create_task(listener.run())
    try:
        await until(lambda: listener.connected)
        await _store(here, "c1")
        await until(lambda: heard == ["c1"])
        databases.server.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{there.name}'")
        await _store(here, "c2")  # before anybody has noticed
        await until(lambda: not listener.connected)
        await _store(here, "c3")
        await until(lambda: {"c2", "c3"} <= set(heard))
        assert listener.connected
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await here.close()
        await there.close()


async def _store(store: Store, call: str) -> None:
    batch = FactBatch.model_validate({"version": 1, "sidecar": "edge-1", "facts": Trace(call, f"SCL_{call}").facts})
    await facts.accept(store, batch, now_us(), wait_us=0)


async def _hears(client: Client) -> bool:
    connected: bool = (await client.get("/readyz"))["events"]["replicas"]["connected"]
    return connected


async def test_trace_and_report_may_go_to_different_replicas(tmp_path: Path) -> None:
    async with evaluator() as tuner:
        config = settings(tmp_path, tuner.base_url, enrich_wait_s=30)
        async with control(config) as one, control(config) as two:
            trace = complete("c1", "SCL_abc", token=None)
            for number, fact in enumerate(trace.facts):  # even the facts of one call
                await (one if number % 2 else two).facts(fact)
            await one.report(report("r1", trace, sip_headers={"X-CID": "SCL_abc"}))
            await two.report(report("r1", trace, sip_headers={"X-CID": "SCL_abc"}))
            await until(lambda: tuner.calls() == ["r1"])
            assert tuner.body("r1")["sip_call_id"] == "SCL_abc"
            for client in (one, two):
                assert (await client.get("/v1/calls/c1"))["verdict"]["outcome"] == "repaired"


async def test_the_same_facts_at_two_replicas_at_once_are_stored_once(tmp_path: Path) -> None:
    config = settings(tmp_path, NOWHERE)
    async with control(config) as one, control(config) as two:
        traces = [complete(f"c{number}", f"SCL_{number}", token=None) for number in range(10)]
        halves = [(trace.facts[:4], trace.facts[4:]) for trace in traces]
        posts = [client.facts(*half) for both in halves for half in both for client in (one, two)]
        receipts = await asyncio.gather(*posts)
        assert sum(receipt["new"] for receipt in receipts) == 80
        shown = (await one.get("/v1/calls"))["calls"]
        assert len(shown) == 10
        assert all(call["complete"] and call["answered_at"] for call in shown)


@pytest.mark.peer
async def test_one_of_three_is_killed_in_mid_delivery_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    async with evaluator() as tuner, AsyncExitStack() as stack:
        stuck, released = asyncio.Event(), asyncio.Event()
        plain = tuner.create_call

        async def stall(request: aiohttp.web.Request) -> aiohttp.web.Response:
            answer = await plain(request)  # the evaluator has it, and no control learns so until the others come for it
            if not released.is_set():
                stuck.set()
                await released.wait()
            return answer

        tuner.create_call = stall  # type: ignore[method-assign]
        told = {"listen": "127.0.0.1:0", "enrich_wait_s": 0.2, "evaluator": {"base_url": tuner.base_url, "timeout_s": 4}}
        config = tmp_path / "control.yaml"
        config.write_text(yaml.safe_dump(told | kit.ENGINE.file(tmp_path)))
        victim, *others = await asyncio.gather(*(stack.enter_async_context(process(config)) for _ in range(3)))
        for number in range(24):
            trace = complete(f"c{number}", f"SCL_{number}", token=f"{number:032x}")
            await (victim, *others)[number % 3].client.facts(*trace.facts)
            await victim.client.report(report(f"r{number}", trace, sip_call_id=f"SCL_{number}" if number % 2 else None))
        async with asyncio.timeout(10):
            await stuck.wait()
        assert await _holds(victim.client) > 0
        assert await victim.end(signal.SIGKILL) == -signal.SIGKILL
        released.set()
        for number in range(24, 30):
            await others[0].client.report(report(f"r{number}"))
        await until(lambda: _delivered(others[1].client, 30), 18)
        assert set(tuner.calls()) == {f"r{number}" for number in range(30)}
        assert len({(call_id, body) for call_id, body in tuner.received}) == 30  # what came twice came with the same bytes
        assert {json.loads(body)["call_id"] for body in tuner.attempts} == set(tuner.calls())


async def _holds(client: Client) -> int:
    delivery = (await client.get("/readyz"))["delivery"]["tuner"]
    return 8 - int(delivery["free"])


async def _delivered(client: Client, count: int) -> bool:
    found = (await client.get("/v1/deliveries?limit=100"))["deliveries"]
    return len(found) == count and all(each["state"] == "delivered" for each in found)
