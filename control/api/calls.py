"""Handlers that show calls."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from control.api import csv_lines, evidence, ladder, ladder_svg, pcap, queries, summaries, vcon
from control.api.answering import preferred
from control.api.parameters import CallFilter, CallQuery, CurrentQuery, ExportQuery, LadderQuery, Query, VconQuery
from control.api.problems import Problem
from control.api.spans import told_spans
from control.api.state import STATE
from control.contract import capture
from control.contract import facts as f
from control.contract.answers import CallPage, Identity, Ladder, Message, Messages, Note, Spans, Summary, Timeline
from control.contract.call import Call
from control.contract.fold import on_our_clock
from control.contract.redact import redact_correlation, token_of
from control.ingest.facts import documents, trace
from control.store import Store
from control.store.recordings import AUDIO

_PCAP = "application/vnd.tcpdump.pcap"
_VCON_AUDIO = {".wav": "audio/x-wav"}
"""Media types that a vCon spells differently (section 4.3.8)."""
_INLINE = 8 << 20
_MOST_INLINE = 64 << 20
"""Octets of a recording that go into a container unasked, and at all: it is made in memory."""


async def list_calls(request: web.Request, query: CallQuery) -> CallPage:
    """A page of calls, newest first."""
    async with request.app[STATE].store.read() as conn:
        page = await queries.page(conn, query)
    return CallPage(calls=page.calls, next=page.cursor)


async def show_call(request: web.Request, query: Query) -> Call:
    """The call object."""
    async with request.app[STATE].store.read() as conn:
        return await queries.one(conn, request.match_info["id"])


async def show_messages(request: web.Request, query: Query) -> Messages:
    """The SIP messages of both legs in order, correlation tokens hashed."""
    async with request.app[STATE].store.read() as conn:
        call = await queries.one(conn, request.match_info["id"])
        docs = await documents(conn, call.id, only="sip_message")
        token = token_of(await trace(conn, call.id, besides="sip_message"))
    # A fact has all that a message shows, and was checked when it was stored: three thousand of them must not take a second.
    told = [Message.model_validate_json(doc) for doc in docs]
    for message in told:
        message.text = redact_correlation(message.text, token)
        if call.clock is not None and call.clock.shifted:
            message.at = on_our_clock(call.clock, message.at)
    return Messages(call=call.id, messages=told)


async def show_timeline(request: web.Request, query: Query) -> Timeline:
    """What is drawn of the call besides its messages: speech, levels, losses, and the notes of its trace."""
    call, facts = await _told(request, besides="sip_message")
    answered = next((fact.elapsed_ms for fact in facts if isinstance(fact, f.CallAnswered)), None)
    tracks = next((fact.tracks for fact in reversed(facts) if isinstance(fact, f.CallMeasured)), None)
    marks = [(fact, step) for fact in facts for step in ladder.marks(fact) if not isinstance(fact, f.CallAnswered)]
    notes = [Note(at_ms=step.ms, kind=fact.kind, text=step.text) for fact, step in marks]
    return Timeline(call=call.id, answered_ms=answered, tracks=tracks, notes=notes)


async def show_spans(request: web.Request, query: Query) -> Spans:
    """The agent's own spans beside the wire's turns."""
    async with request.app[STATE].store.read() as conn:
        call = await queries.one(conn, request.match_info["id"])
        return await told_spans(conn, call)


async def show_ladder(request: web.Request, query: LadderQuery) -> web.Response | Ladder:
    """The ladder as text, as a drawing, as the source of a sequence diagram, or as steps for whoever draws it."""
    call, facts = await _told(request)
    match query.format:
        case "svg":
            # Whatever a stranger's SIP message says, the drawing may not become a page that runs.
            policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
            return web.Response(text=ladder_svg.render_svg(call, facts), content_type="image/svg+xml", charset="utf-8", headers=policy)
        case "mermaid":
            return web.Response(text=ladder_svg.render_mermaid(call, facts), content_type="text/plain", charset="utf-8")
        case "json":
            return ladder.told(call, facts)
        case _:
            return web.Response(text=ladder.render(call, facts), content_type="text/plain", charset="utf-8")


async def show_pcap(request: web.Request, query: Query) -> web.StreamResponse:
    """The SIP messages as a capture file, with the packets of the audio where they were kept: by the piece, for they are many."""
    call, facts = await _told(request)
    kept = await asyncio.to_thread(request.app[STATE].recordings.find_capture, call.id)
    if kept is None:
        return web.Response(body=pcap.capture(facts), content_type=_PCAP, headers=_named(call, "pcap"))
    offset_ms = call.clock.offset_ms if call.clock is not None and call.clock.shifted else 0.0
    with kept.open("rb") as file:
        return await _streamed(request, pcap.merged(facts, capture.records(file), round(offset_ms * 1e6)), _named(call, "pcap"))


async def _streamed(request: web.Request, pieces: Iterator[bytes], headers: dict[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": _PCAP, "Cache-Control": "no-store", **headers})
    await response.prepare(request)
    try:
        while (piece := await asyncio.to_thread(next, pieces, b"")) != b"":
            await response.write(piece)
        await response.write_eof()
    except ConnectionError:
        return response  # the reader went
    return response


async def show_recording(request: web.Request, query: Query) -> web.FileResponse:
    """The call's audio; Range and conditional requests are honoured (RFC 9110 sections 13 and 14)."""
    state = request.app[STATE]
    async with state.store.read() as conn:
        call = await queries.one(conn, request.match_info["id"])
    path = await asyncio.to_thread(state.recordings.find, call.id)
    if path is None:
        told = "it was recorded, and is not here yet or no more" if call.media.recording is not None else "its route does not record"
        raise Problem(404, f"no recording of this call: {told}")
    named = _named(call, path.suffix.removeprefix("."))
    return web.FileResponse(path, headers={"Content-Type": AUDIO[path.suffix], "Cache-Control": "private, no-cache", **named})


