"""The admission webhook as the API server asks it: over TLS, with real AdmissionReviews; its answers make pods that Kubernetes accepts."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import jsonpatch
import pytest
import trustme
from cryptography import x509

from control.app import serving
from control.config import ControlConfig
from control.errors import StartupError
from control.inject import files
from tests.support.kube import K8S, validate, versions
from tests.support.product import free_port

HOST = "trunkside-webhook.trunkside.svc"
LABELS = {"trunkside.dev/inject": "enabled", "app": "agent"}


@dataclass
class Webhook:
    """A running webhook, its authority, and the files that it reads."""

    port: int
    authority: trustme.CA
    certificate: Path
    key: Path
    template: Path

    async def ask(self, body: bytes | io.BytesIO, path: str = "/inject") -> tuple[int, Any]:
        """POST as the API server does: it verifies the Service's name."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        async with aiohttp.ClientSession() as client:
            url = f"https://127.0.0.1:{self.port}{path}?timeout=5s"
            headers = {"Content-Type": "application/json"}
            async with client.post(url, data=body, headers=headers, ssl=context, server_hostname=HOST) as response:
                text = await response.text()
                return response.status, json.loads(text) if response.status == 200 else text

    def serial(self) -> int:
        """The serial number of the certificate that a new connection is shown."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        with socket.create_connection(("127.0.0.1", self.port)) as raw, context.wrap_socket(raw, server_hostname=HOST) as tls:
            shown = tls.getpeercert(binary_form=True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown).serial_number

    def issue(self) -> int:
        """Put a new certificate where the webhook reads it; returns its serial number."""
        issued = self.authority.issue_cert(HOST)
        issued.private_key_pem.write_to_path(str(self.key))
        issued.cert_chain_pems[0].write_to_path(str(self.certificate))
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()).serial_number


@pytest.fixture
async def webhook(tmp_path: Path) -> AsyncIterator[Webhook]:
    made = Webhook(
        free_port("127.0.0.1", socket.SOCK_STREAM), trustme.CA(), tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "template.yaml"
    )
    made.issue()
    made.template.write_text((K8S / "components" / "injector" / "template.yaml").read_text(encoding="utf-8"))
    async with serving(config(tmp_path, made)):
        yield made


def config(folder: Path, made: Webhook) -> ControlConfig:
    inject = {"listen": f"127.0.0.1:{made.port}", "certificate": made.certificate, "key": made.key, "template": made.template}
    return ControlConfig(listen="127.0.0.1:0", database=f"sqlite+aiosqlite:///{folder}/control.db", inject=inject)


def admission(pod: dict[str, Any]) -> bytes:
    """As the API server of Kubernetes 1.29 and later sends it for `kubectl run`."""
    kind, resource = {"group": "", "version": "v1", "kind": "Pod"}, {"group": "", "version": "v1", "resource": "pods"}
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "name": "agent",
        "namespace": "voice",
        "operation": "CREATE",
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller", "groups": ["system:authenticated"]},
        "object": pod,
        "oldObject": None,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    return json.dumps({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}).encode()


def pod(containers: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    metadata = {"name": "agent", "namespace": "voice", "labels": LABELS, **more.pop("metadata", {})}
    spec = {"containers": containers, "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", **more}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec}


def container(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": f"{name}:1", "resources": {}, "imagePullPolicy": "IfNotPresent", **more}


PODS = {
    "one": pod([container("agent")]),
    "several": pod([container("agent", env=[{"name": "A", "value": "b"}]), container("helper"), container("logs")]),
    "with initContainers": pod([container("agent")], initContainers=[container("fetch"), container("proxy", restartPolicy="Always")]),
    "with volumes and annotations": pod(
        [container("agent", volumeMounts=[{"name": "models", "mountPath": "/models"}])],
        volumes=[{"name": "models", "emptyDir": {}}],
        metadata={"annotations": {"prometheus.io/scrape": "true"}},
        terminationGracePeriodSeconds=30,
    ),
    "in the node's network": pod([container("agent")], hostNetwork=True),
    "redirected": pod([container("agent")], metadata={"annotations": {"trunkside.dev/redirect": "5060"}}),
    "shaped": pod([container("agent")], metadata={"annotations": {"trunkside.dev/rtp-ports": "31000-31999", "trunkside.dev/cpu": "1"}}),
}


def patched(given: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    response = answer["response"]
    assert response["allowed"] is True
    if "patch" not in response:
        return given
    assert response["patchType"] == "JSONPatch"
    after: dict[str, Any] = jsonpatch.apply_patch(given, json.loads(base64.b64decode(response["patch"])))
    return after


@pytest.mark.parametrize("name", PODS)
async def test_the_patch_makes_a_valid_pod_and_a_second_one_changes_nothing(webhook: Webhook, name: str) -> None:
    status, answer = await webhook.ask(admission(PODS[name]))
    assert (status, answer["response"]["uid"]) == (200, "705ab4f5-6393-11e8-b7cc-42010a800002")
    after = patched(PODS[name], answer)
    assert "trunkside" in [each["name"] for each in after["spec"]["initContainers"]]
    for version in versions():
        validate(after, version)
    _, again = await webhook.ask(admission(after))
    assert patched(after, again) == after


async def test_a_pod_without_containers_is_left_for_kubernetes_to_refuse(webhook: Webhook) -> None:
    status, answer = await webhook.ask(admission(pod([])))
    assert status == 200
    assert patched(pod([]), answer)["spec"]["containers"] == []


async def test_opting_out_and_a_namespace_that_asks(webhook: Webhook) -> None:
    silent = pod([container("agent")], metadata={"labels": {"app": "agent"}})
    out = pod([container("agent")], metadata={"labels": {"trunkside.dev/inject": "disabled"}})
    assert patched(silent, (await webhook.ask(admission(silent)))[1]) == silent
    assert patched(silent, (await webhook.ask(admission(silent), "/inject/namespace"))[1]) != silent
    for path in ("/inject", "/inject/namespace"):
        assert patched(out, (await webhook.ask(admission(out), path))[1]) == out


async def test_a_refusal_reaches_the_one_who_made_the_pod(webhook: Webhook) -> None:
    bad = pod([container("agent")], metadata={"annotations": {"trunkside.dev/rtp-ports": "9"}})
    _, answer = await webhook.ask(admission(bad))
    assert answer["response"]["allowed"] is False
    assert "trunkside.dev/rtp-ports: '9' is not a range" in answer["response"]["status"]["message"]


async def test_malformed_reviews_get_400_and_the_webhook_goes_on(webhook: Webhook) -> None:
    for body in (b"", b"\xff\xfe", b"{}", b"[]", json.dumps({"kind": "AdmissionReview"}).encode()):
        assert (await webhook.ask(body))[0] == 400
    assert (await webhook.ask(io.BytesIO(b"x" * (4 * 1024 * 1024))))[0] == 413
    assert (await webhook.ask(admission(PODS["one"])))[0] == 200


async def test_nothing_else_of_control_is_reached_through_the_port(webhook: Webhook) -> None:
    assert (await webhook.ask(b"", "/v1/ingest/facts"))[0] == 404


async def test_a_renewed_certificate_is_taken_into_use(webhook: Webhook) -> None:
    first = await asyncio.to_thread(webhook.serial)
    certificates = files.Certificates(webhook.certificate, webhook.key)
    assert not certificates.refresh()
    second = webhook.issue()
    assert first != second
    assert certificates.refresh()
    webhook.key.write_text("half writ")
    assert not certificates.refresh()


async def test_the_running_webhook_follows_its_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOOK_EVERY_S", 0.05)
    made = Webhook(
        free_port("127.0.0.1", socket.SOCK_STREAM),
        trustme.CA(),
        tmp_path / "tls.crt",
        tmp_path / "tls.key",
        K8S / "components" / "injector" / "template.yaml",
    )
    made.issue()
    async with serving(config(tmp_path, made)):
        good = made.issue()
        async with asyncio.timeout(10):
            while await asyncio.to_thread(made.serial) != good:
                await asyncio.sleep(0.02)
        made.key.write_text("half writ")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                while await asyncio.to_thread(made.serial) == good:
                    await asyncio.sleep(0.02)
        assert await asyncio.to_thread(made.serial) == good, "a file that cannot be used cost the certificate in force"


async def test_a_changed_template_is_taken_into_use_and_a_broken_one_is_not(webhook: Webhook) -> None:
    text = webhook.template.read_text()
    webhook.template.write_text(text.replace("trunkside:0.1.0", "trunkside:0.2.0-rc"))
    after = patched(PODS["one"], (await webhook.ask(admission(PODS["one"])))[1])
    assert after["metadata"]["annotations"]["trunkside.dev/injected"] == "trunkside:0.2.0-rc"
    webhook.template.write_text("sidecar: [")
    after = patched(PODS["one"], (await webhook.ask(admission(PODS["one"])))[1])
    assert after["metadata"]["annotations"]["trunkside.dev/injected"] == "trunkside:0.2.0-rc"


async def test_a_busy_port_stops_the_start(webhook: Webhook, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(StartupError, match=f"127.0.0.1:{webhook.port} cannot be used"):
        async with serving(config(other, webhook)):
            pass


def test_files_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    made = Webhook(1, trustme.CA(), tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "template.yaml")
    made.issue()
    with pytest.raises(ValueError, match=r"template\.yaml cannot be read"):
        config(tmp_path, made)
    made.template.write_text((K8S / "components" / "injector" / "template.yaml").read_text(encoding="utf-8"))
    made.key.write_text("no key")
    with pytest.raises(ValueError, match="cannot be used"):
        config(tmp_path, made)
