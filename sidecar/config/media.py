"""Who relays media, by which ports, and what is kept of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from control.contract.call import RecordingFormat
from sidecar.config.values import RtpengineServer, Section
from sidecar.net.rtpengine.client import parse_server
from sidecar.net.rtpengine.commands import Interfaces


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

    servers: list[RtpengineServer] = Field(min_length=1)
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


class RecordingsSection(Section):
    """Where recordings grow, and wait until control has them."""

    path: Path = Path("var/recordings")
    max_mb: int = Field(default=2048, ge=10)
    days: float = Field(default=7, ge=0)

    @property
    def outgoing(self) -> Path:
        """A folder of our own: control's variable has the same name, and what we delete must not be what it keeps."""
        return self.path / "outgoing"
