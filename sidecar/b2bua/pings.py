"""OPTIONS to the targets of the routes that ask for it: one that is silent is known before a call finds out (RFC 3261 11, RFC 3263 4.3).

It also keeps the way there open: a NAT's binding, or a connection of ours, which then carries RFC 5626's pings as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from sidecar.b2bua.dialling import retry_after
from sidecar.b2bua.effects import Resolve
from sidecar.b2bua.lookups import Lookups
from sidecar.b2bua.routes import Route
from sidecar.b2bua.ways import Ways
from sidecar.clocks import Mono
from sidecar.sip.ids import Ids
from sidecar.sip.layer import TransactionLayer, TxId
from sidecar.sip.message import Request, Response
from sidecar.sip.targets import Target
from sidecar.sip.uri import bracketed


@dataclass(slots=True)
class _Pinged:
    """A route that is pinged."""

    due: Mono = field(default_factory=lambda: Mono(0.0))
    states: dict[str, str] = field(default_factory=dict)
    """By target: the last status, or why there was none."""


class Pings:
    """Reads the routes anew each time, so that they may be replaced while it runs."""

    def __init__(self, layer: TransactionLayer, lookups: Lookups, ways: Ways, ids: Ids, emit: Callable[[Resolve], None]) -> None:
        self._layer = layer
        self._lookups = lookups
        self._ways = ways
        self._ids = ids
        self._emit = emit
        self._routes: Sequence[Route] = ()
        self._pinged: dict[str, _Pinged] = {}
        self._open: dict[TxId, tuple[str, Target, float]] = {}

    def next_deadline(self, routes: Sequence[Route]) -> Mono | None:
        """When `on_time` wants to be called; None when no route is pinged."""
        if routes is not self._routes:
            self._routes = routes
            self._pinged = {route.name: self._pinged.get(route.name, _Pinged()) for route in routes if route.ping is not None}
        return min((pinged.due for pinged in self._pinged.values()), default=None) if self._pinged else None

    def on_time(self, routes: Sequence[Route], now: Mono) -> None:
        """Ping the targets of every route whose time has come."""
        if (due := self.next_deadline(routes)) is None or due > now:
            return
        for route in routes:
            pinged = self._pinged.get(route.name)
            if pinged is not None and route.ping is not None and pinged.due <= now:
                pinged.due = Mono(now + route.ping)
                resolve = self._lookups.locate(None, str(route.target), partial(self._ping, route, route.ping), now)
                if resolve is not None:
                    self._emit(resolve)

    def _ping(self, route: Route, period: float, targets: Sequence[Target], detail: str, now: Mono) -> None:
        pinged = self._pinged.get(route.name)
        if pinged is None:
            return  # the route has gone meanwhile
        pinged.states = {str(target): pinged.states.get(str(target), "asked") for target in targets} or {str(route.target): detail}
        for target in targets:
            flow = self._ways.flow_to(target)
            if flow is not None:
                listener = self._ways.listener(flow)
                request = _options(str(route.target), listener.advertised, listener.transport, self._ids)
                self._open[self._layer.request(request, flow, listener.advertised, now)] = (route.name, target, period)

    # -- what became of it -------------------------------------------------------------------------------------------------------------

    def answered(self, tx: TxId, response: Response, now: Mono) -> None:
        """A response on a transaction that is no call's. Whatever it says but 503, somebody is there."""
        if response.status < 200 or (found := self._open.pop(tx, None)) is None:
            return
        route, target, period = found
        self._note(route, target, str(response.status))
        if response.status == 503:
            self._ways.avoid(target, Mono(now + retry_after(response, 2 * period)))
        else:
            self._ways.forgive(target)

    def failed(self, tx: TxId, detail: str, now: Mono) -> None:
        """No answer came on a transaction that is no call's, or the transport refused it."""
        if (found := self._open.pop(tx, None)) is not None:
            route, target, period = found
            self._note(route, target, detail)
            # Until the ping after next has had its time: one that comes back is forgiven by the first answer.
            self._ways.avoid(target, Mono(now + 2 * period + self._layer.give_up))

    def _note(self, route: str, target: Target, state: str) -> None:
        if (pinged := self._pinged.get(route)) is not None and str(target) in pinged.states:
            pinged.states[str(target)] = state

    def describe(self) -> dict[str, dict[str, str]]:
        """The last answer of each target, by route, for the admin API."""
        return {name: dict(pinged.states) for name, pinged in self._pinged.items()}


def _options(uri: str, own: tuple[str, int], transport: str, ids: Ids) -> Request:
    """11.1. No body and no credentials: a challenge is an answer too."""
    host = bracketed(own[0])
    suffix = "" if transport == "udp" else f";transport={transport}"
    return Request(
        "OPTIONS",
        uri,
        [
            ("Max-Forwards", "70"),
            ("From", f"<sip:trunkside@{host}>;tag={ids.tag()}"),
            ("To", f"<{uri}>"),
            ("Call-ID", ids.token()),
            ("CSeq", "1 OPTIONS"),
            ("Contact", f"<sip:trunkside@{host}:{own[1]}{suffix}>"),
            ("Accept", "application/sdp"),
        ],
    )
