"""The sidecar's configuration: a YAML file, then `TRUNKSIDE_…` environment variables (nested with `__`), secrets also from `*_file` keys.

Everything is checked before a socket is opened. An unknown key is fatal: what is silently ignored is a setting that someone believes in.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from control.contract import settings
from control.contract.call import RecordingFormat
from control.contract.routing import IdentityRules, RouteSent, Snapshot
from sidecar.analysis import extra
from sidecar.clocks import Addr
from sidecar.identity.findings import FINDINGS
from sidecar.identity.presets import PRESETS, Preset, preset_from_values
from sidecar.net import hep, otlp
from sidecar.net.rtpengine.client import parse_server
from sidecar.net.rtpengine.commands import Interfaces
from sidecar.sip.endpoint import SECURE, TRANSPORTS, Endpoint
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.uri import SipUri


class Section(BaseModel):
    """A mapping in the file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


def _network(value: str) -> str:
    ipaddress.ip_network(value, strict=False)
    return value


def _sip_uri(value: str) -> str:
    try:
        uri = SipUri.parse(value)
    except MalformedMessage as error:
        raise ValueError(f"{value!r} is not a SIP URI ({error.detail}); write sip:user@host:port") from error
    transport = uri.param("transport")
    if transport is not None and (transport.lower() not in TRANSPORTS or (uri.secure and transport.lower() == "udp")):
        raise ValueError(f"{value!r}: {uri.scheme}: over {transport or 'nothing'} is not spoken here; write ;transport=udp, tcp or tls")
    return value


def _http_url(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"{value!r} is not an http:// or https:// URL")
    return value.rstrip("/")


def parse_listen(value: str) -> Addr:
    """`127.0.0.1:9090` as an address. Raises ValueError."""
    url = urlsplit(value if "//" in value else f"//{value}")
    if url.hostname is None or url.port is None:
        raise ValueError(f"{value!r} needs a host and a port, as in 127.0.0.1:9090")
    ipaddress.ip_address(url.hostname)
    return url.hostname, url.port


_RECIPIENT_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\]")


def _recipient_host(value: str) -> str:
    if not _RECIPIENT_HOST.fullmatch(value):
        raise ValueError(f"{value!r} is no host that may be dialled; write a name, *.domain for all names below it, or an address")
    return value


def _finding(value: str) -> str:
    if value not in FINDINGS:
        raise ValueError(f"no finding {value!r}; there are: {', '.join(sorted(FINDINGS))}")
    return value


def _collector(value: str) -> str:
    otlp.traces_url(value)
    return value


def _rtpengine(value: str) -> str:
    parse_server(value)
    return value


def _capture_server(value: str) -> str:
    hep.Server.parse(value)
    return value


def _one_line(value: str) -> str:
    if any(sign < " " or sign == "\x7f" for sign in value):
        raise ValueError(f"{value!r} holds a control character; it would break the header that it goes into")
    return value


Line = Annotated[str, AfterValidator(_one_line)]
Network = Annotated[str, AfterValidator(_network)]
RecipientHost = Annotated[str, AfterValidator(_recipient_host)]
FindingName = Annotated[str, AfterValidator(_finding)]
TargetUri = Annotated[str, AfterValidator(_sip_uri)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]


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
    origins: list[str] = []
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

    trusted: list[Network] = ["127.0.0.0/8", "::1/128"]
    digest: CallerDigest | None = None
    strangers: Strangers = Strangers()


class Evaluators(Section):
    """Who places simulated calls, besides whoever sends a correlation header. Counts on routes with `simulation: auto`."""

    networks: list[Network] = []
    digest_users: list[str] = []


class Match(Section):
    """What selects a route; every key that is given must fit. `*` stands for any run of characters."""

    user: str | None = None
    host: str | None = None
    source: Network | None = None
    header: dict[str, str] | None = None


class IdentityPolicy(Section):
    """What to do when a call's identity is not as it should be. Whatever is found is told in the verdict."""

    claim: Literal["overwrite", "reject", "keep"] = "overwrite"
    reject: list[FindingName] = []


