"""The local HTTP port of one sidecar: health, metrics, live calls, and the question "which call am I in?".

It knows the sidecar through `AdminState` alone. It listens on `admin.listen`, loopback by default, and has no tokens: who can reach it may
read it and drain the sidecar, so it belongs on loopback or a pod's own network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from control.contract.endpoints import same_address


@dataclass(frozen=True, slots=True)
class LiveCall:
    """A call that is not over, as an agent or an operator asks for it. `id` is the trace id; From, To and recipient are URIs."""

    id: str
    sip_call_id: str
    kind: str
    route: str
    from_: str
    to: str
    started_at: datetime
    answered_at: datetime | None = None
    recipient: str | None = None
    b_leg_call_ids: tuple[str, ...] = ()
    platform_ids: tuple[str, ...] = ()
    platform: str = "generic"
    """The route's carriage preset."""
    agent_media: tuple[str, ...] = ()
    """Where the agent's leg has its RTP, as `host:port`: the agent's own address, then ours towards it. Empty before the agent's SDP."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What the call's engines describe; shown in the list, not to an asking agent."""

    def as_json(self) -> dict[str, Any]:
        """The call under the public names of the call object."""
        return {
            "id": self.id,
            "sip_call_id": self.sip_call_id,
            "b_leg_call_ids": list(self.b_leg_call_ids),
            "platform_ids": list(self.platform_ids),
            "kind": self.kind,
            "route": self.route,
            "platform": self.platform,
            "agent_media": list(self.agent_media),
            "from": self.from_,
            "to": self.to,
            "recipient": self.recipient,
            "started_at": self.started_at.isoformat(),
            "answered_at": self.answered_at.isoformat() if self.answered_at else None,
        }


class AdminState(Protocol):
    """What the sidecar lets be seen and done here. Every method but `drained` returns at once."""

    def not_ready(self) -> Sequence[str]:
        """Why no new call should be sent here, one sentence each; empty when ready."""

    def calls(self) -> Sequence[LiveCall]:
        """The live calls, in the order in which they began."""

    def metrics(self) -> Iterable[Metric]:
        """Counters and gauges as they stand now: see `counter` and `gauge`."""

    def describe(self) -> Mapping[str, Any]:
        """The state of every engine, JSON-ready."""

    def drain(self) -> None:
        """Take no new call from now on and end when the live ones have; asked twice, the same as once."""

    async def drained(self) -> None:
        """Wait until a drain was asked for and the last call is over."""


STATE: web.AppKey[AdminState] = web.AppKey("state")
REGISTRY: web.AppKey[CollectorRegistry] = web.AppKey("registry")


def counter(name: str, help_: str, value: float | Mapping[str, float], label: str = "") -> CounterMetricFamily:
    """A number that only grows: one value, or one for each value of `label`."""
    family = CounterMetricFamily(name, help_, labels=[label] if label else None)
    for key, number in _samples(value):
        family.add_metric([key] if label else [], number)
    return family


def gauge(name: str, help_: str, value: float | Mapping[str, float], label: str = "") -> GaugeMetricFamily:
    """A number that comes and goes: one value, or one for each value of `label`."""
    family = GaugeMetricFamily(name, help_, labels=[label] if label else None)
    for key, number in _samples(value):
        family.add_metric([key] if label else [], number)
    return family


def create_admin_app(state: AdminState) -> web.Application:
    """The application; `AdminServer` gives it a port."""
    app = web.Application(middlewares=[_problems])
    app[STATE] = state
    app[REGISTRY] = _registry(state)
    app.router.add_get("/livez", _livez)
    app.router.add_get("/readyz", _readyz)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/v1/calls", _calls)
    app.router.add_get("/v1/current-call", _current_call)
    app.router.add_get("/v1/state", _state)
    app.router.add_post("/v1/drain", _drain)
    app.router.add_get("/v1/drained", _drained)
    return app


class AdminServer:
    """The application on its port."""

    def __init__(self, state: AdminState, address: tuple[str, int]) -> None:
        """`address` is the host and port to listen on; port 0 takes a free one."""
        self.address = address
        self._runner = web.AppRunner(create_admin_app(state), access_log=None, shutdown_timeout=1.0)

    async def start(self) -> None:
        """Listen; afterwards `address` is the real one. Raises OSError with one sentence that names the port and the cause."""
        host, port = self.address
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            # asyncio's own text repeats the address; the system's says why.
            cause = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(error.errno, f"the admin port {host}:{port} cannot be opened: {cause}") from error
        self.address = self._runner.addresses[0][:2]

    async def stop(self) -> None:
        """Close the port."""
        await self._runner.cleanup()


