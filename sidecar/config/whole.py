"""The whole file: its sections, what must hold among them, and how it is read."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from control.contract import settings
from control.contract.call import RecordingFormat
from control.contract.routing import IdentityRules, RouteSent, Snapshot
from sidecar.analysis import extra
from sidecar.config.media import MediaSection, RecordingsSection
from sidecar.config.routes import Route
from sidecar.config.signalling import Callers, Evaluators, LimitsSection, SessionTimer, Sip
from sidecar.config.surroundings import AdminSection, ControlSection, Drain, FleetSection, HepSection, OtlpSection, SpoolSection
from sidecar.config.values import Line
from sidecar.identity.presets import PRESETS, Preset, preset_from_values


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
