"""`trunkside config check`: what a configuration file that loads would still stumble over, each fault with the way to mend it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import json as jsonlib
import os
import socket
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import aiohttp

from control.contract.settings import line_of
from sidecar.b2bua.routes import fits
from sidecar.clocks import Addr
from sidecar.config import Route, SidecarConfig, parse_listen
from sidecar.identity.carriage import shortfalls
from sidecar.identity.presets import PRESETS
from sidecar.net import tls
from sidecar.net.dns import Resolver
from sidecar.net.errors import StartError
from sidecar.net.rtpengine.client import NoAnswer, Server, parse_server
from sidecar.net.rtpengine.commands import PING, Refused
from sidecar.net.tls import TlsSettings
from sidecar.sip.endpoint import Endpoint
from sidecar.sip.routing import default_port
from sidecar.sip.uri import SipUri
from sidecar.verify.judge import narrower, scope
from sidecar.verify.reach import reach, tcp_refusal
from sidecar.verify.resolve import resolve

PATIENCE_S = 3.0
FEW_CALLS = 20
"""Fewer calls at a time than this are more likely a slip than a wish."""
PORTS_PER_CALL = 4
# As evaluators make them: 27 characters of base62.
_USUAL_CALL_ID = "0" * 27
_EVERYWHERE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing. An `error` keeps calls from working as written; a `warning` may be meant, or be of this moment only."""

    severity: Literal["error", "warning"]
    key: str
    what: str
    mend: str
    line: int | None = None
    """Of the file, where the key stands in it."""

    def __str__(self) -> str:
        place = f" (line {self.line})" if self.line is not None else ""
        return f"{self.severity:<8} {self.key}{place}: {self.what}; {self.mend}"


def render(file: str, summary: str, faults: Sequence[Fault], *, json: bool) -> str:
    """One line a fault and one that sums up, or one JSON object."""
    errors = sum(fault.severity == "error" for fault in faults)
    if json:
        return jsonlib.dumps({"file": file, "summary": summary, "errors": errors, "faults": [asdict(fault) for fault in faults]})
    counts = f"{_counted(errors, 'error')}, {_counted(len(faults) - errors, 'warning')}" if faults else "without faults"
    return "\n".join([*map(str, faults), f"{file}: {counts}; {summary}"])


def located(faults: Iterable[Fault], text: str) -> list[Fault]:
    """The faults with the lines of their keys in the file's text; of several keys the first one's."""
    keys = {fault.key: fault.key.split(", ", 1)[0].split(".") for fault in faults}
    return [replace(fault, line=line_of(text, keys[fault.key])) for fault in faults]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


async def check_sidecar(config: SidecarConfig, *, offline: bool, resolver: Resolver | None = None) -> list[Fault]:
    """Every fault of a sidecar's configuration. `offline`: neither names, targets nor ports of this machine are tried."""
    faults = faults_of(config)
    if offline:
        return faults
    faults += _busy(config)
    used = resolver or Resolver(nameservers=config.sip.servers)
    names = dict.fromkeys(route.target for route in config.routes)
    asked = [*(_target(config, target, used) for target in names), _control(config.control.url), _relays(config)]
    for found in await asyncio.gather(*asked):
        faults += found
    return faults


async def _relays(config: SidecarConfig) -> list[Fault]:
    """Instances of rtpengine that do not answer; an error where none does."""
    settings = config.media.rtpengine
    if config.media.engine != "rtpengine" or settings is None:
        return []
    faults: list[Fault] = []
    silent = 0
    for name in settings.servers:
        server = Server(parse_server(name), settings.timeout_s)
        try:
            await server.open()
            await server.ask(PING)
        except (StartError, NoAnswer, Refused) as error:
            silent += 1
            faults.append(Fault("warning", "media.rtpengine.servers", str(error), "start it, or see its --listen-ng and the way there"))
        finally:
            server.close()
    if silent == len(settings.servers):
        faults = [replace(fault, severity="error") for fault in faults]
    return faults


