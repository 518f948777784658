"""SIP over streams: one connection, TCP or TLS, made by us or by the peer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from dataclasses import dataclass, field
from typing import Protocol, cast

from sidecar.clocks import Addr, Mono
from sidecar.net.clock import mono
from sidecar.net.errors import StartError
from sidecar.net.tls import TlsError, TlsPipe
from sidecar.sip.endpoint import Endpoint
from sidecar.sip.flow import Flow
from sidecar.sip.keepalive import Due, StreamTiming, StreamWatch
from sidecar.sip.stream import PING, PONG, Broken, Keepalive, StreamFramer
from sidecar.sip.uri import bracketed

UNREAD = "unread"
"""The peer does not take what is sent to it."""
_BACKLOG = 512


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What connections may cost."""

    timing: StreamTiming = field(default_factory=StreamTiming)
    unsent: int = 1 << 20
    """Octets that wait for the peer to be connected or to read. Beyond it the connection is dropped."""
    unheard: int = 32
    """Messages remembered until the peer is heard from, to be sent again by a new connection if this one proves to be stale."""
    connections: int = 4096
    """Accepted ones, all listeners together."""
    per_source: int = 512
    """Accepted ones from one address. One proxy in front of many evaluators is one address."""
    unacknowledged: float = 30.0
    """Seconds that octets may stay unacknowledged by the peer's host (RFC 5482): finds a cut cable without any pong."""


class Stream(Protocol):
    """What an owner needs of a connection."""

    flow: Flow
    name: str
    outgoing: bool
    heard: bool
    again: bool

    def describe(self) -> dict[str, object]:
        """Where it leads and how it is, for the admin API."""
        ...

    def send(self, data: bytes) -> None:
        """Put a message on the wire, or in the queue until there is one."""
        ...

    def close(self, reason: str) -> None:
        """End the connection once what was sent has left."""
        ...

    def abort(self) -> None:
        """Do not wait any longer for what `close` still had to bring over."""
        ...

    def unsent_messages(self) -> list[bytes]:
        """What was to be brought over and of which nothing is known."""
        ...


class Owner(Protocol):
    """Who holds the connections."""

    def arrived(self, connection: Stream) -> bool:
        """A peer connected; False sends it away."""
        ...

    def message(self, data: bytes, connection: Stream) -> None:
        """A whole message came."""
        ...

    def malformed(self, broken: Broken, connection: Connection) -> None:
        """The stream lost its shape; the connection is closed once this returns and what it sent has left."""
        ...

    def lost(self, connection: Stream, reason: str, *, failed: bool) -> None:
        """The connection is gone, told once. `failed`: it broke, or messages that left by it were followed by no sign of the peer."""
        ...

    def released(self, connection: Stream) -> None:
        """The socket of a connection that was lost is closed, or there never was one."""
        ...


