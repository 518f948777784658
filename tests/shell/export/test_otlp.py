"""OTLP export to a collector stand-in on loopback that reads OpenTelemetry's own protocol buffers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import structlog
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from sidecar.net.errors import StartError
from sidecar.net.otlp import CallExporter, Pace, traces_url
from tests.core.trace.calls import AGENT_CONTEXT, CALL, CALL_ID, CALLER_CONTEXT, EPOCH, Trace, answered_call

QUICK = Pace(timeout=1.0, flush=5.0)


class Collector:
    """Takes traces, or answers what a test wants."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: list[str] = []
        self.status = 200
        self.hold = asyncio.Event()
        self.hold.set()
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        """One export."""
        self.paths.append(request.path)
        assert request.content_type == "application/x-protobuf"
        body = await request.read()
        await self.hold.wait()
        if self.status == 200:
            self.requests.append(ExportTraceServiceRequest.FromString(body))
        return web.Response(
            status=self.status, body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Collector]:
        """Listen on loopback."""
        app = web.Application()
        app.router.add_post("/{path:.*}", self.take)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            self.hold.set()
            await runner.cleanup()

    @property
    def spans(self) -> list[Span]:
        """Of everything that was taken, in order."""
        return [span for taken in self.requests for part in taken.resource_spans for scope in part.scope_spans for span in scope.spans]


@contextlib.asynccontextmanager
async def exporting(endpoint: str, **options: Any) -> AsyncIterator[CallExporter]:
    """A started exporter that is stopped at the end."""
    exporter = CallExporter(endpoint, "edge-1", pace=options.pop("pace", QUICK), **options)
    await exporter.start()
    try:
        yield exporter
    finally:
        await exporter.stop()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with Collector().listening() as listening:
        yield listening


@pytest.fixture
def refused() -> Any:
    """An address where connections are refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something to become true, for at most ten seconds."""
    async with asyncio.timeout(10.0):
        while not condition():
            await asyncio.sleep(0.01)


def values(attributes: Any) -> dict[str, object]:
    """Attributes as plain values."""
    found: dict[str, object] = {}
    for each in attributes:
        kind = each.value.WhichOneof("value")
        value = getattr(each.value, kind)
        found[each.key] = tuple(item.string_value for item in value.values) if kind == "array_value" else value
    return found


async def test_a_call_arrives_as_a_tree_with_its_ids_times_and_attributes(collector: Collector) -> None:
    async with exporting(collector.url) as exporter:
        exporter.finished(answered_call().lines)
    spans = collector.spans
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    assert {span.trace_id.hex() for span in spans} == {CALL}

    def path(span: Span) -> str:
        return span.name if not span.parent_span_id else f"{path(by_id[span.parent_span_id])}/{span.name}"

    def since(nanoseconds: int) -> int:
        return (nanoseconds - int(EPOCH) * 10**9) // 10**6

    assert [(path(span), since(span.start_time_unix_nano), since(span.end_time_unix_nano)) for span in spans] == [
        ("call", 0, 12030),
        ("call/INVITE", 0, 940),
        ("call/INVITE/authentication", 10, 50),
        ("call/INVITE/ringing", 300, 900),
        ("call/INVITE/answer", 900, 940),
        ("call/turn 1", 2400, 6900),
        ("call/turn 1/response", 3900, 4720),
        ("call/turn 2", 7900, 9900),
        ("call/barge-in", 9500, 9900),
        ("call/barge-in", 10100, 10100),
        ("call/BYE", 12000, 12030),
    ]
    root = spans[0]
    assert root.start_time_unix_nano == int(EPOCH) * 10**9
    assert root.kind == Span.SPAN_KIND_SERVER
    attributes = values(root.attributes)
    assert attributes["sip.call_id"] == CALL_ID
    assert attributes["trunkside.b_leg_call_ids"] == (CALL_ID,)
    assert attributes["sip.status_code"] == 200
    assert attributes["trunkside.answered"] is True
    assert values(spans[5].attributes)["trunkside.turn.response_latency_ms"] == 820.0
    assert values(spans[5].attributes)["trunkside.turn.uncertainty_ms"] == 12.0
    links = [(link.trace_id.hex(), link.span_id.hex()) for link in root.links]
    assert links == [tuple(context.split("-")[1:3]) for context in (CALLER_CONTEXT, AGENT_CONTEXT)]
    assert [values(link.attributes) for link in root.links] == [{"trunkside.party": "caller"}, {"trunkside.party": "agent"}]
    (resource,) = [part.resource for part in collector.requests[0].resource_spans]
    told = values(resource.attributes)
    assert (told["service.name"], told["service.instance.id"]) == ("trunkside-sidecar", "edge-1")
    assert collector.paths == ["/v1/traces"]
    assert exporter.describe() | {"link": "up", "exported": 1, "failed": 0, "dropped": 0, "waiting": 0} == exporter.describe()


