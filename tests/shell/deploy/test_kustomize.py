"""What `kubectl kustomize` makes of k8s/: objects that Kubernetes accepts, and that fit each other and the product."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import control.config
import sidecar.config
from control.inject.template import load_template
from tests.support.kube import K8S, Object, find, kustomize, pod_of, validate, versions

CONTROL = ["overlays/sqlite", "overlays/postgresql", "overlays/postgresql-injector"]
AGENTS = ["agent/base", "agent/host-network", "agent/redirect"]
SECRETS = "/etc/trunkside-secrets"
POD_FIELDS = {"metadata.name": "voice-agent-7d9", "status.podIP": "10.1.2.3", "status.hostIP": "192.0.2.9"}


@cache
def rendered(folder: str) -> list[Object]:
    return kustomize(K8S / folder)


def sidecar_of(folder: str) -> Object:
    return named(pod_of(rendered(folder), "voice-agent")["initContainers"], "trunkside")


def named(items: list[Object], name: str) -> Object:
    return next(item for item in items if item["name"] == name)


def secret(name: str) -> dict[str, str]:
    found = yaml.safe_load_all((K8S / "secrets" / "secret.template.yaml").read_text(encoding="utf-8"))
    return next(dict(item["stringData"]) for item in found if item["metadata"]["name"] == name)


def environment(container: Object) -> dict[str, str]:
    """What Kubernetes puts into a container's environment."""
    values = {}
    for entry in container.get("env", []):
        source = entry.get("valueFrom", {})
        if "fieldRef" in source:
            values[entry["name"]] = POD_FIELDS[source["fieldRef"]["fieldPath"]]
        elif "secretKeyRef" in source:
            values[entry["name"]] = "postgresql+asyncpg://user:password@host/database"
        else:
            values[entry["name"]] = entry["value"]
    return values


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Reads a configuration as its container does: the ConfigMap, the environment, the secrets where they are mounted."""

    def read(half: str, config: str, container: Object) -> Any:
        for key, value in secret(f"trunkside-{half}").items():
            (tmp_path / key).write_text(value)
        file = tmp_path / f"{half}.yaml"
        file.write_text(config.replace(SECRETS, str(tmp_path)))
        for key, value in environment(container).items():
            if not key.startswith("TRUNKSIDE_INJECT__"):
                monkeypatch.setenv(key, value.replace(SECRETS, str(tmp_path)))
        return (sidecar.config if half == "sidecar" else control.config).load(file)

    return read


def loaded_sidecar(load: Any, folder: str) -> sidecar.config.SidecarConfig:
    config: sidecar.config.SidecarConfig = load(
        "sidecar", find(rendered(folder), "ConfigMap", "trunkside-sidecar")["data"]["sidecar.yaml"], sidecar_of(folder)
    )
    return config


@pytest.mark.parametrize("folder", [*CONTROL, *AGENTS])
def test_every_object_is_valid_for_every_kubernetes_version(folder: str) -> None:
    assert versions()[0] == "1.29"
    assert len(versions()) >= 6
    for item in rendered(folder):
        for version in versions():
            validate(item, version)


def test_validation_finds_a_typing_error() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"prots": []}}
    with pytest.raises(AssertionError, match="prots"):
        validate(service, "1.29")
    spec = {"secretName": "x", "issuerRef": {"name": "y"}, "dnsName": ["z"]}
    with pytest.raises(AssertionError, match="dnsName"):
        validate({"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": "x"}, "spec": spec}, "1.29")


@pytest.mark.parametrize(
    ("folder", "replicas", "kinds"),
    [
        ("overlays/sqlite", 1, {"PersistentVolumeClaim"}),
        ("overlays/postgresql", None, {"PodDisruptionBudget", "HorizontalPodAutoscaler"}),
        (
            "overlays/postgresql-injector",
            None,
            {"PodDisruptionBudget", "HorizontalPodAutoscaler", "MutatingWebhookConfiguration", "Issuer", "Certificate"},
        ),
    ],
)
def test_each_overlay_has_what_its_database_allows(folder: str, replicas: int | None, kinds: set[str]) -> None:
    always = {"Namespace", "Deployment", "Service", "ConfigMap", "NetworkPolicy", "ServiceMonitor"}
    assert {item["kind"] for item in rendered(folder)} == always | kinds
    spec = find(rendered(folder), "Deployment", "trunkside-control")["spec"]
    assert spec.get("replicas") == replicas
    assert (spec["strategy"]["type"] == "Recreate") is (replicas == 1)


@pytest.mark.parametrize("folder", CONTROL)
def test_controls_configuration_works(folder: str, load: Any) -> None:
    objects = rendered(folder)
    container = pod_of(objects, "trunkside-control")["containers"][0]
    config = load("control", find(objects, "ConfigMap", "trunkside-control")["data"]["control.yaml"], container)
    assert {scope for token in config.tokens for scope in token.scopes} == {"sidecar", "sync", "read", "operate"}
    assert config.database.startswith("sqlite" if folder.endswith("sqlite") else "postgresql")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert control.config.split_address(config.listen)[1] == ports["http"]


@pytest.mark.parametrize("folder", AGENTS)
def test_the_sidecars_configuration_works(folder: str, load: Any) -> None:
    config = loaded_sidecar(load, folder)
    assert config.name == "voice-agent-7d9"
    assert config.sip.advertise == ("192.0.2.9" if folder.endswith("host-network") else "10.1.2.3")
    assert config.control.token is not None


def test_the_redirect_shows_callers_the_agents_own_port(load: Any) -> None:
    config = loaded_sidecar(load, "agent/redirect")
    redirect = environment(named(pod_of(rendered("agent/redirect"), "voice-agent")["initContainers"], "trunkside-redirect"))
    local = config.sip.endpoints[0].addr
    assert redirect == {"AGENT_PORT": "5060", "SIDECAR_PORT": str(local[1])}
    assert config.sip.shown(local) == ("10.1.2.3", 5060)
    assert config.routes[0].target == "sip:127.0.0.1:5060"


@pytest.mark.parametrize("folder", AGENTS)
def test_the_sidecar_is_native_and_the_agent_starts_after_it_is_ready(folder: str) -> None:
    container = sidecar_of(folder)
    assert container["restartPolicy"] == "Always"
    assert container["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez", "readiness would restart a draining sidecar and cut its calls"


@pytest.mark.parametrize("folder", AGENTS)
def test_the_drain_begins_with_the_pods_end_and_the_agent_waits_for_it(folder: str, load: Any) -> None:
    spec = pod_of(rendered(folder), "voice-agent")
    config = loaded_sidecar(load, folder)
    port = sidecar.config.parse_listen(config.admin.listen)[1]
    assert f"http://127.0.0.1:{port}/v1/drain" in sidecar_of(folder)["lifecycle"]["preStop"]["exec"]["command"][-1]
    assert spec["containers"][0]["lifecycle"]["preStop"]["httpGet"]["path"] == "/v1/drained"
    assert spec["containers"][0]["lifecycle"]["preStop"]["httpGet"]["port"] == port
    assert spec["terminationGracePeriodSeconds"] > sum(config.drain.model_dump().values()) + 10


@pytest.mark.parametrize("folder", AGENTS)
def test_ports_are_those_of_the_configuration(folder: str, load: Any) -> None:
    config = loaded_sidecar(load, folder)
    ports = {port["name"]: port["containerPort"] for port in sidecar_of(folder)["ports"]}
    assert ports == {"sip": config.sip.endpoints[0].addr[1], "admin": sidecar.config.parse_listen(config.admin.listen)[1]}
    if folder != "agent/host-network":
        opened = find(rendered(folder), "NetworkPolicy", "voice-agent")["spec"]["ingress"][0]["ports"]
        assert {(port["port"], port.get("endPort", port["port"])) for port in opened} >= {(ports["sip"], ports["sip"]), config.media.ports}


def test_on_the_nodes_network_only_loopback_reaches_the_admin_port(load: Any) -> None:
    spec = pod_of(rendered("agent/host-network"), "voice-agent")
    assert (spec["hostNetwork"], spec["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
    assert loaded_sidecar(load, "agent/host-network").admin.listen == "127.0.0.1:9090"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert sidecar_of("agent/host-network")[probe]["httpGet"]["host"] == "127.0.0.1"


@pytest.mark.parametrize("folder", AGENTS)
def test_sidecars_and_agents_reach_control_by_its_service(folder: str, load: Any) -> None:
    service = find(rendered("overlays/sqlite"), "Service", "trunkside-control")
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
    near = find(rendered(folder), "Deployment", "voice-agent")["metadata"]["namespace"] == service["metadata"]["namespace"]
    url = f"http://{name}{'' if near else '.trunkside'}:{port}"
    agent = environment(pod_of(rendered(folder), "voice-agent")["containers"][0])
    assert loaded_sidecar(load, folder).control.url == url == agent["TUNER_BASE_URL"]


@pytest.mark.parametrize("folder", [*CONTROL, *AGENTS])
def test_containers_run_with_least_privilege_and_mount_what_is_declared(folder: str) -> None:
    spec = next(item for item in rendered(folder) if item["kind"] == "Deployment")["spec"]["template"]["spec"]
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    for container in containers:
        context = container["securityContext"]
        assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
        extra = ["NET_ADMIN"] if container["name"] == "trunkside-redirect" else None
        assert (context["capabilities"]["drop"], context["capabilities"].get("add")) == (["ALL"], extra)
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    used = {mount["name"] for container in containers for mount in container.get("volumeMounts", [])}
    assert used == {volume["name"] for volume in spec["volumes"]}


@pytest.mark.parametrize("folder", AGENTS)
def test_what_is_written_lies_on_a_volume(folder: str, load: Any) -> None:
    spool = str(loaded_sidecar(load, folder).spool.path)
    assert any(spool.startswith(mount["mountPath"] + "/") for mount in sidecar_of(folder)["volumeMounts"] if not mount.get("readOnly"))


def test_the_injected_sidecar_is_the_one_of_the_agents_pod() -> None:
    template = load_template(K8S / "components" / "injector" / "template.yaml")
    agent = sidecar_of("agent/base")
    same = ["args", "ports", "startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "resources", "volumeMounts", "image"]
    assert {key: template.sidecar[key] for key in same} == {key: agent[key] for key in same}
    spec = pod_of(rendered("agent/redirect"), "voice-agent")
    assert template.terminationGracePeriodSeconds == spec["terminationGracePeriodSeconds"]
    redirect = named(spec["initContainers"], "trunkside-redirect")
    assert template.redirect is not None
    assert template.redirect["image"] == redirect["image"]
    assert template.redirect["securityContext"]["capabilities"] == redirect["securityContext"]["capabilities"]


def test_the_webhook_is_reached_where_control_serves_it() -> None:
    objects = rendered("overlays/postgresql-injector")
    service = find(objects, "Service", "trunkside-webhook")
    container = pod_of(objects, "trunkside-control")["containers"][0]
    env = environment(container)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert control.config.split_address(env["TRUNKSIDE_INJECT__LISTEN"])[1] == ports[service["spec"]["ports"][0]["targetPort"]]
    configuration = find(objects, "MutatingWebhookConfiguration", "trunkside-injector")
    for webhook in configuration["webhooks"]:
        reference = webhook["clientConfig"]["service"]
        assert (reference["name"], reference["namespace"]) == (service["metadata"]["name"], service["metadata"]["namespace"])
        assert reference["port"] == service["spec"]["ports"][0]["port"]
    certificate = find(objects, "Certificate", "trunkside-webhook")
    assert f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc" in certificate["spec"]["dnsNames"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(Path(env[f"TRUNKSIDE_INJECT__{key}"]).parent) for key in ("CERTIFICATE", "KEY", "TEMPLATE")} <= mounted


def test_no_secret_has_a_value_that_works() -> None:
    for name in ("trunkside-sidecar", "trunkside-control", "voice-agent"):
        assert all(value.startswith("replace: ") for value in secret(name).values())
