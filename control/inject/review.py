"""AdmissionReview, version v1: what the API server asks and what it is answered."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from control.inject.patch import Asked, Decision, NotAPod, decide
from control.inject.template import Template

VERSION = "admission.k8s.io/v1"
UNPROCESSABLE = 422


class Malformed(Exception):
    """The body is no AdmissionReview; the API server then does as the webhook's failurePolicy says. The text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """The answer, and what the log says of it."""

    body: dict[str, Any]
    decision: Decision
    namespace: str
    pod: str


def review(body: bytes, template: Template, asked: Asked) -> Reviewed:
    """Answer one AdmissionReview. Raises Malformed."""
    request = _request(body)
    pod = request.get("object")
    if not isinstance(pod, dict):
        raise Malformed("request.object is missing or no object")
    if request.get("operation", "CREATE") != "CREATE" or pod.get("kind", "Pod") != "Pod":
        decision = Decision("not the creation of a pod")
    else:
        try:
            decision = decide(pod, template, asked)
        except NotAPod as error:
            raise Malformed(f"request.object: {error}") from None
    metadata = pod.get("metadata")
    name = (metadata.get("name") or metadata.get("generateName")) if isinstance(metadata, dict) else None
    answer = {"apiVersion": VERSION, "kind": "AdmissionReview", "response": _response(request["uid"], decision)}
    return Reviewed(answer, decision, str(request.get("namespace") or ""), str(name or ""))


def _request(body: bytes) -> dict[str, Any]:
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        raise Malformed("the body is no JSON") from None
    if not isinstance(read, dict) or read.get("kind") != "AdmissionReview" or read.get("apiVersion") != VERSION:
        raise Malformed(f"the body is no AdmissionReview of {VERSION}")
    request = read.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str) or not request["uid"]:
        raise Malformed("request.uid is missing")
    return request


def _response(uid: str, decision: Decision) -> dict[str, Any]:
    response: dict[str, Any] = {"uid": uid, "allowed": decision.refusal is None}
    if decision.refusal is not None:
        response["status"] = {"code": UNPROCESSABLE, "message": f"trunkside: {decision.refusal}"}
    if decision.warnings:
        response["warnings"] = [f"trunkside: {warning}" for warning in decision.warnings]
    if decision.patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(json.dumps(decision.patch).encode()).decode()
    return response
