"""An agent posts its report to control; what the evaluator gets, and what the call then says."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from tests.core.control.traces import TOKEN, Trace, complete, report
from tests.shell.control.kit import ON_SQLITE, Client, control, evaluator, settings, until


async def outcome(client: Client, call: str) -> str:
    shown: str = (await client.get(f"/v1/calls/{call}"))["verdict"]["outcome"]
    return shown


async def test_report_with_the_call_id_is_linked_enriched_and_accepted(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        trace = complete("c1", "SCL_abc")
        assert await client.facts(*trace.facts) == {"stored": len(trace.facts), "new": len(trace.facts)}
        answer = await client.report(report("r1", trace, sip_call_id="SCL_abc"))
        assert answer == {"id": answer["id"], "provider_call_id": "r1", "is_new": True}
        await until(lambda: tuner.calls() == ["r1"])
        sent = tuner.body("r1")
        assert sent["sip_call_id"] == "SCL_abc"
        assert [segment["metadata"].get("wire_response_latency") for segment in sent["transcript_with_tool_calls"]] == [
            None,
            None,
            600,
            None,
            900,
        ]
        assert [segment["metadata"].get("e2e_latency") for segment in sent["transcript_with_tool_calls"]] == [None, None, 410, None, 700.5]
        inside = sent["general_meta_data_raw"]["trunkside"]
        assert (inside["id"], inside["verdict"]["outcome"], len(inside["turns"])) == ("c1", "linked", 2)
        assert tuner.headers[0]["Authorization"] == "Bearer tr_api_test"
        assert tuner.headers[0]["path"] == "/api/v1/public/call?workspace_id=7&agent_remote_identifier=agent-1"
        await until(lambda: _has_hop(client, "c1", "accepted"))
        call = await client.get("/v1/calls/c1")
        assert [hop["hop"] for hop in call["verdict"]["hops"]] == ["received", "carried", "echoed", "accepted"]
        told = call["reported"]
        assert (told["response_latency_ms"], told["difference_ms"]) == ([410, 700.5], [190, 199.5])
        assert told["difference"] == {"n": 2, "p50": 190, "p90": 199.5, "p95": None, "max": 199.5}
        assert [(turn["turn"], turn["difference_ms"]) for turn in told["turns"]] == [(1, 190), (2, 199.5)]
        assert inside["reported"] == told


async def _has_hop(client: Client, call: str, hop: str) -> bool:
    return any(seen["hop"] == hop for seen in (await client.get(f"/v1/calls/{call}"))["verdict"]["hops"])


async def test_report_without_an_id_is_repaired_by_the_correlation_header(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        trace = complete("c1", "SCL_abc")
        await client.facts(*trace.facts)
        await client.report(report("r1", trace, sip_headers={"X-Correlation-Id": TOKEN}))
        await until(lambda: tuner.calls() == ["r1"])
        assert tuner.body("r1")["sip_call_id"] == "SCL_abc"
        verdict = (await client.get("/v1/calls/c1"))["verdict"]
        assert verdict["outcome"] == "repaired"
        assert verdict["repair"] == {"rule": "correlation_id", "reported": None, "confidence": 0.99}


async def test_the_verdict_tells_under_which_key_the_agent_had_the_id(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        trace = complete("c1", "SCL_abc")
        await client.facts(*trace.facts)
        await client.report(report("r1", trace, collected_dynamic_variables={"call": {"ph_sipcallid": b"SCL_abc".hex()}}))
        await until(lambda: tuner.calls() == ["r1"])
        verdict = (await client.get("/v1/calls/c1"))["verdict"]
        assert (verdict["outcome"], verdict["repair"]["rule"]) == ("repaired", "a_leg_call_id")
        told = {hop["hop"]: hop["evidence"] for hop in verdict["hops"]}
        assert told["echoed"] == "the report carried the Call-ID in collected_dynamic_variables.call.ph_sipcallid, and not in sip_call_id"


async def test_report_that_fits_no_call_leaves_as_it_came(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        body = b'{"call_id" : "r1", "x":1e2, "sip_call_id":null,"general_meta_data_raw": {"n": 1.0}}\n'
        await client.report(body)
        await until(lambda: tuner.received == [("r1", body)])
        assert (await client.get("/v1/deliveries"))["deliveries"][0]["state"] in ("pending", "delivered")


async def test_production_report_is_enriched_but_never_given_an_id(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        trace = complete("c1", "prod-1", kind="production", token=None)
        await client.facts(*trace.facts)
        await client.report(report("r1", trace, sip_headers={"X-CID": "prod-1"}))
        await until(lambda: tuner.calls() == ["r1"])
        assert "sip_call_id" not in tuner.body("r1")
        assert tuner.body("r1")["general_meta_data_raw"]["trunkside"]["id"] == "c1"
        assert await outcome(client, "c1") == "not_applicable"


async def test_report_that_comes_before_its_call_waits_for_it(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url, enrich_wait_s=30)) as client:
        trace = complete("c1", "SCL_abc")
        await client.report(report("r1", trace, sip_headers={"x-correlation-id": TOKEN}))
        await client.facts(*trace.facts[:4])
        await asyncio.sleep(0.2)
        assert tuner.attempts == []
        await client.facts(*trace.facts[4:])
        await until(lambda: tuner.calls() == ["r1"])
        assert tuner.body("r1")["sip_call_id"] == "SCL_abc"


async def test_report_leaves_when_the_trace_does_not_come_in_time_and_the_verdict_follows_later(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        late, never = complete("c1", "SCL_abc"), complete("c2", "SCL_def", token="0" * 32)
        await client.report(report("r1", late, sip_call_id="SCL_abc"))
        await client.report(report("r2", never, sip_headers={"X-Correlation-Id": "0" * 32}))
        await until(lambda: sorted(tuner.calls()) == ["r1", "r2"])
        await client.facts(*late.facts)
        await client.facts(*never.facts)
        assert await outcome(client, "c1") == "linked"  # it carried the id, so the evaluator could link it
        call = await client.get("/v1/calls/c2")
        assert call["verdict"]["outcome"] == "unlinked"
        assert [finding["name"] for finding in call["verdict"]["findings"]] == ["report_left_unlinked"]


async def test_same_report_twice_is_one_delivery(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        trace = complete("c1", "SCL_abc")
        await client.facts(*trace.facts)
        first = await client.report(report("r1", trace, sip_call_id="SCL_abc"))
        second = await client.report(report("r1", trace, sip_call_id="SCL_abc", call_status="changed"))
        assert (second["id"], second["is_new"]) == (first["id"], False)
        await until(lambda: tuner.calls() == ["r1"])
        await asyncio.sleep(0.1)
        assert tuner.calls() == ["r1"]


async def test_ids_that_name_two_calls_are_a_conflict_and_nothing_is_guessed(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        one, two = complete("c1", "SCL_abc"), complete("c2", "SCL_def", token="0" * 32)
        await client.facts(*one.facts, *two.facts)
        body = json.dumps(report("r1", one, sip_call_id="SCL_abc", sip_headers={"X-Correlation-Id": "0" * 32})).encode()
        await client.report(body)
        await until(lambda: tuner.received == [("r1", body)])
        for call in ("c1", "c2"):
            verdict = (await client.get(f"/v1/calls/{call}"))["verdict"]
            assert (verdict["outcome"], verdict["candidates"]) == ("conflict", ["c1", "c2"])


async def test_outbound_simulation_is_linked_by_recipient(tmp_path: Path) -> None:
    recipient = "sip:sim-7Q@sip.example;x=1"
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        trace = complete(
            "c1", "out-1", token=None, direction="outbound", recipient=recipient, **{"from": "sip:agent@edge.example", "to": recipient}
        )
        await client.facts(*trace.facts)
        await client.report(report("r1", trace, recipient=recipient))
        await client.report(report("r2", trace, sip_call_id="out-1"))
        await until(lambda: len(tuner.calls()) == 2)
        assert "sip_call_id" not in tuner.body("r1")
        assert "recipient" not in tuner.body("r2")  # r1 carries the link already: a second one is not mended into a double
        assert await outcome(client, "c1") == "linked"


@ON_SQLITE
@pytest.mark.parametrize("headers", [{"Authorization": "Bearer tr_api_x"}, {"X-API-Key": "tr_api_x"}, {"authorization": "bearer tr_api_x"}])
@pytest.mark.parametrize("slash", ["/", "//"])
async def test_old_and_new_header_forms_and_doubled_slashes(tmp_path: Path, headers: dict[str, str], slash: str) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url, enrich_wait_s=0)) as client:
        await client.post(f"{slash}api/v1/public/call?workspace_id=9&agent_remote_identifier=a b", report("r1"), headers=headers)
        await until(lambda: tuner.calls() == ["r1"])
        assert tuner.headers[0]["Authorization"] == "Bearer tr_api_x"


async def test_controls_own_credentials_win_over_the_senders(tmp_path: Path) -> None:
    own = {"api_key": "tr_api_own", "workspace_id": 1, "agent_id": "mine"}
    async with (
        evaluator() as tuner,
        control(settings(tmp_path, tuner.base_url, enrich_wait_s=0, evaluator={"base_url": tuner.base_url, **own})) as client,
    ):
        await client.post("/api/v1/public/call", report("r1"))
        await until(lambda: tuner.calls() == ["r1"])
        assert tuner.headers[0]["Authorization"] == "Bearer tr_api_own"
        assert tuner.headers[0]["path"] == "/api/v1/public/call?workspace_id=1&agent_remote_identifier=mine"


async def test_senders_key_is_stored_only_encrypted(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        await client.report(report("r1"), headers={"Authorization": "Bearer tr_api_planted_secret"})
        await until(lambda: tuner.calls() == ["r1"])
        assert "planted" not in json.dumps(await client.get("/v1/deliveries"))
    assert all(b"planted" not in file.read_bytes() for file in tmp_path.iterdir())
    assert (tmp_path / "control.db.key").stat().st_mode & 0o777 == 0o600


async def test_ten_mebibytes_pass_and_more_is_refused(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url, enrich_wait_s=0)) as client:
        frame = len(json.dumps(report("r1", transcript="")))
        largest = json.dumps(report("r1", transcript="x" * (10 * 1024 * 1024 - frame))).encode()
        await client.report(largest)
        await until(lambda: tuner.calls() == ["r1"])
        assert tuner.received[0][1] == largest
        problem = await client.report(b" " * 64 + largest, status=413)
        assert problem["status"] == 413


@ON_SQLITE
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"not json", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "call_id"),
        (b'{"call_id": ""}', "call_id"),
        (b"[" * 100_000, "not JSON"),
    ],
)
async def test_what_is_no_report_gets_a_problem_that_says_what_to_send(tmp_path: Path, body: bytes, says: str) -> None:
    async with control(settings(tmp_path, "http://127.0.0.1:9")) as client:
        problem = await client.report(body, status=422)
        assert says in problem["detail"]


async def test_upload_target_of_the_evaluator_reaches_the_sender(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        tuner.upload = {"url": "https://storage.example", "fields": {"policy": "p", "key": "k"}}
        answer = await client.report(report("r1", recording_file_extension="wav"))
        assert answer["recording_upload"] == tuner.upload
        assert "recording_upload" not in await client.report(report("r2"))


@ON_SQLITE
async def test_upload_target_does_not_wait_for_what_the_call_still_owes(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url, enrich_wait_s=60, enrich_max_s=600)) as client:
        tuner.upload = {"url": "https://storage.example", "fields": {"policy": "p", "key": "k"}}
        trace = Trace("c" * 32, "SCL_live").answered()
        await client.facts(*trace.facts)
        live = report("r1", trace, sip_call_id="SCL_live", recording_file_extension="wav")
        unknown = report("r2", recording_file_extension="wav")  # of a call that nobody has told of
        answers = await asyncio.gather(client.report(live), client.report(unknown))
        assert [answer.get("recording_upload") for answer in answers] == [tuner.upload, tuner.upload]
        again = await client.report(unknown)  # its sender lost the answer
        assert (again["is_new"], again["recording_upload"]) == (False, tuner.upload)
        assert sorted(tuner.calls()) == ["r1", "r2"]


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b""])
async def test_a_repair_stands_in_the_body_that_leaves(tmp_path: Path, start: bytes) -> None:
    trace = Trace("c" * 32, "SCL_abc", token="f" * 32).answered().ended(5000)
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        await client.facts(*trace.facts)
        said = report("r1", trace, sip_headers={"X-Correlation-Id": "f" * 32})
        await client.report(start + json.dumps(said).encode())
        await until(lambda: len(tuner.attempts) == 1)
    assert tuner.attempts[0].startswith(start + b"{")
    assert json.loads(tuner.attempts[0])["sip_call_id"] == "SCL_abc"


async def test_traces_are_stored_and_forwarded_unchanged(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        headers = {"Authorization": "Bearer tr_api_x", "Content-Type": "application/x-protobuf"}
        await client.post("//api/v1/traces", b"\x0a\x03abc", headers=headers)
        await client.post("/api/v1/traces", gzip.compress(b"\x0a\x03def"), headers=headers | {"Content-Encoding": "gzip"})
        await until(lambda: sorted(tuner.traces) == [b"\x0a\x03abc", b"\x0a\x03def"])
        assert {seen["Authorization"] for seen in tuner.headers} == {"Bearer tr_api_x"}
        assert await client.post("/api/v1/traces", b"{}", headers=headers | {"Content-Type": "application/json"}) == {}


async def test_simulation_without_a_report_is_missing_after_the_grace_time(tmp_path: Path) -> None:
    config = settings(tmp_path, "http://127.0.0.1:9", wire_only={"enabled": False, "grace_s": 0})
    async with control(config) as client:
        await client.facts(*complete("c1", "SCL_abc").facts, *complete("c2", "prod", kind="production").facts)
        await client.facts(*Trace("c3", "refused").ended(status=486).facts)
        await until(lambda: _is(client, "c1", "missing"))
        assert await outcome(client, "c2") == "not_applicable"
        assert await outcome(client, "c3") == "not_applicable"  # nobody answered, so nobody owes a report


async def _is(client: Client, call: str, wanted: str) -> bool:
    return await outcome(client, call) == wanted


async def test_wire_only_report_links_a_silent_agent_and_a_late_report_makes_no_second_call(tmp_path: Path) -> None:
    async with evaluator() as tuner:
        own = {"base_url": tuner.base_url, "api_key": "k", "workspace_id": 1, "agent_id": "a"}
        config = settings(tmp_path, tuner.base_url, evaluator=own, wire_only={"enabled": True, "grace_s": 0})
        async with control(config) as client:
            trace = complete("c1", "SCL_abc")
            await client.facts(*trace.facts, *complete("c2", "prod", kind="production").facts)
            await until(lambda: tuner.calls() == ["trunkside-c1"])
            sent = tuner.body("trunkside-c1")
            assert (sent["sip_call_id"], sent["sip_headers"]) == ("SCL_abc", {"X-Correlation-Id": TOKEN})
            assert [(s["role"], s["start_ms"], s["end_ms"]) for s in sent["transcript_with_tool_calls"]] == [
                ("user", 1000, 2000), ("agent", 2600, 4000), ("user", 5000, 6500), ("agent", 7400, 9000)]  # fmt: skip
            assert sent["end_timestamp"] >= sent["start_timestamp"]
            assert await outcome(client, "c1") == "repaired"
            await client.report(report("r1", trace, sip_call_id="SCL_abc"))
            await until(lambda: _delivery_is(client, "r1", "superseded"))
            assert await outcome(client, "c1") == "linked"
            assert tuner.calls() == ["trunkside-c1"]
            delivery = (await client.get("/v1/deliveries?call_id=r1"))["deliveries"][0]
            await client.post(f"/v1/deliveries/{delivery['id']}/retry")
            await until(lambda: tuner.calls() == ["trunkside-c1", "r1"])


@pytest.mark.parametrize(
    ("route", "enabled", "reported"), [(True, False, True), (False, True, False), (None, True, True), (None, False, False)]
)
async def test_a_route_decides_about_wire_only_reports_and_auto_leaves_it_to_control(
    tmp_path: Path, route: bool | None, enabled: bool, reported: bool
) -> None:
    async with evaluator() as tuner:
        own = {"base_url": tuner.base_url, "api_key": "k", "workspace_id": 1, "agent_id": "a"}
        config = settings(tmp_path, tuner.base_url, evaluator=own, wire_only={"enabled": enabled, "grace_s": 0})
        async with control(config) as client:
            await client.facts(*complete("c1", "SCL_abc", wire_only=route).facts)
            await client.facts(*complete("c2", "prod", kind="production", wire_only=route).facts)
            await until(lambda: _is(client, "c1", "repaired" if reported else "missing"))
            assert (await client.get("/v1/calls/c1"))["wire_only"] is route
            if reported:
                await until(lambda: tuner.calls() == ["trunkside-c1"])
            assert len((await client.get("/v1/deliveries"))["deliveries"]) == int(reported)  # customers' calls are never reported


async def test_a_route_that_wants_what_control_has_no_credentials_for_is_a_finding(tmp_path: Path) -> None:
    config = settings(tmp_path, "http://127.0.0.1:9", wire_only={"enabled": False, "grace_s": 0})
    async with control(config) as client:
        trace = complete("c1", "SCL_abc", wire_only=True)
        await client.facts(*trace.facts)
        await until(lambda: _is(client, "c1", "missing"))
        verdict = (await client.get("/v1/calls/c1"))["verdict"]
        assert [finding["name"] for finding in verdict["findings"]] == ["wire_only_unset"]
        assert "evaluator.api_key" in verdict["findings"][0]["detail"]
        assert (await client.get("/v1/deliveries"))["deliveries"] == []


async def _delivery_is(client: Client, call_id: str, state: str) -> bool:
    found = (await client.get(f"/v1/deliveries?call_id={call_id}"))["deliveries"]
    return bool(found) and found[0]["state"] == state


async def test_token_is_shown_only_as_a_hash(tmp_path: Path) -> None:
    async with control(settings(tmp_path, "http://127.0.0.1:9")) as client:
        invite = f"INVITE sip:a@b SIP/2.0\r\nx-correlation-id: {TOKEN}\r\nCSeq: 1 INVITE\r\n\r\n"
        await client.facts(*Trace("c1", "SCL_abc").message(0, "A", "in", invite).facts)
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        for path in ("/v1/calls", "/v1/calls/c1", "/v1/calls/c1/messages", "/v1/calls/c1/ladder"):
            assert TOKEN not in json.dumps(await client.get(path))
        assert f"x-correlation-id: sha256:{digest}\r\n" in (await client.get("/v1/calls/c1/messages"))["messages"][0]["text"]


def _export(call_id: str, begins: datetime, token: str = TOKEN) -> ReadableSpan:
    """A span of an agent's framework, made as the evaluator's SDKs have it made."""
    provider = TracerProvider(resource=Resource({"service.name": "my-agent"}))
    started = round(begins.timestamp() * 1e6) * 1000
    span = provider.get_tracer("agent").start_span(
        "llm_node", start_time=started, attributes={"tuner.call_id": call_id, "sip.h.x-id": token}
    )
    span.end(started + 250_000_000)
    return cast("ReadableSpan", span)


async def test_spans_are_shown_beside_the_turns_of_their_call_whichever_comes_first(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        trace = complete("c1", "SCL_abc")
        exporter = OTLPSpanExporter(
            f"{client.url}/api/v1/traces", headers={"authorization": "Bearer tr_api_x"}, compression=Compression.Gzip
        )
        answered = trace.started + timedelta(milliseconds=100)
        first = _export("r1", answered + timedelta(milliseconds=2100))  # the caller's first turn ends at 2000
        for _ in range(2):  # an exporter that heard no answer sends again
            assert await asyncio.to_thread(exporter.export, [first]) is SpanExportResult.SUCCESS
        await client.facts(*trace.facts)
        assert await client.get("/v1/calls/c1/spans") == {"call": "c1", "total": 0, "spans": []}
        await client.report(report("r1", trace, sip_call_id="SCL_abc"))
        await asyncio.to_thread(exporter.export, [_export("r1", answered + timedelta(seconds=7)), _export("other", answered)])
        shown = await client.get("/v1/calls/c1/spans")
        assert [(span["name"], span["service"], span["start_ms"], span["duration_ms"], span["turn"]) for span in shown["spans"]] == [
            ("llm_node", "my-agent", 2100, 250, 1),
            ("llm_node", "my-agent", 7000, 250, 2),
        ]
        assert shown["total"] == 2
        assert TOKEN not in json.dumps(shown)
        assert shown["spans"][0]["attributes"] == {"sip.h.x-id": f"sha256:{hashlib.sha256(TOKEN.encode()).hexdigest()}"}
        page = await client.get("/v1/calls/c1/evidence")
        assert "The agent&#x27;s own trace" in page
        assert "my-agent" in page
        assert TOKEN not in page
        await until(lambda: len(tuner.traces) == 3)  # all are the evaluator's, whatever they name


async def test_spans_of_another_workspace_are_another_tenants(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        trace = complete("c1", "SCL_abc")
        await client.facts(*trace.facts)
        await client.report(report("r1", trace, sip_call_id="SCL_abc"))
        body = encode_spans([_export("r1", trace.started + timedelta(seconds=1))]).SerializeToString()
        await client.post("/api/v1/traces?workspace_id=8", body, headers={"Authorization": "Bearer k"})
        assert (await client.get("/v1/calls/c1/spans"))["total"] == 0
        await client.post("/api/v1/traces?workspace_id=7", body, headers={"Authorization": "Bearer k"})
        assert (await client.get("/v1/calls/c1/spans"))["total"] == 1
