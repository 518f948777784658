"""Where to send for a URI: at once for an IP literal, else after the shell has looked the name up."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

from sidecar.b2bua.effects import Resolve
from sidecar.b2bua.switchboard import Located, Member
from sidecar.clocks import Mono
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.uri import SipUri

DEFAULT_PORT = 5060


@dataclass(slots=True)
class _Lookup:
    """One name that is being resolved, and who waits for it."""

    port: int
    waiting: list[tuple[Member, Located]] = field(default_factory=list)


class Lookups:
    """Names that are being resolved; one that several messages wait for is asked for once."""

    def __init__(self) -> None:
        self._open: dict[str, _Lookup] = {}

    def __len__(self) -> int:
        return len(self._open)

    def locate(self, call: Member, uri: str, then: Located, now: Mono) -> Resolve | None:
        """Call `then` now or later. What comes back is for the shell to do, and to be answered with `resolved`."""
        try:
            target = SipUri.parse(uri)
        except MalformedMessage as error:
            then(None, error.detail, now)
            return None
        port = target.port or DEFAULT_PORT
        if _is_literal(target.host):
            then((target.host, port), "", now)
            return None
        token = f"{target.host}:{port}"
        known = token in self._open
        self._open.setdefault(token, _Lookup(port)).waiting.append((call, then))
        return None if known else Resolve(token, target.host)

    def resolved(self, token: str, host: str | None, detail: str, now: Mono) -> list[Member]:
        """The answer to a Resolve: an IP literal, or None and why. Returns the calls that waited for it; an unknown token concerns none."""
        lookup = self._open.pop(token, None)
        if lookup is None:
            return []
        for _, then in lookup.waiting:
            then((host, lookup.port) if host is not None else None, detail, now)
        return [call for call, _ in lookup.waiting]


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
