"""OTLP exports in both encodings, and their spans beside the wire's turns."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from control.contract.call import Turn
from control.ingest.spans import MOST_SPANS, read_spans
from control.matching.spans import AgentSpan, turn_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECOND = 1_000_000_000


def attribute(key: str, **value: Any) -> dict[str, Any]:
    return {"key": key, "value": value}


def span(span_id: str = SPAN, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "traceId": TRACE,
        "spanId": span_id,
        "parentSpanId": "00f067aa0ba902b7",
        "name": "llm_node",
        "startTimeUnixNano": str(100 * SECOND),
        "endTimeUnixNano": str(101 * SECOND),
        "status": {"code": 2},
        "attributes": [
            attribute("tuner.call_id", stringValue="r1"),
            attribute("tokens", intValue="42"),
            attribute("ttft", doubleValue=0.25),
            attribute("cached", boolValue=True),
            attribute("tools", arrayValue={"values": [{"stringValue": "a"}, {"intValue": "2"}]}),
        ],
    }
    return values | changes


def export(*spans: dict[str, Any], resource: tuple[dict[str, Any], ...] = (attribute("service.name", stringValue="agent"),)) -> bytes:
    return json.dumps({"resourceSpans": [{"resource": {"attributes": list(resource)}, "scopeSpans": [{"spans": list(spans)}]}]}).encode()


def protobuf() -> bytes:
    """The same export as `export(span())` in the other encoding."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "agent"
    made = group.scope_spans.add().spans.add(
        trace_id=bytes.fromhex(TRACE), span_id=bytes.fromhex(SPAN), parent_span_id=bytes.fromhex("00f067aa0ba902b7"), name="llm_node"
    )
    made.start_time_unix_nano, made.end_time_unix_nano, made.status.code = 100 * SECOND, 101 * SECOND, 2
    made.attributes.add(key="tuner.call_id").value.string_value = "r1"
    made.attributes.add(key="tokens").value.int_value = 42
    made.attributes.add(key="ttft").value.double_value = 0.25
    made.attributes.add(key="cached").value.bool_value = True
    tools = made.attributes.add(key="tools").value.array_value.values
    tools.add().string_value = "a"
    tools.add().int_value = 2
    return request.SerializeToString()


@pytest.mark.parametrize(("body", "kind"), [(export(span()), "application/json"), (protobuf(), "application/x-protobuf")])
def test_both_encodings_tell_the_same(body: bytes, kind: str) -> None:
    assert read_spans(body, kind) == [
        AgentSpan(
            provider_call_id="r1",
            trace_id=TRACE,
            span_id=SPAN,
            parent_span_id="00f067aa0ba902b7",
            name="llm_node",
            service="agent",
            start_us=100_000_000,
            end_us=101_000_000,
            status="error",
            attributes={"tokens": 42, "ttft": 0.25, "cached": True, "tools": ["a", 2]},
        )
    ]


def test_the_call_may_stand_on_the_resource() -> None:
    [read] = read_spans(export(span(attributes=[]), resource=(attribute("tuner.call_id", stringValue="r9"),)), "application/json")
    assert (read.provider_call_id, read.service, read.attributes) == ("r9", None, {})


@pytest.mark.parametrize(
    "odd",
    [
        {"attributes": []},  # names no call
        {"attributes": [attribute("tuner.call_id", intValue="7")]},
        {"traceId": "0" * 32},
        {"traceId": TRACE[:-1]},
        {"spanId": "not hex digits!!"},
        {"startTimeUnixNano": "0"},
        {"startTimeUnixNano": "200", "endTimeUnixNano": "100"},
        {"endTimeUnixNano": "soon"},
    ],
)
def test_what_is_no_span_of_a_call_is_left_out_and_its_neighbours_stay(odd: dict[str, Any]) -> None:
    assert [each.span_id for each in read_spans(export(span("a" * 16, **odd), span()), "application/json")] == [SPAN]


def test_only_so_many_and_so_long() -> None:
    many = [span(f"{number:016x}", name="x" * 5000) for number in range(1, MOST_SPANS + 10)]
    found = read_spans(export(*many), "application/json")
    assert (len(found), len(found[0].name)) == (MOST_SPANS, 2000)


@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(
    st.sampled_from(["resourceSpans", "scopeSpans", "spans", "attributes", "resource", "key", "value", "status", "stringValue"]), v
)).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_body_breaks_it(body: bytes) -> None:
    for kind in ("application/json", "application/x-protobuf"):
        read_spans(body, kind)


def test_a_span_belongs_to_the_turn_it_shares_most_time_with() -> None:
    def turn(n: int, first: float, last: float) -> Turn:
        return Turn(
            n=n,
            kind="response",
            caller_start_ms=first,
            caller_end_ms=first + 10,
            agent_start_ms=last - 10,
            agent_end_ms=last,
            response_latency_ms=1,
        )

    turns = [turn(1, 1000, 3000), turn(2, 4000, 6000)]
    assert [turn_of(first, last, turns) for first, last in ((1500, 1600), (2900, 4500), (3200, 3800), (5000, 5000), (0, 9000))] == [
        1,
        2,
        None,
        2,
        1,
    ]
    assert turn_of(0, 1, []) is None