async def check_control(listen: str, evaluator: str, *, offline: bool) -> list[Fault]:
    """Every fault of control's configuration that its own checks leave over."""
    if offline:
        return []
    faults: list[Fault] = []
    with contextlib.suppress(ValueError):  # a name in place of an address: only the start can tell
        faults += _occupied("listen", socket.SOCK_STREAM, parse_listen(listen))
    url = urlsplit(evaluator)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(url.hostname, None, type=socket.SOCK_STREAM)
    except OSError:
        return [*faults, Fault("warning", "evaluator.base_url", f"{url.hostname} does not resolve", "reports wait until it does")]
    port = url.port or (443 if url.scheme == "https" else 80)
    why = await tcp_refusal((str(found[0][4][0]), port), PATIENCE_S)
    if why is not None:
        what = f"{url.hostname} port {port} cannot be reached ({why or 'no answer'})"
        faults.append(Fault("warning", "evaluator.base_url", what, "reports wait until it can"))
    return faults


def faults_of(config: SidecarConfig) -> list[Fault]:
    """The faults that show without asking anybody; files that the configuration names are looked at."""
    return [
        *_shadowed(config.routes),
        *_never_dialled(config.routes),
        *_carriage(config),
        *_media(config),
        *_advertised(config),
        *_callers(config),
        *_files(config),
    ]


# -- what the file alone shows -------------------------------------------------------------------------------------------------------------


def _shadowed(routes: Sequence[Route]) -> Iterator[Fault]:
    """Routes that can never match because an earlier one takes all that they would."""
    told: set[str] = set()
    for earlier, later in combinations(routes, 2):
        if later.name not in told and covers(earlier, later):
            told.add(later.name)
            what = f"never matches: route {earlier.name} stands before it and takes every call that it would"
            yield Fault("error", f"routes.{later.name}", what, f"put it before {earlier.name}, or narrow what {earlier.name} matches")


def _never_dialled(routes: Sequence[Route]) -> Iterator[Fault]:
    """Outbound routes for one host that their own list of hosts leaves out."""
    for route in routes:
        host = (route.match.host or "").lower().strip("[]")
        listed = any(fits(host, each.lower().strip("[]")) for each in route.allow)
        if route.direction == "outbound" and host and "*" not in host and not listed:
            what = f"takes calls to {host} and dials {', '.join(route.allow)} alone: each gets 403"
            yield Fault("error", f"routes.{route.name}.allow", what, f"add {host} to it, or correct match.host")


def covers(earlier: Route, later: Route) -> bool:
    """Whether every call that fits `later` fits `earlier`."""
    one, other = earlier.match, later.match
    headers = other.header or {}
    given = {name.lower(): pattern for name, pattern in headers.items()}
    return (
        _takes(one.user, other.user)
        and _takes(one.host.lower() if one.host else one.host, other.host.lower() if other.host else other.host)
        and _within(one.source, other.source)
        and all(_takes(pattern, given.get(name.lower())) for name, pattern in (one.header or {}).items())
    )


def _takes(pattern: str | None, other: str | None) -> bool:
    """Whether all that `other` describes is described by `pattern` too; None describes everything."""
    if pattern is None or (pattern and not pattern.strip("*")):
        return True
    # A character that no pattern holds stands for whatever the other one's star stands for.
    return other is not None and fits(other.replace("*", "\0"), pattern)


def _within(outer: str | None, inner: str | None) -> bool:
    if outer is None:
        return True
    if inner is None:
        return False
    one, other = ipaddress.ip_network(outer, strict=False), ipaddress.ip_network(inner, strict=False)
    # Two of one family, which the type checker cannot know.
    return one.version == other.version and other.subnet_of(one)  # type: ignore[arg-type]


