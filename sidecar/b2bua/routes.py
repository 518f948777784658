"""The dialling plan: which requests may go where. First match wins; what matches nothing is not dialled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from sidecar.identity.classify import Network, Setting, within
from sidecar.identity.digest import Credentials
from sidecar.sip.message import Request
from sidecar.sip.uri import SipUri


@dataclass(frozen=True, slots=True)
class Route:
    """One target and what selects it. Patterns are literal but for `*`; a condition that is None always holds."""

    name: str
    target: SipUri
    direction: Literal["inbound", "outbound"] = "inbound"
    user: str | None = None
    host: str | None = None
    source: Network | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    credentials: Credentials | None = None
    platform: str = "generic"
    simulation: Setting = "auto"

    def matches(self, request: Request, uri: SipUri, source_host: str) -> bool:
        """Whether every condition of this route holds for a request from `source_host`."""
        return (
            (self.user is None or fnmatchcase(uri.user or "", self.user))
            and (self.host is None or fnmatchcase(uri.host.lower(), self.host.lower()))
            and (self.source is None or within(source_host, self.source))
            and all(fnmatchcase(request.headers.get(name) or "", pattern) for name, pattern in self.headers.items())
        )


def choose(routes: Sequence[Route], request: Request, source_host: str) -> Route | None:
    """The first route that matches, or None. Raises MalformedMessage when the Request-URI is no SIP URI."""
    uri = SipUri.parse(request.uri)
    return next((route for route in routes if route.matches(request, uri, source_host)), None)


def within_any(host: str, networks: Sequence[Network]) -> bool:
    """Whether the IP literal lies in one of the networks."""
    return any(within(host, network) for network in networks)
