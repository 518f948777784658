"""What the engine is told by the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

from sidecar.b2bua.allowance import Allowance
from sidecar.b2bua.routes import Route
from sidecar.b2bua.valve import Limits
from sidecar.clocks import Addr
from sidecar.identity.classify import Network
from sidecar.identity.digest import DigestServer
from sidecar.sip.timing import Timing


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that the shell listens on, and the address under which peers reach it."""

    local: Addr
    advertised: Addr
    transport: str = "udp"
    inside: tuple[tuple[Network, Addr], ...] = ()
    """Networks whose peers reach it under another address, as those on this side of a NAT do; the first that holds a peer counts."""

    def towards(self, host: str) -> Addr:
        """The address under which the peer at `host`, an IP literal, reaches us."""
        if self.inside:
            peer = ip_address(host)
            for network, addr in self.inside:
                if peer in network:
                    return addr
        return self.advertised


@dataclass(frozen=True, slots=True)
class Settings:
    """What the engine must know; all of it may be replaced while calls live."""

    listeners: tuple[Listener, ...]
    routes: tuple[Route, ...]
    trusted: tuple[Network, ...]
    digest: DigestServer | None = None
    evaluator_networks: tuple[Network, ...] = ()
    """Calls from here are simulations, where the route says `auto`."""
    evaluator_users: frozenset[str] = frozenset()
    """So are those of who authenticated as one of these."""
    allowance: Allowance = field(default_factory=Allowance)
    """Of each source that is not trusted."""
    limits: Limits = field(default_factory=Limits)
    ring_limit: float = 200.0
    """Seconds without a further provisional response; RFC 3261 16.6 asks for more than 180."""
    largest_datagram: int = 1300
    """Octets of a request that still goes by UDP where the path's MTU is not known (RFC 3261 18.1.1)."""
    min_se: int = 90
    """Seconds: the shortest session interval that is taken (RFC 4028 section 5 allows none below 90)."""
    session_interval: int | None = None
    """Seconds: the session interval that we ask for on our own; None: only what the parties ask for."""
    relayed_apart: bool = False
    """Media is relayed outside of this process, so ports are asked for with each description (`AskRelay`)."""
    traced: bool = False
    """The calls' traces go to a collector, so the agent's leg is told the span that its own belong under (W3C Trace Context)."""
    timing: Timing = field(default_factory=Timing)