class Route(Section):
    """One target that may be dialled. First match wins; nothing else is ever dialled."""

    name: Line = Field(min_length=1)
    match: Match = Match()
    target: TargetUri
    direction: Literal["inbound", "outbound"] = "inbound"
    allow: list[RecipientHost] = []
    redirects: list[RecipientHost] = []
    ping: float | None = Field(default=None, ge=5, le=3600)
    username: Line | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    platform: str = "generic"
    simulation: Literal["auto", "always", "never"] = "auto"
    record: bool | RecordingFormat | None = None
    capture: bool | None = None
    detector: Literal["default", "accurate"] | None = None
    srtp: Literal["pass", "plain", "srtp", "dtls"] = "pass"
    identity: IdentityPolicy = IdentityPolicy()
    refer: Literal["relay", "refuse"] = "relay"
    """Whether the parties of a call may transfer each other."""
    wire_only: bool | Literal["auto"] = "auto"
    """Whether control may write the report of a simulation whose agent sends none; `auto`: as control's own `wire_only.enabled` says."""

    @property
    def target_host(self) -> str:
        """The host of the target."""
        return SipUri.parse(self.target).host

    @model_validator(mode="after")
    def _recipients(self) -> Self:
        if self.direction == "outbound" and not self.allow:
            raise ValueError("an outbound route needs allow: the hosts that may be dialled, as in [sip.usetuner.ai]")
        if self.direction == "inbound" and self.allow:
            raise ValueError("allow is for outbound routes: an inbound one dials its target alone")
        return self

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        self.password = settings.secret(self.password, self.password_file, "password")
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        return self


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


class RtpengineInterfaces(Section):
    """Names of rtpengine's interfaces."""

    caller: str | None = Field(default=None, min_length=1)
    agent: str | None = Field(default=None, min_length=1)
    copy_: str | None = Field(default=None, min_length=1, alias="copy")

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.caller is None) != (self.agent is None):
            raise ValueError("caller and agent go together")
        return self


class Rtpengine(Section):
    """The pool that relays media instead of this process."""

    servers: list[Annotated[str, AfterValidator(_rtpengine)]] = Field(min_length=1)
    timeout_s: float = Field(default=1.0, ge=0.1, le=10)
    ping_s: float = Field(default=2.0, ge=0.5, le=60)
    interfaces: RtpengineInterfaces = RtpengineInterfaces()

    @field_validator("servers")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if len(set(map(parse_server, value))) < len(value):
            raise ValueError("an instance stands there twice")
        return value

    @property
    def chosen(self) -> Interfaces:
        """The interfaces as the commands name them."""
        return Interfaces(self.interfaces.caller, self.interfaces.agent, self.interfaces.copy_)


class MediaSection(Section):
    """RTP ports (even for RTP, the next odd one for RTCP) and the engine that relays."""

    ports: tuple[int, int] = (30000, 39999)
    engine: Literal["embedded", "rtpengine"] = "embedded"
    rtpengine: Rtpengine | None = None
    record: bool | RecordingFormat = False
    capture: bool = False
    detector: Literal["default", "accurate"] = "default"

    @model_validator(mode="after")
    def _pool(self) -> Self:
        if self.engine == "rtpengine" and self.rtpengine is None:
            raise ValueError("engine rtpengine needs rtpengine: {servers: [udp://HOST:2223]}")
        return self

    @field_validator("ports")
    @classmethod
    def _ports(cls, value: tuple[int, int]) -> tuple[int, int]:
        low, high = value
        if not 1024 <= low < high <= 65535 or high - low < 3:
            raise ValueError(f"[{low}, {high}] must lie within 1024–65535 and hold at least four ports: one call needs two pairs")
        return value


class ControlSection(Section):
    """Where traces go."""

    url: HttpUrl = "http://127.0.0.1:8080"
    token: SecretStr | None = None
    token_file: Path | None = None

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        self.token = settings.secret(self.token, self.token_file, "token")
        return self


class SpoolSection(Section):
    """Where traces wait until control has them."""

    path: Path = Path("var/spool")


class RecordingsSection(Section):
    """Where recordings grow, and wait until control has them."""

    path: Path = Path("var/recordings")
    max_mb: int = Field(default=2048, ge=10)
    days: float = Field(default=7, ge=0)

    @property
    def outgoing(self) -> Path:
        """A folder of our own: control's variable has the same name, and what we delete must not be what it keeps."""
        return self.path / "outgoing"


