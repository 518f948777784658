"""Recordings by the evaluator's presigned form, against a storage that takes it to the letter."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from control.config import ControlConfig
from sidecar.analysis.wav import header
from sidecar.lab.evaluator_api import EvaluatorApi
from tests.core.control.traces import Trace, report
from tests.shell.control import kit
from tests.shell.control.kit import ON_SQLITE, Client, control, process, settings, until

WAV = header(400_000) + bytes(range(250)) * 1600


@asynccontextmanager
async def strict() -> AsyncIterator[EvaluatorApi]:
    tuner = EvaluatorApi(api_key="tr_api_test", workspace_id=7, agent_id="agent-1")
    await tuner.start()
    try:
        yield tuner
    finally:
        await tuner.stop()


def going(tmp_path: Path, tuner: EvaluatorApi, **upload: Any) -> ControlConfig:
    told = {"base_url": tuner.base_url, "upload": {"allow_private": True, **upload}}
    return settings(tmp_path, tuner.base_url, evaluator=told, recordings={"path": tmp_path / "kept"}, enrich_wait_s=0)


def recorded(call: str, form: str | None = "wav", **more: Any) -> Trace:
    """A call as `complete` has it, whose route recorded."""
    trace = Trace(call, f"SCL_{call}", **more).answered().ended()
    measured = next(fact for fact in trace.facts if fact["kind"] == "call_measured")
    if form is not None:
        measured["media"] = {"recording": {"format": form, "seconds": 12.0, "bytes": len(WAV), "sha256": "0" * 64}}
    return trace


async def reported(client: Client, call: str, trace: Trace, **more: Any) -> Any:
    await client.facts(*trace.facts)
    return await client.report(report(f"r-{call}", trace, sip_call_id=trace.sip_call_id, **more))


async def upload(client: Client, call: str) -> dict[str, Any]:
    told: dict[str, Any] = (await client.get(f"/v1/calls/{call}"))["recording_upload"] or {}
    return told


async def is_upload(client: Client, call: str, state: str) -> bool:
    return (await upload(client, call)).get("state") == state


async def deliveries(client: Client, call: str, kind: str = "recording") -> list[dict[str, Any]]:
    return [each for each in (await client.get(f"/v1/deliveries?call={call}"))["deliveries"] if each["kind"] == kind]


@pytest.mark.parametrize("form", ["wav", "ogg"])
async def test_the_recording_of_a_simulation_goes_by_the_form_that_its_report_was_answered_with(tmp_path: Path, form: str) -> None:
    async with strict() as tuner, control(going(tmp_path, tuner)) as client:
        answer = await reported(client, "c1", recorded("c1", form))
        assert "recording_upload" not in answer, "the agent did not ask"
        await until(lambda: is_upload(client, "c1", "pending"))
        assert tuner.storage.stored == {}
        await client.post("/v1/ingest/recordings/c1", WAV, headers={"Content-Type": f"audio/{form}"})
        await until(lambda: is_upload(client, "c1", "delivered"))
        told = await upload(client, "c1")
        shown = (await deliveries(client, "c1"))[0]
    body = tuner.reports["r-c1"].body
    assert (body["recording_file_extension"], body["recording_s3_multi_channel"], body["recording_s3_caller_channel"]) == (form, True, 0)
    (stored,) = tuner.storage.stored.values()
    assert (stored.content, stored.content_type, stored.filename) == (WAV, f"audio/{form}", f"c1.{form}")
    assert tuner.storage.refusals == []
    assert told == {"state": "delivered", "detail": f"the storage answered 204 to {len(WAV)} bytes", "delivery": shown["id"]}
    assert (shown["destination"], shown["state"], shown["call_id"]) == ("recordings", "delivered", "r-c1")


async def test_an_agent_that_brings_its_own_recording_is_not_disturbed(tmp_path: Path) -> None:
    async with strict() as tuner, control(going(tmp_path, tuner)) as client:
        await client.post("/v1/ingest/recordings/c1", WAV)
        answer = await reported(client, "c1", recorded("c1"), recording_file_extension="mp3")
        assert answer["recording_upload"]["key"].endswith(".mp3")
        assert [each["kind"] for each in await deliveries(client, "c1", "create_call")] == ["create_call"]
        assert await deliveries(client, "c1") == []
        assert await upload(client, "c1") == {}
    assert "recording_s3_multi_channel" not in tuner.reports["r-c1"].body


async def test_a_storage_that_fails_is_asked_again_and_one_that_refuses_is_not(tmp_path: Path) -> None:
    async with strict() as tuner, control(going(tmp_path, tuner)) as client:
        for call in ("c1", "c2"):
            await client.post(f"/v1/ingest/recordings/{call}", WAV)
        tuner.storage.failures = [503]
        await reported(client, "c1", recorded("c1"))
        await until(lambda: is_upload(client, "c1", "delivered"))
        assert (await deliveries(client, "c1"))[0]["attempts"] == 2
        tuner.storage.failures = [403]
        await reported(client, "c2", recorded("c2", token="e" * 32))
        await until(lambda: is_upload(client, "c2", "refused"))
        dead = (await deliveries(client, "c2"))[0]
        assert (dead["state"], dead["attempts"]) == ("dead", 1)
        assert "403: the storage refuses the form, which may be past its time: " in dead["last_error"]
        await client.post(f"/v1/deliveries/{dead['id']}/retry")  # a person who knows better
        await until(lambda: is_upload(client, "c2", "delivered"))
    assert len(tuner.storage.stored) == 2


@ON_SQLITE
async def test_what_is_larger_than_the_form_allows_is_not_sent(tmp_path: Path) -> None:
    async with strict() as tuner, control(going(tmp_path, tuner)) as client:
        tuner.storage.max_bytes = len(WAV) - 1
        await client.post("/v1/ingest/recordings/c1", WAV)
        await reported(client, "c1", recorded("c1"))
        await until(lambda: is_upload(client, "c1", "refused"))
        assert f"has {len(WAV)} bytes and the evaluator takes {len(WAV) - 1}" in (await upload(client, "c1"))["detail"]
    assert (tuner.storage.stored, tuner.storage.refusals) == ({}, [])


@ON_SQLITE
async def test_a_form_that_leads_inside_is_refused_unless_that_is_meant(tmp_path: Path) -> None:
    async with strict() as tuner, control(going(tmp_path, tuner, allow_private=False)) as client:
        await client.post("/v1/ingest/recordings/c1", WAV)
        await reported(client, "c1", recorded("c1"))
        await until(lambda: is_upload(client, "c1", "refused"))
        assert "127.0.0.1 is this machine" in (await upload(client, "c1"))["detail"]
    assert (tuner.storage.stored, tuner.storage.refusals) == ({}, [])


@ON_SQLITE
async def test_a_form_that_is_none_is_told_and_costs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with strict() as tuner, control(going(tmp_path, tuner)) as client:
        monkeypatch.setattr(type(tuner.storage), "form", lambda *_: {"fields": {}})
        await reported(client, "c1", recorded("c1"))
        await until(lambda: is_upload(client, "c1", "refused"))
        assert (await deliveries(client, "c1", "create_call"))[0]["state"] == "delivered"


@ON_SQLITE
@pytest.mark.peer
async def test_a_form_survives_a_kill_and_is_on_no_disk_in_the_clear(tmp_path: Path) -> None:
    config = tmp_path / "control.yaml"
    async with strict() as tuner:
        told = {
            "listen": "127.0.0.1:0",
            "enrich_wait_s": 0,
            "evaluator": {"base_url": tuner.base_url, "upload": {"allow_private": True}},
            "recordings": {"path": str(tmp_path / "kept")},
        }
        config.write_text(yaml.safe_dump(told | kit.ENGINE.file(tmp_path)))
        tuner.storage.failures = [503] * 100
        async with process(config) as first:
            await first.client.post("/v1/ingest/recordings/c1", WAV)
            await reported(first.client, "c1", recorded("c1"))
            await until(lambda: len(tuner.storage.refusals) > 0)
            assert await first.end(signal.SIGKILL) == -signal.SIGKILL
        (form,) = tuner.storage.forms.values()
        for file in tmp_path.glob("control.db*"):
            assert form["x-amz-signature"].encode() not in file.read_bytes()
        tuner.storage.failures = []
        async with process(config) as second:
            await until(lambda: is_upload(second.client, "c1", "delivered"), 20)
            shown = json.dumps([await second.client.get(path) for path in ("/v1/deliveries", "/v1/calls/c1", "/v1/audit")])
            assert form["x-amz-signature"] not in shown
            assert await second.end(signal.SIGTERM) == 0
    (stored,) = tuner.storage.stored.values()
    assert stored.content == WAV
