"""The pass-through: a report as it leaves, with our figures in it and every other byte as the agent wrote it.

Ours are `sip_call_id` (or `recipient` for an outbound simulation) where it is to be repaired, `general_meta_data_raw.trunkside`,
`metadata.wire_response_latency` of agent segments, and what offers a recording of ours. No number form, explicit null, key order or unknown
key changes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeGuard

from control.contract.call import Call, Percentiles, RecordingFormat, Reported, ReportedTurn
from control.matching.align import Pair, Spoken, pair
from control.matching.claim import codec, epoch_ms, read_json
from control.matching.jsonspans import Edit, NotEditable, Span, elements, members, put, splice, value_at

BYTE_ORDER_MARK = "\ufeff"
META, SEGMENTS, OURS, WIRE = "general_meta_data_raw", "transcript_with_tool_calls", "trunkside", "wire_response_latency"
EXTENSION = "recording_file_extension"


@dataclass(frozen=True, slots=True)
class Link:
    """The member that a repair sets: `sip_call_id` or `recipient`, and its value."""

    name: str
    value: str


def link_of(call: Call) -> Link:
    """What the evaluator links this call by."""
    if call.direction == "outbound" and call.recipient is not None:
        return Link("recipient", call.recipient)
    return Link("sip_call_id", call.sip_call_id)


def compare(body: bytes, call: Call) -> list[Pair]:
    """The agent's segments beside the wire's turns; empty when the transcript cannot be read. `call.answered_at` gives call time 0."""
    try:
        report = read_json(body)
    except ValueError:
        return []
    if not isinstance(report, dict) or not isinstance(report.get(SEGMENTS), list):
        return []
    started = epoch_ms(report.get("start_timestamp"))
    answered = call.answered_at.timestamp() * 1000 if call.answered_at else None
    prior = started - answered if started is not None and answered is not None else 0.0
    return pair(_spoken(report[SEGMENTS]), call, prior)


def reported(pairs: Sequence[Pair]) -> Reported:
    """What the agent claims beside what the wire shows, segment by segment and over all."""
    offset = median(each.start_ms - each.segment.start_ms for each in pairs) if pairs else None
    turns = [
        ReportedTurn(
            segment=each.segment.index,
            turn=each.turn,
            start_difference_ms=round(each.start_ms - each.segment.start_ms - (offset or 0.0), 1),
            e2e_latency_ms=each.segment.claimed_ms,
            response_latency_ms=each.wire_ms,
            difference_ms=None if each.segment.claimed_ms is None else round(each.wire_ms - each.segment.claimed_ms, 3),
        )
        for each in pairs
    ]
    differences = [turn.difference_ms for turn in turns if turn.difference_ms is not None]
    return Reported(
        response_latency_ms=[turn.e2e_latency_ms for turn in turns if turn.e2e_latency_ms is not None],
        difference_ms=differences,
        difference=Percentiles.of(differences),
        offset_ms=None if offset is None else round(offset, 1),
        turns=turns,
    )


def enrich(
    body: bytes, call: Call, *, repair: Link | None = None, pairs: Sequence[Pair] = (), recording: RecordingFormat | None = None
) -> bytes:
    """`body` with our members set. A text that cannot be edited safely is returned as it came, whatever the reason.

    `recording`: the form of one that the evaluator is asked to take.
    """
    encoding = codec(body)
    try:
        text = body.decode(encoding, "surrogatepass")
        top = value_at(text, 1 if text.startswith(BYTE_ORDER_MARK) else 0)
        if text[top.end :].strip(" \t\r\n"):
            return body
        return splice(text, _edits(text, top, call, repair, pairs, recording)).encode(encoding, "surrogatepass")
    except (UnicodeError, NotEditable):
        return body


def _edits(text: str, top: Span, call: Call, repair: Link | None, pairs: Sequence[Pair], recording: RecordingFormat | None) -> list[Edit]:
    found = members(text, top)
    ours = json.dumps(call.as_json(), ensure_ascii=True)
    values = {repair.name: json.dumps(repair.value)} if repair is not None else {}
    if recording is not None:  # the caller left, the agent right
        values |= {EXTENSION: json.dumps(recording), "recording_s3_multi_channel": "true", "recording_s3_caller_channel": "0"}
    if META not in found:
        values[META] = f'{{"{OURS}": {ours}}}'
    edits = put(text, top, values) + (_nested(text, found[META], OURS, ours) if META in found else [])
    latencies = {each.segment.index: each.wire_ms for each in pairs}
    segments = found.get(SEGMENTS)
    if latencies and segments is not None and text[segments.start] == "[":
        for index, segment in enumerate(elements(text, segments)):
            if index in latencies and text[segment.start] == "{":
                edits += _latency(text, segment, json.dumps(round(latencies[index], 3)))
    return edits


def _latency(text: str, segment: Span, value: str) -> list[Edit]:
    metadata = members(text, segment).get("metadata")
    if metadata is None:
        return put(text, segment, {"metadata": f'{{"{WIRE}": {value}}}'})
    return _nested(text, metadata, WIRE, value)


def _nested(text: str, obj: Span, name: str, value: str) -> list[Edit]:
    """Set a member of a nested object; a null becomes an object, any other value is the agent's own and stays."""
    if text[obj.start] == "{":
        return put(text, obj, {name: value})
    return [Edit(obj, f'{{"{name}": {value}}}')] if text[obj.start : obj.end] == "null" else []


def _spoken(segments: list[object]) -> list[Spoken]:
    found = []
    for index, segment in enumerate(segments):
        if isinstance(segment, dict) and segment.get("role") == "agent" and _is_number(segment.get("start_ms")):
            metadata = segment.get("metadata")
            claimed = metadata.get("e2e_latency") if isinstance(metadata, dict) else None
            found.append(Spoken(index, float(segment["start_ms"]), float(claimed) if _is_number(claimed) else None))
    return found


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
