"""The dialling plan: which requests may go where. First match wins; what matches nothing is not dialled."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from sidecar.identity.classify import Network, Setting, within
from sidecar.identity.digest import Credentials
from sidecar.identity.inbound import Policy
from sidecar.identity.presets import PRESETS, Preset
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
    own_preset: Preset | None = None
    """How the identity travels to `platform`, where the configuration defines it; None: as the shipped preset of that name says."""
    simulation: Setting = "auto"
    policy: Policy = field(default_factory=Policy)
    """What becomes of a call whose identity is not as it should be."""
    allow: tuple[str, ...] = ()
    """Hosts that an outbound route may dial as recipients; no other is ever dialled through it."""
    redirects: tuple[str, ...] = ()
    """Hosts to which a redirect of the edge's is followed; any other goes back to the caller."""
    ping: float | None = None
    """Seconds between two OPTIONS to each target; None: none."""
    wire_only: bool | None = None
    """Whether control may report a call by itself when its agent does not; None: control's own setting decides."""

    srtp: Literal["pass", "plain", "srtp", "dtls"] = "pass"
    """Of the agent's leg; see `sidecar.b2bua.securing`."""
    refer: Literal["relay", "refuse"] = "relay"
    """Whether the parties of a call may transfer each other (RFC 3515)."""

    @property
    def preset(self) -> Preset:
        """How the identity travels to this route's platform."""
        return self.own_preset or PRESETS[self.platform]

    def matches(self, request: Request, uri: SipUri, source_host: str) -> bool:
        """Whether every condition of this route holds for a request from `source_host`."""
        return (
            (self.user is None or fits(uri.user or "", self.user))
            and (self.host is None or fits(uri.host.lower(), self.host.lower()))
            and (self.source is None or within(source_host, self.source))
            and all(fits(request.headers.get(name) or "", pattern) for name, pattern in self.headers.items())
        )

    def permits(self, uri: SipUri) -> bool:
        """Whether this route may dial `uri`. An inbound route dials its own target alone, whatever the caller asked for."""
        if self.direction == "inbound":
            return True
        return _all_listed(uri, self.allow)

    def follows(self, uri: SipUri) -> bool:
        """Whether a redirect to `uri` is followed."""
        return _all_listed(uri, self.redirects)


def _all_listed(uri: SipUri, patterns: Sequence[str]) -> bool:
    # 16.6, 19.1.1: maddr overrides the host for whoever routes the request next.
    hosts = [host for host in (uri.host, uri.param("maddr")) if host]
    return all(any(fits(host.lower().strip("[]"), pattern.lower().strip("[]")) for pattern in patterns) for host in hosts)


def fits(text: str, pattern: str) -> bool:
    """Whether `text` is what `pattern` describes: `*` stands for any run of characters, everything else for itself."""
    return _compiled(pattern).fullmatch(text) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def choose(routes: Sequence[Route], request: Request, source_host: str) -> Route | None:
    """The first route that matches, or None. Raises MalformedMessage when the Request-URI is no SIP URI."""
    uri = SipUri.parse(request.uri)
    return next((route for route in routes if route.matches(request, uri, source_host)), None)


def within_any(host: str, networks: Sequence[Network]) -> bool:
    """Whether the IP literal lies in one of the networks."""
    return any(within(host, network) for network in networks)
