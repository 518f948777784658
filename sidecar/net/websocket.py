"""SIP over WebSocket, as a server (RFC 7118): each message of a WebSocket is one SIP message. Who called so cannot be called back."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections import Counter
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit

import structlog
from aiohttp import WSMsgType, web

from sidecar.clocks import Addr
from sidecar.net.tcp import UNREAD, Owner, StreamLimits, reason_of, tune
from sidecar.sip.flow import Flow
from sidecar.sip.message import MAX_OCTETS
from sidecar.sip.stream import PING, PONG
from sidecar.sip.targets import literal_of
from sidecar.sip.uri import bracketed

log = structlog.get_logger()

SUBPROTOCOL = "sip"
HEARTBEAT = 30.0
"""Seconds between pings of the WebSocket; a peer whose pong does not come is gone (RFC 7118 6)."""
_GOODBYE = 1.0
_SHORTAGES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_SHORTAGE_PAUSE = 1.0
"""Seconds."""


class WebSocketPeer:
    """One peer's WebSocket. The same to its owner as a TCP connection that was accepted.

    Invariant: `lost` is told exactly once, and nothing is told after it but `released`.
    """

    name = ""
    outgoing = False
    again = False

    def __init__(self, owner: Owner, flow: Flow, limits: StreamLimits, stream: web.WebSocketResponse, request: web.BaseRequest) -> None:
        self.flow = flow
        self.heard = False
        self.unheard: list[bytes] = []
        """The newest messages that left since the peer was last heard from."""
        self._owner = owner
        self._limits = limits
        self._stream = stream
        self._request = request
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._unsent = 0
        self._gone = False

    def describe(self) -> dict[str, object]:
        """Where it leads and how it is, for the admin API."""
        return {
            "transport": self.flow.transport,
            "remote": f"{bracketed(self.flow.remote[0])}:{self.flow.remote[1]}",
            "made_by": "peer",
            "established": not self._gone,
            "unsent": self._unsent,
            "tls": None,
        }

    # -- towards the peer --------------------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Put a message in the queue to the peer."""
        if self._gone:
            return
        self.unheard = [*self.unheard, data][-self._limits.unheard :]
        self._put(data)
        if self._unsent > self._limits.unsent:
            self._tell_lost(UNREAD, failed=True)
            self.abort()

    def close(self, reason: str) -> None:
        """End the connection once what was sent has left."""
        if not self._gone:
            self._tell_lost(reason, failed=False)
            self._waiting.put_nowait(None)

    def abort(self) -> None:
        """Do not wait any longer for what `close` still had to bring over."""
        if (transport := self._request.transport) is not None:
            transport.abort()

    def unsent_messages(self) -> list[bytes]:
        """What was to be brought over and of which nothing is known."""
        return list(self.unheard)

    def _put(self, data: bytes) -> None:
        self._unsent += len(data)
        self._waiting.put_nowait(data)

    async def _write(self) -> None:
        try:
            while (data := await self._waiting.get()) is not None:
                try:
                    await self._stream.send_str(data.decode())
                except UnicodeDecodeError:
                    await self._stream.send_bytes(data)  # RFC 7118 4.2: text or binary, as the message is
                self._unsent -= len(data)
            await self._stream.close()
        except ConnectionError:
            self.abort()  # the reader ends, and tells

    # -- from the peer -----------------------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Read until the end."""
        writing = asyncio.create_task(self._write(), name=f"websocket {self.flow.remote[0]}")
        try:
            async for message in self._stream:
                if self._gone:
                    break
                if message.type is WSMsgType.TEXT:
                    self._take(message.data.encode("utf-8", "surrogateescape"))
                elif message.type is WSMsgType.BINARY:
                    self._take(message.data)
        finally:
            if not self._gone:
                self._tell_lost("closed by the peer", failed=bool(self.unheard))
                writing.cancel()
            await asyncio.wait([writing], timeout=_GOODBYE)
            writing.cancel()
            self._owner.released(self)

    def _take(self, data: bytes) -> None:
        self.heard = True
        self.unheard.clear()
        if data == PING:
            self._put(PONG)
        else:
            self._owner.message(data, self)

    def _tell_lost(self, reason: str, *, failed: bool) -> None:
        self._gone = True
        self._owner.lost(self, reason, failed=failed)


