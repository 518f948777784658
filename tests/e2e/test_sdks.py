"""The published clients of the evaluator post to control, and get what they expect.

A client is content when it makes exactly one request and logs no error: each of them logs what it does not understand.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.core.control.traces import TOKEN, complete, report
from tests.shell.control.kit import Client, Evaluator, control, evaluator, settings, until

pytestmark = [pytest.mark.peer]

Post = Callable[[str, dict[str, Any]], Awaitable[Any]]
"""Posts a report body to a base URL, as one of the clients does it."""


@contextmanager
def imports_of_others() -> Iterator[None]:
    """Their packages warn when they are imported; that is theirs to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


async def post_core(base_url: str, body: dict[str, Any]) -> Any:
    with imports_of_others():
        from tuner_core.client import submit_call
        from tuner_core.config import TunerConfig
        from tuner_core.models import CallPayload
    config = TunerConfig(api_key="tr_api_core", workspace_id=7, agent_id="agent-1", base_url=base_url, max_retries=0)
    return await submit_call(CallPayload.model_validate({"duration_ms": 12_000} | body), config)


async def post_livekit(base_url: str, body: dict[str, Any]) -> Any:
    with imports_of_others():
        from tuner.client import submit_call
        from tuner.config import TunerConfig
    await submit_call(body, TunerConfig(api_key="tr_api_livekit", workspace_id=7, agent_id="agent-1", base_url=base_url, max_retries=0))


async def post_pipecat(base_url: str, body: dict[str, Any]) -> Any:
    with imports_of_others():
        from tuner_pipecat_sdk.client import post_call
        from tuner_pipecat_sdk.config import TunerConfig
        from tuner_pipecat_sdk.models import CallPayload
    meta = {"ai_models": {"asr_model": "", "llm_model": "", "tts_model": ""}, "usage_token": {"asr_duration": 12}}
    payload = CallPayload.model_validate({"duration_ms": 12_000, "call_status": "call_ended"} | body | {"general_meta_data_raw": meta})
    # The trailing slash is the user's: this client keeps it, and asks for //api/v1/public/call.
    config = TunerConfig(api_key="tr_api_pipecat", workspace_id=7, agent_id="agent-1", call_id=body["call_id"], base_url=base_url + "/")
    await post_call(config, payload)


@dataclass
class Complaints(logging.Handler):
    """Warnings and errors that a client logged."""

    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    __hash__ = logging.Handler.__hash__


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    from loguru import logger

    found = Complaints()
    number = logger.add(found, level="WARNING", format="{message}")
    logging.getLogger("tuner").addHandler(found)
    try:
        yield found
    finally:
        logger.remove(number)
        logging.getLogger("tuner").removeHandler(found)


CLIENTS = pytest.mark.parametrize("post", [post_core, post_livekit, post_pipecat], ids=["core", "livekit", "pipecat"])


async def verdict(client: Client) -> dict[str, Any]:
    shown: dict[str, Any] = (await client.get("/v1/calls/c1"))["verdict"]
    return shown


@CLIENTS
async def test_report_with_the_id_is_linked(post: Post, complaints: Complaints, tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        trace = complete("c1", "SCL_abc")
        await client.facts(*trace.facts)
        await post(client.url, report("r1", trace, sip_call_id="SCL_abc"))
        await until(lambda: tuner.calls() == ["r1"])
        assert (await verdict(client))["outcome"] == "linked"
        assert tuner.headers[0]["Authorization"].startswith("Bearer tr_api_")
        assert complaints.lines == []


@CLIENTS
async def test_report_without_the_id_is_repaired(post: Post, complaints: Complaints, tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        trace = complete("c1", "SCL_abc")
        await client.facts(*trace.facts)
        await post(client.url, report("r1", trace, sip_headers={"X-Correlation-Id": TOKEN}))
        await until(lambda: tuner.calls() == ["r1"])
        assert tuner.body("r1")["sip_call_id"] == "SCL_abc"
        assert (await verdict(client))["outcome"] == "repaired"
        assert complaints.lines == []


@CLIENTS
async def test_report_posted_twice_arrives_once(post: Post, complaints: Complaints, tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        trace = complete("c1", "SCL_abc")
        await client.facts(*trace.facts)
        for _ in range(2):
            await post(client.url, report("r1", trace, sip_call_id="SCL_abc"))
        await until(lambda: _one_delivered(client))
        assert tuner.calls() == ["r1"]
        assert complaints.lines == []


@CLIENTS
async def test_evaluator_that_is_down_goes_unnoticed_and_gets_the_report_later(post: Post, complaints: Complaints, tmp_path: Path) -> None:
    async with evaluator() as tuner:
        address = tuner.base_url
    async with control(settings(tmp_path, address)) as client:
        trace = complete("c1", "SCL_abc")
        await client.facts(*trace.facts)
        started = asyncio.get_running_loop().time()
        await post(client.url, report("r1", trace, sip_call_id="SCL_abc"))
        assert asyncio.get_running_loop().time() - started < 10  # the shortest patience among the clients is 15 s
        assert complaints.lines == []
        await until(lambda: _failed_once(client))
        back: Evaluator
        async with evaluator(port=int(address.rsplit(":", 1)[1])) as back:
            await until(lambda: back.calls() == ["r1"])
            assert back.body("r1")["general_meta_data_raw"]["trunkside"]["id"] == "c1"


async def _one_delivered(client: Client) -> bool:
    """There is one delivery, and it is done: nothing is left that could come a second time."""
    return [row["state"] for row in (await client.get("/v1/deliveries"))["deliveries"]] == ["delivered"]


async def _failed_once(client: Client) -> bool:
    return (await client.get("/v1/deliveries"))["deliveries"][0]["last_error"] is not None


async def test_core_client_is_told_what_the_evaluator_would_tell_it(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url)) as client:
        first, again = [await post_core(client.url, report("r1")) for _ in range(2)]
        assert (first["provider_call_id"], first["is_new"]) == ("r1", True)
        assert (again["id"], again["is_new"]) == (first["id"], False)
