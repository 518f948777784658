"""The stand-in evaluator's HTTP side, by the real client and by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from sidecar.clocks import Mono, Wall
from sidecar.lab.evaluator_api import EvaluatorApi, Failure
from sidecar.lab.report import AgentLine, CallerLine, Reporter, Story
from sidecar.lab.rtp import Spoken
from sidecar.lab.script import Answer
from sidecar.lab.speech import clip
from sidecar.lab.speech.bounds import RATE

KEY = "tr_api_lab"
BODY: dict[str, Any] = {
    "call_id": "c-1",
    "call_type": "phone_call",
    "transcript_with_tool_calls": [{"role": "agent", "text": "Hello", "start_ms": 0, "end_ms": 900}],
    "start_timestamp": 1_700_000_000,
    "end_timestamp": 1_700_000_020,
    "recording_url": "pending",
    "sip_call_id": "dialled-1",
}


@pytest.fixture
async def api() -> AsyncIterator[EvaluatorApi]:
    api = EvaluatorApi(api_key=KEY, workspace_id=7, agent_id="agent-1")
    await api.start()
    yield api
    await api.stop()


async def post(api: EvaluatorApi, body: object = BODY, *, key: str = KEY, workspace: int = 7, agent: str = "agent-1") -> tuple[int, Any]:
    url = f"{api.base_url}/api/v1/public/call?workspace_id={workspace}&agent_remote_identifier={agent}"
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session,
        session.post(url, json=body) as answer,
    ):
        return answer.status, await answer.json() | {"retry_after": answer.headers.get("Retry-After")}


async def test_a_new_report_is_created_and_a_repeated_one_is_a_duplicate(api: EvaluatorApi) -> None:
    status, answer = await post(api)
    assert (status, answer["id"], answer["provider_call_id"], answer["is_new"]) == (201, 1, "c-1", True)
    assert (await post(api))[0] == 409
    api.behaviour.duplicates = "is_new"
    status, answer = await post(api)
    assert (status, answer["id"], answer["is_new"]) == (200, 1, False)
    assert len(api.reports) == 1
    assert api.answers == [201, 409, 200]


async def test_strict_refuses_with_the_place_and_lenient_takes_it(api: EvaluatorApi) -> None:
    silent = BODY | {"transcript_with_tool_calls": []}
    status, answer = await post(api, silent)
    assert status == 422
    assert answer["detail"][0]["loc"] == ["body", "transcript_with_tool_calls"]
    api.behaviour.strict = False
    assert (await post(api, silent))[0] == 201
    assert (await post(api, {"call_type": "x"}))[0] == 422


@pytest.mark.parametrize(("change", "status"), [({"key": "wrong"}, 401), ({"workspace": 8}, 403), ({"agent": "other"}, 404)])
async def test_key_workspace_and_agent_are_checked(api: EvaluatorApi, change: dict[str, Any], status: int) -> None:
    assert (await post(api, **change))[0] == status
    assert api.reports == {}


async def test_failures_are_used_up_one_a_request(api: EvaluatorApi) -> None:
    api.behaviour.failures.extend([Failure(500), Failure(429, retry_after_s=2), Failure(None)])
    assert (await post(api))[0] == 500
    status, answer = await post(api)
    assert (status, answer["retry_after"]) == (429, "2")
    with pytest.raises(aiohttp.ClientError):
        await post(api)
    assert (await post(api))[0] == 201
    api.behaviour.down = True
    with pytest.raises(aiohttp.ClientError):
        await post(api)


async def test_a_report_links_by_call_id_or_by_correlation_id(api: EvaluatorApi) -> None:
    api.dialled_call("dialled-1", "a" * 32)
    api.dialled_call("dialled-2", "b" * 32)
    assert not api.linked("dialled-1")
    await post(api)
    await post(api, BODY | {"call_id": "c-2", "sip_call_id": "other", "sip_headers": {"x-correlation-id": "b" * 32}})
    assert api.linked("dialled-1")
    assert api.linked("dialled-2")
    assert not api.linked("dialled-3")
    report = api.report_for("dialled-2")
    assert report is not None
    assert report.body["call_id"] == "c-2"


def story() -> Story:
    """A greeting, and an answer 620 ms after the caller's end that was cut short."""
    greeting, answer = clip("agent_greeting"), clip("agent_long_list")
    asked = Mono(104.0)
    spoken = Spoken(answer, round(4.62 * RATE) - answer.onset, cut_at=round(6.0 * RATE))
    return Story(
        call_id="call_1",
        sip_call_id="dialled-1",
        correlation_id="a" * 32,
        answered=Mono(100.0),
        answered_wall=Wall(1_700_000_000.25),
        ended_wall=Wall(1_700_000_009.5),
        hung_up_by_agent=False,
        lines=(
            AgentLine(greeting.text, Spoken(greeting, round(0.4 * RATE) - greeting.onset)),
            CallerLine(Mono(102.5), asked),
            AgentLine(answer.text, spoken, asked=asked, answer=Answer("agent_long_list", 0.62)),
        ),
        time_of=lambda sample: Mono(100.0 + sample / RATE),
    )


async def test_the_agents_report_through_the_real_client_passes_the_strict_check(api: EvaluatorApi) -> None:
    reporter = Reporter(api.base_url, KEY, 7, "agent-1", recognised=("Hi",))
    await reporter.submit(story())
    (report,) = api.reports.values()
    assert reporter.answers == [{"id": 1, "provider_call_id": report.body["call_id"], "is_new": True}]
    assert report.body["sip_call_id"] == "dialled-1"
    assert report.body["sip_headers"] == {"X-Correlation-Id": "a" * 32}
    greeting, asked, answer = report.body["transcript_with_tool_calls"]
    assert (greeting["role"], greeting["start_ms"]) == ("agent", 400)
    assert (asked["role"], asked["text"], asked["start_ms"], asked["end_ms"]) == ("user", "Hi", 2500, 4000)
    assert answer["start_ms"] == 4620
    assert answer["end_ms"] == pytest.approx(6000, abs=30)
    assert answer["metadata"] == {"e2e_latency": 370, "interrupted": True}


async def test_a_platform_that_lost_the_headers_reports_no_id_at_all(api: EvaluatorApi) -> None:
    await Reporter(api.base_url, KEY, 7, "agent-1", no_agent_id=True).submit(story())
    (report,) = api.reports.values()
    assert "sip_call_id" not in report.body
    assert "sip_headers" not in report.body
    assert "dialled-1" not in str(report.body)
