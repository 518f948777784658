"""Routes, presets and policies as control holds them: what `PUT /v1/routes` takes, `GET /v1/routes` shows, and a sidecar is sent.

The keys of a route are those of a route in a sidecar's file, but for `password_file`, which names a file of one machine, and with
`sidecars`, which a file does not need. Control checks the form; the sidecar, which knows SIP, checks the meaning and refuses a snapshot
whole.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from control.contract.call import Model

MOST_ROUTES = 500
PRINTABLE = r"^[^\x00-\x1f\x7f]+$"


def _once(value: list[str]) -> list[str]:
    return list(dict.fromkeys(value))


def _network(value: str) -> str:
    ipaddress.ip_network(value, strict=False)
    return value


Name = Annotated[str, Field(min_length=1, max_length=128, pattern=PRINTABLE)]
Text = Annotated[str, Field(min_length=1, max_length=512, pattern=PRINTABLE)]
Host = Annotated[str, Field(max_length=255, pattern=r"^((\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\])$")]
Hosts = Annotated[list[Host], Field(max_length=200), AfterValidator(_once)]
SipTarget = Annotated[str, Field(max_length=512, pattern=r"^sips?:[^\x00-\x20\x7f<>\"]+$")]
NetworkText = Annotated[str, Field(max_length=64, pattern=r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"), AfterValidator(_network)]


class Strict(BaseModel):
    """A mapping whose unknown keys are refused: a setting that is silently ignored is one that someone believes in."""

    model_config = ConfigDict(extra="forbid")


class RouteMatch(Strict):
    """What selects a route; every key that is given must fit. `*` stands for any run of characters."""

    user: Text | None = None
    host: Text | None = None
    source: NetworkText | None = None
    header: dict[str, Text] | None = None


class IdentityRules(Strict):
    """What to do when a call's identity is not as it should be."""

    claim: Literal["overwrite", "reject", "keep"] = "overwrite"
    reject: Annotated[list[Name], Field(max_length=50)] = Field(default_factory=list)


class RouteBase(Strict):
    """A target that may be dialled, and what selects it."""

    name: Name
    sidecars: Annotated[list[Name], Field(max_length=200)] = Field(default_factory=list)
    """Which sidecars get this route, by name; `*` stands for any run of characters. Empty: all."""
    match: RouteMatch = Field(default_factory=RouteMatch)
    target: SipTarget
    direction: Literal["inbound", "outbound"] = "inbound"
    allow: Hosts = Field(default_factory=list)
    """Of an outbound route: the hosts that may be dialled."""
    redirects: Hosts = Field(default_factory=list)
    """Hosts to which a redirect of the target (3xx) is followed."""
    ping: float | None = Field(default=None, ge=5, le=3600)
    """Seconds between two OPTIONS to the target; null: none."""
    username: Text | None = None
    platform: Name = "generic"
    simulation: Literal["auto", "always", "never"] = "auto"
    identity: IdentityRules | None = None
    """Null: as `policies.identity` says."""
    refer: Literal["relay", "refuse"] = "relay"
    """Whether the parties of a call may transfer each other."""
    record: bool | Literal["wav", "ogg"] | None = None
    """Whether calls are recorded, and in which form (true: wav); null: as the sidecar's `media.record` says."""
    capture: bool | None = None
    """Whether the packets of their audio are kept for the capture file; null: as the sidecar's `media.capture` says."""
    detector: Literal["default", "accurate"] | None = None
    """What finds speech: the default detector, or a neural one (the extra `trunkside[accurate]`); null: as `media.detector` says."""
    srtp: Literal["pass", "plain", "srtp", "dtls"] = "pass"
    """SRTP on the agent's leg: as it comes, RTP in any case, SRTP with keys of the sidecar's, or with those of a DTLS handshake."""
    wire_only: bool | Literal["auto"] = "auto"
    """Whether control reports an answered simulation whose agent does not; `auto`: as its own `wire_only.enabled` says."""


class RouteGiven(RouteBase):
    """A route as it is put. A `password` that is left out stays what it was, as long as name, username and the target's host do."""

    password: SecretStr | None = None
    password_set: bool | None = Field(default=None, description="Shown by GET; ignored here.")


class RouteShown(RouteBase):
    """A route as it is shown: of the password only whether there is one."""

    password_set: bool


class RouteSent(RouteBase):
    """A route as a sidecar gets it."""

    password: str | None = Field(default=None, repr=False)


class Evaluators(Strict):
    """Who places simulated calls, besides whoever sends a correlation header."""

    networks: Annotated[list[NetworkText], Field(max_length=200)] = Field(default_factory=list)
    digest_users: Annotated[list[Name], Field(max_length=200)] = Field(default_factory=list)


class VerifyPolicy(Strict):
    """Which hosts `POST /v1/verify` may have dialled besides those of the routes."""

    hosts: Hosts = Field(default_factory=list)


class Policies(Strict):
    """What holds for all routes. `evaluators` null: as each sidecar's file says."""

    identity: IdentityRules = Field(default_factory=IdentityRules)
    evaluators: Evaluators | None = None
    verify: VerifyPolicy = Field(default_factory=VerifyPolicy)


Presets = Annotated[dict[str, dict[str, Any]], Field(max_length=100)]


class RoutesGiven(Strict):
    """The body of PUT: all of it, which takes the place of what was. No routes: each sidecar goes by its own file again."""

    routes: Annotated[list[RouteGiven], Field(max_length=MOST_ROUTES)]
    presets: Presets = Field(default_factory=dict)
    policies: Policies = Field(default_factory=Policies)
    version: int | None = Field(default=None, description="Shown by GET; ignored here: If-Match says which state is meant.")
    updated_at: datetime | None = Field(default=None, description="Shown by GET; ignored here.")
    updated_by: str | None = Field(default=None, description="Shown by GET; ignored here.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [route.name for route in self.routes]
        for number, route in enumerate(self.routes):
            place = f"routes.{number} ({route.name})"
            if names.count(route.name) > 1:
                raise ValueError(f"{place}: two routes have this name; each needs its own")
            if route.direction == "outbound" and not route.allow:
                raise ValueError(f"{place}: an outbound route needs allow: the hosts that may be dialled")
            if route.direction == "inbound" and route.allow:
                raise ValueError(f"{place}: allow is for outbound routes: an inbound one dials its target alone")
            if route.username is None and route.password is not None:
                raise ValueError(f"{place}: a password needs a username")
        return self


class RoutesShown(Model):
    """What is in force for the fleet. `version` 0: nothing was ever put, and each sidecar goes by its own file."""

    version: int
    updated_at: datetime | None
    updated_by: str | None
    routes: list[RouteShown]
    presets: dict[str, dict[str, Any]]
    policies: Policies


class Snapshot(Model):
    """A version of it all as one sidecar gets it: the routes that are meant for it, with their passwords.

    `id` tells versions apart even when a database was made anew and counts from 1 again.
    """

    id: str
    version: int
    routes: list[RouteSent]
    presets: dict[str, dict[str, Any]]
    policies: Policies
