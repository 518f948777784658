"""Whether a pod gets the sidecar, and the JSON Patch (RFC 6902) that gives it. Pure: the pod and the template in, operations out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from control.inject.overrides import INJECT, INJECTED, BadAnnotation, on_host_network, read_overrides, shaped
from control.inject.template import Piece, Template

Operation = dict[str, Any]
Asked = Literal["pod", "namespace"]
"""Why the webhook is asked: the pod is labelled, or its namespace is and the pod may still opt out."""
DEFAULT_GRACE_S = 30
"""Kubernetes' own default of terminationGracePeriodSeconds."""


class NotAPod(Exception):
    """The object is not a pod that could be patched. The text says why."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a pod: `reason` for the log, `refusal` when it must not start as it is."""

    reason: str
    patch: list[Operation] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refusal: str | None = None


def decide(pod: Piece, template: Template, asked: Asked) -> Decision:
    """The decision on one pod. Raises NotAPod."""
    metadata, spec = _mapping(pod, "metadata"), _mapping(pod, "spec")
    annotations = _texts(metadata, "annotations")
    wish = _texts(metadata, "labels").get(INJECT, annotations.get(INJECT, ""))
    if "disabled" in (wish, annotations.get(INJECT)):  # one way out is enough, also out of a label that came with the pod's template
        return Decision("opted out")
    if wish not in ("enabled", ""):
        return Decision("not asked for", warnings=[f'{INJECT}: {wish!r} is neither "enabled" nor "disabled"; no sidecar was added'])
    if not wish and asked == "pod":
        return Decision("not asked for")
    containers, first = _pieces(spec, "containers"), _pieces(spec, "initContainers")
    if template.sidecar["name"] in {container.get("name") for container in (*first, *containers)}:
        return Decision("already injected")
    try:
        wanted = shaped(on_host_network(template) if spec.get("hostNetwork") is True else template, read_overrides(annotations))
    except BadAnnotation as error:
        return Decision("annotation refused", refusal=str(error))
    return Decision("injected", _patch(metadata, spec, wanted))


def _patch(metadata: Piece, spec: Piece, wanted: Template) -> list[Operation]:
    """The operations, in an order in which each finds what it needs."""
    containers, first = _pieces(spec, "containers"), _pieces(spec, "initContainers")
    # In front of the pod's own init containers: those may already need the sidecar, and the redirect must stand before anything listens.
    added = [*([wanted.redirect] if wanted.redirect is not None else []), wanted.sidecar]
    patch = _prepend("/spec/initContainers", added, bool(first))
    taken = {volume.get("name") for volume in _pieces(spec, "volumes")}
    volumes = [volume for volume in wanted.volumes if volume["name"] not in taken]
    patch += _append("/spec/volumes", volumes, bool(taken))
    for index, container in enumerate(containers):
        patch += _equip(f"/spec/containers/{index}", container, wanted)
    grace = spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S)
    if not isinstance(grace, int) or grace < wanted.terminationGracePeriodSeconds:
        patch.append(_add("/spec/terminationGracePeriodSeconds", wanted.terminationGracePeriodSeconds))
    if not metadata.get("annotations"):
        patch.append(_add("/metadata/annotations", {INJECTED: wanted.sidecar["image"]}))
    else:
        patch.append(_add(f"/metadata/annotations/{INJECTED.replace('/', '~1')}", wanted.sidecar["image"]))
    return patch


def _equip(path: str, container: Piece, wanted: Template) -> list[Operation]:
    """The agent's own containers learn where their reports go, and wait for the last call before they end."""
    known = {entry.get("name") for entry in _pieces(container, "env")}
    patch = _append(f"{path}/env", [entry for entry in wanted.agentEnv if entry.get("name") not in known], bool(known))
    if wanted.agentLifecycle is not None and not container.get("lifecycle"):
        patch.append(_add(f"{path}/lifecycle", wanted.agentLifecycle))
    return patch


def _add(path: str, value: object) -> Operation:
    return {"op": "add", "path": path, "value": value}


def _prepend(path: str, items: list[Piece], exists: bool) -> list[Operation]:
    return [_add(f"{path}/{index}", item) for index, item in enumerate(items)] if exists else [_add(path, items)]


def _append(path: str, items: list[Piece], exists: bool) -> list[Operation]:
    if not items:
        return []
    return [_add(f"{path}/-", item) for item in items] if exists else [_add(path, items)]


def _mapping(parent: Piece, key: str) -> Piece:
    value = parent.get(key)
    if not isinstance(value, dict):
        raise NotAPod(f"{key} is missing or no object")
    return value


def _texts(parent: Piece, key: str) -> dict[str, str]:
    value = parent.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise NotAPod(f"metadata.{key} is no mapping of texts")
    return value


def _pieces(parent: Piece, key: str) -> list[Piece]:
    value = parent.get(key) or []
    if not isinstance(value, list) or not all(isinstance(piece, dict) for piece in value):
        raise NotAPod(f"{key} is no list of objects")
    return value
