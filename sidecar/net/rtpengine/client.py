"""One instance of rtpengine: commands over UDP, each behind a cookie, sent again until its answer comes (it answers a cookie once)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import count
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

from sidecar.clocks import Addr
from sidecar.net.errors import StartError
from sidecar.net.rtpengine import bencode
from sidecar.net.rtpengine.commands import Command, checked

_TRIES = (0.1, 0.2, 0.3, 0.4)
"""How the time that an answer may take is shared among the tries."""
PORT = 2223
"""Where rtpengine's packages have it listen for NG."""


class NoAnswer(Exception):
    """An instance did not answer. The text says which and why."""


def parse_server(value: str) -> Addr:
    """`udp://10.0.0.7:2223` as an address. Raises ValueError."""
    url = urlsplit(value)
    if url.scheme != "udp" or not url.hostname or url.path not in ("", "/"):
        raise ValueError(f"{value!r} is no address of an rtpengine; write udp://10.0.0.7:{PORT}, its --listen-ng")
    return url.hostname, url.port or PORT


class Server(asyncio.DatagramProtocol):
    """A connected socket to one instance."""

    def __init__(self, addr: Addr, timeout: float) -> None:
        self.name = f"udp://{addr[0]}:{addr[1]}" if ":" not in addr[0] else f"udp://[{addr[0]}]:{addr[1]}"
        self.is_up = True
        self.problem = ""
        """Why it counts as down."""
        self.strays = 0
        """Datagrams that answer nothing that was asked."""
        self._timeout = timeout
        self._addr = addr
        self._transport: asyncio.DatagramTransport | None = None
        self._waiting: dict[bytes, asyncio.Future[Mapping[str, Any]]] = {}
        self._refused: asyncio.Event | None = None
        self._prefix = token_hex(4)
        self._numbers = count(1)

    async def open(self) -> None:
        """Raises StartError where its name leads nowhere."""
        try:
            self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, remote_addr=self._addr)
        except OSError as error:
            raise StartError(f"{self.name} of media.rtpengine.servers: {error.strerror or error}") from error

    def close(self) -> None:
        """Ask nothing more."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    @property
    def local_host(self) -> str:
        """The address of ours that the instance is reached from, so that it reaches us there."""
        if self._transport is None:
            raise LookupError(f"{self.name} is not open")
        host: str = self._transport.get_extra_info("sockname")[0]
        return host

    async def ask(self, command: Command) -> Mapping[str, Any]:
        """The answer to a command. Raises NoAnswer, or Refused when it is no success."""
        if self._transport is None:
            raise NoAnswer(f"{self.name} is not in use any more")
        cookie = f"{self._prefix}_{next(self._numbers)}".encode()
        data = cookie + b" " + bencode.encode(command)
        answer = self._waiting[cookie] = asyncio.get_running_loop().create_future()
        try:
            for share in _TRIES:
                if self._transport is not None:
                    self._transport.sendto(data)
                done, _ = await asyncio.wait((answer,), timeout=share * self._timeout)
                if done:
                    return checked(answer.result())
        finally:
            del self._waiting[cookie]
        raise NoAnswer(f"{self.name} does not answer {command['command']!r}{f' ({self.problem})' if self.problem else ''}")

    # -- DatagramProtocol --------------------------------------------------------------------------------------------------------------

    def datagram_received(self, data: bytes, addr: Addr) -> None:
        """An answer, to be known by its cookie."""
        cookie, _, body = data.partition(b" ")
        waiting = self._waiting.get(cookie)
        if waiting is None or waiting.done():
            self.strays += 1
            return
        try:
            answer = bencode.decode(body)
        except bencode.Malformed:
            answer = None
        if isinstance(answer, dict):
            waiting.set_result(answer)
        else:
            self.strays += 1

    def error_received(self, exc: Exception) -> None:
        """The kernel was told that nobody listens there; the next try may find somebody."""
        self.problem = getattr(exc, "strerror", None) or str(exc)
