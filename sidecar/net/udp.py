"""SIP over UDP: one socket a listener, the same one for both legs (RFC 3581: answers go back the way they came)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidecar.clocks import Addr
from sidecar.net.errors import StartError
from sidecar.sip.flow import Flow

Receive = Callable[[bytes, Flow], None]
Refused = Callable[[Flow], None]


class SipSocket(asyncio.DatagramProtocol):
    """A listening socket; every datagram goes to `receive` with the flow that it came by."""

    def __init__(self, receive: Receive, refused: Refused) -> None:
        self._receive = receive
        self._refused = refused
        self._transport: asyncio.DatagramTransport | None = None
        self.local: Addr = ("", 0)
        self.errors = 0
        """Errors that the kernel reported for a datagram that was sent."""

    @classmethod
    async def open(cls, addr: Addr, receive: Receive, refused: Refused) -> SipSocket:
        """Bind `addr` (port 0: any). Raises StartError naming the address."""
        try:
            _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(lambda: cls(receive, refused), local_addr=addr)
        except OSError as error:
            detail = error.strerror or str(error)
            raise StartError(f"cannot listen on udp://{addr[0]}:{addr[1]} for SIP: {detail}; change sip.listen or free the port") from error
        return protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is bound."""
        if isinstance(transport, asyncio.DatagramTransport) or hasattr(transport, "sendto"):
            self._transport = transport  # type: ignore[assignment]  # uvloop's class is no subclass of asyncio's
        host, port = transport.get_extra_info("sockname")[:2]
        self.local = (host, port)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """A datagram came."""
        self._receive(data, Flow("udp", self.local, (addr[0], addr[1])))

    def error_received(self, exc: Exception) -> None:
        """The kernel reports an error without saying for which peer: timers B and F deal with it."""
        self.errors += 1

    def send(self, data: bytes, flow: Flow) -> None:
        """Put a datagram on the wire. A refusal by the kernel (no route, message too long) is reported as a transport failure."""
        if self._transport is None or self._transport.is_closing():
            return
        try:
            self._transport.sendto(data, flow.remote)
        except OSError:
            self.errors += 1
            self._refused(flow)

    def close(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()
