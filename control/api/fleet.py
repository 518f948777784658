"""Handlers of the fleet: where sidecars connect, their configuration, and what they are told to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from control.api import queries
from control.api.answering import tags
from control.api.parameters import Query
from control.api.problems import REQUEST_ID, Problem
from control.api.state import STATE, State
from control.api.table import IDENTITY
from control.audit import Actor, record
from control.bodies import whole
from control.clock import now_us
from control.contract.call import Call
from control.contract.fleet import (
    MOST_BYTES,
    CaptureOrder,
    Capturing,
    Draining,
    DrainOrder,
    HangUpOrder,
    HungUp,
    Sidecars,
    VerifyAsked,
    VerifyOrder,
    VerifyReport,
)
from control.contract.routing import RoutesGiven, RoutesShown
from control.fleet import snapshots
from control.fleet.link import Step, Undone
from control.fleet.registry import Where
from control.fleet.snapshots import Changed, Stored, Unfit, host_of

_MOST_ROUTES_BYTES = 1024 * 1024
_QUICK_S = 10.0
_GOODBYE_S = 1.0
_VERIFY_WAITS = 6
_VERIFY_MARGIN_S = 15.0
NDJSON = "application/x-ndjson"
T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


async def connect(request: web.Request, query: Query) -> web.StreamResponse:
    """A sidecar's connection, for as long as it lasts."""
    if "Origin" in request.headers:
        raise Problem(403, "this path is for sidecars, and a web page connects to it never")
    socket = web.WebSocketResponse(timeout=_GOODBYE_S, max_msg_size=MOST_BYTES, compress=False)
    if not socket.can_prepare(request).ok:
        raise Problem(426, "this path speaks WebSocket alone: it is where sidecars connect", headers={"Upgrade": "websocket"})
    access = request.app[STATE].access

    async def allowed(sidecar: str) -> str | None:
        await access.refresh()
        try:
            access.require(request, "sidecar").must_speak_for(sidecar)
        except Problem as problem:
            return problem.detail
        return None

    await socket.prepare(request)
    try:
        await request.app[STATE].fleet.serve(socket, request.remote, allowed)
    finally:
        await socket.close()
    return socket


async def list_sidecars(request: web.Request, query: Query) -> Sidecars:
    """The sidecars that ever uploaded or connected."""
    return Sidecars(sidecars=await request.app[STATE].fleet.seen())


# -- configuration -------------------------------------------------------------------------------------------------------------------------


async def show_routes(request: web.Request, query: Query) -> web.Response:
    """Routes, presets and policies in force, without passwords."""
    state = request.app[STATE]
    async with state.store.read() as conn:
        return _shown(await snapshots.newest(conn, state.vault))


async def put_routes(request: web.Request, query: Query) -> web.Response:
    """Put them in force. 412 when they changed since the state that If-Match names."""
    state = request.app[STATE]
    raw = await whole(request)
    if len(raw) > _MOST_ROUTES_BYTES:
        raise Problem(413, f"routes, presets and policies take {_MOST_ROUTES_BYTES} bytes at most, these are {len(raw)}")
    given, actor, now = read_body(RoutesGiven, raw), _actor(state, request), now_us()
    asked = request.headers.get("If-Match", "").strip()
    seen = None if asked in ("", "*") else tags(asked)

    async def work(conn: AsyncConnection) -> Stored:
        stored = await snapshots.put(conn, state.vault, given, seen, actor, now)
        await state.fleet.announce(conn)
        return stored

    try:
        stored = await state.store.run(work)
    except Changed as changed:
        raise Problem(412, str(changed)) from None
    except Unfit as unfit:
        raise Problem(422, str(unfit)) from None
    await state.fleet.refresh()
    return _shown(stored)


def _shown(stored: Stored | None) -> web.Response:
    shown: RoutesShown = stored.shown() if stored is not None else snapshots.NOTHING
    tag = stored.tag if stored is not None else snapshots.NOTHING_TAG
    return web.Response(text=shown.model_dump_json(), content_type="application/json", charset="utf-8", headers={"ETag": f'W/"{tag}"'})


# -- commands ------------------------------------------------------------------------------------------------------------------------------


async def hang_up(request: web.Request, query: Query) -> HungUp:
    """End a live call. 404 for an unknown one, 409 for one that has ended or whose sidecar is not connected."""
    call, actor = await live_call(request, "call.hangup")
    await _done(request.app[STATE].fleet.order(call.sidecar, HangUpOrder(call=call.id, by=actor.name), _QUICK_S))
    return HungUp(call=call.id, sidecar=call.sidecar)


async def capture(request: web.Request, query: Query) -> Capturing:
    """Keep the packets of a live call. 404 for an unknown one, 409 for one that has ended or whose sidecar is not connected."""
    call, actor = await live_call(request, "call.capture")
    await _done(request.app[STATE].fleet.order(call.sidecar, CaptureOrder(call=call.id, by=actor.name), _QUICK_S))
    return Capturing(call=call.id, sidecar=call.sidecar)


