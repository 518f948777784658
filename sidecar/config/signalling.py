"""Where the sidecar listens, whom it listens to, and how much it takes on."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from control.contract import settings
from sidecar.clocks import Addr
from sidecar.config.values import Line, Network, Section, parse_listen
from sidecar.sip.endpoint import SECURE, Endpoint


class Tls(Section):
    """Certificates of `tls://` listeners and targets; PEM files."""

    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    verify: bool = True
    clients: Literal["ignored", "optional", "required"] = "ignored"
    wildcards: bool = False

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.certificate is None and (self.key is not None or self.clients != "ignored"):
            raise ValueError(f"{'key' if self.key is not None else 'clients'} needs certificate")
        return self


class Inside(Section):
    """Peers on our side of a NAT, who are not told `sip.advertise` but another host."""

    networks: list[Network] = Field(min_length=1)
    advertise: str = Field(min_length=1)


class Sip(Section):
    """Where the sidecar listens, and under which host it is reached."""

    listen: list[str] = Field(default=["udp://127.0.0.1:5060", "tcp://127.0.0.1:5060"], min_length=1)
    advertise: str | list[str] | None = None
    advertise_port: int | None = Field(default=None, ge=1, le=65535)
    inside: Inside | None = None
    datagram: int = Field(default=1300, ge=500, le=65000)
    nameservers: list[str] | None = Field(default=None, min_length=1)
    tls: Tls = Tls()
    origins: list[str] = Field(default_factory=list)
    """Of web pages that may connect to `ws://` and `wss://` listeners, besides the listener's own."""

    @field_validator("nameservers")
    @classmethod
    def _nameservers(cls, value: list[str] | None) -> list[str] | None:
        for entry in value or ():
            parse_listen(entry)
        return value

    @property
    def servers(self) -> list[Addr] | None:
        """The name servers to ask; None: the system's."""
        return None if self.nameservers is None else [parse_listen(entry) for entry in self.nameservers]

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: list[str]) -> list[str]:
        for entry in value:
            Endpoint.parse(entry)
        return value

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where to listen."""
        return [Endpoint.parse(entry) for entry in self.listen]

    def advertised(self, host: str) -> str:
        """The host to write into Via, Contact and SDP for a listener at `host`: the first to advertise that is a name or of its family."""
        given = [self.advertise] if isinstance(self.advertise, str) else self.advertise or []
        return next((own for own in given if _family(own) in (None, _family(host))), host)

    def shown(self, local: Addr) -> Addr:
        """What peers in general are told of the listener at `local`."""
        return self.advertised(local[0]), self.advertise_port or local[1]

    def shown_inside(self, local: Addr) -> list[tuple[str, Addr]]:
        """Networks whose peers are told something else: ours, and this machine itself, which no NAT and no redirect stands before."""
        told: list[tuple[str, Addr]] = []
        if self.inside is not None:
            told = [(network, (self.inside.advertise, self.advertise_port or local[1])) for network in self.inside.networks]
        own = self.advertised(local[0])
        if self.advertise_port is not None and _family(own) is not None:
            # A peer at our own address is on this machine.
            told.append((own, (own, local[1])))
        host = ipaddress.ip_address(local[0])
        if self.shown(local) != local and (host.is_unspecified or host.is_loopback):
            network, loopback = ("127.0.0.0/8", "127.0.0.1") if host.version == 4 else ("::1/128", "::1")
            told.append((network, (loopback if host.is_unspecified else local[0], local[1])))
        return told

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        for endpoint in self.endpoints:
            host = endpoint.addr[0]
            if ipaddress.ip_address(host).is_unspecified and self.advertised(host) == host:
                raise ValueError(f"listening on {host} needs `advertise`: the host under which peers reach this sidecar in its family")
            if endpoint.transport in SECURE and self.tls.certificate is None:
                raise ValueError(f"{endpoint} needs sip.tls.certificate, and sip.tls.key unless that file holds it")
        return self


def _family(host: str) -> int | None:
    """4 or 6; None for a name."""
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None


class DigestUser(Section):
    """One caller's password."""

    password: SecretStr | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        self.password = settings.secret(self.password, self.password_file, "password")
        if self.password is None:
            raise ValueError("needs password or password_file")
        return self


class CallerDigest(Section):
    """Challenge for callers that are not trusted."""

    realm: Line
    users: dict[Line, DigestUser] = Field(min_length=1)


class Strangers(Section):
    """What one source outside `trusted` may send that comes to nothing, before it is not read any more."""

    burst: int = Field(default=100, ge=10, le=1_000_000)
    per_s: float = Field(default=5.0, gt=0, le=100_000)


class Callers(Section):
    """Whom the sidecar listens to. A source outside `trusted` is challenged when `digest` is set, refused otherwise."""

    trusted: list[Network] = Field(default=["127.0.0.0/8", "::1/128"])
    digest: CallerDigest | None = None
    strangers: Strangers = Strangers()


class Evaluators(Section):
    """Who places simulated calls, besides whoever sends a correlation header. Counts on routes with `simulation: auto`."""

    networks: list[Network] = Field(default_factory=list)
    digest_users: list[str] = Field(default_factory=list)


class SessionTimer(Section):
    """RFC 4028: how often a session is to be refreshed."""

    interval_s: int | None = Field(default=None, ge=90, le=86400)
    """What the sidecar asks for on its own; null: only what the parties ask for."""
    min_s: int = Field(default=90, ge=90, le=86400)
    """The shortest interval that a caller may ask for."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.interval_s is not None and self.interval_s < self.min_s:
            raise ValueError(f"interval_s {self.interval_s} is below min_s {self.min_s}; raise the first or lower the second")
        return self


class LimitsSection(Section):
    """What the sidecar takes on; beyond that new calls get 503 with Retry-After, live ones go on."""

    calls: int = Field(default=2000, ge=1)
    lag_ms: float = Field(default=200, ge=20, le=5000)
