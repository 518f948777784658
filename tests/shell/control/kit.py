"""A control plane on loopback, its clients, and a stand-in evaluator behind it."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography.fernet import Fernet

from control.app import serving
from control.config import ControlConfig


@dataclass
class Evaluator:
    """Receives Create Call as the evaluator does: 201, and 200 with is_new=false for a repetition.

    `script` holds statuses to answer before that.
    """

    script: list[int | tuple[int, dict[str, str]]] = field(default_factory=list)
    received: list[tuple[str, bytes]] = field(default_factory=list)
    """Accepted bodies by call_id, repetitions included."""
    attempts: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    traces: list[bytes] = field(default_factory=list)
    upload: dict[str, Any] | None = None
    base_url: str = ""

    def calls(self) -> list[str]:
        return [call_id for call_id, _ in self.received]

    def body(self, call_id: str) -> dict[str, Any]:
        return json.loads(next(body for seen, body in self.received if seen == call_id))

    async def create_call(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.attempts.append(body)
        self.headers.append({"path": request.path_qs, **request.headers})
        if self.script:
            step = self.script.pop(0)
            status, headers = step if isinstance(step, tuple) else (step, {})
            return web.json_response({"detail": "as the test wants it"}, status=status, headers=headers)
        call_id = json.loads(body)["call_id"]
        is_new = call_id not in self.calls()
        self.received.append((call_id, body))
        answer: dict[str, Any] = {"id": len(self.received), "provider_call_id": call_id, "is_new": is_new}
        if self.upload is not None:
            answer["recording_upload"] = self.upload
        return web.json_response(answer, status=201 if is_new else 200)

    async def take_traces(self, request: web.Request) -> web.Response:
        self.traces.append(await request.read())
        self.headers.append({"path": request.path_qs, **request.headers})
        return web.Response(body=b"", content_type="application/x-protobuf")


@asynccontextmanager
async def evaluator(port: int = 0, known: Evaluator | None = None) -> AsyncIterator[Evaluator]:
    stand_in = known or Evaluator()
    app = web.Application(client_max_size=64 * 1024 * 1024)

    async def create_call(request: web.Request) -> web.Response:
        return await stand_in.create_call(request)  # looked up late: a test may put its own in place

    app.router.add_post("/api/v1/public/call", create_call)
    app.router.add_post("/api/v1/traces", stand_in.take_traces)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    stand_in.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield stand_in
    finally:
        await runner.cleanup()


def _sqlite(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder}/control.db"


@dataclass
class Engine:
    """Which database `settings` names: the fixture `engine` sets it."""

    name: str = "sqlite"
    database: Callable[[Path], str] = _sqlite

    def file(self, folder: Path) -> dict[str, str]:
        """The keys of a configuration file that say where to store."""
        return {"database": self.database(folder), "secret_key_file": str(_key(folder))}


ENGINE = Engine()
ON_SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
"""For a test in which the store has no part."""


def _key(folder: Path) -> Path:
    """The vault's key, which PostgreSQL has no place for."""
    path = folder / "control.db.key"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(Fernet.generate_key())
    return path


def settings(folder: Path, base_url: str, **changes: Any) -> ControlConfig:
    values: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "database": ENGINE.database(folder),
        "secret_key_file": None if ENGINE.name == "sqlite" else _key(folder),
        "evaluator": {"base_url": base_url},
        "enrich_wait_s": 0.3,
        "wire_only": {"enabled": False, "grace_s": 3600},
    }
    return ControlConfig(**(values | changes))


@dataclass
class Client:
    """Talks to a running control as agents, sidecars and people do."""

    url: str
    http: aiohttp.ClientSession

    async def get(self, path: str, status: int = 200, **kwargs: Any) -> Any:
        async with self.http.get(self.url + path, **kwargs) as response:
            text = await response.text()
            assert response.status == status, text
            return json.loads(text) if "json" in response.content_type else text

    async def post(self, path: str, body: bytes | dict[str, Any] | None = None, status: int = 200, **kwargs: Any) -> Any:
        data = io.BytesIO(json.dumps(body).encode() if isinstance(body, dict) else body or b"")
        async with self.http.post(self.url + path, data=data, **kwargs) as response:
            text = await response.text()
            assert response.status == status, text
            return json.loads(text) if "json" in response.content_type else text

    async def report(self, body: bytes | dict[str, Any], status: int = 200, **kwargs: Any) -> Any:
        kwargs.setdefault("headers", {"Authorization": "Bearer tr_api_test"})
        return await self.post("/api/v1/public/call?workspace_id=7&agent_remote_identifier=agent-1", body, status, **kwargs)

    async def facts(self, *facts: dict[str, Any], status: int = 200, version: int = 1) -> Any:
        return await self.post("/v1/ingest/facts", {"version": version, "sidecar": "edge-1", "facts": list(facts)}, status)


@asynccontextmanager
async def control(config: ControlConfig) -> AsyncIterator[Client]:
    async with serving(config) as url, aiohttp.ClientSession() as http:
        yield Client(url, http)


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]], seconds: float = 8.0) -> None:
    """Wait for something that happens by itself. Fails loudly when it does not."""
    async with asyncio.timeout(seconds):
        while True:
            result = condition()
            if await result if isinstance(result, Awaitable) else result:
                return
            await asyncio.sleep(0.02)


@dataclass
class Process:
    """Control as a process of its own, to be killed."""

    process: asyncio.subprocess.Process
    client: Client
    log: asyncio.Task[bytes]
    """Reads along: a pipe that is full would stop who writes into it."""

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and give the exit status."""
        self.process.send_signal(number)
        await asyncio.shield(self.log)
        return await self.process.wait()


@asynccontextmanager
async def process(config: Path, prefix: Sequence[str] = ()) -> AsyncIterator[Process]:
    """Control from a configuration file; `prefix` is a command that ends in running it."""
    runner = "import sys; from control.app import main; sys.exit(main(sys.argv[1]))"
    child = await asyncio.create_subprocess_exec(*prefix, sys.executable, "-c", runner, str(config), stderr=asyncio.subprocess.PIPE)
    assert child.stderr is not None
    log: asyncio.Task[bytes] | None = None
    try:
        async with asyncio.timeout(20) as patience, aiohttp.ClientSession() as http:
            while '"event": "ready"' not in (line := (await child.stderr.readline()).decode()):
                assert line, "control ended before it was ready"
            patience.reschedule(None)
            log = asyncio.create_task(child.stderr.read())
            yield Process(child, Client(json.loads(line)["url"], http), log)
    finally:
        if child.returncode is None:
            child.kill()
        await (log if log is not None else child.stderr.read())
        await child.wait()
