"""The copy of one party's media: a port pair that rtpengine sends to, whose packets go to the ring as if they had been relayed here."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

from sidecar.b2bua.effects import Leg
from sidecar.clocks import Addr, Mono
from sidecar.media.tap import Ring
from sidecar.net.rtp import ANCILLARY, LARGEST, PortPool, kernel_delay

_LAST = 512
"""Packets of one socket that are still taken at the end of a call."""


class Copy:
    """Sockets that only take what comes from the ports that rtpengine said it would send from."""

    def __init__(
        self,
        pool: PortPool,
        host: str,
        leg: Leg,
        ring: Ring,
        loop: asyncio.AbstractEventLoop,
        wired: Callable[[Leg, int, bytes, Mono], None],
    ) -> None:
        """`wired` gets each packet too, with 0 for RTP or 1 for RTCP. Raises NoPorts."""
        self._wired = wired
        self._pool = pool
        self._leg = leg
        self._ring = ring
        self._loop = loop
        self._bound = pool.bind(host)
        self.packets = 0
        """That came on the RTP port."""
        self.source: Addr | None = None
        self._readers = [self._reader(sock, number) for number, sock in enumerate((self._bound.rtp, self._bound.rtcp))]
        for sock, reader in zip((self._bound.rtp, self._bound.rtcp), self._readers, strict=True):
            pool.readers.add(loop, sock, reader)
        self.at: Addr = (host, self._bound.port)

    def _reader(self, sock: socket.socket, number: int) -> Callable[[], bool]:
        recvmsg, offer, leg = sock.recvmsg, self._ring.offer, self._leg

        def read() -> bool:
            try:
                data, ancillary, _, source = recvmsg(LARGEST, ANCILLARY)
            except (BlockingIOError, InterruptedError, ConnectionRefusedError):
                return False
            if self.source is not None and source[:2] == (self.source[0], self.source[1] + number):
                self.packets += number == 0
                arrival = Mono(time.monotonic() - kernel_delay(ancillary))
                offer(leg, data, arrival)
                self._wired(leg, number, data, arrival)
            return True

        return read

    def close(self) -> None:
        """Take what has arrived, then give the ports back."""
        for read in self._readers:
            for _ in range(_LAST):
                if not read():
                    break
        for sock in (self._bound.rtp, self._bound.rtcp):
            self._pool.readers.remove(self._loop, sock)
            sock.close()
        self._pool.release(self._bound.port)
