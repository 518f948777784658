"""A control's ingest for the reporter's tests: stores facts by (call, seq), and can be told to go away, refuse or choke on a fact."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Trouble = Callable[[dict[str, Any]], web.Response | None]


@dataclass
class Ingest:
    """What arrived, and what to answer."""

    port: int = 0
    facts: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    order: list[tuple[str, int]] = field(default_factory=list)
    posts: list[int] = field(default_factory=list)
    """Facts in each post, also in refused ones."""
    times: list[float] = field(default_factory=list)
    authorization: set[str | None] = field(default_factory=set)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    trouble: Trouble | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def receive(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        self.posts.append(len(body["facts"]))
        self.times.append(asyncio.get_running_loop().time())
        self.authorization.add(request.headers.get("Authorization"))
        self.bodies.append({key: value for key, value in body.items() if key != "facts"})
        answer = self.trouble(body) if self.trouble else None
        if answer is None:
            answer = self._store(body["facts"])
        async with self.changed:
            self.changed.notify_all()
        return answer

    def _store(self, facts: list[dict[str, Any]]) -> web.Response:
        new = 0
        for fact in facts:
            key = fact["call"], fact["seq"]
            self.order.append(key)
            new += key not in self.facts
            self.facts[key] = fact
        return web.json_response({"stored": len(facts), "new": new})

    async def until(self, condition: Callable[[], bool], seconds: float = 5.0) -> None:
        """Wait for something to become true after a post."""
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(condition)


@asynccontextmanager
async def ingest(port: int = 0, into: Ingest | None = None) -> AsyncIterator[Ingest]:
    """A listening one. Give `into` and its port to bring one back that went away."""
    control = into or Ingest()
    app = web.Application(client_max_size=16 << 20)
    app.router.add_post("/v1/ingest/facts", control.receive)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    control.port = runner.addresses[0][1]
    try:
        yield control
    finally:
        await runner.cleanup()
