"""Transports and peers for the tests of this folder."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from sidecar.clocks import Addr
from sidecar.net.tcp import StreamLimits
from sidecar.net.tls import TlsSettings
from sidecar.net.transport import Transports
from sidecar.sip.endpoint import Endpoint
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.flow import Flow
from sidecar.sip.message import response_to
from tests.support.sip import parsed_request, request

LOOPBACK = {"v4": "127.0.0.1", "v6": "::1"}


def listen(transport: str, host: str = "127.0.0.1") -> Endpoint:
    """Any port."""
    return Endpoint(transport, (host, 0))


def message(call_id: str = "call-1", transport: str = "TCP", *, sent_by: str = "127.0.0.1:5060", body: bytes = b"") -> bytes:
    """A request as it stands on the wire."""
    made = request("OPTIONS", call_id=call_id, body=body)
    made.headers.prepend("Via", f"SIP/2.0/{transport} {sent_by};branch=z9hG4bK-{call_id};rport")
    return made.encode()


def answer_to(data: bytes) -> bytes:
    """A 200 to it."""
    return response_to(parsed_request(data), 200, to_tag="t").encode()


@dataclass
class Inbox:
    """What transports tell, and a way to wait for it."""

    received: list[tuple[bytes, Flow]] = field(default_factory=list)
    refused: list[tuple[Flow, str]] = field(default_factory=list)
    malformed: list[tuple[bytes, MalformedMessage, Flow]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def on_received(self, data: bytes, flow: Flow) -> None:
        self.received.append((data, flow))
        self.changed.set()

    def on_refused(self, flow: Flow, detail: str) -> None:
        self.refused.append((flow, detail))
        self.changed.set()

    def on_malformed(self, head: bytes, error: MalformedMessage, flow: Flow) -> None:
        self.malformed.append((head, error, flow))
        self.changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait at most 5 s until something that was told makes `condition` true."""
        async with asyncio.timeout(5):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def get(self, count: int = 1) -> list[tuple[bytes, Flow]]:
        """The first `count` messages."""
        await self.until(lambda: len(self.received) >= count)
        return self.received

    async def refusal(self) -> tuple[Flow, str]:
        """The first refusal."""
        await self.until(lambda: self.refused)
        return self.refused[0]


@dataclass
class Node:
    """Open transports and what they told."""

    transports: Transports
    inbox: Inbox

    @property
    def addr(self) -> Addr:
        """The first listener."""
        return self.transports.local[0].addr

    def flow_to(self, peer: Node, index: int = 0) -> Flow:
        """From here to a listener of `peer`."""
        there = peer.transports.local[index]
        return Flow(there.transport, self.addr, there.addr)

    def connections(self) -> dict[str, int]:
        """How many there are, by kind."""
        found = self.transports.describe()["connections"]
        assert isinstance(found, dict)
        return found


@contextlib.asynccontextmanager
async def node(*endpoints: Endpoint, limits: StreamLimits | None = None, settings: TlsSettings | None = None) -> AsyncIterator[Node]:
    """Transports that listen on `endpoints` (a UDP port where none is given)."""
    inbox = Inbox()
    transports = Transports(
        inbox.on_received, inbox.on_refused, inbox.on_malformed, settings=settings or TlsSettings(), limits=limits or StreamLimits()
    )
    try:
        await transports.open(endpoints or (listen("udp"),))
        yield Node(transports, inbox)
    finally:
        await transports.aclose()


async def until(condition: Callable[[], object]) -> None:
    """Wait at most 5 s for something that nobody tells."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def raw(addr: Addr) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A peer that speaks octets."""
    reader, writer = await asyncio.open_connection(*addr)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What still comes until the peer closes."""
    async with asyncio.timeout(5):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