@dataclass(frozen=True, slots=True)
class Asked:
    """What an agent knows of its call; None fits any. `media`: its own RTP address, or the one that it sends to. `at`: a moment of it."""

    to: str | None = None
    from_: str | None = None
    sip_call_id: str | None = None
    media: str | None = None
    at: datetime | None = None

    def fits(self, call: LiveCall) -> bool:
        """Whether `call` can be the one."""
        return (
            (self.to is None or party(self.to) in (party(call.to), party(call.recipient or call.to)))
            and (self.from_ is None or party(self.from_) == party(call.from_))
            and (self.sip_call_id is None or self.sip_call_id in (call.sip_call_id, *call.b_leg_call_ids))
            and (self.media is None or same_address(self.media, call.agent_media))
            and (self.at is None or call.started_at <= self.at + SLACK)
        )


SLACK = timedelta(seconds=5)
"""The clocks of agent and sidecar may differ by so much, as in control's matching."""
_ASKED = frozenset({"to", "from", "sip_call_id", "media", "at"})


def asked(query: Mapping[str, str]) -> Asked:
    """The question in a query. Raises ValueError that says what to write."""
    if unknown := sorted(query.keys() - _ASKED):
        raise ValueError(f"{unknown[0]} is not a parameter here: this path takes {', '.join(sorted(_ASKED))}")
    at = None
    if (said := query.get("at")) is not None:
        try:
            at = datetime.fromisoformat(said.replace(" ", "+"))  # a query decodes + to a blank
        except ValueError:
            raise ValueError("at must be an RFC 3339 time such as 2026-01-31T12:00:00Z") from None
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return Asked(query.get("to"), query.get("from"), query.get("sip_call_id"), query.get("media"), at)


_VISUAL_SEPARATORS = str.maketrans("", "", "-.() ")
_NUMBER = re.compile(r"\+?[0-9]{3,}")


def party(address: str) -> str:
    """Who an address names, so that the same number in two spellings is the same: the user part of a SIP or tel URI, else the host.

    A number loses its visual separators (RFC 3966 section 5.1.1) and its plus sign; hosts are left out, since each hop writes its own.
    """
    text = address.strip()
    if "<" in text:
        text = text[text.rindex("<") + 1 :].split(">", 1)[0]
    text = re.sub(r"^(sips?|tel):", "", text, flags=re.IGNORECASE)
    user = text.rsplit("@", 1)[0] if "@" in text else text.split("?", 1)[0]
    user = user.split(";", 1)[0]
    number = user.translate(_VISUAL_SEPARATORS)
    return number.removeprefix("+") if _NUMBER.fullmatch(number) else user


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors are problem+json (RFC 9457), also those that the router makes."""
    # A browser names the page's origin on a POST; no page has business here.
    if request.method == "POST" and "Origin" in request.headers:
        return problem(403, "requests from web pages are not taken here")
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return problem(error.status, f"{request.method} {request.path}: {error.reason}", headers=allow)


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: object) -> web.Response:
    """An RFC 9457 problem document; `more` are its extension members."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return web.json_response(body, status=status, content_type="application/problem+json", headers=headers)


async def _livez(_: web.Request) -> web.Response:
    """Answering at all shows that the event loop turns."""
    return web.json_response({"status": "alive"})


async def _readyz(request: web.Request) -> web.Response:
    reasons = list(request.app[STATE].not_ready())
    if reasons:
        return problem(503, "; ".join(reasons), reasons=reasons)
    return web.json_response({"status": "ready"})


async def _metrics(request: web.Request) -> web.Response:
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(request.app[REGISTRY]), headers={"Content-Type": content_type})


async def _calls(request: web.Request) -> web.Response:
    calls = request.app[STATE].calls()
    return web.json_response({"calls": [call.as_json() | {"details": dict(call.details)} for call in calls]})


async def _current_call(request: web.Request) -> web.Response:
    """For an agent that cannot read SIP headers: the ids of the one live call that fits what it knows, never a guess between two."""
    try:
        question = asked(request.query)
    except ValueError as error:
        return problem(400, str(error))
    found = [call for call in request.app[STATE].calls() if question.fits(call)]
    if not found:
        return problem(404, "no live call fits what was asked")
    if len(found) > 1:
        more = "say more with to=, from=, media=, at= or sip_call_id="
        return problem(409, f"{len(found)} live calls fit; {more}", candidates=[call.as_json() for call in found])
    return web.json_response(found[0].as_json())


async def _state(request: web.Request) -> web.Response:
    return web.json_response(dict(request.app[STATE].describe()))


async def _drain(request: web.Request) -> web.Response:
    state = request.app[STATE]
    state.drain()
    return web.json_response({"draining": True, "live_calls": len(state.calls())}, status=202)


async def _drained(request: web.Request) -> web.Response:
    """Answers when the last call of a drain is over: what an agent's container waits for before it ends (an HTTP preStop hook)."""
    await request.app[STATE].drained()
    return web.json_response({"drained": True})


class _StateCollector(Collector):
    """Asks the state at each scrape, so that nothing has to be kept in step."""

    def __init__(self, state: AdminState) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        yield from self._state.metrics()


def _registry(state: AdminState) -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    registry.register(_StateCollector(state))
    return registry


def _samples(value: float | Mapping[str, float]) -> Iterable[tuple[str, float]]:
    return value.items() if isinstance(value, Mapping) else [("", value)]