async def show_evidence(request: web.Request, query: Query) -> web.Response:
    """What is known of the call as one file for a person."""
    async with request.app[STATE].store.read() as conn:
        call = await queries.one(conn, request.match_info["id"])
        page = evidence.render(call, await trace(conn, call.id), (await told_spans(conn, call)).spans)
    return web.Response(text=page, content_type="text/html", charset="utf-8", headers={"Content-Security-Policy": evidence.POLICY})


async def show_vcon(request: web.Request, query: VconQuery) -> web.Response:
    """The call as the IETF's container of conversations, with its recording."""
    call, facts = await _told(request)
    audio = None
    if query.recording != "none" and call.answered_at is not None:
        url = str(request.url.with_path(f"/v1/calls/{quote(call.id, safe='')}/recording", encoded=True).with_query(None))
        audio = await asyncio.to_thread(_audio, request.app[STATE].recordings.find(call.id), url, query.recording)
    text = await asyncio.to_thread(lambda: json.dumps(vcon.container(call, facts, audio), ensure_ascii=False).encode("utf-8", "replace"))
    return web.Response(body=text, content_type=vcon.MEDIA_TYPE, headers=_named(call, "vcon.json"))


def _audio(path: Path | None, url: str, wanted: str) -> vcon.Audio | None:
    """The file of a recording for a container; None where there is none. Raises Problem where it is too large to be put inside."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if wanted == "embed" and size > _MOST_INLINE:
                raise Problem(
                    413, f"the recording has {size} octets, and at most {_MOST_INLINE} are put inside: ask for recording=reference"
                )
            inside = wanted == "embed" or (wanted == "auto" and size <= _INLINE)
            digest = hashlib.file_digest(file, "sha512").digest()
            file.seek(0)
            return vcon.Audio(path.name, _VCON_AUDIO.get(path.suffix, AUDIO[path.suffix]), url, digest, file.read() if inside else None)
    except FileNotFoundError:
        return None


async def show_summary(request: web.Request, query: CallFilter) -> Summary:
    """Counts and percentiles over the filters of `list_calls`."""
    async with request.app[STATE].store.read() as conn:
        return await summaries.summary(conn, query)


async def export_calls(request: web.Request, query: ExportQuery) -> web.StreamResponse:
    """All calls under the filters of `list_calls`, a line each; a page at a time, so that memory stays flat."""
    pages = _pages(request.app[STATE].store, query)
    first = await anext(pages, b"")  # a store that fails is told before the answer has begun
    kind = "text/csv; charset=utf-8; header=present" if query.format == "csv" else "application/x-ndjson"
    response = web.StreamResponse(headers={"Content-Type": kind, "Cache-Control": "no-store", "Vary": "Accept-Encoding"})
    if query.format == "csv":
        response.headers["Content-Disposition"] = 'attachment; filename="calls.csv"'
    coding = preferred(request.headers.get("Accept-Encoding", ""))
    if coding is not None:
        response.enable_compression(coding)
    await response.prepare(request)
    try:
        await response.write(first)
        async for page in pages:
            await response.write(page)
        await response.write_eof()
    except ConnectionError:
        return response  # the reader went
    except SQLAlchemyError:
        # The status is out: only a connection that breaks off can still say that the list is not whole.
        if request.transport is not None:
            request.transport.abort()
        raise
    return response


async def _pages(store: Store, query: ExportQuery) -> AsyncIterator[bytes]:
    """The octets of an export, a batch of calls at a time; of comma-separated values the names first."""
    names = csv_lines.heads() if query.format == "csv" else ""
    async for batch in queries.batches(store, query):
        text = csv_lines.lines(batch) if query.format == "csv" else "".join(f"{call.model_dump_json(by_alias=True)}\n" for call in batch)
        yield (names + text).encode("utf-8", "replace")
        names = ""
    if names:
        yield names.encode()


async def current_call(request: web.Request, query: CurrentQuery) -> Identity:
    """The identity of the one call that fits what an agent knows: 404 for none, 409 with candidates for several."""
    async with request.app[STATE].store.read() as conn:
        found = await queries.current(conn, query)
    identities = [_identity(call) for call in found]
    if not identities:
        raise Problem(404, "no live call fits: facts reach control within a second or two of the INVITE, so ask again shortly")
    if len(identities) > 1:
        candidates = [identity.model_dump(mode="json", by_alias=True) for identity in identities]
        raise Problem(409, f"{len(identities)} live calls fit: add from=, media=, at= or sip_call_id=", candidates=candidates)
    return identities[0]


async def _told(request: web.Request, *, besides: str | None = None) -> tuple[Call, list[f.Fact]]:
    """The call and its facts, all or all `besides` those of a kind."""
    async with request.app[STATE].store.read() as conn:
        call = await queries.one(conn, request.match_info["id"])
        facts = await trace(conn, call.id, besides=besides)
    if call.clock is None or not call.clock.shifted:
        return call, facts
    return call, [fact.model_copy(update={"at": on_our_clock(call.clock, fact.at)}) for fact in facts]


def _identity(call: Call) -> Identity:
    return Identity(
        id=call.id,
        sip_call_id=call.sip_call_id,
        b_leg_call_ids=call.b_leg_call_ids,
        from_=call.from_,
        to=call.to,
        recipient=call.recipient,
        kind=call.kind,
        started_at=call.started_at,
    )


def _named(call: Call, ending: str) -> dict[str, str]:
    name = "".join(sign for sign in call.id if sign.isascii() and (sign.isalnum() or sign in "-_"))
    return {"Content-Disposition": f'attachment; filename="{name or "call"}.{ending}"'}
