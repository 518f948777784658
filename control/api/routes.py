"""Which path leads where, behind which scope, with which parameters and answers."""

from __future__ import annotations

from aiohttp import web

from control.api import calls, fleet, ingest, listening, openapi, operations, vcon, watching
from control.api.access import Access
from control.api.parameters import (
    AuditQuery,
    CallFilter,
    CallQuery,
    CurrentQuery,
    DeliveryQuery,
    EventQuery,
    ExportQuery,
    LadderQuery,
    ReportQuery,
    VconQuery,
)
from control.api.table import BINARY, TEXT, Route, register
from control.contract.answers import (
    AuditPage,
    CallPage,
    CreateCall,
    CreateCallAnswer,
    Delivery,
    DeliveryPage,
    Health,
    Identity,
    Ladder,
    Messages,
    Readiness,
    Spans,
    Summary,
    Timeline,
)
from control.contract.call import Call
from control.contract.facts import FactBatch, FactReceipt, RecordingReceipt
from control.contract.fleet import (
    PATH,
    Capturing,
    Draining,
    HungUp,
    ListenAnswer,
    ListenAsked,
    ListenWays,
    Sidecars,
    VerifyAsked,
    VerifyReport,
)
from control.contract.routing import RoutesGiven, RoutesShown

_JSON = "application/json"
_PROTOBUF = "application/x-protobuf"
_OBJECT = {"type": "object"}


async def show_document(request: web.Request, query: None) -> web.Response:
    """This API's own description."""
    return web.json_response(openapi.document(ROUTES))


