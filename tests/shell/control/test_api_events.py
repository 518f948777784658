"""The event stream: what changed, from where the reader was, and never a queue without end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from control.api import events
from control.contract.call import Call
from tests.core.control.traces import Trace, complete
from tests.shell.control.kit import Client, control, settings, until

NOWHERE = "http://127.0.0.1:9"


@dataclass
class Event:
    """One server-sent event; `data` None for a block that carries none."""

    name: str | None
    id: int | None
    data: Any


async def block(stream: aiohttp.ClientResponse) -> Event:
    """The next one that tells something."""
    while (event := await _any_block(stream)).name is None:
        pass
    return event


async def _any_block(stream: aiohttp.ClientResponse) -> Event:
    async with asyncio.timeout(8):
        lines = (await stream.content.readuntil(b"\n\n")).decode().strip().split("\n")
    fields = {name: value for name, _, value in (line.partition(": ") for line in lines) if name}
    number = int(fields["id"]) if "id" in fields else None
    return Event(fields.get("event"), number, json.loads(fields["data"]) if "data" in fields else None)


async def opened(stream: aiohttp.ClientResponse) -> None:
    """Told that it has missed nothing."""
    assert [(await _any_block(stream)).id is not None for _ in range(2)] == [False, True]


@asynccontextmanager
async def watching(client: Client, query: str = "", last: int | str | None = None) -> AsyncIterator[aiohttp.ClientResponse]:
    headers = {"Last-Event-ID": str(last)} if last is not None else {}
    async with client.http.get(f"{client.url}/v1/events{query}", headers=headers) as stream:
        assert stream.status == 200, await stream.text()
        first = await _any_block(stream)
        assert (first.name, first.id) == (None, None)
        yield stream


async def test_a_reader_that_comes_back_is_told_what_changed_meanwhile(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        async with watching(client) as stream:
            await client.facts(*Trace("c1", "SCL_abc", token=None).answered().facts)
            seen = await block(stream)
            assert (seen.name, seen.data["id"], seen.data["ended"]) == ("call", "c1", False)
        await client.facts(*complete("c2", "SCL_def", token=None).facts)
        async with watching(client, last=seen.id) as stream:
            missed = [await block(stream), await block(stream)]  # what came shortly before may come again
            assert [event.data["id"] for event in missed] == ["c1", "c2"]
            assert missed[1].id is not None
            assert missed[1].id > (seen.id or 0)
            await client.facts(*complete("c3", "SCL_ghi", token=None).facts)
            assert (await block(stream)).data["id"] == "c3"


async def test_only_a_reader_that_was_told_all_it_missed_goes_on_from_now(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        async with watching(client) as stream:
            start = await _any_block(stream)  # one that missed nothing goes on from now at once
            assert (start.name, start.id is not None) == (None, True)
        for number in range(3):
            await client.facts(*Trace(f"c{number}", f"id-{number}", token=None).facts)
        async with watching(client, last=start.id) as stream:
            told = [await _any_block(stream) for _ in range(4)]
        assert [event.data and event.data["id"] for event in told] == ["c0", "c1", "c2", None]
        ids = [event.id or 0 for event in told]
        assert ids == sorted(ids)


async def test_a_restart_loses_no_event(tmp_path: Path) -> None:
    config = settings(tmp_path, NOWHERE)
    async with control(config) as client, watching(client) as stream:
        await client.facts(*complete("c1", "SCL_abc").facts)
        seen = await block(stream)
    async with control(config) as client:
        await client.facts(*complete("c2", "SCL_def", token=None).facts)
        async with watching(client, last=seen.id) as stream:
            assert {(await block(stream)).data["id"] for _ in range(2)} == {"c1", "c2"}


async def test_a_reader_that_missed_too_much_is_sent_to_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_PAGE", 2)
    monkeypatch.setattr(events, "_MOST_REPLAYED", 4)
    async with control(settings(tmp_path, NOWHERE)) as client:
        for number in range(6):
            await client.facts(*Trace(f"c{number}", f"id-{number}", token=None).facts)
        async with watching(client, last=1) as stream:
            told = [await block(stream) for _ in range(5)]
            assert [event.name for event in told] == ["call"] * 4 + ["gap"]
            assert "GET /v1/calls" in told[4].data["reason"]
            await client.facts(*Trace("c9", "id-9", token=None).facts)
            assert (await block(stream)).data["id"] == "c9"


async def test_a_watcher_may_ask_for_some_calls_only(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        async with watching(client, "?kind=production&route=agent") as some, watching(client, "?call=c3") as one:
            await client.facts(*Trace("c1", "a", token=None).facts)
            await client.facts(*Trace("c2", "b", token=None, kind="production", route="other").facts)
            await client.facts(*Trace("c3", "c", token=None, kind="production").facts)
            assert (await block(some)).data["id"] == "c3"
            assert (await block(one)).data["id"] == "c3"
        async with watching(client, "?kind=production", last=1) as missed:
            assert {(await block(missed)).data["id"] for _ in range(2)} == {"c2", "c3"}


@pytest.mark.parametrize("last", ["yesterday", "-1", "9" * 18])
async def test_an_id_that_is_none_of_ours_is_refused(tmp_path: Path, last: str) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        problem = await client.get("/v1/events", status=400, headers={"Last-Event-ID": last})
        assert problem["parameter"] == "Last-Event-ID"


@asynccontextmanager
async def broadcasting(broker: events.Broker) -> AsyncIterator[str]:
    """A server that does nothing but stream what `broker` says."""

    async def nothing() -> AsyncIterator[str]:
        for missed in ():
            yield missed

    async def stream(request: web.Request) -> web.StreamResponse:
        broker.make_room()
        response = web.StreamResponse()
        await response.prepare(request)
        await broker.stream(request, response, events.wanted(), nothing())
        return response

    app = web.Application()
    app.router.add_get("/", stream)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        broker.close()
        await runner.cleanup()


def call(number: int) -> Call:
    return Call.model_validate({"id": f"c{number}", "sip_call_id": f"id-{number}", "started_at": "2026-01-31T12:00:00Z"})


async def test_a_reader_that_falls_behind_is_told_so_and_dropped_while_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "QUEUE", 8)
    broker = events.Broker()
    async with broadcasting(broker) as url, aiohttp.ClientSession() as http, http.get(url) as slow:
        await opened(slow)
        for number in range(9):  # in one step of the loop: nobody can have read any
            broker.call_changed(call(number))
        async with http.get(url) as other:
            await opened(other)
            told = [await block(slow) for _ in range(9)]
            assert [event.data["id"] for event in told[:8]] == [f"c{number}" for number in range(8)]
            assert (told[8].name, "too slow" in told[8].data["reason"]) == ("dropped", True)
            assert await slow.content.read() == b""
            broker.call_changed(call(99))
            assert (await block(other)).data["id"] == "c99"
        assert broker.dropped == 1


async def test_a_reader_that_takes_nothing_at_all_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_STALLED_S", 0.2)
    broker = events.Broker()
    large = call(1).model_copy(update={"sip_call_id": "x" * 200_000})
    async with broadcasting(broker) as url, aiohttp.ClientSession(read_bufsize=1024) as http, http.get(url) as stalled:
        await opened(stalled)
        for _ in range(60):  # far more than the buffers of a connection hold
            broker.call_changed(large)
        await until(lambda: broker.dropped == 1 and broker.describe()["watchers"] == 0)
        with pytest.raises(aiohttp.ClientError):
            await stalled.content.read()


async def test_no_more_watchers_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_WATCHERS", 1)
    async with control(settings(tmp_path, NOWHERE)) as client:
        async with watching(client):
            assert "try again later" in (await client.get("/v1/events", status=503))["detail"]
        await until(lambda: _admits(client))


async def _admits(client: Client) -> bool:
    async with client.http.get(client.url + "/v1/events") as stream:
        return stream.status == 200


async def test_streams_end_when_control_stops(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        stream = await client.http.get(client.url + "/v1/events")
        await opened(stream)
        loop = asyncio.get_running_loop()
        asked = loop.time()
    assert loop.time() - asked < 5
    stream.close()
