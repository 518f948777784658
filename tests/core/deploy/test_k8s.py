"""The Kubernetes objects fit each other and the product: configuration, secrets, ports, probes, times."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import control.config
import sidecar.config

K8S = Path(__file__).parents[3] / "k8s"
SECRETS = "/etc/trunkside-secrets"


def documents(name: str) -> dict[str, dict[str, Any]]:
    """The objects of a file by kind/name."""
    found = yaml.safe_load_all((K8S / name).read_text(encoding="utf-8"))
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in found}


def pod(file: str, deployment: str) -> dict[str, Any]:
    spec: dict[str, Any] = documents(file)[f"Deployment/{deployment}"]["spec"]["template"]["spec"]
    return spec


AGENT = pod("agent.yaml", "voice-agent")
CONTROL = pod("control.yaml", "trunkside-control")
SIDECAR = AGENT["initContainers"][0]
ALL_CONTAINERS = [SIDECAR, *AGENT["containers"], *CONTROL["containers"]]


def mounted(tmp_path: Path, config: str, secret: str) -> Path:
    """The configuration as its container reads it, with the secrets of the template where it mounts them."""
    for key, value in documents("secret.template.yaml")[f"Secret/{secret}"]["stringData"].items():
        (tmp_path / key).write_text(value)
    file = tmp_path / config
    file.write_text((K8S / "config" / config).read_text(encoding="utf-8").replace(SECRETS, str(tmp_path)))
    return file


@pytest.fixture(autouse=True)
def pod_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Kubernetes puts into the sidecar's environment."""
    values = {"metadata.name": "voice-agent-7d9", "status.podIP": "10.1.2.3"}
    for entry in SIDECAR["env"]:
        monkeypatch.setenv(entry["name"], values[entry["valueFrom"]["fieldRef"]["fieldPath"]])


def loaded_sidecar(tmp_path: Path) -> sidecar.config.SidecarConfig:
    return sidecar.config.load(mounted(tmp_path, "sidecar.yaml", "trunkside-sidecar"))


def test_the_sidecars_configmap_is_a_working_configuration(tmp_path: Path) -> None:
    config = loaded_sidecar(tmp_path)
    assert config.control.token is not None
    assert config.routes[0].password is not None


def test_controls_configmap_is_a_working_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for entry in SIDECAR["env"]:
        monkeypatch.delenv(entry["name"])
    config = control.config.load(mounted(tmp_path, "control.yaml", "trunkside-control"))
    assert {scope for token in config.tokens for scope in token.scopes} == {"sidecar", "sync", "read", "operate"}


def test_the_environment_names_keys_that_exist(tmp_path: Path) -> None:
    config = loaded_sidecar(tmp_path)
    assert (config.name, config.sip.advertise) == ("voice-agent-7d9", "10.1.2.3")


def test_the_sidecar_is_native_and_the_agent_starts_after_it_is_ready() -> None:
    assert SIDECAR["restartPolicy"] == "Always"
    assert SIDECAR["startupProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}
    assert SIDECAR["livenessProbe"]["httpGet"]["path"] == "/livez", "readiness would restart a draining sidecar and cut its calls"


def test_ports_are_those_of_the_configuration(tmp_path: Path) -> None:
    config = loaded_sidecar(tmp_path)
    ports = {port["name"]: port["containerPort"] for port in SIDECAR["ports"]}
    assert ports["sip"] == config.sip.endpoints[0].addr[1]
    assert ports["admin"] == sidecar.config.parse_listen(config.admin.listen)[1]
    opened = documents("networkpolicy.yaml")["NetworkPolicy/voice-agent"]["spec"]["ingress"][0]["ports"]
    assert {(port["port"], port.get("endPort", port["port"])) for port in opened} == {(ports["sip"], ports["sip"]), config.media.ports}


def test_the_grace_period_covers_the_drain(tmp_path: Path) -> None:
    drain = loaded_sidecar(tmp_path).drain.model_dump()
    assert AGENT["terminationGracePeriodSeconds"] > sum(drain.values()) + 10


def test_sidecars_and_agents_reach_control_by_its_service(tmp_path: Path) -> None:
    service = documents("control.yaml")["Service/trunkside-control"]
    url = f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    agent = {entry["name"]: entry["value"] for entry in AGENT["containers"][0]["env"]}
    assert loaded_sidecar(tmp_path).control.url == url == agent["TUNER_BASE_URL"]


@pytest.mark.parametrize("container", ALL_CONTAINERS, ids=lambda container: str(container["name"]))
def test_containers_run_with_least_privilege(container: dict[str, Any]) -> None:
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("spec", [AGENT, CONTROL], ids=["agent", "control"])
def test_pods_run_as_a_user_and_mount_what_they_declare(spec: dict[str, Any]) -> None:
    assert spec["securityContext"]["runAsNonRoot"] is True
    declared = {volume["name"] for volume in spec["volumes"]}
    used = {mount["name"] for container in [*spec.get("initContainers", []), *spec["containers"]] for mount in container["volumeMounts"]}
    assert declared == used


def test_what_is_written_lies_on_a_volume(tmp_path: Path) -> None:
    spool = str(loaded_sidecar(tmp_path).spool.path)
    assert any(spool.startswith(mount["mountPath"] + "/") for mount in SIDECAR["volumeMounts"] if not mount.get("readOnly"))


def test_the_kustomization_lists_what_there_is() -> None:
    kustomization = yaml.safe_load((K8S / "kustomization.yaml").read_text(encoding="utf-8"))
    assert set(kustomization["resources"]) == {file.name for file in K8S.glob("*.yaml")} - {"kustomization.yaml", "secret.template.yaml"}
    for generator in kustomization["configMapGenerator"]:
        assert all((K8S / source.split("=")[-1]).is_file() for source in generator["files"])
    images = {entry["name"] for entry in kustomization["images"]}
    assert {container["image"] for container in ALL_CONTAINERS} == images


def test_no_secret_has_a_value_that_works() -> None:
    for secret in documents("secret.template.yaml").values():
        assert all(value.startswith("replace: ") for value in secret["stringData"].values())


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_renders_it() -> None:
    rendered = subprocess.run(["kubectl", "kustomize", str(K8S)], capture_output=True, text=True, timeout=60, check=True)
    kinds = [item["kind"] for item in yaml.safe_load_all(rendered.stdout)]
    assert sorted(kinds) == sorted(
        ["ConfigMap", "ConfigMap", "Deployment", "Deployment", "Namespace", "NetworkPolicy", "PersistentVolumeClaim", "Service", "Service"]
    )
