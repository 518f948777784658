"""The Helm chart: valid objects, the same as those of the kustomizations, and no value that is silently ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from control.inject.template import load_template
from tests.support.kube import K8S, Object, find, helm_template, kustomize, pod_of, validate, versions

POSTGRESQL = "database.kind=postgresql"
INJECTOR = "injector.enabled=true"
EVERYTHING = [POSTGRESQL, INJECTOR, "injector.certManager=true", "serviceMonitor.enabled=true"]


@pytest.mark.parametrize("values", [[], [POSTGRESQL], [INJECTOR], EVERYTHING], ids=["plain", "postgresql", "injector", "everything"])
def test_every_object_is_valid_for_every_kubernetes_version(values: list[str]) -> None:
    for item in helm_template(*values):
        for version in versions():
            validate(item, version)


def plain(pod: Object) -> dict[str, Any]:
    """A pod specification without what legitimately differs: generated names, the image's full name, the order of lists."""
    container = pod["containers"][0]
    kept = {key: value for key, value in container.items() if key not in ("image", "imagePullPolicy", "env", "ports", "volumeMounts")}
    volumes = [{**volume, "configMap": {}} if "configMap" in volume else volume for volume in pod["volumes"]]
    return {
        **{key: value for key, value in pod.items() if key not in ("containers", "volumes")},
        "container": kept,
        "ports": sorted(container["ports"], key=lambda port: str(port["name"])),
        "env": sorted(container["env"], key=lambda entry: str(entry["name"])),
        "mounts": sorted(container["volumeMounts"], key=lambda mount: str(mount["name"])),
        "volumes": sorted(volumes, key=lambda volume: str(volume["name"])),
    }


@pytest.mark.parametrize(
    ("values", "overlay"),
    [([], "overlays/sqlite"), ([POSTGRESQL], "overlays/postgresql"), (EVERYTHING, "overlays/postgresql-injector")],
)
def test_the_chart_gives_what_the_kustomization_gives(values: list[str], overlay: str) -> None:
    chart, overlaid = helm_template(*values), kustomize(K8S / overlay)
    assert plain(pod_of(chart, "trunkside-control")) == plain(pod_of(overlaid, "trunkside-control"))
    for kind, name in [
        ("NetworkPolicy", "trunkside-control"),
        ("PodDisruptionBudget", "trunkside-control"),
        ("HorizontalPodAutoscaler", "trunkside-control"),
        ("Service", "trunkside-webhook"),
        ("NetworkPolicy", "trunkside-webhook"),
        ("Certificate", "trunkside-webhook"),
        ("PersistentVolumeClaim", "trunkside-control"),
    ]:
        there = [item for item in overlaid if (item["kind"], item["metadata"]["name"]) == (kind, name)]
        assert [item["spec"] for item in chart if (item["kind"], item["metadata"]["name"]) == (kind, name)] == [
            item["spec"] for item in there
        ]


def test_the_configurations_are_the_same() -> None:
    chart = helm_template()
    for name, file in (
        ("trunkside-control", K8S / "base" / "config" / "control.yaml"),
        ("trunkside-sidecar", K8S / "agent/base/config/sidecar.yaml"),
    ):
        (text,) = find(chart, "ConfigMap", name)["data"].values()
        assert yaml.safe_load(text) == yaml.safe_load(file.read_text(encoding="utf-8"))


def test_the_injector_adds_the_same_sidecar_and_is_configured_alike(tmp_path: Path) -> None:
    chart = helm_template(*EVERYTHING)
    file = tmp_path / "template.yaml"
    file.write_text(find(chart, "ConfigMap", "trunkside-inject")["data"]["template.yaml"])
    assert load_template(file) == load_template(K8S / "components" / "injector" / "template.yaml")
    theirs = find(kustomize(K8S / "overlays" / "postgresql-injector"), "MutatingWebhookConfiguration", "trunkside-injector")
    assert find(chart, "MutatingWebhookConfiguration", "trunkside-injector")["webhooks"] == theirs["webhooks"]


def test_helm_makes_a_certificate_that_the_api_server_is_told_to_trust() -> None:
    chart = helm_template(INJECTOR)
    secret = find(chart, "Secret", "trunkside-webhook-tls")
    for webhook in find(chart, "MutatingWebhookConfiguration", "trunkside-injector")["webhooks"]:
        assert webhook["clientConfig"]["caBundle"] == secret["data"]["ca.crt"]


@pytest.mark.parametrize(
    "value", ["databse.kind=sqlite", "database.kind=mysql", "injector.failurePolicy=Maybe", "image.digest=sha256:short"]
)
def test_a_value_that_means_nothing_stops_the_installation(value: str) -> None:
    with pytest.raises(AssertionError, match="values"):
        helm_template(value)


def test_a_digest_counts_in_place_of_the_tag() -> None:
    digest = "sha256:" + "ab" * 32
    assert pod_of(helm_template(f"image.digest={digest}"), "trunkside-control")["containers"][0]["image"] == f"trunkside@{digest}"
