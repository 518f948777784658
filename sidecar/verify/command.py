"""`trunkside verify`: what was typed to a verification, and its report to stdout."""

from __future__ import annotations

import json as jsonlib
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from sidecar.clocks import Addr
from sidecar.identity.digest import Credentials
from sidecar.net.dns import Resolver
from sidecar.net.tls import TlsSettings
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.routing import DEFAULT_PORT
from sidecar.sip.targets import literal_of
from sidecar.sip.uri import parse_host_port
from sidecar.verify.deep import Deep, Unanswered, listening
from sidecar.verify.run import Probe, verify
from sidecar.verify.view import View


class UsageError(Exception):
    """What was typed does not hold together; the text is the line to show."""


@dataclass(frozen=True, slots=True)
class Options:
    """The arguments and options as typed."""

    uri: str
    username: str | None = None
    password_file: Path | None = None
    timeout_s: float = 10.0
    ca: Path | None = None
    json: bool = False
    deep: bool = False
    via: str | None = None
    admin: str | None = None
    control: str | None = None
    token_file: Path | None = None


async def run(options: Options, resolver: Resolver | None = None, console: Console | None = None) -> int:
    """Verify and show; the exit status. Raises UsageError, and StartError when a certificate file cannot be used."""
    view = View(console or Console(highlight=False))
    credentials, probe, via = _credentials(options), _probe(options), await _via(options)
    report = await verify(
        options.uri,
        credentials,
        timeout_s=options.timeout_s,
        resolver=resolver,
        tls=TlsSettings(ca=options.ca),
        via=via,
        probe=probe,
        progress=(lambda _step: None) if options.json else view.step,
    )
    if options.json:
        text = jsonlib.dumps(report.as_json(), ensure_ascii=False)
        # Octets that are no UTF-8 travel as surrogates, which no output can encode.
        sys.stdout.write(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") + "\n")
    else:
        view.conclude(report)
    return report.exit_status


def _credentials(options: Options) -> Credentials | None:
    if (options.username is None) != (options.password_file is None):
        raise UsageError("--username and --password-file go together")
    if options.username is None or options.password_file is None:
        return None
    return Credentials(options.username, _secret(options.password_file))


async def _via(options: Options) -> Addr | None:
    """Where the call goes through: what was typed, else the first UDP address that the sidecar's admin port names."""
    if not options.deep:
        return None
    if options.via is not None:
        return _address(options.via)
    if options.admin is None:
        raise UsageError("--deep needs --via, the sidecar's SIP address, as in --via 127.0.0.1:5060, or --admin, which can tell it")
    try:
        told = await listening(options.admin)
    except Unanswered as error:
        raise UsageError(f"--deep needs --via: {options.admin} cannot tell the sidecar's SIP address: {error}") from error
    udp = next((each for each in told if each.startswith("udp://")), None)
    if udp is None:
        raise UsageError(f"--deep needs --via: the sidecar listens on no udp:// address, but on {', '.join(told) or 'none'}")
    return _address(udp)


def _address(typed: str) -> Addr:
    try:
        host, port = parse_host_port(typed.removeprefix("udp://").removeprefix("sip:"))
    except MalformedMessage as error:
        raise UsageError(f"--via {typed}: {error.detail}; write it as 127.0.0.1:5060") from error
    literal = literal_of(host)
    if literal is None:
        raise UsageError(f"--via {typed}: needs an IP address, as in 127.0.0.1:5060")
    return literal, port or DEFAULT_PORT


def _probe(options: Options) -> Probe | None:
    if not options.deep:
        if options.via or options.admin or options.control or options.token_file:
            raise UsageError("--via, --admin, --control and --token-file belong to --deep")
        return None
    if options.admin is None and options.control is None:
        raise UsageError("--deep needs --admin, --control or both: somebody who saw the call has to be asked")
    for url in (options.admin, options.control):
        if url is not None and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
            raise UsageError(f"{url} is not an http:// or https:// URL")
    return Deep(options.admin, options.control, _secret(options.token_file) if options.token_file is not None else None)


def _secret(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not text:
        raise UsageError(f"{file} is empty")
    return text
