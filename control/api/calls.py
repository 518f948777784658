"""Handlers that show calls."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from control.api import queries
from control.api.ladder import render
from control.api.problems import Problem
from control.api.state import STATE
from control.contract import facts as f
from control.contract.redact import redact_correlation
from control.ingest.facts import trace


async def list_calls(request: web.Request) -> web.Response:
    """`{"calls": […], "next": cursor or null}`, newest first."""
    async with request.app[STATE].store.read() as conn:
        page = await queries.page(conn, request.query)
    return web.json_response({"calls": [call.as_json() for call in page.calls], "next": page.cursor})


async def show_call(request: web.Request) -> web.Response:
    """The call object."""
    async with request.app[STATE].store.read() as conn:
        call = await queries.one(conn, request.match_info["id"])
    return web.json_response(call.as_json())


async def show_messages(request: web.Request) -> web.Response:
    """`{"messages": […]}`: the SIP messages of both legs in order, correlation tokens hashed."""
    async with request.app[STATE].store.read() as conn:
        call = await queries.one(conn, request.match_info["id"])
        facts = await trace(conn, call.id)
    return web.json_response({"call": call.id, "messages": [_message(fact) for fact in facts if isinstance(fact, f.SipMessage)]})


async def show_ladder(request: web.Request) -> web.Response:
    """The ladder as text."""
    wanted = request.query.get("format", "text")
    if wanted != "text":
        raise Problem(400, "the ladder comes as text: leave format out, or say format=text")
    async with request.app[STATE].store.read() as conn:
        call = await queries.one(conn, request.match_info["id"])
        text = render(call, await trace(conn, call.id))
    return web.Response(text=text, content_type="text/plain", charset="utf-8")


async def show_summary(request: web.Request) -> web.Response:
    """Counts and percentiles over the filters of `list_calls`."""
    async with request.app[STATE].store.read() as conn:
        return web.json_response(await queries.summary(conn, request.query))


async def current_call(request: web.Request) -> web.Response:
    """The identity of the one live call that fits `to`, `from`, `sip_call_id`: 404 for none, 409 with candidates for several."""
    async with request.app[STATE].store.read() as conn:
        found = await queries.current(conn, request.query)
    identities = [
        {"id": call.id, "sip_call_id": call.sip_call_id, "b_leg_call_ids": call.b_leg_call_ids, "from": call.from_, "to": call.to,
         "recipient": call.recipient, "kind": call.kind, "started_at": call.started_at.isoformat()}
        for call in found
    ]  # fmt: skip
    if not identities:
        raise Problem(404, "no live call fits: facts reach control within a second or two of the INVITE, so ask again shortly")
    if len(identities) > 1:
        raise Problem(409, f"{len(identities)} live calls fit: add from= or sip_call_id=", candidates=identities)
    return web.json_response(identities[0])


async def events(request: web.Request) -> web.StreamResponse:
    """Server-sent events: `call` whenever a call changed."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    await response.prepare(request)
    await request.app[STATE].broker.stream(response)
    return response


def _message(fact: f.SipMessage) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(fact.model_dump_json(exclude={"call", "kind"}))
    shown["text"] = redact_correlation(fact.text)
    return shown
