"""configs/compose.yaml: valid by the Compose specification, and fitting the files and settings beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

import control.config
import sidecar.config

CONFIGS = Path(__file__).parents[3] / "configs"
TEXT = (CONFIGS / "compose.yaml").read_text(encoding="utf-8")
SECRETS = "/run/secrets"
GIVEN = {"POSTGRES_DIGEST": "sha256:" + "ab" * 32}


def interpolated() -> str:
    """The file as Compose reads it, with a text for every variable that must be given."""
    return re.sub(r"\$\{(\w+)(?::([-?])([^}]*))?\}", lambda found: found[3] if found[2] == "-" else GIVEN.get(found[1], "given"), TEXT)


COMPOSE: dict[str, Any] = yaml.safe_load(interpolated())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_the_file_is_valid() -> None:
    assert sorted(PyCompose.from_yaml(yaml.safe_dump(COMPOSE)).service_names()) == ["agent", "control", "postgres", "sidecar"]


def test_a_mistake_would_be_found() -> None:
    with pytest.raises(ValueError, match="prots"):
        PyCompose.from_yaml("services: {a: {image: b, prots: []}}")


def test_what_has_no_sensible_default_must_be_given() -> None:
    assert set(re.findall(r"\$\{(\w+):\?", TEXT)) == {"AGENT_IMAGE", "ADVERTISE", "POSTGRES_DIGEST", "POSTGRES_PASSWORD"}


@pytest.mark.parametrize("name", ["sidecar", "control"])
def test_our_services_are_locked_and_wait_for_what_they_need(name: str) -> None:
    service = SERVICES[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(need["condition"] == "service_healthy" for need in service["depends_on"].values())
    assert (CONFIGS / service["build"]["dockerfile"].removeprefix("configs/")).is_file()


@pytest.mark.parametrize("name", ["sidecar", "control"])
def test_the_settings_beside_it_work(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for secret in SERVICES[name]["secrets"]:
        (tmp_path / secret).write_text("a text")
    for key, value in SERVICES[name]["environment"].items():
        monkeypatch.setenv(key, value)
    mounted = SERVICES[name]["volumes"][0].split(":")
    assert mounted[1] == f"/etc/trunkside/{name}.yaml"
    file = tmp_path / f"{name}.yaml"
    file.write_text((CONFIGS / mounted[0]).read_text(encoding="utf-8").replace(SECRETS, str(tmp_path)))
    if name == "control":
        assert control.config.load(file).database.startswith("postgresql+asyncpg://")
        return
    config = sidecar.config.load(file)
    assert set(SERVICES["sidecar"]["ports"]) == {
        f"{port}:{port}/udp" for port in (config.sip.endpoints[0].addr[1], "{}-{}".format(*config.media.ports))
    }
    assert config.control.url == SERVICES["agent"]["environment"]["TUNER_BASE_URL"]
    grace = int(SERVICES["sidecar"]["stop_grace_period"].removesuffix("s"))
    assert grace > sum(config.drain.model_dump().values()) + 10


def test_the_agent_lives_in_the_sidecars_network() -> None:
    assert SERVICES["agent"]["network_mode"] == "service:sidecar"
    assert "ports" not in SERVICES["agent"]


def test_every_secret_is_declared_explained_and_never_committed() -> None:
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    explained = (CONFIGS / "compose" / "secrets" / "README.md").read_text(encoding="utf-8")
    assert used == set(COMPOSE["secrets"]) == set(re.findall(r"^\| `([a-z-]+)` \|", explained, re.MULTILINE))
    assert {file.name for file in (CONFIGS / "compose" / "secrets").iterdir()} >= {"README.md", ".gitignore"}
    assert (CONFIGS / "compose" / "secrets" / ".gitignore").read_text().splitlines()[0] == "*"
