"""The files that people start from are accepted by the product itself, and name every key that it knows."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

import control.config
import sidecar.config

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs"


def keys(model: type[BaseModel]) -> Iterator[str]:
    """Every key of a settings model and of the models inside it."""
    for name, field in model.model_fields.items():
        yield field.alias or name
        for inner in _models(field.annotation):
            yield from keys(inner)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)


def test_the_sidecar_example_is_a_working_configuration() -> None:
    config = sidecar.config.load(CONFIGS / "sidecar.yaml")
    assert config.routes[0].target == "sip:agent@127.0.0.1:5070"


def test_the_control_example_is_a_working_configuration() -> None:
    assert control.config.load(CONFIGS / "control.yaml").listen == "127.0.0.1:8080"


def test_the_examples_show_the_defaults() -> None:
    shown = sidecar.config.load(CONFIGS / "sidecar.yaml")
    plain = sidecar.config.SidecarConfig(routes=[{"name": "agent", "match": {"user": "*"}, "target": "sip:agent@127.0.0.1:5070"}])
    assert shown == plain
    assert control.config.load(CONFIGS / "control.yaml") == control.config.ControlConfig()


@pytest.mark.parametrize(
    ("file", "model"), [("sidecar.yaml", sidecar.config.SidecarConfig), ("control.yaml", control.config.ControlConfig)]
)
def test_every_key_is_in_the_example(file: str, model: type[BaseModel]) -> None:
    text = (CONFIGS / file).read_text(encoding="utf-8")
    # A key of a section stands as `key:`; one inside a commented example may stand in a list of words.
    assert [key for key in sorted(set(keys(model))) if not re.search(rf"\b{re.escape(key)}\b", text)] == []


@pytest.mark.parametrize("file", ["sidecar.yaml", "control.yaml"])
def test_each_key_of_an_example_is_explained(file: str) -> None:
    """A comment stands above each top-level key or each key of its section."""
    lines = (CONFIGS / file).read_text(encoding="utf-8").splitlines()
    top = yaml.safe_load("\n".join(lines))
    for key, value in top.items():
        at = next(n for n, text in enumerate(lines) if text.startswith(f"{key}:"))
        inside = lines[at + 1].strip() if isinstance(value, dict) else ""
        assert lines[at - 1].startswith("#") or inside.startswith("#") or "kind:" in inside, f"{file}: {key} is not explained"
