"""Where a message came from or goes to."""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.clocks import Addr


@dataclass(frozen=True, slots=True)
class Flow:
    """One pair of endpoints on one transport: `udp`, later `tcp` and `tls`. Hosts are IP literals without brackets."""

    transport: str
    local: Addr
    remote: Addr

    @property
    def reliable(self) -> bool:
        """Whether the transport itself delivers or fails, so that the transaction timers A, D, E, G, I, J and K need not."""
        return self.transport != "udp"
