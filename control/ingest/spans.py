"""The spans of an OTLP/HTTP export that name the call they belong to, as agents' frameworks send them.

What cannot be read is left out and never refused: the export is the evaluator's, and it is forwarded as it came.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from control.matching.spans import AgentSpan, Value

CALL_ID = "tuner.call_id"
"""The attribute by which the evaluator's SDKs say under which `call_id` the call is reported; on each span, or on its resource."""
MOST_SPANS = 5000
"""Kept of one export."""
_MOST_ATTRIBUTES = 64
_MOST_TEXT = 2000
_STATUS = {0: "unset", 1: "ok", 2: "error"}


def read_spans(body: bytes, content_type: str) -> list[AgentSpan]:
    """The spans of an export in protobuf or JSON (OTLP 1.x, `ExportTraceServiceRequest`) that name their call, at most MOST_SPANS."""
    found: list[AgentSpan] = []
    for span in _json(body) if "json" in content_type else _protobuf(body):
        found.append(span)
        if len(found) == MOST_SPANS:
            break
    return found


def _protobuf(body: bytes) -> Iterator[AgentSpan]:
    # Slow to import, and most controls never see a trace.
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        return
    for resource_spans in request.resource_spans:
        resource = {each.key: _any_value(each.value) for each in resource_spans.resource.attributes}
        for span in (span for scope_spans in resource_spans.scope_spans for span in scope_spans.spans):
            made = _span(
                resource,
                {each.key: _any_value(each.value) for each in span.attributes},
                (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()),
                span.name,
                (span.start_time_unix_nano, span.end_time_unix_nano),
                span.status.code,
            )
            if made is not None:
                yield made


def _any_value(value: Any) -> Value:
    match value.WhichOneof("value"):
        case None | "kvlist_value" | "bytes_value":
            return None
        case "array_value":
            return [_any_value(each) for each in value.array_value.values]
        case kind:
            plain: Value = getattr(value, kind)
            return plain


def _json(body: bytes) -> Iterator[AgentSpan]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return
    for resource_spans in _objects(request, "resourceSpans"):
        resource = _attributes(resource_spans.get("resource"))
        for span in (span for scope in _objects(resource_spans, "scopeSpans") for span in _objects(scope, "spans")):
            status = span.get("status")
            made = _span(
                resource,
                _attributes(span),
                tuple(str(span.get(name) or "").lower() for name in ("traceId", "spanId", "parentSpanId")),
                str(span.get("name") or ""),
                (_number(span.get("startTimeUnixNano")), _number(span.get("endTimeUnixNano"))),
                status.get("code", 0) if isinstance(status, dict) else 0,
            )
            if made is not None:
                yield made


def _objects(parent: object, name: str) -> Iterable[dict[str, Any]]:
    found = parent.get(name) if isinstance(parent, dict) else None
    return (each for each in found if isinstance(each, dict)) if isinstance(found, list) else ()


def _attributes(parent: object) -> dict[str, Value]:
    return {str(each.get("key")): _json_value(each.get("value")) for each in _objects(parent, "attributes")}


def _json_value(value: object) -> Value:
    """OTLP's JSON: one member that names the type; 64-bit integers come as text."""
    if not isinstance(value, dict):
        return None
    match next(iter(value.items()), ("", None)):
        case ("stringValue", str(text)):
            return text
        case ("boolValue", bool(flag)):
            return flag
        case ("intValue", number):
            return _number(number)
        case ("doubleValue", int() | float() as number):
            return float(number)
        case ("arrayValue", dict() as array):
            return [_json_value(each) for each in _objects(array, "values")]
        case _:
            return None


def _number(value: object) -> int:
    """An integer, also from text; 0 for what is none."""
    try:
        return int(value) if isinstance(value, int | str) else 0
    except ValueError:
        return 0


def _span(
    resource: Mapping[str, Value],
    attributes: Mapping[str, Value],
    ids: tuple[str, ...],
    name: str,
    nanos: tuple[int, int],
    status: object,
) -> AgentSpan | None:
    """The span, or None when it names no call or is not one by OTLP's own rules."""
    call = attributes.get(CALL_ID) or resource.get(CALL_ID)
    trace_id, span_id, parent = ids
    known = _is_id(trace_id, 32) and _is_id(span_id, 16) and 0 < nanos[0] <= nanos[1] < 2**63
    if not isinstance(call, str) or not known:
        return None
    kept = [(clip(key), _clipped(value)) for key, value in attributes.items() if key != CALL_ID and value is not None]
    service = resource.get("service.name")
    return AgentSpan(
        provider_call_id=clip(call),
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=parent if _is_id(parent, 16) else None,
        name=clip(name),
        service=clip(service) if isinstance(service, str) else None,
        start_us=nanos[0] // 1000,
        end_us=nanos[1] // 1000,
        status=_STATUS.get(status, "unset") if isinstance(status, int) else "unset",
        attributes=dict(kept[:_MOST_ATTRIBUTES]),
    )


def _is_id(text: str, digits: int) -> bool:
    return len(text) == digits and set(text) <= set("0123456789abcdef") and set(text) != {"0"}


def clip(text: str) -> str:
    """`text` as a database takes it, its end cut off where it is very long."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")[:_MOST_TEXT]


def _clipped(value: Value) -> Value:
    if isinstance(value, str):
        return clip(value)
    if isinstance(value, list):
        return [_clipped(each) for each in value[:_MOST_ATTRIBUTES]]
    return value
