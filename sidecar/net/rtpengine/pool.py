"""Several instances of rtpengine: which takes the next call, and which of them live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import structlog

from sidecar.net.rtpengine.client import NoAnswer, Server, parse_server
from sidecar.net.rtpengine.commands import PING, Interfaces, Refused

log = structlog.get_logger()


class Pool:
    """Calls go round the instances that answer. One that does not is left out, and asked from time to time whether it is back."""

    def __init__(self, servers: Sequence[str], *, timeout: float, period: float, interfaces: Interfaces) -> None:
        """Seconds for an answer, and between two questions whether an instance lives."""
        self.servers = [Server(parse_server(entry), timeout) for entry in servers]
        self.interfaces = interfaces
        self.lost: Callable[[Server], None] = lambda _: None
        """Told of each instance that stops answering."""
        self._period = period
        self._turn = 0

    async def open(self) -> None:
        """Raises StartError where a name leads nowhere. Instances that do not answer may come later."""
        for server in self.servers:
            await server.open()
        await self.look()

    def close(self) -> None:
        """Ask nothing more."""
        for server in self.servers:
            server.close()

    def candidates(self) -> Iterator[Server]:
        """The instances in the order to try for a new call: those that live, each in its turn, then the others."""
        self._turn += 1
        first = self._turn % len(self.servers)
        turned = self.servers[first:] + self.servers[:first]
        return iter(sorted(turned, key=lambda server: not server.is_up))

    def down(self, server: Server, why: str) -> None:
        """An instance does not answer."""
        if server.is_up:
            server.is_up = False
            log.error("media relay lost", server=server.name, detail=why, consequence="new calls go to the others")
            self.lost(server)

    def up(self, server: Server) -> None:
        """An instance answered."""
        server.problem = ""
        if not server.is_up:
            server.is_up = True
            log.info("media relay back", server=server.name)

    async def run(self) -> None:
        """Look at the instances until cancelled."""
        while True:
            await asyncio.sleep(self._period)
            await self.look()

    async def look(self) -> None:
        """Ask each instance whether it lives."""
        await asyncio.gather(*(self._look_at(server) for server in self.servers))

    async def _look_at(self, server: Server) -> None:
        try:
            await server.ask(PING)
        except (NoAnswer, Refused) as error:
            self.down(server, str(error))
        else:
            self.up(server)

    def describe(self) -> list[dict[str, Any]]:
        """Which instances live, for the admin port."""
        return [{"server": server.name, "up": server.is_up, "problem": server.problem, "strays": server.strays} for server in self.servers]
