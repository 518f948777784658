"""SIP over UDP: one socket a listener, the same one for both legs (RFC 3581: answers go back the way they came).

The kernel keeps the ICMP errors of a socket in a queue that names each datagram's destination (IP_RECVERR): a closed port is known at once
and not only when timer B runs out.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from sidecar.clocks import Addr
from sidecar.net.errors import StartError
from sidecar.sip.flow import Flow

Receive = Callable[[bytes, Flow], None]
Refused = Callable[[Flow], None]

# Linux's numbers; `socket` has no names for them.
_IP_RECVERR = 11
_IPV6_RECVERR = 25
MSG_ERRQUEUE = 0x2000
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("=I")
_LARGEST = 65535
_MOST_FLOWS = 4096
_BUFFER = 4 << 20
"""Octets that may wait in the kernel, as far as it allows: a burst of calls, or a moment without the processor, must cost no message."""


class SipSocket(asyncio.DatagramProtocol):
    """A listening socket; every datagram goes to `receive` with the flow that it came by, every unreachable flow to `refused`."""

    def __init__(self, sock: socket.socket, receive: Receive, refused: Refused) -> None:
        self._sock = sock
        self._receive = receive
        self._refused = refused
        self._transport: asyncio.DatagramTransport | None = None
        self._flows: dict[tuple[str, int], Flow] = {}
        """By source: most messages come from a few."""
        host, port = sock.getsockname()[:2]
        self.local: Addr = (host, port)
        self.errors = 0
        """Datagrams that could not be sent or did not arrive, as far as the kernel was told."""

    @classmethod
    async def open(cls, addr: Addr, receive: Receive, refused: Refused) -> SipSocket:
        """Bind `addr` (port 0: any). Raises StartError naming the address."""
        try:
            sock = bound(addr)
        except OSError as error:
            detail = error.strerror or str(error)
            raise StartError(f"cannot listen on udp://{addr[0]}:{addr[1]} for SIP: {detail}; change sip.listen or free the port") from error
        protocol = cls(sock, receive, refused)
        protocol._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: protocol, sock=sock)
        return protocol

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """A datagram came."""
        flow = self._flows.get(addr)
        if flow is None:
            if len(self._flows) >= _MOST_FLOWS:
                self._flows.clear()
            flow = self._flows[addr] = Flow("udp", self.local, (addr[0], addr[1]))
        self._receive(data, flow)

    def error_received(self, exc: Exception) -> None:
        """The kernel has news of datagrams that did not arrive."""
        self._drain_errors()

    def send(self, data: bytes, flow: Flow) -> None:
        """Put a datagram on the wire; a refusal by the kernel (no route, too long) is reported through `refused`."""
        if self._transport is None or self._transport.is_closing():
            return
        try:
            self._sock.sendto(data, flow.remote)
        except BlockingIOError:
            self._transport.sendto(data, flow.remote)  # the buffer is full: the transport queues
        except OSError:
            self._send_again(data, flow)

    def _send_again(self, data: bytes, flow: Flow) -> None:
        """The error may be that of an earlier datagram, which the kernel tells the next one in place of sending it."""
        self._drain_errors()
        try:
            self._sock.sendto(data, flow.remote)
        except OSError:
            self.errors += 1
            self._refused(flow)

    @property
    def waiting(self) -> int:
        """Octets of memory that datagrams take in the kernel until they are read."""
        waiting: int = _MEMINFO.unpack_from(self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 9 * _MEMINFO.size))[0]
        return waiting

    def close(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()

    def _drain_errors(self) -> None:
        """Take every entry of the error queue; each names where the lost datagram was going."""
        while True:
            try:
                _, _, _, addr = self._sock.recvmsg(_LARGEST, 512, MSG_ERRQUEUE | socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                return
            self.errors += 1
            if addr:
                self._refused(Flow("udp", self.local, (addr[0], addr[1])))


def bound(addr: Addr) -> socket.socket:
    """A socket for SIP that listens on `addr`. Raises OSError."""
    family = socket.AF_INET6 if ":" in addr[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
            # An IPv4 peer must not appear as ::ffff:…, which no configured network contains.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        sock.bind(addr)
    except OSError:
        sock.close()
        raise
    return sock
