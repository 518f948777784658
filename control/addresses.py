"""Which hosts control may be made to call: a configured URL must not turn into a request to the inside of the network it runs in."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult

_INSIDE_NAMES = (".localhost", ".local", ".internal", ".cluster.local", ".svc")
"""Endings of names that mean this machine, this network or this cluster (RFC 6761, RFC 6762, cloud metadata, Kubernetes)."""
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"})
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")))
"""Metadata services outside the link-local networks: Amazon's and Google's of IPv6, Alibaba's, Azure's, Oracle's."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def inside(host: str) -> str | None:
    """Why `host` (a name or an IP literal, without brackets) is not a public one, or None. Names are judged by themselves, not resolved."""
    name = host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return _inside_name(name)
    return _inside_address(address)


def _inside_name(name: str) -> str | None:
    if not name:
        return "has no host"
    if name == "localhost" or name.endswith(_INSIDE_NAMES):
        return f"{name} is a name of this machine or network"
    if all(part.isdigit() or part.startswith("0x") for part in name.split(".")):  # 2130706433, 0x7f.1: what some resolvers take for IPv4
        return f"{name} is an address in a form that hides what it is"
    return None if "." in name else f"{name} is a name of this network"


def _inside_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str | None:
    if isinstance(address, ipaddress.IPv6Address):
        carried = address.ipv4_mapped or address.sixtofour
        if carried is None and address in _NAT64:
            carried = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if carried is not None:
            return _inside_address(carried)
    if address.is_link_local:
        return f"{address} is link-local (cloud metadata services live there)"
    if address.is_loopback:
        return f"{address} is this machine"
    if address.is_multicast or not address.is_global:
        return f"{address} is not a public address"
    return None


def forbidden(host: str) -> str | None:
    """Why nothing may ever be sent to `host`, whatever is configured, or None: services that hand out a machine's credentials."""
    name = host.lower().strip("[]").rstrip(".")
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return f"{name} is a metadata service" if name in _METADATA_NAMES else None
    carried = getattr(address, "ipv4_mapped", None) or address
    if carried.is_link_local or carried in _METADATA:
        return f"{address} is link-local or a metadata service"
    return None


def inside_url(url: str) -> str | None:
    """Why `url` is not one of a public host, or None."""
    return inside(urlsplit(url).hostname or "")


class PublicOnly(AbstractResolver):
    """A resolver that gives public addresses only, so that a name cannot be pointed inside after it was checked.

    It raises OSError when nothing is left. IP literals never reach a resolver: check those with `inside_url`.
    """

    def __init__(self, resolver: AbstractResolver) -> None:
        self._resolver = resolver

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """The public ones of a name's addresses."""
        found = await self._resolver.resolve(host, port, family)
        public = [each for each in found if inside(each["host"]) is None]
        if not public:
            raise OSError(f"{host} has no public address")
        return public

    async def close(self) -> None:
        """Close the resolver underneath."""
        await self._resolver.close()


class NoMetadata(PublicOnly):
    """A resolver for targets that may be private: it gives all addresses but those to which nothing may ever be sent."""

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """The addresses of a name that may be dialled."""
        if (why := forbidden(host)) is not None:
            raise OSError(why)
        allowed = [each for each in await self._resolver.resolve(host, port, family) if forbidden(each["host"]) is None]
        if not allowed:
            raise OSError(f"{host} has no address that may be dialled")
        return allowed
