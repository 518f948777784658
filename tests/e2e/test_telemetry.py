"""A real call through a sidecar process, as a collector, a scraper and a reader of logs see it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.e2e.test_sipp import Bench, bench, clean
from tests.shell.export.test_otlp import Collector
from tests.support.tools import run

pytestmark = pytest.mark.peer


def scrape(call: Bench, accept: str) -> str:
    url = call.sidecar.event("ready")["admin"] + "/metrics"
    with urlopen(Request(url, headers={"Accept": accept}), timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def children(spans: list[Span], parent: Span) -> list[str]:
    return sorted(span.name for span in spans if span.parent_span_id == parent.span_id)


async def test_a_challenged_call_leaves_a_trace_metrics_and_log_lines_under_one_id(tmp_path: Path) -> None:
    async with Collector().listening() as collector:
        with bench(tmp_path, besides={"otlp": {"endpoint": collector.url}}, username="trunkside", password="s3cret") as call:
            caller, _ = await asyncio.to_thread(call.run, "caller", "agent-challenges-401", 1)
            assert caller == clean(1)
            await asyncio.to_thread(call.quiet)
            [trace_id] = call.traces()
            async with asyncio.timeout(20):
                while not collector.spans:
                    await asyncio.sleep(0.05)
            openmetrics = await asyncio.to_thread(scrape, call, "application/openmetrics-text; version=1.0.0")
            plain = await asyncio.to_thread(scrape, call, "text/plain")
            ended = call.sidecar.event("call ended")
            dialled = [fact["text"] for fact in call.facts("sip_message") if (fact["leg"], fact["direction"]) == ("B", "out")]

    spans = collector.spans
    assert {span.trace_id.hex() for span in spans} == {trace_id}
    [root] = [span for span in spans if not span.parent_span_id]
    assert root.name == "call"
    assert {"INVITE", "BYE"} <= set(children(spans, root))
    [invite] = [span for span in spans if span.name == "INVITE"]
    assert {"authentication", "answer"} <= set(children(spans, invite))
    assert all(root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano for span in spans)
    # The agent was told the root span before it was exported, on the INVITE and on its repetition with credentials.
    invites = [text for text in dialled if text.startswith("INVITE ")]
    assert len(invites) == 2
    assert all(f"\r\ntraceparent: 00-{trace_id}-{root.span_id.hex()}-01\r\n" in text for text in invites)

    assert ended["trace_id"] == trace_id
    samples = [sample for family in text_string_to_metric_families(openmetrics) for sample in family.samples]
    values = {sample.name: sample for sample in samples if sample.labels.get("le") in (None, "+Inf")}
    assert values["trunkside_calls_finished_total"].value == 1
    assert values["trunkside_calls_finished_total"].labels["status"] == "2xx"
    assert values["trunkside_call_duration_seconds_count"].value == 1
    assert 1.5 < values["trunkside_call_duration_seconds_sum"].value < 10
    assert values["trunkside_relay_delay_seconds_count"].value > 10
    assert sum(sample.value for sample in samples if sample.name == "trunkside_rtp_packets_total") > 50
    assert {sample.exemplar.labels["trace_id"] for sample in samples if sample.exemplar is not None} == {trace_id}
    run("promtool", "check", "metrics", given=plain.encode())