class AdminSection(Section):
    """The local HTTP port: health, metrics, live calls."""

    listen: str = "127.0.0.1:9090"

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: str) -> str:
        parse_listen(value)
        return value


class FleetSection(Section):
    """What control may change and order here."""

    enabled: bool = True
    routes: Literal["auto", "file"] = "auto"
    verify: list[RecipientHost] = []
    key_file: Path | None = None

    @property
    def follows_control(self) -> bool:
        """Control's routes take the place of the file's."""
        return self.enabled and self.routes == "auto"


class OtlpSection(Section):
    """Where each call's spans go; null: nowhere."""

    endpoint: Annotated[str, AfterValidator(_collector)] | None = None


class HepSection(Section):
    """The capture server that gets a copy of every SIP message; null: none."""

    server: Annotated[str, AfterValidator(_capture_server)] | None = None
    id: int = Field(default=2001, ge=0, lt=2**32)


class Drain(Section):
    """How long live calls may last once the sidecar was told to stop."""

    deadline_s: float = Field(default=30.0, ge=0)
    goodbye_s: float = Field(default=3.0, ge=0)
    """For the answers to our BYEs and the last figures, after the deadline."""
    flush_s: float = Field(default=5.0, ge=0)
    """For bringing what the spool holds to control; what stays is brought at the next start."""


class LimitsSection(Section):
    """What the sidecar takes on; beyond that new calls get 503 with Retry-After, live ones go on."""

    calls: int = Field(default=2000, ge=1)
    lag_ms: float = Field(default=200, ge=20, le=5000)