def _carriage(config: SidecarConfig) -> Iterator[Fault]:
    """Routes whose preset does not bring the id to the application."""
    for route in config.routes:
        if route.direction == "outbound" or route.simulation == "never":
            continue
        preset = config.own_preset(route.platform) or PRESETS[route.platform]
        for short in shortfalls(preset, _USUAL_CALL_ID):
            key = f"routes.{route.name}.platform"
            if short.name == "carriage_none":
                mend = "let the agent ask GET /v1/current-call, or rely on the repair by numbers and time"
                yield Fault("warning", key, short.detail, mend)
            else:
                yield Fault(
                    "error", key, short.detail, f"raise presets.{preset.name}.max_bytes if the platform takes more, or set a shorter alias"
                )


def _media(config: SidecarConfig) -> Iterator[Fault]:
    low, high = config.media.ports
    calls = (high - low + 1) // PORTS_PER_CALL
    if calls < FEW_CALLS:
        yield Fault(
            "warning", "media.ports", f"[{low}, {high}] holds {calls} calls at a time, four ports each", "widen it: further calls get 503"
        )
    for entry in config.sip.listen:
        endpoint = Endpoint.parse(entry)
        if endpoint.transport == "udp" and low <= endpoint.addr[1] <= high:
            yield Fault("error", "media.ports", f"[{low}, {high}] holds the SIP port {endpoint.addr[1]}", "move one of them")


def _advertised(config: SidecarConfig) -> Iterator[Fault]:
    """Addresses in Via, Contact and SDP that the targets could not answer to."""
    listening = {endpoint.addr[0]: config.sip.advertised(endpoint.addr[0]) for endpoint in config.sip.endpoints}
    inside = config.sip.inside
    for route in config.routes:
        target = SipUri.parse(route.target).host
        if inside is not None and _is_within(target, inside.networks):
            continue
        for host in dict.fromkeys(listening.values()):
            # An address of the other family is never shown to that target.
            if narrower(host, target) and (":" in host) == (":" in target):
                what = f"{host} is a {scope(host)} address, and route {route.name} leads to {target}, a {scope(target)} one"
                yield Fault(
                    "warning", "sip.advertise", what, "set it to the host under which the edge reaches this sidecar, unless NAT is meant"
                )
    for host, own in listening.items():
        if scope(own) == "loopback" and own != host and scope(host) != "loopback" and not ipaddress.ip_address(host).is_unspecified:
            yield Fault(
                "error", "sip.advertise", f"{own} leads every peer to itself", "set it to an address under which this machine is reached"
            )
            return


def _is_within(host: str, networks: Collection[str]) -> bool:
    try:
        return any(ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False) for network in networks)
    except ValueError:
        return False  # a name: where it leads is known when it is dialled


def _callers(config: SidecarConfig) -> Iterator[Fault]:
    if wide := [network for network in config.callers.trusted if network in _EVERYWHERE]:
        yield Fault(
            "warning",
            "callers.trusted",
            f"{wide[0]} lets everybody place calls",
            "name the networks of your callers, or set callers.digest",
        )
    for route in config.routes:
        uri = SipUri.parse(route.target)
        transport = "tls" if uri.secure else (uri.param("transport") or "udp").lower()
        if Endpoint(transport, (uri.host, uri.port or default_port(transport))) in config.sip.endpoints:
            yield Fault("error", f"routes.{route.name}.target", f"{route.target} is this sidecar itself", "name the agent's edge")
    url = urlsplit(config.control.url)
    if config.control.token is not None and url.scheme == "http" and scope(url.hostname or "") == "public":
        yield Fault("warning", "control.url", "the token crosses a public network in clear text", "use https://")


