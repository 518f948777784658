"""Control, disk, collectors and operators: what is around the sidecar, and how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from control.contract import settings
from sidecar.config.values import CaptureServer, Collector, HttpUrl, RecipientHost, Section, parse_listen


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


class FleetSection(Section):
    """What control may change and order here."""

    enabled: bool = True
    routes: Literal["auto", "file"] = "auto"
    verify: list[RecipientHost] = Field(default_factory=list)
    key_file: Path | None = None

    @property
    def follows_control(self) -> bool:
        """Control's routes take the place of the file's."""
        return self.enabled and self.routes == "auto"


class OtlpSection(Section):
    """Where each call's spans go; null: nowhere."""

    endpoint: Collector | None = None


class HepSection(Section):
    """The capture server that gets a copy of every SIP message; null: none."""

    server: CaptureServer | None = None
    id: int = Field(default=2001, ge=0, lt=2**32)


class Drain(Section):
    """How long live calls may last once the sidecar was told to stop."""

    deadline_s: float = Field(default=30.0, ge=0)
    goodbye_s: float = Field(default=3.0, ge=0)
    """For the answers to our BYEs and the last figures, after the deadline."""
    flush_s: float = Field(default=5.0, ge=0)
    """For bringing what the spool holds to control; what stays is brought at the next start."""
