"""The admin port answers over HTTP as an operator, a probe, a scraper and an agent ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import ClientSession
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from sidecar.admin import AdminServer, LiveCall, counter, gauge, party


def live(n: int, from_: str = "sip:+15550001@evaluator.example", to: str = "sip:agent@edge.example", **more: Any) -> LiveCall:
    started = more.pop("started_at", datetime(2026, 3, 1, 12, 0, n, tzinfo=UTC))
    return LiveCall(f"{n:032x}", f"call-{n}", "simulation", "agent", from_, to, started, **more)


@dataclass
class State:
    """A sidecar as the admin port sees it."""

    reasons: list[str] = field(default_factory=list)
    live: list[LiveCall] = field(default_factory=list)
    drains: int = 0
    last_call_over: asyncio.Event = field(default_factory=asyncio.Event)

    def not_ready(self) -> Sequence[str]:
        return self.reasons

    def calls(self) -> Sequence[LiveCall]:
        return self.live

    def metrics(self) -> Iterable[Metric]:
        yield gauge("trunkside_live_calls", "Calls that are not over.", len(self.live))
        yield counter("trunkside_calls", "Calls that ended, by reason.", {"completed": 3, "no-route": 1}, "reason")

    def describe(self) -> Mapping[str, Any]:
        return {"spool": {"bytes": 0}}

    def drain(self) -> None:
        self.drains += 1

    async def drained(self) -> None:
        await self.last_call_over.wait()


@dataclass
class Port:
    """A client of a listening admin port."""

    state: State
    client: ClientSession
    base: str

    async def get(self, path: str, **query: str) -> tuple[int, str, Any]:
        async with self.client.get(self.base + path, params=query) as response:
            return response.status, response.content_type, await response.json(content_type=None)


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    state = State()
    server = AdminServer(state, ("127.0.0.1", 0))
    await server.start()
    async with ClientSession() as client:
        yield Port(state, client, "http://{}:{}".format(*server.address))
    await server.stop()


async def test_a_busy_port_is_named_with_the_cause(port: Port) -> None:
    taken = int(port.base.rpartition(":")[2])
    with pytest.raises(OSError, match=f"the admin port 127.0.0.1:{taken} cannot be opened: Address already in use"):
        await AdminServer(State(), ("127.0.0.1", taken)).start()


async def test_livez(port: Port) -> None:
    port.state.reasons = ["draining"]
    assert (await port.get("/livez"))[0] == 200, "a draining sidecar is alive: killing it would cut its calls"


async def test_readyz_says_why_not(port: Port) -> None:
    assert (await port.get("/readyz"))[0] == 200
    port.state.reasons = ["draining", "no RTP port is free"]
    status, kind, body = await port.get("/readyz")
    assert (status, kind) == (503, "application/problem+json")
    assert body["reasons"] == ["draining", "no RTP port is free"]
    assert body["detail"] == "draining; no RTP port is free"


async def test_metrics_are_what_a_scraper_parses(port: Port) -> None:
    port.state.live = [live(1), live(2)]
    async with port.client.get(port.base + "/metrics") as response:
        assert response.content_type == "text/plain"
        families = {family.name: family for family in text_string_to_metric_families(await response.text())}
    assert families["trunkside_live_calls"].samples[0].value == 2
    assert {s.labels["reason"]: s.value for s in families["trunkside_calls"].samples} == {"completed": 3, "no-route": 1}
    assert "process_resident_memory_bytes" in families


async def test_live_calls_are_listed_with_what_their_engines_describe(port: Port) -> None:
    port.state.live = [live(1, details={"state": "talking"})]
    _, _, body = await port.get("/v1/calls")
    assert [(call["sip_call_id"], call["from"], call["details"]) for call in body["calls"]] == [
        ("call-1", "sip:+15550001@evaluator.example", {"state": "talking"})
    ]


async def test_an_agent_finds_its_call_by_either_side(port: Port) -> None:
    port.state.live = [live(1), live(2, from_="sip:+15550002@evaluator.example", b_leg_call_ids=("b-2",))]
    status, _, body = await port.get("/v1/current-call", **{"from": "+1 (555) 0002"})
    assert (status, body["id"], body["sip_call_id"], body["b_leg_call_ids"]) == (200, f"{2:032x}", "call-2", ["b-2"])
    assert (await port.get("/v1/current-call", to="agent", **{"from": "sip:15550001@other.example"}))[2]["sip_call_id"] == "call-1"


async def test_an_agent_finds_its_call_by_its_media_address_its_call_id_or_the_time(port: Port) -> None:
    began = datetime(2026, 1, 31, 12, tzinfo=UTC)
    port.state.live = [
        live(1, agent_media=("10.0.0.5:4000", "10.0.0.1:30002"), started_at=began, b_leg_call_ids=("b-1",)),
        live(2, agent_media=("10.0.0.5:4002", "10.0.0.1:30006"), started_at=began + timedelta(seconds=60)),
    ]
    for query in ({"media": "10.0.0.5:4000"}, {"media": "10.0.0.1:30002"}, {"media": "4000"}, {"sip_call_id": "b-1"}):
        assert (await port.get("/v1/current-call", **query))[2]["sip_call_id"] == "call-1"
    assert (await port.get("/v1/current-call", at="2026-01-31T12:00:30+00:00"))[2]["sip_call_id"] == "call-1"
    assert (await port.get("/v1/current-call", at="2026-01-31T12:00:57Z"))[0] == 409  # clocks differ by seconds
    assert (await port.get("/v1/current-call", media="10.0.0.6:4000"))[0] == 404
    _, _, body = await port.get("/v1/current-call", media="4002")
    assert (body["platform"], body["agent_media"]) == ("generic", ["10.0.0.5:4002", "10.0.0.1:30006"])


async def test_a_question_that_is_misspelt_is_refused(port: Port) -> None:
    port.state.live = [live(1)]
    assert (await port.get("/v1/current-call", callee="agent"))[0] == 400
    status, _, body = await port.get("/v1/current-call", at="yesterday")
    assert (status, "RFC 3339" in body["detail"]) == (400, True)


async def test_two_candidates_are_a_conflict_never_a_guess(port: Port) -> None:
    port.state.live = [live(1), live(2)]
    status, kind, body = await port.get("/v1/current-call", to="sip:agent@edge.example")
    assert (status, kind) == (409, "application/problem+json")
    assert [call["sip_call_id"] for call in body["candidates"]] == ["call-1", "call-2"]


async def test_no_candidate_is_not_found(port: Port) -> None:
    port.state.live = [live(1)]
    assert (await port.get("/v1/current-call", to="somebody-else"))[0] == 404
    assert (await port.get("/v1/current-call", to=""))[0] == 404


async def test_alone_in_the_house_the_call_needs_no_name(port: Port) -> None:
    port.state.live = [live(1)]
    assert (await port.get("/v1/current-call"))[2]["sip_call_id"] == "call-1"


async def test_drain(port: Port) -> None:
    port.state.live = [live(1)]
    async with port.client.post(port.base + "/v1/drain") as response:
        assert (response.status, await response.json()) == (202, {"draining": True, "live_calls": 1})
    assert port.state.drains == 1


async def test_a_web_page_cannot_drain(port: Port) -> None:
    async with port.client.post(port.base + "/v1/drain", headers={"Origin": "https://page.example"}) as response:
        assert response.status == 403
    assert port.state.drains == 0


async def test_unknown_paths_and_methods_are_problems_too(port: Port) -> None:
    status, kind, body = await port.get("/v1/nothing")
    assert (status, kind, body["status"]) == (404, "application/problem+json", 404)
    async with port.client.get(port.base + "/v1/drain") as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")


async def test_state_shows_every_engine(port: Port) -> None:
    assert (await port.get("/v1/state"))[2] == {"spool": {"bytes": 0}}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("+1-555-0001", "sip:15550001@a.example:5060;user=phone"),
        ("tel:+1-555-0001", "<sip:+15550001@a.example>;tag=1"),
        ('"A <b>" <sip:bob@a.example>', "SIP:bob@b.example"),
        ("sip:edge.example", "edge.example"),
    ],
)
def test_one_party_in_two_spellings(one: str, other: str) -> None:
    assert party(one) == party(other)


@pytest.mark.parametrize(("one", "other"), [("sip:bob@a.example", "sip:Bob@a.example"), ("+15550001", "+15550002"), ("12", "1-2")])
def test_two_parties(one: str, other: str) -> None:
    assert party(one) != party(other)


async def test_drained_is_answered_when_the_last_call_is_over(port: Port) -> None:
    waiting = asyncio.create_task(port.get("/v1/drained"))
    assert (await port.get("/livez"))[0] == 200, "the port serves others meanwhile"
    assert not waiting.done()
    port.state.last_call_over.set()
    assert (await waiting)[0] == 200
