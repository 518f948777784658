"""Whether a pod gets the sidecar, and a patch that any JSON Patch library applies to a pod which Kubernetes accepts."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import jsonpatch
import pytest

from control.inject.overrides import KNOWN
from control.inject.patch import decide
from control.inject.review import Malformed, review
from control.inject.template import load_template

TEMPLATE = load_template(Path(__file__).parents[3] / "k8s" / "components" / "injector" / "template.yaml")
ENABLED = {"trunkside.dev/inject": "enabled"}
AGENT = {"name": "agent", "image": "voice-agent:1"}
Pod = dict[str, Any]


def pod(*containers: dict[str, Any], labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None, **spec: Any) -> Pod:
    metadata: dict[str, Any] = {"generateName": "agent-7d9-", "labels": ENABLED if labels is None else labels}
    if annotations is not None:
        metadata["annotations"] = annotations
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": list(containers or (AGENT,)), **spec}}


def annotated(**annotations: str) -> Pod:
    return pod(annotations={f"trunkside.dev/{name.replace('_', '-')}": value for name, value in annotations.items()})


def injected(given: Pod) -> Pod:
    decision = decide(given, TEMPLATE, "pod")
    assert decision.reason == "injected", decision
    before = copy.deepcopy(given)
    after: Pod = jsonpatch.apply_patch(given, decision.patch)
    assert given == before, "the decision changed its input"
    return after


def sidecar(of: Pod) -> dict[str, Any]:
    found: dict[str, Any] = next(container for container in of["spec"]["initContainers"] if container["name"] == "trunkside")
    return found


def env(of: Pod) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in sidecar(of)["env"] if "value" in entry}


def review_of(given: object, uid: str = "705ab4f5", **more: Any) -> bytes:
    request = {"uid": uid, "operation": "CREATE", "namespace": "voice", "object": given, **more}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


def test_a_pod_gets_the_sidecar_and_what_it_needs() -> None:
    after = injected(pod())
    assert sidecar(after) == TEMPLATE.sidecar
    assert {volume["name"] for volume in after["spec"]["volumes"]} == {"trunkside-config", "trunkside-secrets", "trunkside-spool"}
    assert after["spec"]["terminationGracePeriodSeconds"] == 330
    assert after["metadata"]["annotations"] == {"trunkside.dev/injected": TEMPLATE.sidecar["image"]}


def test_the_sidecar_stands_before_the_pods_own_init_containers() -> None:
    after = injected(pod(initContainers=[{"name": "fetch", "image": "fetch:1"}]))
    assert [container["name"] for container in after["spec"]["initContainers"]] == ["trunkside", "fetch"]


def test_what_the_pod_has_stays() -> None:
    volume = {"name": "models", "emptyDir": {}}
    given = pod(AGENT, {"name": "helper", "image": "helper:1"}, annotations={"a": "b"}, volumes=[volume], terminationGracePeriodSeconds=900)
    after = injected(given)
    assert after["spec"]["volumes"][0] == volume
    assert after["spec"]["terminationGracePeriodSeconds"] == 900
    assert after["metadata"]["annotations"]["a"] == "b"
    assert [container["name"] for container in after["spec"]["containers"]] == ["agent", "helper"]


def test_every_container_learns_where_reports_go_unless_it_knows() -> None:
    own = {"name": "TUNER_BASE_URL", "value": "http://elsewhere"}
    after = injected(pod({**AGENT, "env": [own]}, {"name": "helper", "image": "helper:1"}))
    first, second = ({entry["name"]: entry["value"] for entry in container["env"]} for container in after["spec"]["containers"])
    assert first["TUNER_BASE_URL"] == "http://elsewhere"
    assert second["TUNER_BASE_URL"] == "http://trunkside-control.trunkside:8080"
    assert first["TRUNKSIDE_ADMIN_URL"] == second["TRUNKSIDE_ADMIN_URL"]


def test_a_container_with_a_lifecycle_keeps_it() -> None:
    own = {"preStop": {"exec": {"command": ["drain"]}}}
    after = injected(pod({**AGENT, "lifecycle": own}))
    assert after["spec"]["containers"][0]["lifecycle"] == own
    assert injected(pod())["spec"]["containers"][0]["lifecycle"] == TEMPLATE.agentLifecycle


def test_a_second_time_changes_nothing() -> None:
    again = decide(injected(pod()), TEMPLATE, "pod")
    assert (again.reason, again.patch) == ("already injected", [])


@pytest.mark.parametrize("asked", ["pod", "namespace"])
def test_opting_out_counts_in_either_place(asked: Any) -> None:
    assert decide(pod(labels={"trunkside.dev/inject": "disabled"}), TEMPLATE, asked).reason == "opted out"
    for labels in ({}, {"trunkside.dev/inject": "enabled"}):
        assert decide(pod(labels=labels, annotations={"trunkside.dev/inject": "disabled"}), TEMPLATE, asked).reason == "opted out"


def test_a_pod_without_a_word_is_for_its_namespace_to_decide() -> None:
    assert decide(pod(labels={}), TEMPLATE, "pod").patch == []
    assert decide(pod(labels={}), TEMPLATE, "namespace").reason == "injected"


def test_another_word_is_told_and_changes_nothing() -> None:
    decision = decide(pod(labels={"trunkside.dev/inject": "true"}), TEMPLATE, "namespace")
    assert (decision.patch, decision.refusal) == ([], None)
    assert "'true'" in decision.warnings[0]


def test_annotations_shape_the_sidecar() -> None:
    after = injected(
        annotated(
            image="mirror.example/trunkside@sha256:" + "0" * 64,
            config="my-config",
            secret="my-secret",
            target="sip:bot@127.0.0.1:5080",
            platform="livekit",
            sip_port="5062",
            rtp_ports="31000-31099",
            control_url="https://control.example",
            drain_seconds="600",
            cpu="2",
            memory="1Gi",
        )
    )
    settings = env(after)
    assert sidecar(after)["image"].startswith("mirror.example/")
    volumes = {volume["name"]: volume for volume in after["spec"]["volumes"]}
    assert volumes["trunkside-config"]["configMap"] == {"name": "my-config"}
    assert volumes["trunkside-secrets"]["secret"]["secretName"] == "my-secret"
    assert json.loads(settings["TRUNKSIDE_ROUTES"]) == [
        {"name": "agent", "match": {"user": "*"}, "target": "sip:bot@127.0.0.1:5080", "platform": "livekit"}
    ]
    assert json.loads(settings["TRUNKSIDE_SIP__LISTEN"]) == ["udp://0.0.0.0:5062"]
    assert json.loads(settings["TRUNKSIDE_MEDIA__PORTS"]) == [31000, 31099]
    assert settings["TRUNKSIDE_CONTROL__URL"] == "https://control.example"
    assert settings["TRUNKSIDE_DRAIN__DEADLINE_S"] == "600"
    assert after["spec"]["terminationGracePeriodSeconds"] == 690
    assert sidecar(after)["resources"] == {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {}}
    assert [port["containerPort"] for port in sidecar(after)["ports"]] == [5062, 9090]


def test_a_redirect_puts_the_sidecar_before_the_agents_own_port() -> None:
    after = injected(annotated(redirect="5080"))
    assert [container["name"] for container in after["spec"]["initContainers"]] == ["trunkside-redirect", "trunkside"]
    rules = {entry["name"]: entry["value"] for entry in after["spec"]["initContainers"][0]["env"]}
    assert rules == {"SIDECAR_PORT": "15060", "AGENT_PORT": "5080"}
    assert json.loads(env(after)["TRUNKSIDE_SIP__LISTEN"]) == ["udp://0.0.0.0:15060"]
    assert env(after)["TRUNKSIDE_SIP__ADVERTISE_PORT"] == "5080"
    assert json.loads(env(after)["TRUNKSIDE_ROUTES"])[0]["target"] == "sip:127.0.0.1:5080"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", "bad image"),
        ("config", "Not_A_Name"),
        ("secret", "-x"),
        ("target", "http://agent"),
        ("platform", "livekit"),  # without a target it would change nothing
        ("platform", "Live Kit"),
        ("sip-port", "80"),
        ("rtp-ports", "31000"),
        ("rtp-ports", "31000-31001"),
        ("rtp-ports", "31099-31000"),
        ("control-url", "control:8080"),
        ("drain-seconds", "soon"),
        ("drain-seconds", "-1"),
        ("cpu", "much"),
        ("memory", "1 GB"),
        ("redirect", "0"),
        ("rtp-prots", "31000-31099"),
    ],
)
def test_an_annotation_that_cannot_be_used_stops_the_pod_and_is_named(name: str, value: str) -> None:
    decision = decide(pod(annotations={f"trunkside.dev/{name}": value}), TEMPLATE, "pod")
    assert decision.patch == []
    assert decision.refusal is not None
    assert decision.refusal.startswith(f"trunkside.dev/{name}: ")


def test_in_the_nodes_network_the_admin_port_is_on_loopback_alone() -> None:
    after = injected(pod(hostNetwork=True))
    assert env(after)["TRUNKSIDE_ADMIN__LISTEN"] == "127.0.0.1:9090"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert sidecar(after)[probe]["httpGet"]["host"] == "127.0.0.1"
    assert after["spec"]["containers"][0]["lifecycle"]["preStop"]["httpGet"]["host"] == "127.0.0.1"
    assert "TRUNKSIDE_ADMIN__LISTEN" not in env(injected(pod())), "the template itself was changed"


def test_a_redirect_and_a_port_contradict_each_other() -> None:
    decision = decide(annotated(redirect="5060", sip_port="5062"), TEMPLATE, "pod")
    assert decision.refusal is not None
    assert "sip-port" in decision.refusal


def test_every_annotation_is_explained() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "guides" / "kubernetes.md").read_text(encoding="utf-8")
    assert [name for name in sorted(KNOWN) if f"`trunkside.dev/{name}`" not in guide] == []


def test_the_answer_carries_the_uid_and_a_patch_in_base64() -> None:
    answer = review(review_of(pod(), uid="u-1"), TEMPLATE, "pod").body
    response = answer["response"]
    assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert (response["uid"], response["allowed"], response["patchType"]) == ("u-1", True, "JSONPatch")
    assert json.loads(base64.b64decode(response["patch"])) == decide(pod(), TEMPLATE, "pod").patch


def test_a_refusal_says_why() -> None:
    response = review(review_of(annotated(cpu="much")), TEMPLATE, "pod").body["response"]
    assert response["allowed"] is False
    assert response["status"]["message"].startswith("trunkside: trunkside.dev/cpu: 'much'")


def test_other_operations_and_kinds_pass() -> None:
    for request in (review_of(pod(), operation="UPDATE"), review_of({"kind": "Service", "metadata": {}, "spec": {}})):
        response = review(request, TEMPLATE, "pod").body["response"]
        assert response == {"uid": "705ab4f5", "allowed": True}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"kind": "AdmissionReview"}',
        b'{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {"uid": "x"}}',
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {}}',
        review_of(None),
        review_of([]),
        review_of({"kind": "Pod"}),
        review_of({"kind": "Pod", "metadata": {}, "spec": []}),
        review_of({"kind": "Pod", "metadata": {"labels": ENABLED}, "spec": {"containers": "agent"}}),
        review_of({"kind": "Pod", "metadata": {"labels": {"trunkside.dev/inject": 1}}, "spec": {"containers": []}}),
    ],
)
def test_what_is_no_review_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        review(body, TEMPLATE, "pod")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("sidecar: {name: x, image: y}\nterminationGracePeriodSeconds: 1", "restartPolicy: Always"),
        ("sidecar: {name: x, restartPolicy: Always}\nterminationGracePeriodSeconds: 1", "name and an image"),
        ("sidecar: {name: x, image: y, restartPolicy: Always}", "terminationGracePeriodSeconds"),
        ("sidecar: {name: x, image: y, restartPolicy: Always}\nterminationGracePeriodSeconds: 1\nvolums: []", "volums"),
        ("sidecar: [", "not valid YAML"),
        ("", "template"),
    ],
)
def test_a_template_that_cannot_work_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "template.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        load_template(file)
