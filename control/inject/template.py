"""What is added to a pod: pieces of a pod's specification in a file, so that what is injected can be read as Kubernetes reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

CONFIG_VOLUME = "trunkside-config"
SECRETS_VOLUME = "trunkside-secrets"
Piece = dict[str, Any]
"""A part of a Kubernetes object, as JSON."""


class Template(BaseModel):
    """The pieces. Names of Kubernetes' own are left to Kubernetes to check."""

    model_config = ConfigDict(extra="forbid")

    sidecar: Piece
    """The native sidecar: an init container with `restartPolicy: Always`."""
    redirect: Piece | None = None
    """The init container that sends the agent's SIP port to the sidecar, for pods that ask for it."""
    volumes: list[Piece] = Field(default_factory=list)
    agentEnv: list[Piece] = Field(default_factory=list)
    """For each of the pod's containers that does not set the variable itself."""
    agentLifecycle: Piece | None = None
    """For each of the pod's containers that has no lifecycle of its own."""
    terminationGracePeriodSeconds: int = Field(ge=1)
    """The least that the pod gets: it covers the sidecar's drain."""

    @model_validator(mode="after")
    def _native(self) -> Self:
        if self.sidecar.get("restartPolicy") != "Always":
            raise ValueError("sidecar: needs restartPolicy: Always, or the pod would wait for it to end before the agent starts")
        for piece in (self.sidecar, *([self.redirect] if self.redirect is not None else [])):
            if not isinstance(piece.get("name"), str) or not isinstance(piece.get("image"), str):
                raise ValueError("sidecar and redirect need a name and an image")
        if not all(isinstance(volume.get("name"), str) for volume in self.volumes):
            raise ValueError("volumes: each needs a name")
        return self


def load_template(path: Path) -> Template:
    """The template in a YAML file. Raises ValueError with one line."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"template {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"template {path}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    try:
        return Template.model_validate(loaded)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"template {path}: {place}{': ' if place else ''}{first['msg'].removeprefix('Value error, ')}") from None