def _files(config: SidecarConfig) -> Iterator[Fault]:
    """Files and folders that are needed at the start. Secrets were read when the file was loaded."""
    try:
        tls.load(TlsSettings(**config.sip.tls.model_dump()))
    except StartError as error:
        yield Fault("error", "sip.tls", str(error), "correct the file")
    secrets = [(f"routes.{route.name}.password_file", route.password_file) for route in config.routes]
    users = config.callers.digest.users if config.callers.digest is not None else {}
    secrets += [(f"callers.digest.users.{name}.password_file", user.password_file) for name, user in users.items()]
    for key, file in [*secrets, ("control.token_file", config.control.token_file)]:
        if file is not None and file.stat().st_mode & 0o004:
            yield Fault("warning", key, f"{file} can be read by every user of this machine", f"chmod o-r {file}")
    sealing = config.fleet.key_file
    if sealing is not None and not os.access(sealing, os.R_OK):
        yield Fault(
            "error", "fleet.key_file", f"{sealing} cannot be read", "make it with 32 random bytes in URL-safe base64, or leave it out"
        )
    if (folder := _unwritable(config.spool.path)) is not None:
        yield Fault(
            "error",
            "spool.path",
            f"{config.spool.path}: {folder} cannot be written",
            "give it to the sidecar's user or name another folder",
        )
    outgoing = config.recordings.outgoing
    if (config.recorded or config.captured) and (folder := _unwritable(outgoing)) is not None:
        yield Fault(
            "error",
            "recordings.path",
            f"{outgoing}: {folder} cannot be written, so nothing is recorded or captured",
            "give it to the sidecar's user or name another folder",
        )


def _unwritable(path: Path) -> Path | None:
    """The nearest existing ancestor of `path`, itself included, when nothing can be made there."""
    nearest = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    return None if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK) else nearest


# -- what this moment shows ----------------------------------------------------------------------------------------------------------------


def _busy(config: SidecarConfig) -> Iterator[Fault]:
    for entry in config.sip.listen:
        endpoint = Endpoint.parse(entry)
        kind = socket.SOCK_DGRAM if endpoint.transport == "udp" else socket.SOCK_STREAM
        yield from _occupied("sip.listen", kind, endpoint.addr)
    yield from _occupied("admin.listen", socket.SOCK_STREAM, parse_listen(config.admin.listen))


def _occupied(key: str, kind: socket.SocketKind, addr: Addr) -> Iterator[Fault]:
    family = socket.AF_INET6 if ":" in addr[0] else socket.AF_INET
    name = f"{'UDP' if kind == socket.SOCK_DGRAM else 'TCP'} {addr[0]}:{addr[1]}"
    with socket.socket(family, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(addr)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                yield Fault("warning", key, f"{name} is in use", "free the port, unless it is this very service that runs already")
            else:
                yield Fault(
                    "error",
                    key,
                    f"{name} cannot be had: {error.strerror}",
                    "name an address of this machine and a port that its user may open",
                )


async def _target(config: SidecarConfig, target: str, resolver: Resolver) -> Iterable[Fault]:
    """Whether a target can be resolved and reached from here."""
    keys = ", ".join(f"routes.{route.name}.target" for route in config.routes if route.target == target)
    resolved = await resolve(SipUri.parse(target), resolver, PATIENCE_S)
    if resolved.finding is not None:
        return [Fault("warning", keys, resolved.finding.cause, resolved.finding.mend)]
    settings = TlsSettings(ca=config.sip.tls.ca, verify=config.sip.tls.verify, wildcards=config.sip.tls.wildcards)
    faults: list[Fault] = []
    for candidate in resolved.targets:
        try:
            reached = await reach(candidate, resolved.origin, settings, PATIENCE_S)
        except StartError:
            return []  # the files of sip.tls are a fault of their own
        faults += [Fault("warning", keys, found.cause, found.mend) for found in reached.findings]
    return faults


async def _control(url: str) -> Iterable[Fault]:
    """Whether control answers. It may be away: traces wait in the spool."""
    mend = "start control, or correct the URL; traces wait in the spool until it answers"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as session,
            session.get(f"{url}/livez") as answer,
        ):
            if answer.status == 200:
                return []
            why = f"it answers {answer.status} to GET /livez"
    except TimeoutError:
        why = f"no answer within {PATIENCE_S:g} s"
    except aiohttp.ClientConnectorError as error:
        number = error.os_error.errno
        why = os.strerror(number).lower() if number else "no connection"
    except aiohttp.ClientError as error:
        why = str(error) or type(error).__name__
    return [Fault("warning", "control.url", f"{url} cannot be reached: {why}", mend)]
