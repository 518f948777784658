"""The sidecar's configuration: a YAML file, then `TRUNKSIDE_…` environment variables (nested with `__`), secrets also from `*_file` keys.

Everything is checked before a socket is opened. An unknown key is fatal: what is silently ignored is a setting that someone believes in.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from control.contract import settings
from sidecar.clocks import Addr
from sidecar.identity.presets import PRESETS
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
    if uri.scheme != "sip" or (uri.param("transport") or "udp").lower() != "udp":
        raise ValueError(f"{value!r}: this version dials sip: over UDP only; write sip:user@host:port")
    return value


def _http_url(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"{value!r} is not an http:// or https:// URL")
    return value.rstrip("/")


def parse_listen(value: str, *, scheme: str | None = None) -> Addr:
    """`udp://127.0.0.1:5060` or `127.0.0.1:9090` as an address. Raises ValueError."""
    text = value if "//" in value else f"//{value}"
    url = urlsplit(text)
    if scheme is not None and url.scheme != scheme:
        raise ValueError(f"{value!r}: this version listens on {scheme}:// only")
    if url.hostname is None or url.port is None:
        raise ValueError(f"{value!r} needs a host and a port, as in {scheme + '://' if scheme else ''}127.0.0.1:5060")
    ipaddress.ip_address(url.hostname)
    return url.hostname, url.port


Network = Annotated[str, AfterValidator(_network)]
TargetUri = Annotated[str, AfterValidator(_sip_uri)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]


class Sip(Section):
    """Where the sidecar listens, and under which host it is reached."""

    listen: list[str] = Field(default=["udp://127.0.0.1:5060"], min_length=1)
    advertise: str | None = None

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: list[str]) -> list[str]:
        for entry in value:
            parse_listen(entry, scheme="udp")
        return value

    @property
    def addresses(self) -> list[Addr]:
        """The addresses to listen on."""
        return [parse_listen(entry, scheme="udp") for entry in self.listen]

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.advertise is None and any(ipaddress.ip_address(host).is_unspecified for host, _ in self.addresses):
            raise ValueError("listening on every address needs `advertise`: the host under which peers reach this sidecar")
        return self


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

    realm: str
    users: dict[str, DigestUser] = Field(min_length=1)


class Callers(Section):
    """Whom the sidecar listens to. A source outside `trusted` is challenged when `digest` is set, refused otherwise."""

    trusted: list[Network] = ["127.0.0.0/8", "::1/128"]
    digest: CallerDigest | None = None


class Match(Section):
    """What selects a route; every key that is given must fit. `*` stands for any run of characters."""

    user: str | None = None
    host: str | None = None
    source: Network | None = None
    header: dict[str, str] | None = None


class Route(Section):
    """One target that may be dialled. First match wins; nothing else is ever dialled."""

    name: str = Field(min_length=1)
    match: Match = Match()
    target: TargetUri
    direction: Literal["inbound", "outbound"] = "inbound"
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    platform: str = "generic"
    simulation: Literal["auto", "always", "never"] = "auto"

    @field_validator("platform")
    @classmethod
    def _platform(cls, value: str) -> str:
        if value not in PRESETS:
            raise ValueError(f"no carriage preset {value!r}; there are: {', '.join(sorted(PRESETS))}")
        return value

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        self.password = settings.secret(self.password, self.password_file, "password")
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        return self


class MediaSection(Section):
    """RTP ports (even for RTP, the next odd one for RTCP) and the engine that relays."""

    ports: tuple[int, int] = (30000, 39999)
    engine: Literal["embedded"] = "embedded"
    record: Literal[False] = False

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


class AdminSection(Section):
    """The local HTTP port: health, metrics, live calls."""

    listen: str = "127.0.0.1:9090"

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: str) -> str:
        parse_listen(value)
        return value


class Drain(Section):
    """How long live calls may last once the sidecar was told to stop."""

    deadline_s: float = Field(default=30.0, ge=0)
    goodbye_s: float = Field(default=3.0, ge=0)
    """For the answers to our BYEs and the last figures, after the deadline."""
    flush_s: float = Field(default=5.0, ge=0)
    """For bringing what the spool holds to control; what stays is brought at the next start."""


class SidecarConfig(BaseSettings):
    """The whole file."""

    model_config = SettingsConfigDict(extra="forbid", env_prefix="TRUNKSIDE_", env_nested_delimiter="__")

    name: str = Field(default="edge-1", min_length=1, max_length=100)
    sip: Sip = Sip()
    callers: Callers = Callers()
    routes: list[Route] = Field(min_length=1)
    media: MediaSection = MediaSection()
    control: ControlSection = ControlSection()
    spool: SpoolSection = SpoolSection()
    admin: AdminSection = AdminSection()
    drain: Drain = Drain()

    @field_validator("routes")
    @classmethod
    def _names(cls, value: list[Route]) -> list[Route]:
        names = [route.name for route in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two routes are called {name!r}; each needs its own name")
        return value

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


def revealed(secret: SecretStr | None) -> str | None:
    """The text of a secret, for the one place that needs it."""
    return None if secret is None else secret.get_secret_value()


def load(path: Path | None) -> SidecarConfig:
    """Read and check a configuration file. Raises SettingsError with one line that names the key and its place."""
    return settings.load(SidecarConfig, path)
