"""The database goes, the disk is full, the evaluator is ill, control is restarted under load: what was accepted is delivered, once."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.core.control.traces import Trace, complete, report
from tests.shell.control import kit
from tests.shell.control.kit import Client, Evaluator, control, evaluator, process, settings, until
from tests.support import small_disk
from tests.support.postgres import server
from tests.support.product import free_port
from tests.support.small_disk import fill, on_disk, seen_by


def call(number: int) -> tuple[Trace, dict[str, Any]]:
    trace = complete(f"c{number}", f"SCL_{number}", token=f"{number:032x}")
    return trace, report(f"r{number}", trace, sip_call_id=f"SCL_{number}")


async def stubborn(client: Client, path: str, body: dict[str, Any], longest_s: float) -> list[int]:
    """Post as a sidecar or an SDK does: until it is taken, with growing pauses. Gives the statuses on the way, 0 for no answer."""
    seen: list[int] = []
    pause_s = 0.1
    while True:
        try:
            async with client.http.post(client.url + path, data=json.dumps(body), headers={"Authorization": "Bearer k"}) as response:
                seen.append(response.status)
                if response.status == 503:
                    assert "Retry-After" in response.headers
        except aiohttp.ClientError:
            seen.append(0)
        if seen[-1] == 200:
            return seen
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, longest_s)


async def post(client: Client, number: int, longest_s: float = 0.1) -> list[int]:
    trace, said = call(number)
    seen = await stubborn(client, "/v1/ingest/facts", {"version": 1, "sidecar": "edge-1", "facts": trace.facts}, longest_s)
    return seen + await stubborn(client, "/api/v1/public/call?workspace_id=7&agent_remote_identifier=a", said, longest_s)


async def ready(client: Client) -> str | None:
    """None when it says that it is, else why not."""
    async with client.http.get(client.url + "/readyz") as response:
        return None if response.status == 200 else (await response.json())["detail"]


async def is_ready(client: Client) -> bool:
    return await ready(client) is None


def delivered_once(tuner: Evaluator, count: int) -> bool:
    """Everything is there, and nothing under another call_id or with other bytes."""
    if set(tuner.calls()) != {f"r{number}" for number in range(count)}:
        return False
    assert len(set(tuner.received)) == count
    assert {json.loads(body)["sip_call_id"] for _, body in tuner.received} == {f"SCL_{number}" for number in range(count)}
    return True


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_a_database_that_goes_and_comes_back(tmp_path: Path) -> None:
    with server() as database:
        database.sql("CREATE DATABASE control")
        async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url, database=database.url("control"))) as client:
            for number in range(5):
                await post(client, number)
            await asyncio.to_thread(database.stop)
            during = [asyncio.create_task(post(client, number)) for number in range(5, 15)]
            await until(lambda: _says(client, "cannot be"))
            await asyncio.sleep(3)
            assert not any(task.done() for task in during)
            await asyncio.to_thread(database.start)
            await until(lambda: is_ready(client))
            assert all(503 in seen for seen in await asyncio.gather(*during))
            await until(lambda: delivered_once(tuner, 15))
            await asyncio.to_thread(database.stop)  # and control stops cleanly without it


async def _says(client: Client, words: str) -> bool:
    return words in (await ready(client) or "")


@pytest.mark.peer
@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.skipif(small_disk.why_not() is not None, reason=str(small_disk.why_not()))
async def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    place = {"database": f"sqlite+aiosqlite:///{disk}/control.db", "secret_key_file": None}
    async with evaluator() as tuner, process(config_file(tmp_path, tuner, **place), on_disk(disk, "24m")) as running:
        for number in range(5):
            await post(running.client, number)
        filler = await asyncio.to_thread(fill, seen_by(running.process.pid, disk))
        during = [asyncio.create_task(post(running.client, number)) for number in range(5, 15)]
        await until(lambda: _says(running.client, "cannot be written: database or disk is full"))
        await asyncio.sleep(1)
        assert not all(task.done() for task in during)
        shown = {each["id"] for each in (await running.client.get("/v1/calls"))["calls"]}  # what is there can still be read
        assert shown >= {f"c{number}" for number in range(5)}
        filler.unlink()
        await until(lambda: is_ready(running.client))
        seen = await asyncio.gather(*during)
        assert any(503 in statuses for statuses in seen)
        assert all(set(statuses) <= {200, 503} for statuses in seen)
        await until(lambda: delivered_once(tuner, 15))
        assert await running.end(signal.SIGTERM) == 0


def config_file(folder: Path, tuner: Evaluator, **more: Any) -> Path:
    told = {"listen": "127.0.0.1:0", "enrich_wait_s": 0.3, "evaluator": {"base_url": tuner.base_url, "timeout_s": 1}}
    config = folder / "control.yaml"
    config.write_text(yaml.safe_dump(told | kit.ENGINE.file(folder) | more))
    return config


async def test_an_evaluator_that_fails_and_then_wants_to_be_left_alone(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        tuner.script = [500] * 9 + [(429, {"Retry-After": "2"})]
        for number in range(12):
            assert await post(client, number) == [200, 200]  # an ill evaluator is not the sender's concern
        await until(lambda: not tuner.script)
        await asyncio.sleep(0.3)  # what had left before the answer came
        before = len(tuner.attempts)
        await asyncio.sleep(1.2)
        assert len(tuner.attempts) == before
        await until(lambda: delivered_once(tuner, 12), 12)
        bodies: dict[str, set[bytes]] = {}
        for body in tuner.attempts:
            bodies.setdefault(json.loads(body)["call_id"], set()).add(body)
        assert all(len(versions) == 1 for versions in bodies.values())


@pytest.mark.peer
async def test_control_is_restarted_under_load_once_politely_and_once_not(tmp_path: Path) -> None:
    async with evaluator() as tuner, aiohttp.ClientSession() as http:
        port = free_port("127.0.0.1", socket.SOCK_STREAM)
        config = config_file(tmp_path, tuner, listen=f"127.0.0.1:{port}")
        client = Client(f"http://127.0.0.1:{port}", http)
        numbers = iter(range(1000))
        stop = asyncio.Event()

        async def sender() -> None:
            while not stop.is_set():
                await post(client, next(numbers))
                await asyncio.sleep(0.02)

        senders = [asyncio.create_task(sender()) for _ in range(4)]
        for how in (signal.SIGTERM, signal.SIGKILL):
            async with process(config) as running:
                enough = len(tuner.received) + 8
                await until(lambda enough=enough: len(tuner.received) > enough)  # type: ignore[misc]
                await running.end(how)
        async with process(config) as running:
            stop.set()
            await asyncio.gather(*senders)
            count = next(numbers)
            await until(lambda: delivered_once(tuner, count), 15)
            shown = (await client.get("/v1/calls?limit=500"))["calls"]
            assert len(shown) == count
            assert all(each["complete"] and each["verdict"]["outcome"] == "linked" for each in shown)
            assert await running.end(signal.SIGTERM) == 0
