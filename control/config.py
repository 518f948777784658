"""Settings of the control plane: a YAML file, then `TRUNKSIDE_…` environment variables (nested with `__`), secrets also from `*_file` keys.

A key that is not known is fatal, wherever it stands, because a setting that is silently ignored is found out in production.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from control.contract import settings
from control.errors import StartupError

Scope = Literal["sidecar", "sync", "read", "operate"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Token(_Section):
    """A bearer token of the API: `sidecar` uploads traces, `sync` posts reports, `read` looks, `operate` changes."""

    name: str = Field(min_length=1)
    token: SecretStr | None = None
    token_file: Path | None = None
    scopes: list[Scope] = Field(min_length=1)

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        self.token = settings.secret(self.token, self.token_file, "token")
        if self.token is None or not self.token.get_secret_value():
            raise ValueError(f"token {self.name!r} needs token or token_file")
        return self

    @property
    def value(self) -> str:
        """The secret text."""
        return self.token.get_secret_value() if self.token is not None else ""


class Evaluator(_Section):
    """Where reports go. What is null here is taken from the agent's own request and kept encrypted until delivered."""

    kind: Literal["tuner"] = "tuner"
    base_url: str = "https://api.usetuner.ai"
    api_key: SecretStr | None = None
    api_key_file: Path | None = None
    workspace_id: int | None = None
    agent_id: str | None = None
    timeout_s: float = Field(default=30.0, gt=0, le=300)

    @field_validator("base_url")
    @classmethod
    def _http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
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
    grace_s: float = Field(default=60.0, ge=0)
    """Also the time after which a simulation without a report counts as `missing`."""


class Retention(_Section):
    """How long finished calls stay; 0 keeps them for good."""

    days: float = Field(default=30, ge=0)
    recordings_days: float = Field(default=7, ge=0)


class ControlConfig(BaseSettings):
    """All settings of `trunkside control`. Raises `pydantic.ValidationError`; `load` turns that into one line."""

    model_config = SettingsConfigDict(env_prefix="TRUNKSIDE_", env_nested_delimiter="__", extra="forbid")

    listen: str = "127.0.0.1:8080"
    database: str = "sqlite+aiosqlite:///var/control.db"
    tokens: list[Token] = Field(default_factory=list)
    evaluator: Evaluator = Field(default_factory=Evaluator)
    wire_only: WireOnly = Field(default_factory=WireOnly)
    webhooks: list[dict[str, object]] = Field(default_factory=list)
    retention: Retention = Field(default_factory=Retention)
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

    @field_validator("webhooks")
    @classmethod
    def _no_webhooks(cls, value: list[dict[str, object]]) -> list[dict[str, object]]:
        if value:
            raise ValueError("webhooks are not supported in this version; leave the list empty")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        host, _ = split_address(self.listen)
        if not self.tokens and not is_loopback(host):
            raise ValueError(f"listen: {self.listen} is not a loopback address, so tokens must be set; add one, or listen on 127.0.0.1")
        names = [token.name for token in self.tokens]
        if len(set(names)) != len(names):
            raise ValueError("tokens: two tokens have the same name")
        if self.evaluator.api_key is None and any("sync" in token.scopes for token in self.tokens):
            raise ValueError(
                "tokens: a token with scope sync needs evaluator.api_key, because the token itself means nothing to the evaluator"
            )
        missing = [name for name in ("api_key", "workspace_id", "agent_id") if getattr(self.evaluator, name) is None]
        if self.wire_only.enabled and missing:
            raise ValueError(f"wire_only: set evaluator.{missing[0]}, because no agent's request brings it")
        return self


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
