"""Handlers for who listens in on a live call."""

from __future__ import annotations

from aiohttp import web

from control.api.fleet import live_call, read_body
from control.api.parameters import Query
from control.api.problems import Problem
from control.api.state import STATE
from control.bodies import whole
from control.contract.fleet import ListenAnswer, ListenAsked, ListenWays
from control.listening.peers import Refused


async def listen(request: web.Request, query: Query) -> ListenAnswer:
    """Answer a WebRTC offer with a call's audio. 404 for an unknown call, 409 for one that has ended or cannot be heard."""
    _must_be_on(request)
    asked = read_body(ListenAsked, await whole(request))
    call, actor = await live_call(request, "call.listen")
    try:
        answer = await request.app[STATE].listeners.listen(call.id, call.sidecar, actor.name, asked.sdp)
    except Refused as refused:
        raise Problem(refused.status, refused.detail) from None
    return ListenAnswer(call=call.id, sidecar=call.sidecar, sdp=answer)


async def ways(request: web.Request, query: Query) -> ListenWays:
    """The servers through which a browser may find its way."""
    _must_be_on(request)
    return ListenWays(ice_servers=list(request.app[STATE].listeners.ice_servers))


def _must_be_on(request: web.Request) -> None:
    if not request.app[STATE].config.listen_in.enabled:
        raise Problem(409, "listening in is switched off here: set listen_in.enabled in control's configuration")
