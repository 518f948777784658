"""One leg's RTP socket where its keys come of a DTLS handshake: what there is neither RTP nor RTCP, and when which datagram is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from sidecar.clocks import Addr
from sidecar.net.dtls import Association, certificate, checked
from sidecar.sip.dtls import Dtls
from sidecar.sip.sdes import Keys

log = structlog.get_logger()

_MOST_SOURCES: Final = 16
"""Addresses of a party that checks connectivity: its candidates, as they look from here."""


class Doorway:
    """From the party's description to its keys. A party that checks connectivity is believed where its checks come from, any other where
    `admits` says, as its media would be."""

    def __init__(
        self,
        dtls: Dtls,
        loop: asyncio.AbstractEventLoop,
        send: Callable[[bytes, Addr], None],
        admits: Callable[[Addr], bool],
        keyed: Callable[[Keys], None],
        moved: Callable[[Addr], None],
    ) -> None:
        """`keyed` is told of the keys, `moved` of where the party wants to be reached from now on."""
        self.dtls = dtls
        self._loop, self._send, self._admits, self._keyed, self._moved = loop, send, admits, keyed, moved
        self._association = Association(certificate(), dtls)
        self._sources: dict[Addr, None] = {}
        self.nominated: Addr | None = None
        self._peer: Addr | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._told = False
        self.refused = 0
        """Datagrams from strange sources, or with checks that prove nothing."""

    @property
    def state(self) -> str:
        """In words."""
        if self._association.keys is not None:
            return f"DTLS-SRTP, {self._association.keys.suite}"
        return self._association.failed or ("handshake" if self._peer is not None else "waits for the party")

    def renewed(self, dtls: Dtls) -> bool:
        """The party described itself again: whether this association goes on, with the ICE credentials that it has now (RFC 8842 5.4)."""
        if (dtls.fingerprints, dtls.client) != (self.dtls.fingerprints, self.dtls.client):
            return False
        if dtls.ice != self.dtls.ice:
            self._sources.clear()
        self.dtls = dtls
        return True

    def start(self, destination: Addr | None) -> None:
        """Begin if that is ours to do, and it is known where the party is."""
        known = self.nominated if self.dtls.ice is not None else destination
        if self.dtls.client and self._peer is None and known is not None:
            self._peer = known
            self._out(self._association.start())

    def receive(self, data: bytes, source: Addr) -> None:
        """Take what came and is not media."""
        if data and data[0] < 4 and self.dtls.ice is not None:
            self._check(data, source)
        elif data and 20 <= data[0] <= 63 and (source in self._sources or (self.dtls.ice is None and self._admits(source))):
            self._peer = source
            self._out(self._association.receive(data))
        else:
            self.refused += 1

    def close(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self, data: bytes, source: Addr) -> None:
        found = checked(data, source, self.dtls.ice) if self.dtls.ice is not None else None
        if found is None or (source not in self._sources and len(self._sources) >= _MOST_SOURCES):
            self.refused += 1
            return
        self._sources[source] = None
        self._send(found.answer, source)
        if source != self.nominated and (found.nominates or self.nominated is None):
            self.nominated = source
            self._moved(source)
            self.start(source)

    def _out(self, datagrams: Iterable[bytes]) -> None:
        if self._peer is not None:
            for datagram in datagrams:
                self._send(datagram, self._peer)
        association = self._association
        if association.is_over and not self._told:
            self._told = True
            if association.keys is not None:
                self._keyed(association.keys)
            else:
                log.warning("no keys for media", cause=association.failed)
        self.close()
        if (timeout := association.timeout()) is not None:
            self._timer = self._loop.call_later(max(timeout, 0.01), self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._out(self._association.on_time())
