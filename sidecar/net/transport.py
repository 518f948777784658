"""Every SIP transport behind one `send`: UDP sockets, WebSockets, TCP and TLS connections that are found, made, kept and given up here."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace

from sidecar.clocks import Addr
from sidecar.net import tls
from sidecar.net.errors import StartError
from sidecar.net.sharing import Share
from sidecar.net.tcp import UNREAD, Connection, Stream, StreamLimits, addressed, connect, listening
from sidecar.net.tls import TlsError, TlsPipe, TlsSettings
from sidecar.net.udp import SipSocket
from sidecar.net.websocket import WebSocketListener
from sidecar.sip.endpoint import SECURE, Endpoint
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.flow import Flow
from sidecar.sip.message import Response, parse
from sidecar.sip.stream import Broken
from sidecar.sip.targets import way_back_anew

Receive = Callable[[bytes, Flow], None]
Refused = Callable[[Flow, str], None]
Malformed = Callable[[bytes, MalformedMessage, Flow], None]

_GOODBYE = 1.0
"""Seconds at the end for what was sent to leave."""
_MOST_DIALLED = 1024
"""Connections being made at one time."""
_MOST_SHOWN = 100


class Transports:
    """Opened once. A flow's `local` is always one of `local`, also on connections that we make, whose own port means nothing to anybody.

    `received` is called with each whole message; `refused`, never from within `send`, when a flow could not bring over what was sent by it;
    `malformed` with the head of what could not be framed, before its connection is closed.
    """

    def __init__(
        self,
        received: Receive,
        refused: Refused,
        malformed: Malformed | None = None,
        *,
        settings: TlsSettings = TlsSettings(),  # noqa: B008 – a frozen value
        limits: StreamLimits = StreamLimits(),  # noqa: B008 – a frozen value
        origins: Iterable[str] = (),
        share: Share | None = None,
    ) -> None:
        """Reads the TLS files. Raises StartError. `origins`: of web pages that may connect by WebSocket, besides our own.

        `share`: the UDP sockets are there already, and another process reads them.
        """
        self._share = share
        self.local: tuple[Endpoint, ...] = ()
        """Where we listen, with the ports that the kernel gave."""
        self.counts: Counter[str] = Counter()
        """Why connections ended or were not taken, and messages that could not be sent."""
        self._received = received
        self._refused = refused
        self._malformed = malformed
        self._settings = settings
        self._contexts = tls.load(settings)
        self._limits = limits
        self._origins = tuple(origins)
        self._udp: dict[Addr, SipSocket] = {}
        self._servers: list[asyncio.Server] = []
        self._websockets: list[WebSocketListener] = []
        self._flows: defaultdict[Flow, list[Stream]] = defaultdict(list)
        self._sources: Counter[str] = Counter()
        self._closing: set[Stream] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._released = asyncio.Event()
        self._shut = False

    # -- life --------------------------------------------------------------------------------------------------------------------------

    async def open(self, endpoints: Iterable[Endpoint]) -> None:
        """Listen everywhere. Raises StartError naming the endpoint that cannot be had; what was opened until then is closed by `aclose`."""
        shared = iter(self._share.open(self._received, self._unreachable) if self._share is not None else ())
        for endpoint in endpoints:
            if endpoint.transport == "udp":
                sip = next(shared, None) or await SipSocket.open(endpoint.addr, self._received, self._unreachable)
                self._udp[sip.local] = sip
                bound = sip.local
            else:
                if endpoint.transport in SECURE and self._contexts.server is None:
                    raise StartError(f"cannot listen on {endpoint}: set sip.tls.certificate and sip.tls.key")
                bound = await self._listen(endpoint)
            self.local += (replace(endpoint, addr=bound),)

    async def _listen(self, endpoint: Endpoint) -> Addr:
        sock = listening(endpoint)
        bound = addressed(sock)
        if endpoint.transport in ("ws", "wss"):
            await self._listen_for_websockets(endpoint.transport, sock, bound)
            return bound

        def accept() -> Connection:
            # The peer is not known yet; the connection fills it in.
            pipe = TlsPipe(self._contexts, server=True) if endpoint.transport == "tls" else None
            return Connection(self, Flow(endpoint.transport, bound, ("", 0)), self._limits, pipe, outgoing=False)

        self._servers.append(await asyncio.get_running_loop().create_server(accept, sock=sock))
        return bound

    async def _listen_for_websockets(self, transport: str, sock: socket.socket, bound: Addr) -> None:
        context = self._contexts.server if transport == "wss" else None
        if context is not None:
            tls.follow(context, lambda: self._contexts)
        found = WebSocketListener(self, transport, bound, self._limits, self._origins)
        self._websockets.append(found)
        await found.open(sock, context)

    def waiting(self) -> int:
        """Octets of memory that datagrams take in the kernel until they are read, on the socket where they take most."""
        fed = self._share.waiting if self._share is not None else 0
        return max((sip.waiting for sip in self._udp.values()), default=0) + fed

    def reload(self) -> None:
        """Read the TLS files again, for connections from now on. StartError when they are not usable: the old ones then stay in force."""
        contexts = tls.load(self._settings)
        if contexts.server is None and any(endpoint.transport in SECURE for endpoint in self.local):
            raise StartError("sip.tls.certificate cannot be taken away while listening on tls:// or wss://")
        self._contexts = contexts

    async def aclose(self) -> None:
        """Stop listening, let what was sent leave, close everything."""
        self._shut = True
        for server in self._servers:
            server.close()
        for connection in [connection for connections in self._flows.values() for connection in connections]:
            connection.close("stopped")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE):
                await self._all_released()
        for connection in self._closing:
            connection.abort()
        await self._all_released()
        for websocket in self._websockets:
            await websocket.aclose()
        if self._share is not None:
            self._share.close()
        for sip in self._udp.values():
            sip.close()

    async def _all_released(self) -> None:
        while self._closing:
            self._released.clear()
            await self._released.wait()

    def describe(self) -> dict[str, object]:
        """Listeners, connections by kind, the oldest one by one, and counts, for the admin API."""
        open_ = [connection for connections in self._flows.values() for connection in connections]
        kinds = Counter(f"{connection.flow.transport} {'made' if connection.outgoing else 'accepted'}" for connection in open_)
        return {
            "listeners": [str(endpoint) for endpoint in self.local],
            "connections": dict(kinds),
            "peers": [connection.describe() for connection in open_[:_MOST_SHOWN]],
            "connecting": len(self._tasks),
            "udp_errors": sum(sip.errors for sip in self._udp.values()),
            "counts": dict(self.counts),
        }

    # -- towards peers -----------------------------------------------------------------------------------------------------------------

    def send(self, data: bytes, flow: Flow, name: str = "") -> None:
        """Put a message on the wire. `name` is the domain that a TLS server must prove if it is dialled; without one, its IP address.

        A stream's connection is used while it is there. Else one is made: to `flow.remote`, or, for a response, by its Via (18.2.2).
        """
        if self._shut:
            return
        if flow.transport == "udp":
            self._send_udp(data, flow)
            return
        connection = self._usable(flow, name)
        if connection is None and flow.is_one_way:
            self.counts["websocket-gone"] += 1
            if not data.startswith(b"SIP/"):
                self._refuse(flow, "its WebSocket is gone")
            return
        if connection is None and data.startswith(b"SIP/"):
            anew = _flow_of_response(data, flow)
            if anew is None:
                self.counts["response-without-way"] += 1
                return
            flow = anew
            connection = self._usable(flow, name)
        if connection is None:
            connection = self._dial(flow, name)
        if connection is not None:
            connection.send(data)

    def _send_udp(self, data: bytes, flow: Flow) -> None:
        sip = self._udp.get(flow.local)
        if sip is None:
            self._refuse(flow, "no UDP listener for this address")
        else:
            sip.send(data, flow)

    def _usable(self, flow: Flow, name: str) -> Stream | None:
        # A server that proved one domain is not believed to be another (RFC 5923 9.1). Who dialled us did not have to prove any.
        fitting = (found for found in self._flows.get(flow, ()) if not (found.name and name) or found.name == name)
        return next(fitting, None)

    def _dial(self, flow: Flow, name: str, *, again: bool = False) -> Connection | None:
        if len(self._tasks) >= _MOST_DIALLED:
            self.counts["too-many-dialled"] += 1
            self._refuse(flow, "too many connections are being made")
            return None
        try:
            pipe = TlsPipe(self._contexts, server=False, name=name or flow.remote[0]) if flow.transport == "tls" else None
        except TlsError as error:
            self._refuse(flow, f"tls: {error}")
            return None
        connection = Connection(self, flow, self._limits, pipe, outgoing=True, name=name)
        connection.again = again
        self._flows[flow].append(connection)
        task = asyncio.get_running_loop().create_task(connect(connection, self._limits), name=f"dial {flow.remote[0]}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return connection

    def _unreachable(self, flow: Flow) -> None:
        self._refuse(flow, "unreachable")

    def _refuse(self, flow: Flow, detail: str) -> None:
        if not self._shut:
            asyncio.get_running_loop().call_soon(self._refused, flow, detail)

    # -- what connections tell (Owner) -------------------------------------------------------------------------------------------------

    def arrived(self, connection: Stream) -> bool:
        """A peer connected."""
        source = connection.flow.remote[0]
        if self._shut or self._sources.total() >= self._limits.connections or self._sources[source] >= self._limits.per_source:
            self.counts["too-many-connections"] += 1
            return False
        self._sources[source] += 1
        self._flows[connection.flow].append(connection)
        return True

    def message(self, data: bytes, connection: Stream) -> None:
        """A whole message came."""
        self._received(data, connection.flow)

    def malformed(self, broken: Broken, connection: Connection) -> None:
        """A stream lost its shape."""
        if self._malformed is not None and broken.head:
            self._malformed(broken.head, broken.error, connection.flow)

    def lost(self, connection: Stream, reason: str, *, failed: bool) -> None:
        """A connection is gone. What a stale one swallowed goes by a new one: octets that come twice are a retransmission to the peer."""
        self._forget(connection)
        self.counts[reason.partition(":")[0]] += 1
        if self._shut or not failed:
            return
        lost = connection.unsent_messages()
        stale = connection.outgoing and connection.heard and lost and not connection.again and reason != UNREAD
        fresh = self._dial(connection.flow, connection.name, again=True) if stale else None
        if fresh is None:
            self._refuse(connection.flow, reason)
            return
        for data in lost:
            fresh.send(data)

    def released(self, connection: Stream) -> None:
        """Its socket is closed."""
        self._closing.discard(connection)
        self._released.set()

    def _forget(self, connection: Stream) -> None:
        found = self._flows.get(connection.flow, [])
        if connection in found:
            found.remove(connection)
        if not found:
            self._flows.pop(connection.flow, None)
        if not connection.outgoing:
            source = connection.flow.remote[0]
            self._sources[source] -= 1
            if self._sources[source] <= 0:
                del self._sources[source]
        self._closing.add(connection)


def _flow_of_response(data: bytes, flow: Flow) -> Flow | None:
    """Where a response goes when the connection of its request is gone."""
    try:
        message = parse(data)
    except MalformedMessage:
        return None
    return way_back_anew(message.via, flow) if isinstance(message, Response) else None
