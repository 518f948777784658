"""What a pod's annotations change about its sidecar. Each is checked: one that is silently ignored is found out on the phone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, fields

from control.inject.template import CONFIG_VOLUME, SECRETS_VOLUME, Piece, Template

DOMAIN = "trunkside.dev/"
INJECT = f"{DOMAIN}inject"
INJECTED = f"{DOMAIN}injected"
REDIRECTED_TO = 15060
"""Where the sidecar listens when the agent's own port is redirected to it."""
LOOPBACK = "127.0.0.1"
DRAIN_MARGIN_S = 90
"""What a pod's grace period has beyond the drain's deadline: for goodbyes, the upload of the spool, and the agent's own end."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|[kMGT]i?)?")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,500}")
_URL = re.compile(r"https?://[^\s/]+\S*")
_SIP = re.compile(r"sips?:[^\s<>\"]+")
_WORD = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class BadAnnotation(Exception):
    """An annotation cannot be used. The text names it and says what it takes."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """Every annotation that there is, checked; None where the pod does not have it."""

    image: str | None = None
    config: str | None = None
    """Name of the ConfigMap with sidecar.yaml."""
    secret: str | None = None
    target: str | None = None
    """The agent's SIP edge; with `platform` it replaces the configuration's routes by one."""
    platform: str | None = None
    sip_port: int | None = None
    rtp_ports: tuple[int, int] | None = None
    control_url: str | None = None
    drain_seconds: int | None = None
    cpu: str | None = None
    memory: str | None = None
    redirect: int | None = None
    """The agent's own SIP port, to be redirected to the sidecar."""


KNOWN = frozenset(entry.name.replace("_", "-") for entry in fields(Overrides))
"""The annotations' names, without the domain."""


def read_overrides(annotations: Mapping[str, str]) -> Overrides:
    """The overrides among a pod's annotations. Raises BadAnnotation."""
    found = {key.removeprefix(DOMAIN): value for key, value in annotations.items() if key.startswith(DOMAIN)}
    for own in (INJECT, INJECTED):
        found.pop(own.removeprefix(DOMAIN), None)
    if unknown := sorted(found.keys() - KNOWN):
        raise BadAnnotation(f"{DOMAIN}{unknown[0]}: there is no such annotation; there are: {', '.join(sorted(KNOWN))}")
    overrides = Overrides(
        image=_text(found, "image", _IMAGE, "an image"),
        config=_text(found, "config", _NAME, "the name of a ConfigMap"),
        secret=_text(found, "secret", _NAME, "the name of a Secret"),
        target=_text(found, "target", _SIP, "a SIP URI, as in sip:agent@127.0.0.1:5070"),
        platform=_text(found, "platform", _WORD, "the name of a carriage preset"),
        sip_port=_number(found, "sip-port", 1024, 65535),
        rtp_ports=_range(found, "rtp-ports"),
        control_url=_text(found, "control-url", _URL, "an http:// or https:// URL"),
        drain_seconds=_number(found, "drain-seconds", 0, 86_400),
        cpu=_text(found, "cpu", _QUANTITY, "a quantity, as in 250m"),
        memory=_text(found, "memory", _QUANTITY, "a quantity, as in 128Mi"),
        redirect=_number(found, "redirect", 1, 65535),
    )
    if overrides.redirect is not None and overrides.sip_port is not None:
        raise BadAnnotation(f"{DOMAIN}sip-port: not together with redirect, where callers keep dialling the agent's own port")
    if overrides.platform is not None and overrides.target is None and overrides.redirect is None:
        raise BadAnnotation(f"{DOMAIN}platform: needs target or redirect, which say where the calls go")
    return overrides


