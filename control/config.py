"""Settings of the control plane: a YAML file, then `TRUNKSIDE_…` environment variables (nested with `__`), secrets also from `*_file` keys.

A key that is not known is fatal, wherever it stands, because a setting that is silently ignored is found out in production.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import ssl
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from control.addresses import forbidden, inside
from control.contract import settings
from control.errors import StartupError
from control.inject.files import Certificates, Followed

Scope = Literal["sidecar", "sync", "read", "operate"]
SCOPES: tuple[Scope, ...] = ("sidecar", "sync", "read", "operate")
WebhookEvent = Literal[
    "call.started", "call.answered", "turn.completed", "call.ended",
    "report.linked", "report.repaired", "report.conflict", "report.unlinked", "report.missing",
]  # fmt: skip
SidecarName = Annotated[str, Field(min_length=1, max_length=128)]
_WEBHOOK_SECRET_BYTES = range(24, 65)
"""Standard Webhooks: a symmetric secret has 24 to 64 random bytes."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Credentials(_Section):
    """The evaluator's credentials that stand behind one token, so that the agent which holds the token never holds them."""

    api_key: SecretStr | None = None
    api_key_file: Path | None = None
    workspace_id: int
    agent_id: str = Field(min_length=1, max_length=256)

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        self.api_key = settings.secret(self.api_key, self.api_key_file, "api_key")
        if self.api_key is None or not self.api_key.get_secret_value():
            raise ValueError("needs api_key or api_key_file")
        return self

    @property
    def key(self) -> str:
        """The evaluator's API key."""
        return self.api_key.get_secret_value() if self.api_key is not None else ""


class Token(_Section):
    """A bearer token of the API: `sidecar` uploads traces, `sync` posts reports, `read` looks, `operate` changes."""

    name: str = Field(min_length=1, max_length=128)
    token: SecretStr | None = None
    token_file: Path | None = None
    scopes: list[Scope] = Field(min_length=1)
    sidecars: list[SidecarName] = Field(default_factory=list)
    """With scope `sidecar`: the sidecars that it speaks for, by name, `*` for any part of one. Empty: any."""
    evaluator: Credentials | None = None
    """Whose credentials deliver the reports of this token; null: the ones of the configuration's `evaluator`."""

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        self.token = settings.secret(self.token, self.token_file, "token")
        if self.token is None or not self.token.get_secret_value():
            raise ValueError(f"token {self.name!r} needs token or token_file")
        if self.evaluator is not None and "sync" not in self.scopes:
            raise ValueError(f"token {self.name!r} has evaluator credentials but not the scope sync, which alone uses them")
        if self.sidecars and "sidecar" not in self.scopes:
            raise ValueError(f"token {self.name!r} names sidecars but has not the scope sidecar")
        return self

    @property
    def value(self) -> str:
        """The secret text."""
        return self.token.get_secret_value() if self.token is not None else ""


class Upload(_Section):
    """Which recordings the evaluator is offered. An agent that brings its own recording goes before."""

    calls: Literal["simulations", "all", "none"] = "simulations"
    allow_private: bool = False
    """Lets the evaluator's form lead to this machine or the network inside, which is refused otherwise."""

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of calls."""
        return frozenset({"simulations": ("simulation",), "all": ("simulation", "production"), "none": ()}[self.calls])


class Evaluator(_Section):
    """Where reports go. What is null here is taken from the agent's own request and kept encrypted until delivered."""

    kind: Literal["tuner"] = "tuner"
    base_url: str = "https://api.usetuner.ai"
    api_key: SecretStr | None = None
    api_key_file: Path | None = None
    workspace_id: int | None = None
    agent_id: str | None = None
    timeout_s: float = Field(default=30.0, gt=0, le=300)
    upload: Upload = Field(default_factory=Upload)

    @field_validator("base_url")
    @classmethod
    def _http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        if (why := forbidden(urlsplit(value).hostname or "")) is not None:
            raise ValueError(why)
        return value.rstrip("/")

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        self.api_key = settings.secret(self.api_key, self.api_key_file, "api_key")
        return self

    @property
    def key(self) -> str | None:
        """The evaluator's API key, if control holds it."""
        return self.api_key.get_secret_value() if self.api_key is not None else None


