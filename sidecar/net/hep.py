"""Sends HEP packets to a capture server, over UDP or TCP, beside the calls and never in their way.

Whatever happens to the server, `message` and `send` return at once: packets wait in a bounded queue whose oldest go first, and every packet
that was not sent is counted. HEP has no receipts: a packet that the kernel took just before the link broke may be lost uncounted. A UDP
server that refuses (ICMP) counts as away: what comes meanwhile waits and the name is resolved anew, as with TCP.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import urlsplit

import structlog

from sidecar.b2bua import effects as e
from sidecar.clocks import Wall
from sidecar.trace import hep

log = structlog.get_logger()

DEFAULT_PORT = 9060
"""Where capture servers listen for HEP by custom; none is registered."""
CAPACITY = 5000
"""Packets that may wait: about ten seconds of 50 calls/s at ten messages a call, and a few megabytes."""
MAX_DATAGRAM = 65507
"""The largest UDP payload over IPv4 (RFC 768, RFC 791)."""

Transport = Literal["udp", "tcp"]


@dataclass(frozen=True, slots=True)
class Server:
    """A capture server. IPv6 literals are without brackets."""

    transport: Transport
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Server:
        """`udp://host:port`, `tcp://host:port`, or `host:port` for UDP; port 9060 unless told. ValueError says what is wrong."""
        scheme, separator, rest = text.strip().partition("://")
        if not separator:
            scheme, rest = "udp", scheme
        if scheme.lower() not in ("udp", "tcp"):
            raise ValueError(f"{text!r}: HEP goes over udp:// or tcp://, not {scheme}://")
        try:
            parts = urlsplit(f"//{rest}")
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"{text!r}: {error}") from None
        if not host or port == 0 or parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
            raise ValueError(f"{text!r} is not of the form udp://host:port or tcp://host:port")
        return cls("udp" if scheme.lower() == "udp" else "tcp", host, DEFAULT_PORT if port is None else port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds."""

    first_retry: float = 0.25
    last_retry: float = 15.0
    """Between tries to reach the server: doubling from the first to the last."""
    connect: float = 5.0
    """For one try, name resolution included."""
    settled: float = 5.0
    """A link that lasted this long was a good one: the doubling starts anew."""
    flush: float = 1.0
    """At the end, for what still waits."""