async def drain_sidecar(request: web.Request, query: Query) -> Draining:
    """Have a sidecar drain. 404 for one that was never seen, 409 for one that is not connected."""
    state, name, actor = request.app[STATE], request.match_info["id"], _actor(request.app[STATE], request)
    await _note(state, actor, "sidecar.drain", name)
    result = await _done(state.fleet.order(name, DrainOrder(by=actor.name), _QUICK_S))
    return Draining(sidecar=name, live_calls=int(result.get("live_calls", 0)))


async def verify(request: web.Request, query: Query) -> web.StreamResponse | VerifyReport:
    """Place a test call from a sidecar; the report, or each step as it is done for whoever accepts NDJSON."""
    state = request.app[STATE]
    asked = read_body(VerifyAsked, await whole(request))
    if (asked.username is None) != (asked.password is None):
        raise Problem(422, "username and password go together: give both or neither")
    name = asked.sidecar or _choose(await state.fleet.connected(), host_of(asked.uri))
    order = VerifyOrder(uri=asked.uri, username=asked.username, password=asked.password, timeout_s=asked.timeout_s)
    deadline_s = asked.timeout_s * _VERIFY_WAITS + _VERIFY_MARGIN_S
    await _note(state, _actor(state, request), "verify", host_of(asked.uri), sidecar=name)
    if NDJSON in request.headers.get("Accept", ""):
        return await _streamed(request, name, order, deadline_s)
    return VerifyReport(sidecar=name, **await _done(state.fleet.order(name, order, deadline_s)))


def _choose(connected: dict[str, Where], host: str) -> str:
    """A connected sidecar, best one that may dial `host`. Raises Problem 409 when none is connected."""
    willing = [name for name, where in connected.items() if not where.state.draining]
    if not willing:
        detail = "no sidecar is connected: start one whose control.url leads here, with a token of scope sidecar; GET /v1/sidecars shows it"
        raise Problem(409, detail)
    able = (name for name in willing if any(_same(host, pattern) for pattern in connected[name].state.verify_hosts))
    return next(able, willing[0])


def _same(host: str, pattern: str) -> bool:
    return snapshots.fits(host.strip("[]"), pattern.lower().strip("[]"))


async def _streamed(request: web.Request, sidecar: str, order: VerifyOrder, deadline_s: float) -> web.StreamResponse:
    """Lines of JSON. What fails after the first step is told as the last line, since the status is out by then."""
    fleet = request.app[STATE].fleet
    steps: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    step: Step = steps.put_nowait
    work = asyncio.create_task(fleet.order(sidecar, order, deadline_s, step), name="verify")
    work.add_done_callback(lambda _: steps.put_nowait(None))
    try:
        first = await steps.get()
        if first is None:
            result = await _done(work)
        response = web.StreamResponse(headers={"Content-Type": NDJSON, "Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        await response.prepare(request)
        while first is not None:
            await _line(response, {"step": first})
            first = await steps.get()
        try:
            result = await _done(work)
        except Problem as problem:
            await _line(response, {"problem": problem.body(request.get(REQUEST_ID))})
        else:
            await _line(response, {"report": VerifyReport(sidecar=sidecar, **result).model_dump(mode="json")})
        await response.write_eof()
    except ConnectionError:
        return response  # the reader went
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    return response


async def _line(response: web.StreamResponse, value: dict[str, Any]) -> None:
    await response.write(json.dumps(value).encode() + b"\n")


async def _done(work: Awaitable[T]) -> T:
    """What a command gives. Raises Problem with why it was not done."""
    try:
        return await work
    except Undone as undone:
        raise Problem(undone.status, undone.detail) from None


# -- shared --------------------------------------------------------------------------------------------------------------------------------


def read_body(model: type[M], raw: bytes) -> M:
    """Raises Problem 422 that names the place and repeats nothing of what was given, which may be a secret."""
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise Problem(422, f"{place}: {message}" if place else message) from None


async def live_call(request: web.Request, action: str) -> tuple[Call, Actor]:
    """The call that the path names, and who acts on it, which is in the audit log from now on. Raises Problem 404, and 409 for one that
    has ended.
    """
    state = request.app[STATE]
    async with state.store.read() as conn:
        call = await queries.one(conn, request.match_info["id"])
    if call.ended_at is not None:
        raise Problem(409, "this call has ended already")
    actor = _actor(state, request)
    await _note(state, actor, action, call.id, sidecar=call.sidecar)
    return call, actor


def _actor(state: State, request: web.Request) -> Actor:
    return state.access.actor(request, request[IDENTITY])


async def _note(state: State, actor: Actor, action: str, target: str, **detail: object) -> None:
    """Write into the audit log that somebody asks for this: before it is done, since it is done elsewhere."""
    now = now_us()
    await state.store.run(lambda conn: record(conn, actor, action, target, now, **detail))