class WireOnly(_Section):
    """Reports that control writes itself for answered simulations of agents that send none."""

    enabled: bool = False
    """For the calls of routes that say `wire_only: auto`; a route that says true or false decides for its own calls."""
    grace_s: float = Field(default=60.0, ge=0)
    """Also the time after which a simulation without a report counts as `missing`."""


class Retention(_Section):
    """How long finished calls stay; 0 keeps them for good."""

    days: float = Field(default=30, ge=0)
    messages_days: float | None = Field(default=None, gt=0)
    """Of SIP messages alone, which tell more of people than figures do; null or longer than `days`: as long as their calls."""
    recordings_days: float = Field(default=7, ge=0)
    sidecars_days: float = Field(default=7, ge=0)
    """How long a sidecar that is silent is still listed; its calls have their own time."""
    audit_days: float = Field(default=0, ge=0)
    """Of the log of changes."""


class Recordings(_Section):
    """Where recordings are kept: a folder that all replicas share."""

    path: Path = Path("var/control-recordings")
    max_mb_each: int = Field(default=1024, ge=1)


class Ice(_Section):
    """A STUN or TURN server for browsers that listen in from behind a NAT."""

    urls: list[str] = Field(min_length=1)
    username: str | None = None
    credential: SecretStr | None = None
    credential_file: Path | None = None

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        self.credential = settings.secret(self.credential, self.credential_file, "credential")
        for url in self.urls:
            if not url.startswith(("stun:", "turn:", "turns:")):
                raise ValueError(f"urls: {url} must begin with stun:, turn: or turns:")
        return self


class ListenIn(_Section):
    """Listening in on live calls in a browser."""

    enabled: bool = True
    ice_servers: list[Ice] = Field(default_factory=list)