_CALLS = (
    Route("GET", "/v1/calls", calls.list_calls, "Calls, newest first", {_JSON: CallPage}, ("read",), query=CallQuery, conditional=True),
    Route(
        "GET",
        "/v1/export",
        calls.export_calls,
        "All calls under a filter, a line each",
        {"application/x-ndjson": TEXT, "text/csv": TEXT},
        ("read",),
        query=ExportQuery,
        description="A line of JSON is a call as GET /v1/calls/{id} gives it. A connection that breaks off means that lines are missing.",
    ),
    Route("GET", "/v1/calls/{id}", calls.show_call, "One call", {_JSON: Call}, ("read",), conditional=True),
    Route("GET", "/v1/calls/{id}/messages", calls.show_messages, "Its SIP messages", {_JSON: Messages}, ("read",), conditional=True),
    Route(
        "GET",
        "/v1/calls/{id}/timeline",
        calls.show_timeline,
        "What of it is drawn besides its messages",
        {_JSON: Timeline},
        ("read",),
        conditional=True,
        description="Speech, levels and losses of both sides, and the notes of the trace (digest, media).",
    ),
    Route(
        "GET",
        "/v1/calls/{id}/spans",
        calls.show_spans,
        "The spans of its agent's own trace",
        {_JSON: Spans},
        ("read",),
        conditional=True,
        description="Those that named the call in `tuner.call_id` when they came to /api/v1/traces, each with the turn it fell into.",
    ),
    Route(
        "GET",
        "/v1/calls/{id}/ladder",
        calls.show_ladder,
        "Its ladder",
        {"text/plain": TEXT, "image/svg+xml": TEXT, _JSON: Ladder},
        ("read",),
        query=LadderQuery,
        conditional=True,
    ),
    Route(
        "GET",
        "/v1/calls/{id}/pcap",
        calls.show_pcap,
        "Its SIP messages, and its RTP where that was captured, as a capture file",
        {"application/vnd.tcpdump.pcap": BINARY},
        ("read",),
        conditional=True,
        description="Classic pcap with nanoseconds, link type RAW. Each message is one UDP datagram, whatever transport it had. Packets "
        "of the audio stand there as they came on one leg and as they left on the other, in the clear where SRTP ended at the sidecar "
        "(`media.capture.decrypted`); `media.capture` says whether there are any.",
    ),
    Route(
        "GET",
        "/v1/calls/{id}/recording",
        calls.show_recording,
        "Its audio",
        {"audio/wav": BINARY, "audio/ogg": BINARY},
        ("read",),
        headers={"Range": "A part of the file, as in `bytes=0-99999`: answered with 206."},
        description="Stereo, the caller left, the agent right, WAV or Opus in Ogg; position 0 is the answer, so a position is a call time.",
    ),
    Route(
        "GET",
        "/v1/calls/{id}/evidence",
        calls.show_evidence,
        "All that is known of it, as one HTML file",
        {"text/html": TEXT},
        ("read",),
        conditional=True,
    ),
    Route(
        "GET",
        "/v1/calls/{id}/vcon",
        calls.show_vcon,
        "It as a vCon",
        {vcon.MEDIA_TYPE: _OBJECT},
        ("read",),
        query=VconQuery,
        errors=(413,),
        conditional=True,
        description="draft-ietf-vcon-vcon-core-03, unsigned: parties, dialog, the call object as analysis; messages and ladder attached. "
        "The recording is a dialog of its own; a reference is a URL of this API, with the SHA-512 of what it leads to.",
    ),
    Route("GET", "/v1/summary", calls.show_summary, "Counts and percentiles over a filter", {_JSON: Summary}, ("read",), query=CallFilter),
    Route(
        "GET",
        "/v1/events",
        watching.events,
        "Changes of calls as they happen",
        {"text/event-stream": TEXT},
        ("read",),
        query=EventQuery,
        headers={"Last-Event-ID": "Id of the last event that came: what changed since is told first."},
        description="Events: `call` (data: CallEvent), `gap` (too much changed since Last-Event-ID), `dropped` (the reader was too slow).",
    ),
    Route(
        "GET",
        "/v1/current-call",
        calls.current_call,
        "The live call that an agent is in",
        {_JSON: Identity},
        ("read", "sync"),
        query=CurrentQuery,
        errors=(404, 409),
    ),
)
_OPERATIONS = (
    Route(
        "GET",
        "/v1/deliveries",
        operations.list_deliveries,
        "The outbox, newest first",
        {_JSON: DeliveryPage},
        ("read", "operate"),
        tag="operations",
        query=DeliveryQuery,
    ),
    Route(
        "POST",
        r"/v1/deliveries/{id:\d+}/retry",
        operations.retry_delivery,
        "Try a dead or superseded delivery again",
        {_JSON: Delivery},
        ("operate",),
        tag="operations",
        path_schema={"type": "integer", "minimum": 0},
        errors=(409,),
    ),
    Route(
        "GET", "/v1/audit", operations.list_audit, "Who changed what", {_JSON: AuditPage}, ("operate",), tag="operations", query=AuditQuery
    ),
    Route("GET", "/livez", operations.livez, "Whether control is alive", {_JSON: Health}, access="open", tag="operations", query=None),
    Route(
        "GET",
        "/readyz",
        operations.readyz,
        "Whether reports can be stored",
        {_JSON: Readiness},
        access="open",
        tag="operations",
        query=None,
    ),
    Route(
        "GET",
        "/metrics",
        operations.metrics,
        "Prometheus metrics",
        {"text/plain": TEXT, "application/openmetrics-text": TEXT},
        access="open",
        tag="operations",
        query=None,
    ),
    Route(
        "GET",
        "/openapi.json",
        show_document,
        "This document",
        {_JSON: _OBJECT},
        access="open",
        tag="operations",
        query=None,
        conditional=True,
    ),
)
_FLEET = (
    Route(
        "GET", "/v1/sidecars", fleet.list_sidecars, "Sidecars that have uploaded or connected", {_JSON: Sidecars}, ("read",), tag="fleet"
    ),
    Route(
        "POST",
        "/v1/sidecars/{id}/drain",
        fleet.drain_sidecar,
        "Have a sidecar take no new call and stop when its live ones have ended",
        {_JSON: Draining},
        ("operate",),
        tag="fleet",
        description="The id is the sidecar's name. New calls get 503; what outlives the deadline of its file is hung up.",
        errors=(409, 502, 504),
    ),
    Route(
        "GET",
        "/v1/routes",
        fleet.show_routes,
        "Routes, presets and policies of the fleet",
        {_JSON: RoutesShown},
        ("read", "operate"),
        tag="fleet",
        conditional=True,
        description="Passwords are never shown. Version 0: nothing was put yet, and each sidecar goes by its own file.",
    ),
    Route(
        "PUT",
        "/v1/routes",
        fleet.put_routes,
        "Put routes, presets and policies in force",
        {_JSON: RoutesShown},
        ("operate",),
        tag="fleet",
        body={_JSON: RoutesGiven},
        headers={"If-Match": "The ETag of the state that is changed; without it, whatever the state is."},
        errors=(412, 422),
        description="All of it takes the place of what was. Each connected sidecar gets its part within a second, checks it whole, and "
        "takes it or keeps what it has: GET /v1/sidecars tells which, and why. Live calls go on. A password that is left out stays what "
        "it was while name, username and host of the target do.",
    ),
    Route(
        "POST",
        "/v1/verify",
        fleet.verify,
        "Place a test call from a sidecar and explain what it meets",
        {_JSON: VerifyReport, "application/x-ndjson": TEXT},
        ("operate",),
        tag="fleet",
        body={_JSON: VerifyAsked},
        headers={"Accept": "application/x-ndjson: each step as it is done, a line {step}, and in the end {report} or {problem}."},
        errors=(404, 409, 422, 502, 504),
        description="Hosts that neither a route of the sidecar nor its allow-list names are not dialled: 403.",
    ),
    Route(
        "POST",
        "/v1/calls/{id}/hangup",
        fleet.hang_up,
        "End a live call",
        {_JSON: HungUp},
        ("operate",),
        errors=(409, 502, 504),
        description="BYE to both sides; a call that is not answered yet is refused to the caller and cancelled at the edge.",
    ),
    Route(
        "POST",
        "/v1/calls/{id}/listen",
        listening.listen,
        "Listen in on a live call by WebRTC",
        {_JSON: ListenAnswer},
        ("operate",),
        body={_JSON: ListenAsked},
        errors=(404, 409, 422, 502, 504),
        description="Give an offer with all its candidates, get the answer. It ends when the call does, or the connection.",
    ),
    Route(
        "GET",
        "/v1/listening",
        listening.ways,
        "What a browser has to know before it listens in",
        {_JSON: ListenWays},
        ("operate",),
        errors=(409,),
    ),
    Route(
        "POST",
        "/v1/calls/{id}/capture",
        fleet.capture,
        "Keep the packets of a live call's audio from now on",
        {_JSON: Capturing},
        ("operate",),
        errors=(409, 502, 504),
        description="They stand in GET /v1/calls/{id}/pcap once the call has ended and its sidecar has brought them.",
    ),
    Route(
        "GET",
        PATH,
        fleet.connect,
        "Where sidecars connect (WebSocket)",
        {_JSON: _OBJECT},
        ("sidecar",),
        tag="intake",
        errors=(426,),
        description="JSON messages: `control.contract.fleet`. Who connects gets the routes of the name that it gives, passwords included.",
    ),
)
_INTAKE = (
    Route(
        "POST",
        "/v1/ingest/facts",
        ingest.post_facts,
        "Facts of a sidecar",
        {_JSON: FactReceipt},
        ("sidecar",),
        tag="intake",
        body={_JSON: FactBatch},
        errors=(400, 422),
    ),
    Route(
        "POST",
        "/v1/ingest/recordings/{id}",
        ingest.post_recording,
        "A call's recording, from its sidecar",
        {_JSON: RecordingReceipt},
        ("sidecar",),
        tag="intake",
        body={"audio/wav": BINARY, "audio/ogg": BINARY},
        errors=(400,),
    ),
    Route(
        "POST",
        "/v1/ingest/captures/{id}",
        ingest.post_capture,
        "The packets of a call's audio, from its sidecar",
        {_JSON: RecordingReceipt},
        ("sidecar",),
        tag="intake",
        body={"application/vnd.tcpdump.pcap": BINARY},
        errors=(400,),
    ),
    Route(
        "POST",
        "/api/v1/public/call",
        ingest.post_call,
        "An agent's report (Create Call)",
        {_JSON: CreateCallAnswer},
        access="reporter",
        tag="intake",
        query=ReportQuery,
        body={_JSON: CreateCall},
        errors=(422,),
        also_at=("//api/v1/public/call",),
        description="Stored, then answered, then forwarded. A doubled slash at the beginning of the path is served too.",
    ),
    Route(
        "POST",
        "/api/v1/traces",
        ingest.post_traces,
        "An OTLP/HTTP export of an agent",
        {_PROTOBUF: BINARY, _JSON: _OBJECT},
        access="reporter",
        tag="intake",
        query=ReportQuery,
        body={_PROTOBUF: BINARY, _JSON: {}},
        errors=(422,),
        also_at=("//api/v1/traces",),
    ),
)
ROUTES: tuple[Route, ...] = (*_CALLS, *_OPERATIONS, *_FLEET, *_INTAKE)


def add_routes(app: web.Application, access: Access) -> None:
    """Register every route of the API."""
    register(app, access, ROUTES)