async def test_a_failed_call_arrives_with_its_cause_as_status(collector: Collector) -> None:
    trace = Trace()
    trace.started()
    trace.ended(0.4, 486, "agent", "rejected", "192.0.2.20:5070 answered 486 Busy Here")
    trace.closed(0.5)
    async with exporting(f"{collector.url}/otel/traces") as exporter:
        exporter.finished(trace.lines)
    root = collector.spans[0]
    assert (root.status.code, root.status.message) == (Status.STATUS_CODE_ERROR, "192.0.2.20:5070 answered 486 Busy Here")
    assert collector.paths == ["/otel/traces"]


async def test_a_collector_that_is_away_is_told_of_once_and_every_call_is_counted(
    refused: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with structlog.testing.capture_logs() as logs:
        async with exporting(refused, pace=Pace(timeout=0.3, flush=5.0)) as exporter:
            exporter.finished(answered_call().lines)
            exporter.finished(answered_call().lines)
            await until(lambda: exporter.failed == 2)
    assert exporter.describe()["link"] == "away"
    assert [entry["event"] for entry in logs] == ["collector does not take traces"]
    assert logs[0]["url"] == f"{refused}/v1/traces"
    assert logs[0]["detail"]
    assert capsys.readouterr().err == ""


async def test_a_collector_that_refuses_and_then_takes(collector: Collector) -> None:
    collector.status = 400
    with structlog.testing.capture_logs() as logs:
        async with exporting(collector.url) as exporter:
            exporter.finished(answered_call().lines)
            await until(lambda: exporter.failed == 1)
            collector.status = 200
            exporter.finished(answered_call().lines)
            await until(lambda: exporter.exported == 1)
    assert [entry["event"] for entry in logs] == ["collector does not take traces", "collector takes traces"]
    assert "400" in logs[0]["detail"]


async def test_a_collector_that_never_answers_holds_neither_the_calls_nor_the_end_up(collector: Collector) -> None:
    collector.hold.clear()
    loop = asyncio.get_running_loop()
    exporter = CallExporter(collector.url, "edge-1", capacity=2, pace=Pace(timeout=30.0, flush=0.2))
    await exporter.start()
    exporter.finished(answered_call().lines)
    await until(lambda: bool(collector.paths))
    began = loop.time()
    for _ in range(5):
        exporter.finished(answered_call().lines)
    assert exporter.dropped == 3
    await exporter.stop()
    assert loop.time() - began < 2.0
    assert exporter.dropped == 5
    exporter.finished([])
    assert exporter.dropped == 6


@pytest.mark.parametrize(
    "lines", [[b"{"], [b'{"kind":"unheard-of"}'], [], answered_call().lines[1:]], ids=["torn", "unknown", "empty", "headless"]
)
async def test_a_trace_that_cannot_be_read_is_counted_and_the_next_one_goes(collector: Collector, lines: list[bytes]) -> None:
    async with exporting(collector.url) as exporter:
        exporter.finished(lines)
        exporter.finished(answered_call().lines)
    assert (exporter.failed, exporter.exported) == (1, 1)


async def test_a_senseless_environment_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER", "unheard-of")
    exporter = CallExporter("http://127.0.0.1:9", "edge-1")
    with pytest.raises(StartError, match=r"^otlp: .*OTEL_.*unheard-of"):
        await exporter.start()
    await exporter.stop()
    assert logging.getLogger("opentelemetry").handlers == []


def test_without_a_start_opentelemetry_is_not_loaded() -> None:
    code = "import sys, sidecar.net.otlp as o; o.CallExporter('http://h:1', 'n'); print(any('opentelemetry' in m for m in sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert told.strip() == "False"


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://collector.example/otlp/v1/traces?team=1", "https://collector.example/otlp/v1/traces?team=1"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
    ],
)
def test_where_traces_are_posted(endpoint: str, url: str) -> None:
    assert traces_url(endpoint) == url


@pytest.mark.parametrize(
    "endpoint", ["", "collector:4318", "grpc://collector:4317", "http://", "http://h:port", "http://h:0", "http://h#x"]
)
def test_what_is_no_endpoint_is_refused_with_its_text(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"^'"):
        traces_url(endpoint)


def test_what_is_shown_of_the_endpoint_holds_no_password() -> None:
    exporter = CallExporter("https://user:s3cret@collector.example/v1/traces?token=s3cret", "edge-1")
    assert exporter.describe()["url"] == "https://collector.example/v1/traces"