class Webhook(_Section):
    """A receiver of events, signed as Standard Webhooks says."""

    url: str
    secret: SecretStr | None = None
    secret_file: Path | None = None
    events: list[WebhookEvent] = Field(min_length=1)
    allow_private: bool = False
    """Lets the URL lead to this machine or the network inside, which is refused otherwise."""

    @field_validator("url")
    @classmethod
    def _http(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError as error:
            raise ValueError(f"is no URL: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http:// or https:// URL with a host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("must not carry a user name or password: the signature proves who sends")
        if parts.fragment or any(sign <= " " or sign == "\x7f" for sign in value):
            raise ValueError("must not have a fragment, spaces or control characters")
        return value

    @field_validator("events")
    @classmethod
    def _once(cls, value: list[WebhookEvent]) -> list[WebhookEvent]:
        if len(set(value)) != len(value):
            raise ValueError("names an event twice")
        return value

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        self.secret = settings.secret(self.secret, self.secret_file, "secret")
        if self.secret is None:
            raise ValueError("needs secret or secret_file: receivers must be able to tell ours from another's")
        _check_webhook_secret(self.secret.get_secret_value())
        host = urlsplit(self.url).hostname or ""
        why = None if self.allow_private else inside(host)
        if why is not None:
            raise ValueError(f"url: {why}; if that is meant, set allow_private: true")
        if (never := forbidden(host)) is not None:
            raise ValueError(f"url: {never}")
        return self

    @property
    def key(self) -> str:
        """The signing secret in its text form, `whsec_` and base64."""
        return self.secret.get_secret_value() if self.secret is not None else ""


class Tls(_Section):
    """TLS of the listener. With `client_ca`, clients must show a certificate that this authority signed."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @model_validator(mode="after")
    def _usable(self) -> Self:
        self.context()
        return self

    def context(self) -> ssl.SSLContext:
        """The server's context. Raises ValueError when a file cannot be used."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"certificate {self.certificate} and key {self.key} cannot be used: {_reason(error)}") from None
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except (OSError, ssl.SSLError) as error:
                raise ValueError(f"client_ca {self.client_ca} cannot be used: {_reason(error)}") from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class Inject(_Section):
    """The admission webhook that adds the sidecar to pods of a Kubernetes cluster."""

    listen: str = "0.0.0.0:8443"
    certificate: Path
    key: Path
    template: Path

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        split_address(value)
        return value

    @model_validator(mode="after")
    def _usable(self) -> Self:
        Followed(self.template)
        Certificates(self.certificate, self.key)
        return self


class ControlConfig(BaseSettings):
    """All settings of `trunkside control`. Raises `pydantic.ValidationError`; `load` turns that into one line."""

    model_config = SettingsConfigDict(env_prefix="TRUNKSIDE_", env_nested_delimiter="__", extra="forbid")

    listen: str = "127.0.0.1:8080"
    database: str = "sqlite+aiosqlite:///var/control.db"
    tokens: list[Token] = Field(default_factory=list)
    evaluator: Evaluator = Field(default_factory=Evaluator)
    wire_only: WireOnly = Field(default_factory=WireOnly)
    webhooks: list[Webhook] = Field(default_factory=list)
    tls: Tls | None = None
    """TLS of the API's listener; null: plain HTTP."""
    inject: Inject | None = None
    """The admission webhook; null: none."""
    retention: Retention = Field(default_factory=Retention)
    recordings: Recordings = Field(default_factory=Recordings)
    listen_in: ListenIn = Field(default_factory=ListenIn)
    enrich_wait_s: float = Field(default=20.0, ge=0)
    """How long a report waits for its call's trace, from the report's arrival or the call's end, whichever is later."""
    enrich_max_s: float = Field(default=300.0, ge=0)
    """How long a report waits for a call that does not end, from the report's arrival."""
    secret_key_file: Path | None = None
    """Key that encrypts stored credentials; made beside an SQLite database when absent."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, key by key."""
        return env_settings, init_settings

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        split_address(value)
        return value

    @field_validator("database")
    @classmethod
    def _engine(cls, value: str) -> str:
        if not value.startswith(("sqlite+aiosqlite://", "postgresql+asyncpg://")):
            raise ValueError("must begin with sqlite+aiosqlite:// or postgresql+asyncpg://")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [token.name for token in self.tokens]
        if len(set(names)) != len(names):
            raise ValueError("tokens: two tokens have the same name")
        if self.evaluator.api_key is None and any("sync" in token.scopes and token.evaluator is None for token in self.tokens):
            raise ValueError(
                "tokens: a token with scope sync needs evaluator.api_key, here or as the token's own, because the token itself means "
                "nothing to the evaluator"
            )
        missing = [name for name in ("api_key", "workspace_id", "agent_id") if getattr(self.evaluator, name) is None]
        if self.wire_only.enabled and missing:
            raise ValueError(f"wire_only: set evaluator.{missing[0]}, because no agent's request brings it")
        return self


def _check_webhook_secret(text: str) -> None:
    """Raises ValueError for a secret that Standard Webhooks does not have."""
    try:
        size = len(base64.b64decode(text.removeprefix("whsec_"), validate=True))
    except (binascii.Error, ValueError):
        raise ValueError("secret is not base64: Standard Webhooks wants whsec_ and the base64 of 24 to 64 random bytes") from None
    if size not in _WEBHOOK_SECRET_BYTES:
        raise ValueError(f"secret has {size} bytes: Standard Webhooks wants whsec_ and the base64 of 24 to 64 random bytes")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def split_address(listen: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`. Raises ValueError."""
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{listen!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load(path: str | Path | None) -> ControlConfig:
    """Settings from `path` and the environment, from the environment alone for None.

    Raises StartupError with one line that names the key and its place in the file.
    """
    try:
        return settings.load(ControlConfig, Path(path) if path is not None else None)
    except settings.SettingsError as error:
        raise StartupError(str(error)) from None