def shaped(template: Template, overrides: Overrides) -> Template:
    """The template as this pod wants it."""
    template = deepcopy(template)
    sidecar = template.sidecar
    if overrides.image is not None:
        sidecar["image"] = overrides.image
    for resource in ("cpu", "memory"):
        if (quantity := getattr(overrides, resource)) is not None:
            sidecar.setdefault("resources", {}).setdefault("requests", {})[resource] = quantity
            # A request above its limit is refused by Kubernetes.
            sidecar["resources"].get("limits", {}).pop(resource, None)
    for volume in template.volumes:
        if volume["name"] == CONFIG_VOLUME and overrides.config is not None:
            volume["configMap"] = {"name": overrides.config}
        if volume["name"] == SECRETS_VOLUME and overrides.secret is not None:
            volume["secret"] = {**volume.get("secret", {}), "secretName": overrides.secret}
    for name, value in _environment(overrides).items():
        _set(sidecar, name, value)
    if (port := overrides.sip_port or (REDIRECTED_TO if overrides.redirect is not None else None)) is not None:
        for entry in sidecar.get("ports", []):
            if entry.get("name", "").startswith("sip"):
                entry["containerPort"] = port
    if overrides.redirect is None:
        template.redirect = None
    elif template.redirect is None:
        raise BadAnnotation(f"{DOMAIN}redirect: this cluster's template has no redirect")
    else:
        template.redirect.setdefault("env", []).append({"name": "AGENT_PORT", "value": str(overrides.redirect)})
    if overrides.drain_seconds is not None:
        template.terminationGracePeriodSeconds = overrides.drain_seconds + DRAIN_MARGIN_S
    return template


def on_host_network(template: Template) -> Template:
    """The template for a pod in its node's network: the admin port, which has no token, is opened on loopback alone."""
    template = deepcopy(template)
    ports = [port["containerPort"] for port in template.sidecar.get("ports", []) if port.get("name") == "admin"]
    for port in ports:
        _set(template.sidecar, "TRUNKSIDE_ADMIN__LISTEN", f"{LOOPBACK}:{port}")
    hooks = [template.sidecar.get(probe) for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
    hooks += list((template.agentLifecycle or {}).values())
    for hook in hooks:
        if hook is not None and "httpGet" in hook:
            hook["httpGet"]["host"] = LOOPBACK
    return template


def _set(container: Piece, name: str, value: str) -> None:
    """Put a variable into a container's environment, in place of one of the same name."""
    entries = container.setdefault("env", [])
    entries[:] = [entry for entry in entries if entry.get("name") != name] + [{"name": name, "value": value}]


def _environment(overrides: Overrides) -> dict[str, str]:
    """The sidecar's settings that the annotations stand for, as its environment."""
    env: dict[str, str] = {}
    target = overrides.target
    if overrides.redirect is not None:
        env["TRUNKSIDE_SIP__LISTEN"] = json.dumps([f"udp://0.0.0.0:{REDIRECTED_TO}"])
        env["TRUNKSIDE_SIP__ADVERTISE_PORT"] = str(overrides.redirect)
        target = target or f"sip:127.0.0.1:{overrides.redirect}"
    if overrides.sip_port is not None:
        env["TRUNKSIDE_SIP__LISTEN"] = json.dumps([f"udp://0.0.0.0:{overrides.sip_port}"])
    if target is not None:
        route = {"name": "agent", "match": {"user": "*"}, "target": target, "platform": overrides.platform or "generic"}
        env["TRUNKSIDE_ROUTES"] = json.dumps([route])
    if overrides.rtp_ports is not None:
        env["TRUNKSIDE_MEDIA__PORTS"] = json.dumps(list(overrides.rtp_ports))
    if overrides.control_url is not None:
        env["TRUNKSIDE_CONTROL__URL"] = overrides.control_url
    if overrides.drain_seconds is not None:
        env["TRUNKSIDE_DRAIN__DEADLINE_S"] = str(overrides.drain_seconds)
    return env


def _text(found: Mapping[str, str], name: str, form: re.Pattern[str], what: str) -> str | None:
    value = found.get(name)
    if value is not None and not form.fullmatch(value):
        raise BadAnnotation(f"{DOMAIN}{name}: {value!r} is not {what}")
    return value


def _number(found: Mapping[str, str], name: str, low: int, high: int) -> int | None:
    value = found.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 9 and low <= int(value) <= high):
        raise BadAnnotation(f"{DOMAIN}{name}: {value!r} is not a number from {low} to {high}")
    return int(value)


def _range(found: Mapping[str, str], name: str) -> tuple[int, int] | None:
    value = found.get(name)
    if value is None:
        return None
    low, dash, high = value.partition("-")
    ends = [int(end) if end.isascii() and end.isdigit() and len(end) <= 5 else 0 for end in (low, high)]
    if not dash or not 1024 <= ends[0] < ends[1] <= 65535 or ends[1] - ends[0] < 3:
        raise BadAnnotation(f"{DOMAIN}{name}: {value!r} is not a range of at least four ports from 1024 to 65535, as in 30000-30999")
    return ends[0], ends[1]
