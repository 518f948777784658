"""Handlers of what is posted: facts of sidecars, Create Call and OTLP traces of agents."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any

import structlog
from aiohttp import web
from pydantic import ValidationError

from control.api.parameters import ReportQuery
from control.api.problems import Problem
from control.api.state import STATE, State
from control.api.table import IDENTITY, REPORTER
from control.bodies import whole
from control.clock import now_us
from control.contract import VERSION
from control.contract.answers import CreateCallAnswer
from control.contract.facts import CallStarted, FactBatch, FactReceipt, RecordingReceipt
from control.delivery.worker import UPLOAD
from control.ingest import reports
from control.matching.claim import Unreadable
from control.store import uploads
from control.store.recordings import AUDIO, TooLarge

log = structlog.get_logger()

MOST_BYTES = 10 * 1024 * 1024
_CHUNK = 256 * 1024
_UPLOAD_WAIT_S = 8.0
"""A sender that asked for an upload target waits this long for the evaluator's answer; SDKs give up after 15 s at the earliest."""


async def post_facts(request: web.Request, query: object) -> FactReceipt:
    """FactBatch in, FactReceipt out. A batch of another version is refused with both numbers, before anything in it is read."""
    state, batch = request.app[STATE], _batch(await whole(request))
    request[IDENTITY].must_speak_for(batch.sidecar)
    for fact in batch.facts:
        if isinstance(fact, CallStarted) and fact.sidecar != batch.sidecar:
            request[IDENTITY].must_speak_for(fact.sidecar)
    stored = await state.intake.accept(batch, now_us())
    for call in stored.changed:
        state.figures.changed(call)
        state.broker.call_changed(call)
    if stored.due:
        state.worker.wake()
    return stored.receipt


async def post_recording(request: web.Request, query: object) -> RecordingReceipt:
    """A call's recording as the body, streamed to disk; a second one takes the place of the first. What is not Ogg is WAV."""
    ending = ".ogg" if request.content_type == AUDIO[".ogg"] else ".wav"
    state, call = request.app[STATE], request.match_info["id"]
    receipt = await _kept(state.recordings.keep(call, request.content.iter_chunked(_CHUNK), ending))
    if await state.store.run(lambda conn: uploads.hasten(conn, call, state.store.uploads, now_us())):
        state.worker.wake()
    return receipt


async def post_capture(request: web.Request, query: object) -> RecordingReceipt:
    """A call's packets as the body, stored like a recording."""
    recordings, content = request.app[STATE].recordings, request.content.iter_chunked(_CHUNK)
    return await _kept(recordings.keep_capture(request.match_info["id"], content))


async def _kept(keeping: Awaitable[int]) -> RecordingReceipt:
    """Raises Problem."""
    try:
        return RecordingReceipt(bytes=await keeping)
    except TooLarge as error:
        raise Problem(413, f"{error}: raise recordings.max_mb_each") from None
    except ValueError as error:
        raise Problem(400, str(error)) from None
    except OSError as error:
        log.error("recording not stored", error=error.strerror)
        raise Problem(503, "the recording cannot be stored at present: try again later") from None


async def post_call(request: web.Request, query: ReportQuery) -> web.Response:
    """Create Call, as the SDKs send it: stored first, then answered 200, whatever the evaluator does."""
    state = request.app[STATE]
    sender = _sender(state, request, query, need=True)
    try:
        stored = await reports.accept(state.store, await whole(request), sender, now_us(), wait_us=state.wait_us)
    except Unreadable as unreadable:
        raise Problem(422, f"{unreadable.problem}: send a Create Call object") from None
    for call in stored.changed:
        state.broker.call_changed(call)
    state.worker.wake()
    answer = CreateCallAnswer(id=stored.id, provider_call_id=stored.provider_call_id, is_new=stored.is_new)
    if stored.wants_upload:
        # Only the evaluator can sign an upload, so this sender waits for the delivery, within what its own timeout allows. One that asks
        # again for what is long delivered gets the target that it missed.
        target = (await state.worker.reply(stored.delivery, _UPLOAD_WAIT_S if stored.under_way else 0)).get(UPLOAD)
        if target is not None:
            answer.recording_upload = target
    return web.json_response(answer.model_dump(mode="json", exclude_unset=True))


async def post_traces(request: web.Request, query: ReportQuery) -> web.Response:
    """OTLP/HTTP export, forwarded as it came. The answer is an empty ExportTraceServiceResponse in the request's own encoding."""
    state = request.app[STATE]
    content_type = request.headers.get("Content-Type", "application/x-protobuf")
    sender = _sender(state, request, query, need=False)
    body = await whole(request)
    if "json" in content_type:
        _must_be_json(body)
    await reports.accept_traces(state.store, body, content_type, sender, now_us())
    state.worker.wake()
    if "json" in content_type:
        return web.json_response({})
    return web.Response(body=b"", content_type="application/x-protobuf")


def _must_be_json(body: bytes) -> None:
    """Raises Problem 422: what no evaluator could read is refused while its sender can still hear of it."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(422, "the body is not JSON, which its Content-Type says it is") from None


def _batch(raw: bytes) -> FactBatch:
    """The batch in one pass; a second one, which takes its time, finds out what is wrong or odd with it. Raises Problem."""
    try:
        batch = FactBatch.model_validate_json(raw)
    except ValidationError:
        return _odd_batch(raw)
    return batch if batch.version == VERSION else _odd_batch(raw)


def _odd_batch(raw: bytes) -> FactBatch:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise Problem(400, "the body is not JSON: send a fact batch") from None
    if b"\\ud" in raw.lower():  # bytes of a SIP message that are not UTF-8 travel as lone surrogates, which no database takes
        body = _storable(body)
    version = body.get("version") if isinstance(body, dict) else None
    if version != VERSION:
        detail = f"this control knows version {VERSION} of the facts, the batch is version {version}: upgrade the older side"
        raise Problem(422, detail, supported=VERSION, received=version)
    try:
        return FactBatch.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Problem(422, f"{place}: {first['msg']}") from None


def _storable(value: Any) -> Any:
    """A JSON value whose lone surrogates became replacement characters."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_storable(each) for each in value]
    if isinstance(value, dict):
        return {_storable(name): _storable(each) for name, each in value.items()}
    return value


def _sender(state: State, request: web.Request, query: ReportQuery, *, need: bool) -> reports.Sender:
    reporter = request[REPORTER]
    own, evaluator = reporter.token is not None and reporter.token.mapping is not None, state.config.evaluator
    workspace = (query.workspace_id or "").strip()
    agent = (query.agent_remote_identifier or query.agent_id or "").strip()
    if need and not workspace and evaluator.workspace_id is None and not own:
        raise Problem(400, "workspace_id is missing: put it into the query, or set evaluator.workspace_id", parameter="workspace_id")
    if need and not agent and evaluator.agent_id is None and not own:
        name = "agent_remote_identifier"
        raise Problem(400, f"{name} is missing: put it into the query, or set evaluator.agent_id", parameter=name)
    return state.sender(workspace, agent, reporter)
