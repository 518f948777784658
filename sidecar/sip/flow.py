"""Where a message came from or goes to."""

from __future__ import annotations

from dataclasses import dataclass, field

from sidecar.clocks import Addr


@dataclass(frozen=True, slots=True)
class Flow:
    """One pair of endpoints on one transport: `udp`, `tcp`, `tls`, `ws` or `wss`. Hosts are IP literals without brackets."""

    transport: str
    local: Addr
    remote: Addr
    peer: str = field(default="", compare=False)
    """The domain that a TLS server must prove to be if it is dialled; empty: its address."""
    anew: Addr | None = field(default=None, compare=False)
    """Where to connect once the connection is gone: a peer that dialled us does not listen at `remote`. None: at `remote`."""

    @property
    def reliable(self) -> bool:
        """Whether the transport itself delivers or fails, so that the transaction timers A, D, E, G, I, J and K need not."""
        return self.transport != "udp"

    @property
    def is_one_way(self) -> bool:
        """Only the peer can connect, whatever its Contact says (RFC 7118 5): all that is for it goes by the connection that it made."""
        return self.transport in ("ws", "wss")