class HepExporter:
    """One capture server. `start` it in the event loop, hand it messages, `stop` it."""

    def __init__(
        self,
        server: str,
        capture_id: int,
        *,
        auth_key: str | None = None,
        capacity: int = CAPACITY,
        pace: Pace | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`server` as `Server.parse` reads it; `capture_id` of 32 bits; ValueError for others. `jitter` returns a number in [0, 1)."""
        if not 0 <= capture_id <= hep.MAX_U32:
            raise ValueError(f"HEP capture id {capture_id} does not fit into 32 bits")
        self.server = Server.parse(server)
        self._capture_id = capture_id
        self._auth_key = auth_key
        self._pace = pace or Pace()
        self._jitter = jitter
        self._queue: deque[bytes] = deque()
        self._capacity = capacity
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._reachable: bool | None = None
        self._trouble: str | None = None
        self.sent = 0
        """Packets handed to the kernel."""
        self.dropped = 0
        """Packets that the full queue had no room for, or that were left at the end."""
        self.unfit = 0
        """Messages that no HEP packet or no datagram can hold."""
        self.reconnects = 0

    async def start(self) -> None:
        """Begin to send. An unreachable server is no error: it is tried again for as long as this lives."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="hep")

    async def stop(self) -> None:
        """Send what waits, for at most `Pace.flush` seconds, and close. Calling it again is harmless."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping.set()
        self._wake.set()
        _, pending = await asyncio.wait({task}, timeout=self._pace.flush)
        if pending:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        self.dropped += len(self._queue)
        self._queue.clear()

    def message(self, message: e.Message, correlation: str, wall: Wall) -> None:
        """Send one SIP message, seen at `wall`; `correlation` is the A leg's Call-ID on both legs. Never blocks, never raises."""
        try:
            packet = hep.encode(message, correlation, self._capture_id, wall, auth_key=self._auth_key)
        except ValueError as error:
            self._refuse(str(error))
        else:
            self.send(packet)

    def send(self, datagram: bytes) -> None:
        """Queue one packet. Never blocks, never raises; when the queue is full the oldest packet goes."""
        if self._stopping.is_set():
            self.dropped += 1
            return
        if self.server.transport == "udp" and len(datagram) > MAX_DATAGRAM:
            self._refuse(f"{len(datagram)} octets do not fit into a datagram")
            return
        if len(self._queue) >= self._capacity:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(datagram)
        self._wake.set()

    def describe(self) -> dict[str, object]:
        """State of the link and counts, for the admin API."""
        return {
            "server": str(self.server),
            "capture_id": self._capture_id,
            "link": "unknown" if self._reachable is None else "up" if self._reachable else "away",
            "trouble": self._trouble,
            "waiting": len(self._queue),
            "sent": self.sent,
            "dropped": self.dropped,
            "unfit": self.unfit,
            "reconnects": self.reconnects,
        }

    def _refuse(self, detail: str) -> None:
        self.unfit += 1
        if self.unfit == 1:
            log.warning("a message cannot be sent as HEP; further ones are only counted", detail=detail)

    # -- the link ----------------------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Connect, send until the link breaks, wait, again. Ends once the end was asked for and nothing waits."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            opened = loop.time()
            try:
                link = await self._open()
            except OSError as error:
                trouble: str | None = error.strerror or str(error) or type(error).__name__
            else:
                trouble = await self._serve(link)
            if trouble is None:
                return
            self._note(False, trouble)
            if self._stopping.is_set() and not self._queue:
                return
            failures = 0 if loop.time() - opened >= self._pace.settled else failures + 1
            await self._pause(failures)
            self.reconnects += 1

    async def _open(self) -> _Link:
        """Raises OSError, TimeoutError among them."""
        loop = asyncio.get_running_loop()
        host, port = self.server.host, self.server.port
        try:
            async with asyncio.timeout(self._pace.connect):
                if self.server.transport == "udp":
                    _, link = await loop.create_datagram_endpoint(lambda: _Link("udp", self._wake.set), remote_addr=(host, port))
                else:
                    _, link = await loop.create_connection(lambda: _Link("tcp", self._wake.set), host, port)
        except TimeoutError:
            raise TimeoutError(f"no connection within {self._pace.connect:g} s") from None
        return link

    async def _serve(self, link: _Link) -> str | None:
        """Send over one link. Returns what broke it, or None when all is sent and the end was asked for."""
        loop = asyncio.get_running_loop()
        written_at: float | None = None
        try:
            while link.broken is None:
                # An open TCP connection is a server that is there; with UDP only a datagram that nobody refused for a while tells so.
                if self.server.transport == "tcp" or (written_at is not None and loop.time() - written_at >= 1.0):
                    self._note(True, None)
                if self._queue and link.writable:
                    link.write(self._queue.popleft())
                    self.sent += 1
                    written_at = loop.time() if written_at is None else written_at
                    if not self.sent % 64:
                        await asyncio.sleep(0)  # a long queue must not hold the loop up
                elif self._stopping.is_set() and not self._queue:
                    await link.close()
                    return None
                else:
                    self._wake.clear()
                    await self._wake.wait()
            return link.broken
        finally:
            link.abort()

    async def _pause(self, failures: int) -> None:
        pace = self._pace
        wait = min(pace.last_retry, pace.first_retry * 2.0 ** min(max(failures - 1, 0), 32)) * (0.5 + self._jitter() / 2)
        if self._stopping.is_set():
            await asyncio.sleep(min(wait, pace.first_retry))
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._stopping.wait()

    def _note(self, reachable: bool, trouble: str | None) -> None:
        """One line when the link changes, however often it is tried."""
        self._trouble = trouble
        if reachable == self._reachable:
            return
        self._reachable = reachable
        if reachable:
            log.info("capture server takes HEP", server=str(self.server))
        else:
            log.warning(
                "capture server unreachable",
                server=str(self.server),
                detail=trouble,
                consequence="calls go on; HEP packets wait in a bounded queue",
            )


class _Link(asyncio.Protocol, asyncio.DatagramProtocol):
    """One connection or connected socket: whether it takes more, and what broke it. `changed` is called when either becomes different."""

    def __init__(self, transport: Transport, changed: Callable[[], None]) -> None:
        self.writable = True
        self.broken: str | None = None
        self._datagrams = transport == "udp"
        self._changed = changed
        self._closed = asyncio.Event()
        self._transport: asyncio.Transport | asyncio.DatagramTransport | None = None
        self._write: Callable[[bytes], None] | None = None

    def write(self, packet: bytes) -> None:
        """Hand a packet over; beyond what the kernel takes the transport keeps it, up to where `writable` ends."""
        if self._write is not None:
            self._write(packet)

    async def close(self) -> None:
        """Close behind what was written, and wait for that."""
        if self._transport is not None:
            self._transport.close()
            await self._closed.wait()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    # -- what the event loop calls -----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The link is there."""
        if self._datagrams:
            self._transport = datagrams = cast(asyncio.DatagramTransport, transport)
            self._write = datagrams.sendto
        else:
            self._transport = stream = cast(asyncio.Transport, transport)
            self._write = stream.write

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed for good."""
        self._closed.set()
        self._break("the server closed the connection" if exc is None else str(exc))

    def error_received(self, exc: Exception) -> None:
        """A datagram was refused, on its way (ICMP) or by the kernel; one that is too long says nothing about the server."""
        if not (isinstance(exc, OSError) and exc.errno == errno.EMSGSIZE):
            self._break(str(exc))

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self.writable = False

    def resume_writing(self) -> None:
        """The transport's buffer has room."""
        self.writable = True
        self._changed()

    def _break(self, detail: str) -> None:
        if self.broken is None:  # the first reason counts
            self.broken = detail
        self._changed()
