"""Reading calls back among many: the median time of a list under each filter and of one call, on both engines, beside a table scan.

`python -m tests.bench.store_queries [--calls 100000] [--engine sqlite|postgresql]`: each figure is over HTTP from a control in this
process; the scan is the same list in SQL alone, with the indexes out of use.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import aiohttp
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from control.app import serving
from control.clock import now_us
from control.config import ControlConfig
from control.contract.call import Call
from control.contract.facts import FACT
from control.contract.fold import fold
from control.store import Store, open_store, rows
from control.store.schema import calls as table
from tests.core.control.traces import complete
from tests.support.postgres import server

RUNS = 15
_CHUNK = 2000
_MANY = "kind=simulation&outcome=linked&route=route-7&sidecar=edge-3&status=200&min_latency_ms=100"
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def paths(calls: int) -> dict[str, str]:
    """What is asked, by the name under which it is shown."""
    middle = (FIRST + timedelta(seconds=calls // 2)).isoformat().replace("+00:00", "Z")
    return {
        "list, newest 50": "/v1/calls",
        "list, since": f"/v1/calls?since={middle}",
        "list, until": f"/v1/calls?until={middle}",
        "list, kind (half)": "/v1/calls?kind=production",
        "list, outcome (1 in 1000)": "/v1/calls?outcome=conflict",
        "list, outcome (none)": "/v1/calls?outcome=missing",
        "list, route (1 in 20)": "/v1/calls?route=route-7",
        "list, sidecar (1 in 8)": "/v1/calls?sidecar=edge-3",
        "list, status (1 in 100)": "/v1/calls?status=486",
        "list, sip_call_id": f"/v1/calls?sip_call_id=SCL_{calls // 3}",
        "list, min_latency_ms (1 in 1000)": "/v1/calls?min_latency_ms=4000",
        "list, max_latency_ms (all)": "/v1/calls?max_latency_ms=9000",
        "list, kind, route, status": "/v1/calls?kind=simulation&route=route-7&status=486",
        "list, kind and outcome (none)": "/v1/calls?kind=simulation&outcome=missing",
        "list, all filters": f"/v1/calls?{_MANY}&since={middle}",
        "list, 500 of them": "/v1/calls?limit=500",
        "show": f"/v1/calls/{calls // 3:032x}",
        "summary, all": "/v1/summary",
        "summary, route (1 in 20)": "/v1/summary?route=route-7",
        "summary, kind, since": f"/v1/summary?kind=simulation&since={middle}",
    }


def make(number: int, like: Call, dice: random.Random) -> Call:
    """One of many calls."""
    call = like.model_copy(deep=True)
    call.id, call.sip_call_id = f"{number:032x}", f"SCL_{number}"
    call.started_at = FIRST + timedelta(seconds=number)
    call.ended_at = call.started_at + timedelta(seconds=60)
    call.kind = "simulation" if number % 2 else "production"
    call.route, call.sidecar = f"route-{dice.randrange(20)}", f"edge-{dice.randrange(8)}"
    call.status = 486 if dice.random() < 0.01 else 200
    call.verdict.outcome = "conflict" if dice.random() < 0.001 else "linked" if call.kind == "simulation" else "not_applicable"
    call.turns[0].response_latency_ms = 5000.0 if dice.random() < 0.001 else dice.uniform(400, 2000)
    return call


async def fill(store: Store, count: int) -> None:
    """Store `count` finished calls."""
    like = fold(FACT.validate_python(fact) for fact in complete("c", "SCL").facts)
    assert like is not None
    dice = random.Random(1)
    for start in range(0, count, _CHUNK):
        kept = [rows.Kept(make(number, like, dice), 8, 8, True) for number in range(start, min(count, start + _CHUNK))]

        async def work(conn: AsyncConnection, kept: list[rows.Kept] = kept) -> None:
            await rows.save_all(conn, kept, now_us())
            await rows.save_identifiers(conn, [each.call for each in kept])

        await store.run(work)

    async def analyze(conn: AsyncConnection) -> None:
        await conn.execute(sa.text("ANALYZE"))

    await store.run(analyze)


async def scan(store: Store) -> float:
    """Milliseconds of a list by route and status with the indexes out of use."""
    async with store.read() as conn:
        hint = ""
        if store.single_process:
            hint = "NOT INDEXED"
        else:
            for name in ("indexscan", "bitmapscan", "indexonlyscan"):
                await conn.execute(sa.text(f"SET LOCAL enable_{name} = off"))
        where = "route = 'route-7' AND status = 486 ORDER BY started_us DESC, id DESC LIMIT 51"
        wanted = sa.text(f"SELECT id, doc FROM {table.name} {hint} WHERE {where}")
        return await timed(lambda: conn.execute(wanted))


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """The median of several runs in milliseconds."""
    took: list[float] = []
    for _ in range(RUNS):
        began = time.perf_counter()
        await work()
        took.append((time.perf_counter() - began) * 1000)
    return median(took)


async def measure(engine: str, url: str, count: int, only: Collection[str] = ()) -> None:
    """Fill, ask (everything, or `only` some of it), print."""
    told = {"evaluator": {"api_key": "k"}, "retention": {"days": 0}, "wire_only": {"grace_s": 1e9}}  # nothing to sweep meanwhile
    config = ControlConfig(listen="127.0.0.1:0", database=url, **told)  # type: ignore[arg-type]
    store = await open_store(config)
    began = time.perf_counter()
    await fill(store, count)
    say(f"{engine}: {count} calls stored in {time.perf_counter() - began:.0f} s; median of {RUNS}, over HTTP")
    async with serving(config) as base, aiohttp.ClientSession() as http:

        async def ask(path: str) -> None:
            async with http.get(base + path) as response:
                text = await response.text()
                assert response.status == 200, text

        for name, path in paths(count).items():
            if only and name not in only:
                continue
            await ask(path)
            say(f"  {name:<36}{await timed(lambda path=path: ask(path)):9.1f} ms")  # type: ignore[misc]
    if not only:
        say(f"  {'a table scan, in SQL alone':<36}{await scan(store):9.1f} ms")
    await store.close()


def say(line: str) -> None:
    """Put out one line now."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), action="append")
    told = parser.parse_args()
    engines = told.engine or ["sqlite", "postgresql"]
    if "sqlite" in engines:
        with tempfile.TemporaryDirectory(prefix="trunkside-bench-") as folder:
            asyncio.run(measure("sqlite", f"sqlite+aiosqlite:///{Path(folder) / 'control.db'}", told.calls))
    if "postgresql" in engines:
        with server(durable=True) as running:
            running.sql("CREATE DATABASE bench")
            asyncio.run(measure("postgresql", running.url("bench"), told.calls))


if __name__ == "__main__":
    main()
