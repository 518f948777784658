"""Where we listen: a transport and an address, and which of several a peer is reached from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final

from sidecar.clocks import Addr
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.uri import bracketed, parse_host_port

TRANSPORTS: Final = ("udp", "tcp", "tls")
"""By which we listen and dial."""
LISTENED: Final = (*TRANSPORTS, "ws", "wss")
"""By which we listen: a WebSocket is only ever opened by a client (RFC 7118)."""
SECURE: Final = ("tls", "wss")
_PORTS: Final = {"tls": 5061, "ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address on one transport. The host is an IP literal without brackets, or 0.0.0.0 or :: for every address of its family."""

    transport: str
    addr: Addr

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """`tls://[::1]:5061` and the like, port 0 for any. ValueError says what is wrong in one line."""
        transport, parted, rest = text.partition("://")
        if not parted or transport not in LISTENED:
            raise ValueError(f"{text!r} must begin with udp://, tcp://, tls://, ws:// or wss://")
        try:
            host, port = parse_host_port(rest)
            ip_address(host)
        except (MalformedMessage, ValueError) as error:
            raise ValueError(
                f"{text!r} needs an IP address and a port, as in {transport}://127.0.0.1:5060 or {transport}://[::1]:5060"
            ) from error
        if port is None:
            raise ValueError(f"{text!r} needs a port, as in {transport}://{bracketed(host)}:{_PORTS.get(transport, 5060)}")
        return cls(transport, (host, port))

    @property
    def family(self) -> str:
        """The address record that leads here: `A` or `AAAA`."""
        return family_of(self.addr[0])

    def __str__(self) -> str:
        return f"{self.transport}://{bracketed(self.addr[0])}:{self.addr[1]}"


@lru_cache(maxsize=4096)
def family_of(host: str) -> str:
    """`A` or `AAAA` for an IP literal without brackets. ValueError for a name."""
    return "AAAA" if isinstance(ip_address(host), IPv6Address) else "A"


def endpoint_for(endpoints: Iterable[Endpoint], transport: str, host: str) -> Endpoint | None:
    """From where `host` (an IP literal) is sent to: an endpoint of its transport and family, else, on a stream, one of its family.

    A stream's answers come back on the connection itself, so that any of our addresses may stand in its Via. None when nothing fits.
    """
    family = family_of(host)
    fitting = [endpoint for endpoint in endpoints if endpoint.family == family]
    same = next((endpoint for endpoint in fitting if endpoint.transport == transport), None)
    return same if same is not None or transport == "udp" else next(iter(fitting), None)
