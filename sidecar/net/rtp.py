"""RTP on the wire: port pairs from the configured range, and the forwarding of every packet before anything else looks at it."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from typing import NamedTuple

from sidecar.clocks import Addr, Mono
from sidecar.media.relay import RTCP, RTP, Component, Leg, Relay
from sidecar.media.tap import Ring
from sidecar.net.clock import mono

SO_TIMESTAMPNS = 35
"""Linux's option number; `socket` has no name for it. Arrival times then come from the kernel, not from when we got round to reading."""
_TIMESPEC = struct.Struct("@qq")
_LARGEST = 2048
_ANCILLARY = socket.CMSG_SPACE(_TIMESPEC.size)
_DELAY_SAMPLES = 4096


class NoPorts(Exception):
    """Every port pair of the range is taken. The text says which range."""


class BoundPair(NamedTuple):
    """The sockets of one leg of one m-line."""

    port: int
    rtp: socket.socket
    rtcp: socket.socket


class PortPool:
    """Even ports of a range, handed out longest-unused first: a late packet of the last call must not reach the next one."""

    def __init__(self, host: str, low: int, high: int) -> None:
        self.host = host
        self.range = (low, high)
        self._free = deque(range(low + low % 2, high, 2))

    @property
    def free(self) -> int:
        """How many pairs are left."""
        return len(self._free)

    def bind(self) -> BoundPair:
        """Two bound, non-blocking sockets on an even port and the next (RFC 3550 section 11). Raises NoPorts."""
        for _ in range(len(self._free)):
            port = self._free.popleft()
            try:
                return BoundPair(port, *self._bind_pair(port))
            except OSError:
                self._free.append(port)  # another process has it; the next round may find it free
        raise NoPorts(f"no free RTP port pair on {self.host} in {self.range[0]}–{self.range[1]}; widen media.ports")

    def release(self, port: int) -> None:
        """Put a pair back, behind all others."""
        self._free.append(port)

    def _bind_pair(self, port: int) -> tuple[socket.socket, socket.socket]:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        bound: list[socket.socket] = []
        try:
            for number in (port, port + 1):
                sock = socket.socket(family, socket.SOCK_DGRAM)
                bound.append(sock)
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
                sock.bind((self.host, number))
        except OSError:
            for sock in bound:
                sock.close()
            raise
        return bound[0], bound[1]


class MediaLine:
    """The four sockets of one m-line, and the relay between them."""

    def __init__(self, pool: PortPool, loop: asyncio.AbstractEventLoop, ring: Ring | None) -> None:
        """Bind both port pairs. `ring` gets each forwarded RTP packet (None: nobody listens). Raises NoPorts."""
        self.relay = Relay()
        self.delays: deque[float] = deque(maxlen=_DELAY_SAMPLES)
        """Seconds from the packet's arrival in the kernel to its leaving, for the newest packets."""
        self.send_errors = 0
        self._pool = pool
        self._loop = loop
        self._ring = ring
        a = pool.bind()
        try:
            b = pool.bind()
        except NoPorts:
            _close(a, pool)
            raise
        self._bound: dict[Leg, BoundPair] = {"A": a, "B": b}
        far: dict[Leg, Leg] = {"A": "B", "B": "A"}
        for leg, pair in self._bound.items():
            out = self._bound[far[leg]]
            loop.add_reader(pair.rtp, self._forward, leg, RTP, pair.rtp, out.rtp)
            loop.add_reader(pair.rtcp, self._forward, leg, RTCP, pair.rtcp, out.rtcp)

    def ports(self, leg: Leg) -> tuple[int, int]:
        """(RTP, RTCP) ports that the sidecar bound on a leg."""
        port = self._bound[leg].port
        return port, port + 1

    def _forward(self, leg: Leg, component: Component, sock: socket.socket, out: socket.socket) -> None:
        try:
            data, ancillary, _, addr = sock.recvmsg(_LARGEST, _ANCILLARY)
        except (BlockingIOError, InterruptedError, ConnectionRefusedError):
            return
        source: Addr = (addr[0], addr[1])
        destination = self.relay.receive(leg, component, data, source)
        if destination is None:
            return
        try:
            out.sendto(data, destination)
        except OSError:
            self.send_errors += 1
        waited = _kernel_delay(ancillary)
        self.delays.append(waited)
        if self._ring is not None and component == 0:
            self._ring.offer(leg, data, Mono(mono() - waited))

    def close(self) -> None:
        """Stop forwarding and give the ports back."""
        for pair in self._bound.values():
            self._loop.remove_reader(pair.rtp)
            self._loop.remove_reader(pair.rtcp)
            _close(pair, self._pool)
        self._bound = {}


def _close(pair: BoundPair, pool: PortPool) -> None:
    pair.rtp.close()
    pair.rtcp.close()
    pool.release(pair.port)


def _kernel_delay(ancillary: list[tuple[int, int, bytes]]) -> float:
    """Seconds since the kernel took the packet; 0 when it did not say, or when the wall clock was set in between."""
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack_from(value)
            waited = time.time() - (seconds + nanoseconds * 1e-9)
            return waited if 0.0 <= waited < 1.0 else 0.0
    return 0.0
