"""Which path leads where, and behind which scope."""

from __future__ import annotations

from aiohttp import web

from control.api import calls, ingest, operations
from control.api.access import Access


def add_routes(app: web.Application, access: Access) -> None:
    """Register every route of the API. Health and metrics hold no call and stay open; senders of reports are judged in the handler."""
    guard = access.guard
    app.add_routes(
        [
            web.post("/v1/ingest/facts", guard(ingest.post_facts, "sidecar")),
            web.get("/v1/calls", guard(calls.list_calls, "read")),
            web.get("/v1/calls/{id}", guard(calls.show_call, "read")),
            web.get("/v1/calls/{id}/messages", guard(calls.show_messages, "read")),
            web.get("/v1/calls/{id}/ladder", guard(calls.show_ladder, "read")),
            web.get("/v1/summary", guard(calls.show_summary, "read")),
            web.get("/v1/events", guard(calls.events, "read")),
            web.get("/v1/current-call", guard(calls.current_call, "read", "sync")),
            web.get("/v1/deliveries", guard(operations.list_deliveries, "read", "operate")),
            web.post(r"/v1/deliveries/{id:\d+}/retry", guard(operations.retry_delivery, "operate")),
            web.get("/v1/sidecars", guard(operations.list_sidecars, "read")),
            web.get("/livez", operations.livez),
            web.get("/readyz", operations.readyz),
            web.get("/metrics", operations.metrics),
        ]
    )
    # An SDK whose base URL ends in a slash asks for a doubled one.
    for slashes in ("/", "//"):
        app.router.add_post(f"{slashes}api/v1/public/call", ingest.post_call)
        app.router.add_post(f"{slashes}api/v1/traces", ingest.post_traces)
