"""Places to send to: which ones to try first, and the way of a response that lost its connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from sidecar.clocks import Addr, Mono
from sidecar.sip.fields import Via
from sidecar.sip.flow import Flow
from sidecar.sip.routing import default_port
from sidecar.sip.uri import bracketed

_LONGEST: Final = 64
"""Characters of an IP literal with its zone."""


@dataclass(frozen=True, slots=True)
class Target:
    """One place to try. `host` is the domain that was asked for: a certificate must speak for it, whatever SRV made of it (RFC 5922 4)."""

    transport: str
    host: str
    addr: str
    port: int

    @property
    def remote(self) -> Addr:
        """The address as a flow has it."""
        return self.addr, self.port

    def __str__(self) -> str:
        return f"{self.transport}:{bracketed(self.addr)}:{self.port}"


def living_first(targets: Sequence[Target], dead: Mapping[Target, Mono], now: Mono) -> tuple[Target, ...]:
    """The same targets, those that are to be avoided at `now` behind the others: if all are dead, one may have come back."""
    return tuple(sorted(targets, key=lambda target: dead.get(target, now) > now))


def way_back_anew(via: Via, flow: Flow) -> Flow | None:
    """The flow of a response whose connection is gone: the source address of its request at the port of sent-by (18.2.2), same transport.

    None when neither `received` nor the host is an address; `stamp_via` sees to it that one is.
    """
    host = literal_of(via.received or via.host)
    return None if host is None else replace(flow, remote=(host, via.port or default_port(flow.transport)))


def literal_of(host: str) -> str | None:
    """An IP address in its shortest spelling; None for a name."""
    return _literal_of(host) if len(host) <= _LONGEST else None


@lru_cache(maxsize=4096)
def _literal_of(host: str) -> str | None:
    try:
        return str(ip_address(host))
    except ValueError:
        return None
