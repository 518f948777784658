"""What may be dialled, and how a call on its way there is treated."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from control.contract import settings
from control.contract.call import RecordingFormat
from sidecar.config.values import FindingName, Line, Network, RecipientHost, Section, TargetUri
from sidecar.sip.uri import SipUri


class Match(Section):
    """What selects a route; every key that is given must fit. `*` stands for any run of characters."""

    user: str | None = None
    host: str | None = None
    source: Network | None = None
    header: dict[str, str] | None = None


class IdentityPolicy(Section):
    """What to do when a call's identity is not as it should be. Whatever is found is told in the verdict."""

    claim: Literal["overwrite", "reject", "keep"] = "overwrite"
    reject: list[FindingName] = Field(default_factory=list)


class Route(Section):
    """One target that may be dialled. First match wins; nothing else is ever dialled."""

    name: Line = Field(min_length=1)
    match: Match = Match()
    target: TargetUri
    direction: Literal["inbound", "outbound"] = "inbound"
    allow: list[RecipientHost] = Field(default_factory=list)
    redirects: list[RecipientHost] = Field(default_factory=list)
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
