"""Reading calls back, live events, health, and who may do what."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from control.store import Store
from tests.core.control.traces import Trace, complete, report, turn
from tests.shell.control.kit import ON_SQLITE, Client, control, settings, until

NOWHERE = "http://127.0.0.1:9"


async def test_facts_are_stored_once_in_whatever_order_they_come(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        trace, same = complete("c1", "SCL_abc"), complete("c2", "SCL_def", token=None)
        assert await client.facts(*trace.facts) == {"stored": 8, "new": 8}
        assert await client.facts(*trace.facts[2:]) == {"stored": 6, "new": 0}
        for fact in reversed(same.facts):
            await client.facts(fact)
        straight, shuffled = await client.get("/v1/calls/c1"), await client.get("/v1/calls/c2")
        for own in ("id", "sip_call_id", "correlation_sha256", "b_leg_call_ids", "started_at", "answered_at", "ended_at"):
            straight.pop(own), shuffled.pop(own)
        for hop in [*straight["verdict"]["hops"], *shuffled["verdict"]["hops"]]:
            hop.pop("at")
        assert straight == shuffled
        assert straight["complete"] is True


async def test_another_version_of_the_facts_is_refused_with_both_numbers(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        problem = await client.facts({"kind": "from the future"}, status=422, version=2)
        assert (problem["supported"], problem["received"]) == (1, 2)
        problem = await client.facts({"kind": "call_closed", "call": "c1"}, status=422)
        assert "facts.0" in problem["detail"]


async def test_bytes_that_are_not_utf8_and_nul_are_stored_all_the_same(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        await client.facts(*Trace("c1", "SCL_\udcff\x00").message(0, "A", "in", "INVITE \udc80 \U0001f600").facts)
        assert (await client.get("/v1/calls/c1/messages"))["messages"][0]["text"] == "INVITE \ufffd \U0001f600"
        assert (await client.get("/v1/calls"))["calls"][0]["sip_call_id"] == "SCL_\ufffd\x00"
        await client.report(report("r1", sip_call_id="\ud800\x00", recipient="\x00" * 600))


async def test_pages_neither_repeat_nor_leave_out_a_call_whatever_arrives_meanwhile(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE, retention={"days": 0}, wire_only={"grace_s": 1e9})) as client:
        began = datetime(2026, 1, 31, 12, tzinfo=UTC)

        async def arrive(number: int) -> None:
            started = began + timedelta(seconds=number)
            await client.facts(*complete(f"c{number:02}", f"id-{number}", token=None, started=started).facts)

        for number in range(0, 20, 2):
            await arrive(number)
        seen: list[str] = []
        cursor, newer, older = "", iter(range(21, 99, 2)), iter((3, 1))
        while cursor is not None:
            page = await client.get(f"/v1/calls?limit=3{cursor and '&cursor='}{cursor}")
            seen += [call["id"] for call in page["calls"]]
            cursor = page["next"]
            await arrive(next(newer))  # which would shift an offset
            if (number := next(older, None)) is not None:
                await arrive(number)  # a spool that comes late: it is still ahead
        assert seen == [f"c{number:02}" for number in (18, 16, 14, 12, 10, 8, 6, 4, 3, 2, 1, 0)]


async def test_calls_are_filtered_and_paged_without_gap_or_repetition(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE, retention={"days": 0}, wire_only={"grace_s": 1e9})) as client:
        began = datetime(2026, 1, 31, 12, tzinfo=UTC)
        for number in range(7):
            kind = "production" if number % 2 else "simulation"
            same_second = began + timedelta(seconds=number // 2)
            await client.facts(*complete(f"c{number}", f"id-{number}", kind=kind, token=None, started=same_second).facts)
        await client.facts(*Trace("c7", "id-7", started=began, route="other").ended(status=486).facts)
        seen: list[str] = []
        path: str | None = "/v1/calls?limit=3"
        while path is not None:
            page = await client.get(path)
            seen += [call["id"] for call in page["calls"]]
            path = f"/v1/calls?limit=3&cursor={page['next']}" if page["next"] else None
        assert seen == ["c6", "c5", "c4", "c3", "c2", "c7", "c1", "c0"]

        async def ids(query: str) -> list[str]:
            return [call["id"] for call in (await client.get(f"/v1/calls?{query}"))["calls"]]

        assert await ids("kind=production") == ["c5", "c3", "c1"]
        assert await ids("outcome=pending&limit=2") == ["c6", "c4"]
        assert await ids("status=486") == ["c7"]
        assert await ids("route=other") == ["c7"]
        assert await ids("sidecar=nobody") == []
        assert await ids("sip_call_id=id-3") == ["c3"]
        assert await ids("since=2026-01-31T12:00:02Z") == ["c6", "c5", "c4"]
        assert await ids("until=2026-01-31T12:00:01%2B00:00&kind=simulation") == ["c7", "c0"]
        assert await ids("until=2026-01-31T12:00:01+00:00&kind=simulation") == ["c7", "c0"]
        async with client.http.get(client.url + "/v1/export?kind=production") as export:
            lines = (await export.text()).splitlines()
        assert [json.loads(line)["id"] for line in lines] == ["c5", "c3", "c1"]


async def test_calls_are_filtered_by_their_slowest_response(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        await client.facts(*complete("c1", "SCL_abc").facts)  # 600 and 900 ms
        live = Trace("c2", "SCL_def", token=None).answered()
        live.add("turn_measured", 3000, turn=turn(1, 1000, 2000, 3500, 4000))
        live.add("turn_measured", 9000, turn=turn(2, 5000, 6000, 5900, 7000) | {"kind": "overlap"})
        await client.facts(*live.facts, *Trace("c3", "SCL_ghi", token=None).facts)

        async def ids(query: str) -> list[str]:
            return [call["id"] for call in (await client.get(f"/v1/calls?{query}"))["calls"]]

        assert await ids("min_latency_ms=900.5") == ["c2"]
        assert await ids("max_latency_ms=900") == ["c1"]
        assert await ids("min_latency_ms=900&max_latency_ms=1500") == ["c2", "c1"]
        assert (await client.get("/v1/summary?min_latency_ms=1000"))["response_latency_ms"]["max"] == 1500


@ON_SQLITE
@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("limit=0", "greater than or equal to 1"),
        ("limit=x", "whole number"),
        ("limit=501", "less than or equal to 500"),
        ("cursor=%21", "pattern"),
        ("cursor=YWJj", "not one of ours"),
        ("since=yesterday", "RFC 3339"),
        ("since=2026-02-31T12:00:00Z", "day"),
        ("status=ok", "whole number"),
        ("status=99", "greater than or equal to 100"),
        ("kind=simulated", "'simulation' or 'production'"),
        ("outcome=lost", "'linked', 'repaired'"),
        ("min_latency_ms=nan", "finite"),
        ("kind=simulation&kind=production", "more than once"),
        ("outcom=linked", "this path takes cursor, kind, limit"),
    ],
)
async def test_a_filter_that_cannot_be_read_is_named_with_what_is_allowed(tmp_path: Path, query: str, says: str) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        problem = await client.get(f"/v1/calls?{query}", status=400)
        assert problem["parameter"] == query.split("=")[0]
        assert problem["detail"].startswith(problem["parameter"])
        assert says in problem["detail"]


async def test_unknown_things_are_problems(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        for path in ("/v1/calls/none", "/v1/calls/none/messages", "/v1/calls/none/ladder", "/v1/nothing"):
            problem = await client.get(path, status=404)
            assert problem["status"] == 404
        assert (await client.post("/v1/calls", {}, status=405))["title"] == "Method Not Allowed"
        problem = await client.post("/api/v1/public/call?workspace_id=7", report("r1"), status=400)
        assert "agent_remote_identifier" in problem["detail"]


async def test_messages_and_ladder_tell_the_call(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        trace = Trace("c1", "SCL_abc")
        trace.message(0, "A", "in", "INVITE sip:a@b SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\nm=audio 4000 RTP/AVP 0\r\n")
        trace.message(1, "A", "out", "SIP/2.0 100 Trying\r\nCSeq: 1 INVITE\r\n\r\n")
        await client.facts(*trace.answered().ended().facts)
        messages = (await client.get("/v1/calls/c1/messages"))["messages"]
        assert [(message["leg"], message["direction"], message["text"].split("\r\n")[0]) for message in messages] == [
            ("A", "in", "INVITE sip:a@b SIP/2.0"),
            ("A", "out", "SIP/2.0 100 Trying"),
        ]
        ladder = await client.get("/v1/calls/c1/ladder?format=text")
        assert "INVITE [sdp] -" in ladder
        assert "turn 1: agent answers after 600 ms" in ladder
        told = await client.get("/v1/calls/c1/ladder?format=json")
        assert (told["call"], told["answered_ms"]) == ("c1", 100.0)
        arrows = [(step["leg"], step["rightward"], step["text"]) for step in told["steps"] if step["kind"] == "message"]
        assert arrows == [("A", True, "INVITE [sdp]"), ("A", False, "100 Trying")]
        assert [step["seq"] for step in told["steps"] if step["kind"] == "message"] == [message["seq"] for message in messages]
        problem = await client.get("/v1/calls/c1/ladder?format=pdf", status=400)
        assert problem["allowed"] == ["text", "svg", "mermaid", "json"]


async def test_summary_has_n_and_no_p95_under_twenty(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        for number in range(9):
            await client.facts(*complete(f"c{number}", f"id-{number}", token=None).facts)
        figures = (await client.get("/v1/summary"))["response_latency_ms"]
        assert figures == {"n": 18, "p50": 600, "p90": 900, "p95": None, "max": 900}
        await client.facts(*complete("c9", "id-9", token=None).facts)
        summary = await client.get("/v1/summary?kind=simulation")
        assert summary["response_latency_ms"]["p95"] == 900
        assert (summary["calls"], summary["outcome"]) == (10, {"pending": 10})


def _rank(values: list[float], share: float) -> float:
    """Nearest rank, as statistics books have it: the smallest value that at least this share of the values do not exceed."""
    return next(value for value in sorted(values) if sum(each <= value for each in values) >= share * len(values))


async def test_a_summary_is_exact_under_every_filter(tmp_path: Path) -> None:
    dice = random.Random(7)
    told: list[tuple[dict[str, str], float, float]] = []  # what it is filtered by, its latency, its greeting
    async with control(settings(tmp_path, NOWHERE)) as client:
        for number in range(60):
            latency, greeting = round(dice.uniform(1, 3000), 3), round(dice.uniform(1, 900), 3)
            mine = {"route": dice.choice("ab"), "sidecar": dice.choice("xyz"), "kind": dice.choice(["simulation", "production"])}
            trace = Trace(f"c{number}", f"id-{number}", token=None, **mine).answered()
            trace.add("turn_measured", 5, turn=turn(1, 0, 1000, 1000 + latency, 6000))
            if number % 3:  # every third call lives still
                trace.add("call_ended", 9, status=200, ended_by="caller", reason="caller-bye", cause="", timings_ms={})
                trace.add(
                    "call_measured",
                    9,
                    turns=[turn(1, 0, 1000, 1000 + latency, 6000)],
                    barge_ins=[],
                    speech={},
                    media={},
                    greeting_ms=greeting,
                )
            await client.facts(*trace.facts)
            told.append((mine, latency, greeting if number % 3 else -1))
        for query in ({}, {"route": "a"}, {"sidecar": "x", "kind": "simulation"}, {"min_latency_ms": "1500"}, {"route": "nowhere"}):
            fits = [
                (latency, greeting)
                for mine, latency, greeting in told
                if all(mine.get(name, value) == value for name, value in query.items()) and latency >= float(query.get("min_latency_ms", 0))
            ]
            summary = await client.get("/v1/summary", params=query)
            assert (summary["calls"], sum(summary["kind"].values())) == (len(fits), len(fits))
            for name, values in (("response_latency_ms", [f[0] for f in fits]), ("greeting_ms", [f[1] for f in fits if f[1] >= 0])):
                shown = summary[name]
                assert shown["n"] == len(values)
                if values:
                    assert (shown["p50"], shown["p90"], shown["max"]) == (_rank(values, 0.5), _rank(values, 0.9), max(values))
                    assert shown["p95"] == (_rank(values, 0.95) if len(values) >= 20 else None)


async def test_current_call_is_found_ambiguous_or_absent(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        await client.facts(*Trace("c1", "SCL_abc").answered().facts)
        await client.facts(*complete("c0", "over").facts)
        found = await client.get("/v1/current-call?to=sip:agent@edge.example;transport=udp&from=15550100")
        assert (found["id"], found["sip_call_id"]) == ("c1", "SCL_abc")
        await client.facts(*Trace("c2", "SCL_def", token=None, **{"from": "sip:+15550199@x"}).facts)
        problem = await client.get("/v1/current-call?to=sip:agent@edge.example", status=409)
        assert [candidate["id"] for candidate in problem["candidates"]] == ["c2", "c1"]
        await client.get("/v1/current-call?to=sip:agent@edge.example&from=%2B15550100")
        await client.get("/v1/current-call?to=sip:nobody@edge.example", status=404)
        await client.get("/v1/current-call", status=400)


def _talking(call: str, port: int, **more: Any) -> Trace:
    trace = Trace(call, f"SCL_{call}", **more).answered()
    trace.add("media_opened", 90, leg="A", codec="PCMU", local="10.0.0.1:30000", remote="10.0.0.9:4000")
    return trace.add("media_opened", 95, leg="B", codec="PCMU", local=f"10.0.0.1:{port + 1}", remote=f"[2001:DB8::0:5]:{port}")


async def test_current_call_is_found_by_its_media_address(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        moved = _talking("c2", 5000).add("media_opened", 200, leg="B", codec="PCMU", local="10.0.0.1:5001", remote="10.0.0.7:6000")
        await client.facts(*_talking("c1", 4000).facts, *moved.facts, *complete("c0", "over").facts)
        for media in ("[2001:db8::5]:4000", "10.0.0.1:4001", "4000"):  # the agent's own, ours that it sends to, its port alone
            assert (await client.get(f"/v1/current-call?media={media}"))["id"] == "c1"
        assert (await client.get("/v1/current-call?media=10.0.0.7:6000&from=15550100"))["id"] == "c2"
        for media in ("[2001:db8::5]:5000", "10.0.0.9:4000", "10.0.0.8:6000", "nonsense"):  # given up, the caller's, another host's
            await client.get(f"/v1/current-call?media={media}", status=404)
        assert (await client.get("/v1/calls/c2"))["agent_media"] == ["10.0.0.7:6000", "10.0.0.1:5001"]


async def test_current_call_is_found_by_a_moment_of_it_even_when_it_is_over(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        noon = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
        await client.facts(*complete("c1", "SCL_1", started=noon).facts)  # lasts 12 s
        await client.facts(*complete("c2", "SCL_2", started=noon + timedelta(seconds=60)).facts)
        await client.facts(*Trace("c3", "SCL_3", started=noon + timedelta(seconds=70)).answered().facts)

        async def at(seconds: float, status: int = 200) -> Any:
            moment = (noon + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
            return await client.get(f"/v1/current-call?at={moment}&to=agent@edge.example", status=status)

        assert (await at(3))["id"] == "c1"
        assert (await at(-4))["id"] == "c1"  # clocks differ
        assert (await at(62))["id"] == "c2"
        assert [each["id"] for each in (await at(71, 409))["candidates"]] == ["c3", "c2"]
        assert (await at(3600))["id"] == "c3"
        await at(-10, 404)
        await at(30, 404)
        await client.get("/v1/current-call?at=yesterday", status=400)


async def test_sidecars_metrics_and_health(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        await client.facts(*Trace("c1", "SCL_abc").facts)
        sidecar = (await client.get("/v1/sidecars"))["sidecars"][0]
        assert (sidecar["name"], sidecar["facts"], sidecar["live_calls"]) == ("edge-1", 1, 1)
        text = await client.get("/metrics")
        assert 'trunkside_calls{kind="simulation",outcome="pending"} 1.0' in text
        assert (await client.get("/livez"))["status"] == "ok"
        assert (await client.get("/readyz"))["status"] == "ok"


async def test_readyz_says_why_not(tmp_path: Path) -> None:
    config = settings(tmp_path, NOWHERE)
    async with control(config) as client:
        store = Store(config.database)
        async with store.write() as conn:
            await conn.execute(sa.text("ALTER TABLE probe RENAME TO elsewhere"))
        problem = await client.get("/readyz", status=503)
        assert "the database cannot be written" in problem["detail"]
        async with store.write() as conn:
            await conn.execute(sa.text("ALTER TABLE elsewhere RENAME TO probe"))
        assert (await client.get("/readyz"))["status"] == "ok"
        await store.close()


async def test_events_tell_of_changed_calls(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client, client.http.get(client.url + "/v1/events") as stream:
        assert stream.content_type == "text/event-stream"
        for _ in ("its greeting", "the id of now"):
            await stream.content.readuntil(b"\n\n")
        await client.facts(*complete("c1", "SCL_abc").facts)
        number, name, data = (await stream.content.readuntil(b"\n\n")).decode().strip().split("\n")
        assert number.startswith("id: ")
        assert name == "event: call"
        assert json.loads(data.removeprefix("data: ")) | {"route": ""} == {
            "id": "c1", "sip_call_id": "SCL_abc", "kind": "simulation", "route": "", "sidecar": "edge-1", "status": 200, "ended": True,
            "outcome": "pending", "turns": 2}  # fmt: skip


async def test_calls_past_their_retention_go_and_undelivered_reports_stay(tmp_path: Path) -> None:
    month_ago = datetime.now(UTC) - timedelta(days=31)
    async with control(settings(tmp_path, NOWHERE, retention={"days": 0})) as client:
        old, owed = complete("c1", "SCL_abc", started=month_ago), complete("c2", "SCL_def", token=None, started=month_ago)
        await client.facts(*old.facts, *owed.facts, *complete("c3", "SCL_ghi", token=None).facts)
        await client.report(report("r2", owed, sip_call_id="SCL_def"))
    async with control(settings(tmp_path, NOWHERE, retention={"days": 30})) as client:
        await until(lambda: _listed(client, ["c3", "c2"]))
        assert (await client.get("/v1/deliveries"))["deliveries"][0]["call_id"] == "r2"


async def _listed(client: Client, wanted: list[str]) -> bool:
    return [call["id"] for call in (await client.get("/v1/calls"))["calls"]] == wanted


async def test_concurrent_uploads_and_reports_never_meet_a_lock(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        traces = [complete(f"c{number}", f"SCL_{number}", token=f"{number:032x}") for number in range(40)]
        await asyncio.gather(
            *(client.facts(*trace.facts) for trace in traces),
            *(client.report(report(f"r{number}", trace, sip_call_id=trace.sip_call_id)) for number, trace in enumerate(traces)),
            *(client.get("/v1/calls") for _ in traces),
        )
        await until(lambda: _outcomes(client, {"linked": 40}))


async def _outcomes(client: Client, wanted: dict[str, int]) -> bool:
    counted: bool = (await client.get("/v1/summary"))["outcome"] == wanted
    return counted
