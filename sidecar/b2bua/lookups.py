"""Where to send for a URI: at once for an IP literal, else after the shell has asked the name servers (RFC 3263)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from sidecar.b2bua.effects import Resolve
from sidecar.b2bua.switchboard import Located, Member
from sidecar.b2bua.ways import Ways
from sidecar.clocks import Mono
from sidecar.sip import locate
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.targets import Target, literal_of
from sidecar.sip.uri import SipUri


@dataclass(slots=True)
class _Lookup:
    """One name that is being resolved, and who waits for it."""

    waiting: list[tuple[Member | None, Located]] = field(default_factory=list)


class Lookups:
    """Names that are being resolved; one that several messages wait for is asked for once."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        self._open: dict[str, _Lookup] = {}

    def __len__(self) -> int:
        return len(self._open)

    def locate(self, call: Member | None, uri: str, then: Located, now: Mono) -> Resolve | None:
        """Call `then` now or later, on behalf of `call`. What comes back is for the shell to do, and to be answered with `resolved`."""
        try:
            token = _token(SipUri.parse(uri))
        except MalformedMessage as error:
            then((), error.detail, now)
            return None
        known = _of_literal(token, self._ways.transports, self._ways.families)
        if known is not None:
            then(self._ways.ordered(known.targets, now), known.failure, now)
            return None
        asked = token in self._open
        self._open.setdefault(token, _Lookup()).waiting.append((call, then))
        return None if asked else Resolve(token, self._ways.transports, self._ways.families)

    def resolved(self, token: str, targets: tuple[Target, ...], detail: str, now: Mono) -> list[Member]:
        """The answer to a Resolve: targets in the order to try, or none and why.

        Returns the calls that waited for it; an unknown token concerns none.
        """
        lookup = self._open.pop(token, None)
        if lookup is None:
            return []
        for _, then in lookup.waiting:
            then(self._ways.ordered(targets, now), detail, now)
        return [call for call, _ in lookup.waiting if call is not None]


def _token(uri: SipUri) -> str:
    """What the answer depends on, and nothing else: users are many."""
    token = f"{uri.scheme}:{uri.host_literal.lower()}" + ("" if uri.port is None else f":{uri.port}")
    if uri.params:
        transport, maddr = uri.param("transport"), uri.param("maddr")
        token += f";transport={transport}" if transport else ""
        token += f";maddr={maddr}" if maddr else ""
    return token


@lru_cache(maxsize=1024)
def _of_literal(token: str, transports: tuple[str, ...], families: tuple[str, ...]) -> locate.Located | None:
    """What a URI with an IP address means, which no name server needs to be asked for; None for a name."""
    uri = SipUri.parse(token)
    if literal_of((uri.param("maddr") or uri.host).strip("[]")) is None:
        return None
    try:
        next(locate.locate(uri, lambda _: 0, transports=transports, families=families))
    except StopIteration as end:
        found: locate.Located = end.value
        return found
    return None
