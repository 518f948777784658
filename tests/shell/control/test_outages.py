"""Outages at their real length, with traffic going on: run by `make load`. The same in seconds is in test_faults.py."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.shell.control.kit import Evaluator, Process, control, evaluator, process, settings, until
from tests.shell.control.test_faults import config_file, delivered_once, is_ready, post, ready
from tests.support import small_disk
from tests.support.postgres import server
from tests.support.small_disk import fill, on_disk, seen_by

pytestmark = [pytest.mark.peer, pytest.mark.load]

RATE = 10.0
"""Finished calls a second, each with its report."""
ON_POSTGRESQL = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
ON_SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


class Traffic:
    """Calls and reports at a steady rate, each posted until it is taken. `begun` counts them; `statuses` are all answers, 0 for none."""

    def __init__(self, running: Process) -> None:
        self._client = running.client
        self._numbers = count()
        self.begun = 0
        self.statuses: set[int] = set()
        self.posts: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        began = asyncio.get_running_loop().time()
        for number in self._numbers:
            self.begun = number + 1
            task = asyncio.create_task(self._post(number))
            self.posts.add(task)
            task.add_done_callback(self.posts.discard)
            await asyncio.sleep(max(0.0, began + self.begun / RATE - asyncio.get_running_loop().time()))

    async def _post(self, number: int) -> None:
        self.statuses |= set(await post(self._client, number, longest_s=3.0))


@asynccontextmanager
async def traffic(running: Process) -> AsyncIterator[Traffic]:
    """Traffic while the block lasts; afterwards everything that was begun is taken."""
    going = Traffic(running)
    task = asyncio.create_task(going.run())
    try:
        yield going
    finally:
        task.cancel()
        await asyncio.gather(task, *going.posts, return_exceptions=True)


async def told(running: Process, seconds: float, is_right: Callable[[str | None], bool]) -> None:
    """Readiness tells the truth all the time. A request that hangs on a database that says nothing is not asked twice."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        why = await ready(running.client)
        assert is_right(why), why
        await asyncio.sleep(0.5)


def said_once(tuner: Evaluator) -> None:
    """Whatever was tried under a call_id had the same bytes."""
    bodies: dict[str, set[bytes]] = {}
    for body in tuner.attempts:
        bodies.setdefault(json.loads(body)["call_id"], set()).add(body)
    assert all(len(versions) == 1 for versions in bodies.values())


@ON_POSTGRESQL
async def test_the_database_is_away_for_half_a_minute(tmp_path: Path) -> None:
    with server() as database:
        database.sql("CREATE DATABASE control")
        async with evaluator() as tuner, process(config_file(tmp_path, tuner, database=database.url("control"))) as running:
            async with traffic(running) as going:
                await until(lambda: len(tuner.received) > 30, 60)
                await asyncio.to_thread(database.stop)
                await until(lambda: _not_ready(running, "database"), 10)
                before = len(tuner.received)
                await told(running, 30.0, lambda why: why is not None and "database" in why)
                assert len(tuner.received) <= before + 8  # those that were under way
                await asyncio.to_thread(database.start)
                await until(lambda: is_ready(running.client), 20)
                await asyncio.sleep(5)
            assert going.statuses == {200, 503}
            await until(lambda: delivered_once(tuner, going.begun), 180)
            said_once(tuner)
            assert await running.end(signal.SIGTERM) == 0


@ON_SQLITE
@pytest.mark.skipif(small_disk.why_not() is not None, reason=str(small_disk.why_not()))
async def test_the_disk_is_full_for_half_a_minute(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    place = {"database": f"sqlite+aiosqlite:///{disk}/control.db", "secret_key_file": None}
    async with evaluator() as tuner, process(config_file(tmp_path, tuner, **place), on_disk(disk, "256m")) as running:
        async with traffic(running) as going:
            await until(lambda: len(tuner.received) > 30, 60)
            filler = await asyncio.to_thread(fill, seen_by(running.process.pid, disk))
            await until(lambda: _not_ready(running, "disk is full"), 60)  # what its log of writes had in reserve
            await told(running, 30.0, lambda why: why is not None and "disk is full" in why)
            await running.client.get("/v1/calls")  # what is there can be read
            filler.unlink()
            await until(lambda: is_ready(running.client), 20)
            await asyncio.sleep(5)
        assert going.statuses == {200, 503}
        await until(lambda: delivered_once(tuner, going.begun), 180)
        said_once(tuner)
        assert await running.end(signal.SIGTERM) == 0


@ON_SQLITE
async def test_the_evaluator_answers_500_for_five_minutes_and_then_429(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        ill = [500] * 1_000_000
        tuner.script = ill
        began = time.monotonic()
        for number in range(150):
            assert await post(client, number) == [200, 200]  # an ill evaluator is not the sender's concern
            assert await is_ready(client)
            await asyncio.sleep(max(0.0, began + 2 * (number + 1) - time.monotonic()))
        assert time.monotonic() - began >= 300
        assert tuner.received == []
        pending = (await client.get("/v1/deliveries?state=pending&limit=500"))["deliveries"]
        assert len(pending) == 150
        assert all("500" in str(each["last_error"]) for each in pending if each["attempts"])
        tuner.script = [(429, {"Retry-After": "30"})]
        await until(lambda: not tuner.script, 60)
        await asyncio.sleep(0.5)  # what had left before the answer came
        attempts = len(tuner.attempts)
        await asyncio.sleep(28)
        assert len(tuner.attempts) == attempts
        await until(lambda: delivered_once(tuner, 150), 310)  # the longest pause between two attempts is five minutes
        said_once(tuner)
        assert {each["state"] for each in (await client.get("/v1/deliveries?limit=500"))["deliveries"]} == {"delivered"}


async def _not_ready(running: Process, why: str) -> bool:
    return why in (await ready(running.client) or "")
