"""The whole way of the identity: the engine, the platform, the published helpers, a running control, an evaluator that links."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from sidecar.clocks import Mono
from sidecar.identity.presets import PRESETS
from sidecar.lab.evaluator_api import Behaviour, EvaluatorApi
from sidecar.lab.platforms import PLATFORMS
from tests.shell.control.kit import Client, control, settings, until
from tests.support.platform_agents import READERS, create_call
from tests.support.relay import Relay, Relayed, route

CALL_ID = "2xTb9aQ0kLm3Zp8RwV4sY1cN7dE"
TOKEN = "0123456789abcdef0123456789abcdef"
KEY = "tr_api_test"
LONG_AGO = 60.0
"""Seconds: the calls are over when their reports come."""


class World:
    """A relay whose traces go to control, and the evaluator behind it."""

    def __init__(self, client: Client, evaluator: EvaluatorApi, *platforms: str) -> None:
        self.client, self.evaluator = client, evaluator
        self.relay = Relay(*(route(platform) for platform in platforms), wall=time.time() - LONG_AGO)

    def dial(self, platform: str, call_id: str, token: str, caller: str = "+15550100") -> Relayed:
        """The evaluator places a call, which the platform answers."""
        self.evaluator.dialled_call(call_id, token)
        call = self.relay.call(
            f"sip:+15550199@{platform}.test",
            call_id=call_id,
            caller=f"sip:{caller}@evaluator.example",
            headers=[("X-Correlation-Id", token)],
        )
        self.relay.answer(call)
        return call

    def report(self, platform: str, call: Relayed, report_id: str) -> dict[str, Any]:
        """What the agent behind the platform posts."""
        seen = READERS[platform](PLATFORMS[platform](call.arrived, f"{platform}-own-{call.id}"))
        return create_call(seen, report_id, self.relay.wall + 1, self.relay.wall + 13)

    async def finish(self, *calls: Relayed) -> None:
        """The caller hangs up; the traces come to control."""
        self.relay.now = Mono(13.0)
        for call in calls:
            self.relay.hang_up(call)
            await self.client.facts(*self.relay.facts(call))

    async def verdict(self, call: Relayed) -> dict[str, Any]:
        """What control says of the call."""
        shown: dict[str, Any] = (await self.client.get(f"/v1/calls/{call.id}"))["verdict"]
        return shown


@pytest.fixture
async def evaluator() -> Any:
    api = EvaluatorApi(api_key=KEY, workspace_id=7, agent_id="agent-1", behaviour=Behaviour(strict=True))
    await api.start()
    yield api
    await api.stop()


LINKS = [
    ("twilio", "linked", None, None),
    ("jambonz", "linked", None, None),
    ("livekit", "linked", None, None),
    ("daily", "repaired", "a_leg_call_id", 1.0),
    ("plivo", "repaired", "a_leg_call_id", 1.0),
    ("twilio-pstn", "repaired", "to_from_time", 0.7),
    ("exotel", "repaired", "to_from_time", 0.5),
    ("asterisk", "linked", None, None),
    ("freeswitch", "linked", None, None),
    ("generic", "linked", None, None),
    ("openai", "linked", None, None),
    ("retell", "linked", None, None),
    ("signalwire", "linked", None, None),
    ("telnyx", "linked", None, None),
    ("vapi", "linked", None, None),
    ("vonage", "linked", None, None),
]
"""Each preset, what becomes of the link, and where it is repaired, by which rule and how sure."""


def test_every_preset_is_tried() -> None:
    assert {platform for platform, *_ in LINKS} == set(PRESETS)


@pytest.mark.peer
@pytest.mark.parametrize(("platform", "outcome", "rule", "confidence"), LINKS)
async def test_the_evaluator_links_the_report_of_its_call(
    platform: str, outcome: str, rule: str | None, confidence: float | None, evaluator: EvaluatorApi, tmp_path: Path
) -> None:
    async with control(settings(tmp_path, evaluator.base_url)) as client:
        world = World(client, evaluator, platform)
        call = world.dial(platform, CALL_ID, TOKEN)
        await world.finish(call)
        await client.report(world.report(platform, call, "report-1"))
        await until(lambda: evaluator.linked(CALL_ID))
        found = evaluator.report_for(CALL_ID)
        assert found is not None
        assert (found.body["call_id"], found.body["sip_call_id"]) == ("report-1", CALL_ID)
        verdict = await world.verdict(call)
        assert verdict["outcome"] == outcome
        repair = verdict["repair"] or {}
        assert (repair.get("rule"), repair.get("confidence")) == (rule, confidence)
        # A platform that loses the id echoes nothing; what the evaluator accepted is proven all the same.
        await until(lambda: _accepted(world, call))
        hops = [hop["hop"] for hop in (await world.verdict(call))["hops"]]
        assert hops[:2] == ["received", "carried"]
        assert ("echoed" in hops) == (outcome == "linked" or rule == "a_leg_call_id")


async def _accepted(world: World, call: Relayed) -> bool:
    return any(hop["hop"] == "accepted" for hop in (await world.verdict(call))["hops"])


@pytest.mark.peer
async def test_reports_before_during_and_after_overlapping_calls_reach_the_right_ones(evaluator: EvaluatorApi, tmp_path: Path) -> None:
    names = ["plivo", "exotel", "twilio", "twilio-pstn", "jambonz"]
    async with control(settings(tmp_path, evaluator.base_url, enrich_wait_s=4)) as client:
        world = World(client, evaluator, *names)
        calls = {}
        for n, name in enumerate(names):
            calls[name] = world.dial(name, f"{n}{CALL_ID[1:]}", f"{n}{TOKEN[1:]}", caller=f"+1555010{n}")
        for name in ("exotel", "plivo"):  # before control has heard of the calls
            await client.report(world.report(name, calls[name], f"report-{name}"))
        for name in ("twilio", "plivo"):  # while they live
            await client.facts(*world.relay.facts(calls[name]))
        await client.report(world.report("twilio", calls["twilio"], "report-twilio"))
        await world.finish(*calls.values())
        for name in ("jambonz", "twilio-pstn"):  # when all is over
            await client.report(world.report(name, calls[name], f"report-{name}"))
        for name, call in calls.items():
            await until(lambda call=call: evaluator.linked(call.sent.call_id), 20)  # type: ignore[misc]
            report = evaluator.report_for(call.sent.call_id)
            assert report is not None
            assert report.body["call_id"] == f"report-{name}"


@pytest.mark.peer
async def test_two_calls_that_a_report_fits_are_a_conflict_and_never_a_guess(evaluator: EvaluatorApi, tmp_path: Path) -> None:
    async with control(settings(tmp_path, evaluator.base_url)) as client:
        world = World(client, evaluator, "exotel")
        first, second = world.dial("exotel", "1" + CALL_ID, "1" + TOKEN[1:]), world.dial("exotel", "2" + CALL_ID, "2" + TOKEN[1:])
        await world.finish(first, second)
        report = world.report("exotel", first, "report-1")
        await client.report(report)
        await until(lambda: "report-1" in evaluator.reports)
        assert evaluator.reports["report-1"].body["sip_call_id"] == report["sip_call_id"]  # as it came
        assert not evaluator.linked(first.sent.call_id)
        assert not evaluator.linked(second.sent.call_id)
        for call in (first, second):
            verdict = await world.verdict(call)
            assert (verdict["outcome"], verdict["candidates"]) == ("conflict", sorted((first.id, second.id)))