class SidecarConfig(BaseSettings):
    """The whole file."""

    model_config = SettingsConfigDict(extra="forbid", env_prefix="TRUNKSIDE_", env_nested_delimiter="__")

    name: Line = Field(default="edge-1", min_length=1, max_length=100)
    sip: Sip = Sip()
    callers: Callers = Callers()
    evaluators: Evaluators = Evaluators()
    presets: dict[str, dict[str, Any]] = {}
    routes: list[Route]
    limits: LimitsSection = LimitsSection()
    session_timer: SessionTimer = SessionTimer()
    media: MediaSection = MediaSection()
    control: ControlSection = ControlSection()
    spool: SpoolSection = SpoolSection()
    recordings: RecordingsSection = RecordingsSection()
    admin: AdminSection = AdminSection()
    otlp: OtlpSection = OtlpSection()
    hep: HepSection = HepSection()
    drain: Drain = Drain()
    fleet: FleetSection = FleetSection()

    @field_validator("presets")
    @classmethod
    def _presets(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, values in value.items():
            if name in PRESETS:
                raise ValueError(f"a preset called {name!r} is shipped; give yours another name")
            preset_from_values(name, values)
        return value

    @field_validator("routes")
    @classmethod
    def _routes(cls, value: list[Route], info: ValidationInfo) -> list[Route]:
        names = [route.name for route in value]
        platforms = {*PRESETS, *info.data.get("presets", ())}
        for route in value:
            if names.count(route.name) > 1:
                raise ValueError(f"two routes are called {route.name!r}; each needs its own name")
            if route.platform not in platforms and "presets" in info.data:
                raise ValueError(f"route {route.name}: no carriage preset {route.platform!r}; there are: {', '.join(sorted(platforms))}")
        return value

    @model_validator(mode="after")
    def _secure_targets(self) -> Self:
        """8.1.1.8 of RFC 3261: who dials a sips: URI is to be reached by one."""
        for route in self.routes:
            if route.target[:5].lower() == "sips:" and not any(endpoint.transport == "tls" for endpoint in self.sip.endpoints):
                raise ValueError(f"route {route.name}: a sips: target needs a tls:// address in sip.listen")
        return self

    @model_validator(mode="after")
    def _keys_end_here(self) -> Self:
        """SRTP ends where the keys are, and those are here."""
        for route in self.routes if self.media.engine == "rtpengine" else ():
            if route.srtp != "pass":
                raise ValueError(f"route {route.name}: srtp: {route.srtp} needs media.engine embedded; rtpengine gets no keys from here")
        return self

    @model_validator(mode="after")
    def _somewhere_to_dial(self) -> Self:
        if not self.routes and not self.fleet.follows_control:
            raise ValueError("routes: name at least one: with fleet.enabled and fleet.routes as they are, control sends none")
        return self

    @model_validator(mode="after")
    def _detectors_are_there(self) -> Self:
        why = extra.missing() if self.accurate else None
        if why is not None:
            names = ", ".join(sorted(self.accurate))
            raise ValueError(f"detector: accurate (routes: {names}): {why}; {extra.MEND}, or set detector: default")
        return self

    @model_validator(mode="after")
    def _evaluators_may_call(self) -> Self:
        """Whoever is named as an evaluator and would be refused at the door is a mistake that nobody would find."""
        digest = self.callers.digest
        for network in self.evaluators.networks if digest is None else ():
            if not _contained(network, self.callers.trusted):
                raise ValueError(
                    f"evaluators.networks: calls from {network} would be refused; add it to callers.trusted, or set callers.digest"
                )
        for user in self.evaluators.digest_users:
            if digest is None or user not in digest.users:
                raise ValueError(f"evaluators.digest_users: {user!r} is none of callers.digest.users")
        return self

    @property
    def recorded(self) -> dict[str, RecordingFormat]:
        """The routes whose calls are recorded, and in which form."""
        wanted = {r.name: self.media.record if r.record is None else r.record for r in self.routes}
        return {name: "wav" if form is True else form for name, form in wanted.items() if form is not False}

    @property
    def captured(self) -> frozenset[str]:
        """Names of the routes whose calls' packets are kept."""
        return frozenset(r.name for r in self.routes if (self.media.capture if r.capture is None else r.capture))

    @property
    def accurate(self) -> frozenset[str]:
        """Names of the routes whose calls are measured with the neural detector."""
        return frozenset(r.name for r in self.routes if (r.detector or self.media.detector) == "accurate")

    @property
    def secured(self) -> frozenset[str]:
        """Names of the routes on which SRTP ends at the sidecar."""
        return frozenset(r.name for r in self.routes if r.srtp != "pass")

    def own_preset(self, platform: str) -> Preset | None:
        """The preset of that name that this configuration defines; None for a shipped one."""
        values = self.presets.get(platform)
        return None if values is None else preset_from_values(platform, values)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file; `init_settings` carries the file's content, so it comes last."""
        return env_settings, init_settings


def _contained(network: str, others: Collection[str]) -> bool:
    inner = ipaddress.ip_network(network, strict=False)
    for other in others:
        outer = ipaddress.ip_network(other, strict=False)
        # Two of one family, which the type checker cannot know.
        if inner.version == outer.version and inner.subnet_of(outer):  # type: ignore[arg-type]
            return True
    return False


def revealed(secret: SecretStr | None) -> str | None:
    """The text of a secret, for the one place that needs it."""
    return None if secret is None else secret.get_secret_value()


class _Assembled(SidecarConfig):
    """Made of parts that were read already: neither file nor environment has a say."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given, alone."""
        return (init_settings,)


def with_routes(config: SidecarConfig, snapshot: Snapshot) -> SidecarConfig:
    """`config` with control's routes in place of its own, unless control has none for it; presets and policies besides.

    Raises SettingsError with one line that says what in the snapshot cannot be used.
    """
    parts: dict[str, Any] = {name: getattr(config, name) for name in SidecarConfig.model_fields}
    parts["presets"] = {**config.presets, **snapshot.presets}
    if snapshot.routes:
        parts["routes"] = [_of_snapshot(route, snapshot.policies.identity) for route in snapshot.routes]
    if snapshot.policies.evaluators is not None:
        parts["evaluators"] = snapshot.policies.evaluators.model_dump()
    try:
        return _Assembled(**parts)
    except ValidationError as error:
        raise settings.SettingsError(settings.explain(f"snapshot {snapshot.version}", None, error)) from None


def _of_snapshot(route: RouteSent, identity: IdentityRules) -> dict[str, Any]:
    return {**route.model_dump(exclude={"sidecars"}), "identity": (route.identity or identity).model_dump()}


def load(path: Path | None) -> SidecarConfig:
    """Read and check a configuration file. Raises SettingsError with one line that names the key and its place."""
    return settings.load(SidecarConfig, path)
