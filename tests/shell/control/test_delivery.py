"""The outbox against an evaluator that fails, and across a kill."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import aiohttp
import pytest
import yaml
from cryptography.fernet import Fernet

from control.config import ControlConfig
from control.delivery import worker
from tests.core.control.traces import complete, report
from tests.shell.control import kit
from tests.shell.control.kit import ON_SQLITE, Client, control, evaluator, process, settings, until


async def state(client: Client, call_id: str) -> dict[str, object]:
    found: dict[str, object] = (await client.get(f"/v1/deliveries?call_id={call_id}"))["deliveries"][0]
    return found


async def is_state(client: Client, call_id: str, wanted: str) -> bool:
    return (await state(client, call_id))["state"] == wanted


async def test_a_failing_evaluator_is_tried_again_with_the_same_bytes(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url, enrich_wait_s=0)) as client:
        tuner.script = [500]
        trace = complete("c1", "SCL_abc")
        await client.facts(*trace.facts)
        await client.report(report("r1", trace, sip_call_id="SCL_abc"))
        await until(lambda: len(tuner.attempts) == 1)
        await client.facts(trace.fact("finding_made", 20_000.0, name="late", detail="a fact after the first attempt"))
        await until(lambda: tuner.calls() == ["r1"])
        assert len(tuner.attempts) == 2
        assert tuner.attempts[0] == tuner.attempts[1]
        await until(lambda: is_state(client, "r1", "delivered"))


@ON_SQLITE
async def test_an_evaluator_that_fails_for_everybody_is_left_alone_and_tried_with_one_until_it_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_FIRST_REST_S", 0.03)
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url, enrich_wait_s=0)) as client:
        tuner.script = [500] * 10_000
        await asyncio.gather(*(client.report(report(f"r{number}")) for number in range(60)))
        await until(lambda: len(tuner.attempts) >= 12)
        told = (await client.get("/readyz"))["delivery"]["tuner"]
        assert told["failures_in_a_row"] >= 8
        assert len(tuner.attempts) <= 20  # of sixty that are due, and each again after a second
        tuner.script = []
        await until(lambda: sorted(tuner.calls()) == sorted(f"r{number}" for number in range(60)), 15)
        assert (await client.get("/readyz"))["delivery"]["tuner"]["failures_in_a_row"] == 0


async def test_an_unreachable_evaluator_delays_nothing_but_the_delivery(tmp_path: Path) -> None:
    async with evaluator() as tuner:
        gone = tuner.base_url
    async with control(settings(tmp_path, gone, enrich_wait_s=0)) as client:
        assert (await client.report(report("r1")))["is_new"] is True
        await until(lambda: _tried(client, "r1"))
        shown = await state(client, "r1")
        assert shown["state"] == "pending"
        assert "cannot be reached" in str(shown["last_error"])
        async with evaluator(port=int(gone.rsplit(":", 1)[1])) as back:
            await until(lambda: back.calls() == ["r1"])


async def _tried(client: Client, call_id: str) -> bool:
    return (await state(client, call_id))["last_error"] is not None


async def test_retry_after_is_honoured(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url, enrich_wait_s=0)) as client:
        tuner.script = [(429, {"Retry-After": "2"})]
        await client.report(report("r1"))
        await until(lambda: len(tuner.attempts) == 1)
        asked = asyncio.get_running_loop().time()
        await until(lambda: tuner.calls() == ["r1"])
        assert asyncio.get_running_loop().time() - asked > 1.8


@ON_SQLITE
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_a_refusal_is_a_dead_letter_with_its_cause_that_can_be_retried(tmp_path: Path, status: int) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url, enrich_wait_s=0)) as client:
        tuner.script = [status]
        await client.report(report("r1"))
        await until(lambda: is_state(client, "r1", "dead"))
        dead = await state(client, "r1")
        assert str(dead["last_error"]).startswith(f"{status}: ")
        await client.post(f"/v1/deliveries/{dead['id']}/retry")
        await until(lambda: tuner.calls() == ["r1"])
        assert tuner.attempts[0] == tuner.attempts[1]
        await until(lambda: is_state(client, "r1", "delivered"))
        problem = await client.post(f"/v1/deliveries/{dead['id']}/retry", status=409)
        assert "delivered" in problem["detail"]
        await client.post("/v1/deliveries/999/retry", status=404)


async def test_both_forms_of_a_duplicate_are_benign(tmp_path: Path) -> None:
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url, enrich_wait_s=0)) as client:
        tuner.script = [409]
        await client.report(report("r1"))
        await until(lambda: is_state(client, "r1", "delivered"))
        tuner.received.append(("r2", b"{}"))  # the evaluator has it from somewhere else and answers 200, is_new=false
        await client.report(report("r2"))
        await until(lambda: is_state(client, "r2", "delivered"))


async def test_what_waits_is_delivered_after_a_restart(tmp_path: Path) -> None:
    async with evaluator() as tuner:
        gone = tuner.base_url
    async with control(settings(tmp_path, gone, enrich_wait_s=0)) as client:
        for number in range(5):
            await client.report(report(f"r{number}"))
        await until(lambda: _tried(client, "r4"))
    async with evaluator(port=int(gone.rsplit(":", 1)[1])) as back, control(settings(tmp_path, gone)):
        await until(lambda: sorted(back.calls()) == [f"r{number}" for number in range(5)])
        await asyncio.sleep(0.2)
        assert len(back.calls()) == 5


async def test_a_new_key_seals_and_the_former_one_still_opens_what_it_sealed(tmp_path: Path) -> None:
    key = tmp_path / "key"
    first, second = Fernet.generate_key(), Fernet.generate_key()
    async with evaluator() as tuner:
        gone = tuner.base_url

    def told(*keys: bytes) -> ControlConfig:
        key.write_bytes(b"\n".join(keys))
        return settings(tmp_path, gone, enrich_wait_s=0, secret_key_file=key)

    async with control(told(first)) as client:
        await client.report(report("r1"), headers={"Authorization": "Bearer tr_api_first"})
    async with control(told(second, first)) as client:
        await client.report(report("r2"), headers={"Authorization": "Bearer tr_api_second"})
    port = int(gone.rsplit(":", 1)[1])
    async with evaluator(port=port) as back, control(told(second)) as client:  # the first key is gone before all it sealed was delivered
        await until(lambda: back.calls() == ["r2"])
        assert back.headers[-1]["Authorization"] == "Bearer tr_api_second"
        await until(lambda: is_state(client, "r1", "dead"))
        assert "no evaluator API key" in str((await state(client, "r1"))["last_error"])
    async with evaluator(port=port) as back, control(told(second, first)) as client:
        await client.post(f"/v1/deliveries/{(await state(client, 'r1'))['id']}/retry")
        await until(lambda: back.calls() == ["r1"])
        assert back.headers[-1]["Authorization"] == "Bearer tr_api_first"


@ON_SQLITE  # several processes on PostgreSQL, and one that is killed, are in test_replicas.py
@pytest.mark.peer
async def test_sigkill_during_delivery_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    async with evaluator() as tuner:
        reached, block = asyncio.Event(), asyncio.Event()
        plain = tuner.create_call

        async def stall(request: aiohttp.web.Request) -> aiohttp.web.Response:
            answer = await plain(request)  # the evaluator has it, and control never learns so
            if len(tuner.attempts) >= 3 and not block.is_set():
                reached.set()
                await block.wait()
            return answer

        config = tmp_path / "control.yaml"
        told = {"listen": "127.0.0.1:0", "enrich_wait_s": 0.5, "evaluator": {"base_url": tuner.base_url, "timeout_s": 2}}
        config.write_text(yaml.safe_dump(told | kit.ENGINE.file(tmp_path)))
        tuner.create_call = stall  # type: ignore[method-assign]
        async with process(config) as first:
            for number in range(12):
                trace = complete(f"c{number}", f"SCL_{number}", token=f"{number:032x}")
                await first.client.facts(*trace.facts)
                await first.client.report(report(f"r{number}", trace, sip_call_id=f"SCL_{number}" if number % 2 else None))
            async with asyncio.timeout(10):
                await reached.wait()
            assert await first.end(signal.SIGKILL) == -signal.SIGKILL
        block.set()
        async with process(config) as second:
            expected = sorted(f"r{number}" for number in range(12))
            await until(lambda: sorted(set(tuner.calls())) == expected, 20)
            assert len({body for _, body in tuner.received}) == 12  # a repetition carries the same bytes under the same call_id
            await until(lambda: _all_delivered(second.client, 12))
            assert await second.end(signal.SIGTERM) == 0


async def _all_delivered(client: Client, count: int) -> bool:
    found = (await client.get("/v1/deliveries?limit=100"))["deliveries"]
    return len(found) == count and all(delivery["state"] == "delivered" for delivery in found)