class WebSocketListener:
    """One `ws://` or `wss://` address."""

    def __init__(self, owner: Owner, transport: str, bound: Addr, limits: StreamLimits, origins: tuple[str, ...]) -> None:
        """`origins`: pages of other sites that may connect, as browsers name them (RFC 6454)."""
        self._owner = owner
        self._transport = transport
        self._bound = bound
        self._limits = limits
        self._origins = origins
        app = web.Application()
        app.router.add_get("/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GOODBYE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._shaking: Counter[str] = Counter()
        """By source, the connections that have not got through their TLS handshake yet."""
        self._upgraded: set[web.RequestHandler] = set()
        self._silent: set[web.RequestHandler] = set()
        """Connections that were no WebSocket yet at the last look."""
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        """Take connections."""
        await self._runner.setup()
        self._begin(self._accept(sock, context), "websockets")
        self._timer = asyncio.get_running_loop().call_later(self._limits.timing.first, self._look)

    async def aclose(self) -> None:
        """Take no more, and end those that are left."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._runner.cleanup()

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # The owner counts WebSockets. What has not become one yet is bounded here: in number, and in the time that it may take. An asyncio
    # server would do a stranger's handshake first and ask afterwards.

    async def _accept(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        with sock:
            while True:
                try:
                    stream, source = await loop.sock_accept(sock)
                except OSError as error:
                    if error.errno in _SHORTAGES:  # the kernel keeps those who come in its backlog
                        log.warning("websocket not accepted", cause=reason_of(error))
                        await asyncio.sleep(_SHORTAGE_PAUSE)
                    continue
                server = self._runner.server
                if server is None or not self._has_room(server, source[0]):
                    stream.close()  # without a word: it would cost more
                    continue
                self._shaking[source[0]] += 1  # now, not once its task runs: the next one may be here already
                self._begin(self._greet(server, stream, source[0], context), f"websocket {source[0]}")

    def _has_room(self, server: web.Server, source: str) -> bool:
        known = len(server.connections) + self._shaking.total()
        return known < self._limits.connections and self._shaking[source] < self._limits.per_source

    async def _greet(self, server: web.Server, stream: socket.socket, source: str, context: ssl.SSLContext | None) -> None:
        """Do the handshake, and hand over to HTTP."""
        handshake = None if context is None else self._limits.timing.setup
        try:
            await asyncio.get_running_loop().connect_accepted_socket(server, stream, ssl=context, ssl_handshake_timeout=handshake)
        except OSError:
            stream.close()  # gone, no TLS, or not in time
        finally:
            self._shaking[source] -= 1
            if not self._shaking[source]:
                del self._shaking[source]

    def _look(self) -> None:
        server = self._runner.server
        silent = {one for one in server.connections if one not in self._upgraded} if server is not None else set()
        for one in silent & self._silent:
            one.force_close()
        self._silent = silent
        self._timer = asyncio.get_running_loop().call_later(self._limits.timing.first, self._look)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        stream = web.WebSocketResponse(protocols=(SUBPROTOCOL,), max_msg_size=MAX_OCTETS, heartbeat=HEARTBEAT, compress=False)
        if not stream.can_prepare(request).ok:
            return web.Response(status=426, headers={"Upgrade": "websocket"}, text="this address speaks SIP over WebSocket\n")
        if SUBPROTOCOL not in (part.strip() for part in request.headers.get("Sec-WebSocket-Protocol", "").split(",")):
            return web.Response(status=400, text="RFC 7118 4.1: the subprotocol sip is missing\n")
        if not self._is_welcome(request):
            return web.Response(status=403, text="pages of this origin may not connect; sip.origins lists those that may\n")
        transport = request.transport
        peer = None if transport is None else transport.get_extra_info("peername")
        if transport is None or not peer:
            return web.Response(status=400)
        tune(transport.get_extra_info("socket"), self._limits)
        found = WebSocketPeer(self._owner, Flow(self._transport, self._bound, (peer[0], peer[1])), self._limits, stream, request)
        if not self._owner.arrived(found):
            return web.Response(status=503)
        try:
            await stream.prepare(request)
        except ConnectionError:
            self._owner.lost(found, "closed during the handshake", failed=False)
            self._owner.released(found)
            return stream
        self._upgraded.add(request.protocol)
        try:
            await found.serve()
        finally:
            self._upgraded.discard(request.protocol)
        return stream

    def _is_welcome(self, request: web.Request) -> bool:
        """RFC 6455 10.2: a browser names the page's origin. Another site's page must not call from its visitor's trusted address.

        A page of this very address may, unless its host is a name: any site can have its own name lead here.
        """
        origin = request.headers.get("Origin")
        if origin is None or origin in self._origins:
            return True
        parts = urlsplit(origin)
        return parts.netloc == request.host and literal_of(parts.hostname or "") is not None
