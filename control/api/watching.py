"""The handler of the event stream."""

from __future__ import annotations

from aiohttp import web

from control.api.events import changed_since, last_event_id, wanted
from control.api.parameters import EventQuery
from control.api.state import STATE


async def events(request: web.Request, query: EventQuery) -> web.StreamResponse:
    """Server-sent events: `call` whenever a call changed."""
    state = request.app[STATE]
    state.broker.make_room()
    seen = last_event_id(request)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    wants = wanted(id=query.call, kind=query.kind, route=query.route, sidecar=query.sidecar)
    await response.prepare(request)
    if request.method != "HEAD":
        await state.broker.stream(request, response, wants, changed_since(state.store, seen, wants))
    return response