class Connection(asyncio.Protocol):
    """A stream to one peer: frames what comes, bounds what leaves, and keeps its own deadlines.

    Invariant: `lost` is told exactly once, and nothing is told after it.
    """

    def __init__(self, owner: Owner, flow: Flow, limits: StreamLimits, pipe: TlsPipe | None, *, outgoing: bool, name: str = "") -> None:
        self.flow = flow
        self.name = name
        """Whom the peer had to prove to be; empty where it had not."""
        self.outgoing = outgoing
        self.established = False
        self.heard = False
        """Whether the peer sent anything yet."""
        self.unheard: list[bytes] = []
        """The newest messages that left since the peer was last heard from."""
        self.again = False
        """Whether it took over what a stale connection could not bring over."""
        self._owner = owner
        self._limits = limits
        self._pipe = pipe
        self._framer = StreamFramer()
        self._watch = StreamWatch(limits.timing, pings=outgoing, draw=random.random, now=mono())
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = Mono(0.0)
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self._waiting_octets = 0
        self._gone = False

    def describe(self) -> dict[str, object]:
        """Where it leads and how it is, for the admin API."""
        return {
            "transport": self.flow.transport,
            "remote": f"{bracketed(self.flow.remote[0])}:{self.flow.remote[1]}",
            "made_by": "us" if self.outgoing else "peer",
            "established": self.established,
            "unsent": self._unsent(),
            "tls": self._pipe.describe() if self._pipe is not None and self.established else None,
        }

    # -- towards the peer --------------------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Put a message on the wire, or in the queue until there is one."""
        if self._gone:
            return
        if not self.established:
            self._waiting.append(data)
            self._waiting_octets += len(data)
        else:
            self._remember(data)
            self._watch.sent(mono())
            self._write(data)
        if not self._gone and self._unsent() > self._limits.unsent:
            self.drop(UNREAD, failed=True)

    def drop(self, reason: str, *, failed: bool) -> None:
        """End the connection now, with whatever is unsent."""
        if not self._gone:
            self._tell_lost(reason, failed=failed)
            if self._transport is not None:
                self._transport.abort()
            else:
                self._owner.released(self)

    def close(self, reason: str) -> None:
        """End the connection once what was sent has left."""
        if self._gone:
            return
        if self._pipe is not None and self._transport is not None:
            self._pipe.close()
            self._transport.write(self._pipe.outgoing())
        self._tell_lost(reason, failed=False)
        if self._transport is not None:
            self._transport.close()
        else:
            self._owner.released(self)

    def abort(self) -> None:
        """Do not wait any longer for what `close` still had to bring over."""
        if self._transport is not None:
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        if self._transport is None:
            return
        if self._pipe is None:
            self._transport.write(data)
            return
        try:
            self._pipe.send(data)
        except TlsError as error:
            self.drop(f"tls: {error}", failed=True)
        else:
            self._transport.write(self._pipe.outgoing())

    def _remember(self, data: bytes) -> None:
        self.unheard.append(data)
        if len(self.unheard) > self._limits.unheard:
            del self.unheard[0]

    def _unsent(self) -> int:
        return self._waiting_octets + (self._transport.get_write_buffer_size() if self._transport is not None else 0)

    # -- asyncio's callbacks -----------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is there."""
        stream = self._transport = cast("asyncio.Transport", transport)  # uvloop's is of a family of its own
        if self._gone:  # dropped while connecting
            stream.abort()
            return
        if not self.outgoing:
            peer = stream.get_extra_info("peername")
            tune(stream.get_extra_info("socket"), self._limits)
            self.flow = Flow(self.flow.transport, self.flow.local, (peer[0], peer[1]) if peer else ("", 0))
            if not peer or not self._owner.arrived(self):
                self._gone = True  # nobody was told of it, so nobody is told of its end
                stream.abort()
                return
        self._arm()
        if self._pipe is None:
            self._set_up()
        elif self.outgoing:
            self._through_tls(b"", start=True)

    def data_received(self, data: bytes) -> None:
        """Octets of the wire."""
        if self._gone:
            return
        if self._pipe is not None:
            data = self._through_tls(data)
            if self._gone or not self.established:
                return
        if data:
            self._heard(data)
        if self._pipe is not None and self._pipe.ended and not self._gone:
            self._ended()

    def eof_received(self) -> bool:
        """The peer sends nothing more."""
        if not self._gone:
            self._ended()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        if not self._gone:
            self._tell_lost(reason_of(exc) if exc is not None else "closed by the peer", failed=exc is not None or bool(self.unheard))
        self._owner.released(self)

    def _ended(self) -> None:
        if not self.established:
            self.drop("closed during the handshake", failed=True)
            return
        self._tell_lost("closed by the peer", failed=bool(self.unheard))
        if self._transport is not None:
            self._transport.close()

    # -- what it means -----------------------------------------------------------------------------------------------------------------

    def _through_tls(self, data: bytes, *, start: bool = False) -> bytes:
        """Octets of the wire through the pipe, its answers onto the wire."""
        pipe, transport = self._pipe, self._transport
        if pipe is None or transport is None:
            return b""
        plain = b""
        failure = None
        try:
            if start:
                pipe.start()
            else:
                plain = pipe.receive(data)
        except TlsError as error:
            failure = error
        transport.write(pipe.outgoing())
        if failure is not None:
            # Not abort: the alert that says why is to reach the peer.
            self._tell_lost(f"tls: {failure}", failed=True)
            transport.close()
        elif pipe.established and not self.established:
            self._set_up()
        return plain

    def _set_up(self) -> None:
        self.established = True
        self._watch.established(mono())
        self._arm()
        waiting, self._waiting, self._waiting_octets = self._waiting, [], 0
        for data in waiting:
            self.send(data)

    def _heard(self, data: bytes) -> None:
        self.heard = True
        self.unheard.clear()
        framed = self._framer.feed(data)
        self._watch.heard(
            mono(),
            message=any(isinstance(item, bytes) for item in framed),
            pong=Keepalive.PONG in framed,
            pending=bool(self._framer.pending),
        )
        self._arm()
        for item in framed:
            if self._gone:
                return
            match item:
                case Keepalive.PING:
                    self._write(PONG)
                case Keepalive.PONG:
                    pass
                case Broken():
                    self._owner.malformed(item, self)
                    self.close(f"malformed: {item.error.detail}")
                case message:
                    self._owner.message(message, self)
        if not self._gone and self._unsent() > self._limits.unsent:
            self.drop(UNREAD, failed=True)  # pongs for one who only ever pings

    def _tell_lost(self, reason: str, *, failed: bool) -> None:
        self._gone = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._owner.lost(self, reason, failed=failed or bool(self._waiting))

    def unsent_messages(self) -> list[bytes]:
        """What was to be brought over and of which nothing is known: to be sent again on another connection."""
        return [*self.unheard, *self._waiting]

    # -- time --------------------------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """One timer for the earliest deadline; one that comes too early finds nothing due and is set again."""
        due = self._watch.next_deadline()
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = asyncio.get_running_loop().call_later(max(due - mono(), 0.0), self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = max(mono(), self._timer_due)
        match self._watch.due(now):
            case None:
                pass
            case Due.PING:
                self._framer.expect_pong()
                self._write(PING)
            case Due.IDLE | Due.FIRST as due:
                self.close(due)
                return
            case due:
                self.drop(due, failed=True)
                return
        if not self._gone:
            self._arm()


def tune(sock: socket.socket, limits: StreamLimits) -> None:
    """Options of every SIP stream: nothing waits for Nagle, and a vanished host is noticed without traffic of ours."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limits.unacknowledged * 1000))


async def connect(connection: Connection, limits: StreamLimits) -> None:
    """Bring `connection` to `flow.remote` from the host that it stands for. Tells it when that fails, raises nothing."""
    host, port = connection.flow.remote
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as undo:
        try:
            sock = undo.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM))
            sock.setblocking(False)
            tune(sock, limits)
            sock.bind((connection.flow.local[0], 0))
            async with asyncio.timeout(limits.timing.setup):
                await loop.sock_connect(sock, (host, port))
            await loop.create_connection(lambda: connection, sock=sock)
        except TimeoutError:
            connection.drop(f"no connection within {limits.timing.setup:g} s", failed=True)
        except OSError as error:
            connection.drop(reason_of(error), failed=True)
        else:
            undo.pop_all()  # the socket is the connection's now


def listening(endpoint: Endpoint) -> socket.socket:
    """A bound socket. StartError names the endpoint."""
    family = socket.AF_INET6 if ":" in endpoint.addr[0] else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _cannot_listen(endpoint, error) from error
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # 0.0.0.0 is a listener of its own; an IPv4 peer must not appear as ::ffff:…, which no configured network contains.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(endpoint.addr)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _cannot_listen(endpoint, error) from error
    return sock


def _cannot_listen(endpoint: Endpoint, error: OSError) -> StartError:
    return StartError(f"cannot listen on {endpoint} for SIP: {error.strerror or error}; change sip.listen or free the port")


def reason_of(error: Exception) -> str:
    """An error in the words of the operating system, for a trace."""
    text = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else None
    return (text or str(error) or type(error).__name__).lower()


def addressed(sock: socket.socket) -> Addr:
    """Where a socket is bound."""
    host, port = sock.getsockname()[:2]
    return host, port
