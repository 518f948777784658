"""From the configuration as it was read to what the engine goes by."""

from __future__ import annotations

import secrets
from ipaddress import ip_network

from sidecar.b2bua.allowance import Allowance
from sidecar.b2bua.engine import Listener, Settings
from sidecar.b2bua.routes import Route
from sidecar.b2bua.valve import Limits
from sidecar.config import Route as RouteConfig
from sidecar.config import SidecarConfig, revealed
from sidecar.identity.digest import Credentials, DigestServer
from sidecar.identity.inbound import Policy
from sidecar.identity.presets import Preset
from sidecar.sip.uri import SipUri


def engine_settings(config: SidecarConfig, listeners: tuple[Listener, ...]) -> Settings:
    """What the engine needs of the configuration."""
    digest = None
    if config.callers.digest is not None:
        users = {name: revealed(user.password) or "" for name, user in config.callers.digest.users.items()}
        digest = DigestServer(config.callers.digest.realm, users, secrets.token_bytes(32))
    return Settings(
        listeners=listeners,
        routes=tuple(route_of(route, config.own_preset(route.platform)) for route in config.routes),
        trusted=tuple(ip_network(network, strict=False) for network in config.callers.trusted),
        digest=digest,
        allowance=Allowance(**config.callers.strangers.model_dump()),
        evaluator_networks=tuple(ip_network(network, strict=False) for network in config.evaluators.networks),
        evaluator_users=frozenset(config.evaluators.digest_users),
        relayed_apart=config.media.engine == "rtpengine",
        traced=config.otlp.endpoint is not None,
        limits=Limits(calls=config.limits.calls, lag_s=config.limits.lag_ms / 1000),
        largest_datagram=config.sip.datagram,
        min_se=config.session_timer.min_s,
        session_interval=config.session_timer.interval_s,
    )


def route_of(route: RouteConfig, own_preset: Preset | None) -> Route:
    """A route of the configuration as the engine goes by it."""
    return Route(
        name=route.name,
        target=SipUri.parse(route.target),
        direction=route.direction,
        user=route.match.user,
        host=route.match.host,
        source=ip_network(route.match.source, strict=False) if route.match.source else None,
        headers=dict(route.match.header or {}),
        credentials=Credentials(route.username, revealed(route.password) or "") if route.username is not None else None,
        platform=route.platform,
        own_preset=own_preset,
        simulation=route.simulation,
        policy=Policy(route.identity.claim, frozenset(route.identity.reject)),
        allow=tuple(route.allow),
        redirects=tuple(route.redirects),
        ping=route.ping,
        refer=route.refer,
        srtp=route.srtp,
        wire_only=None if route.wire_only == "auto" else route.wire_only,
    )
