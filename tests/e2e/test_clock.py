"""The wall clock is set forward and back by hours under a live call: nothing is measured by it, and nothing waits for it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.core.control.traces import report
from tests.e2e.test_lifecycle import control_settings, one_call, sidecar_settings, sip_of
from tests.shell.control.kit import evaluator
from tests.support.product import Product, free_port, get_json, loopback, running, until

pytestmark = pytest.mark.peer

LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
HOLD_MS = 5000


class Clock:
    """The wall clock of processes that run with `prefix`, hours off the true one. Their monotonic clock stays."""

    def __init__(self, folder: Path) -> None:
        assert LIBRARY is not None, "libfaketime is not installed: Debian has it as libfaketime"
        self._file = folder / "clock"
        self.set(0)
        told = {"LD_PRELOAD": LIBRARY, "FAKETIME_TIMESTAMP_FILE": self._file, "FAKETIME_NO_CACHE": 1, "DONT_FAKE_MONOTONIC": 1}
        self.prefix = ["env", *(f"{name}={value}" for name, value in told.items())]

    def set(self, hours: int) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{hours * 3600:+d}\n")
        fresh.replace(self._file)


@contextmanager
def product(folder: Path, clock: Clock, evaluator_url: str, edge: str, edge_port: int) -> Iterator[tuple[str, Product]]:
    host = loopback()
    port = free_port(host, socket.SOCK_STREAM)
    url = f"http://{host}:{port}"
    told = control_settings(host, port) | {"evaluator": {"base_url": evaluator_url}, "enrich_wait_s": 0.2}
    with (
        running("control", folder / "control", told, clock.prefix),
        running("sidecar", folder / "sidecar", sidecar_settings(host, f"sip:agent@{edge}:{edge_port}", url), clock.prefix) as sidecar,
    ):
        yield url, sidecar


async def test_a_call_and_its_report_survive_steps_of_hours(tmp_path: Path) -> None:
    edge, clock = loopback(), Clock(tmp_path)
    edge_port = free_port(edge)
    async with evaluator() as tuner:
        tuner.script = [500, 500]

        def calls() -> dict[str, Any]:
            with (
                product(tmp_path, clock, tuner.base_url, edge, edge_port) as (url, sidecar),
                one_call(tmp_path, sip_of(sidecar), edge, edge_port, HOLD_MS) as (caller, _),
            ):
                call = until("the live call", lambda: get_json(f"{url}/v1/calls").get("calls"))[0]
                until("the answer", lambda: get_json(f"{url}/v1/calls/{call['id']}")["answered_at"])
                clock.set(1)
                asyncio.run(_report(url, call["sip_call_id"]))
                until("the first attempt", lambda: tuner.attempts)
                clock.set(-1)
                assert caller.wait(20).successful == 1
                told: dict[str, Any] = until("the end", lambda: (found := get_json(f"{url}/v1/calls/{call['id']}"))["complete"] and found)
                until("the report, an hour or two before it was due", lambda: tuner.received)
                assert sidecar.faults == []
                return told

        told = await asyncio.to_thread(calls)
        assert len(tuner.received) == 1
        assert len(set(tuner.attempts)) == 1
    assert (told["reason"], told["status"]) == ("completed", 200)
    lasted = datetime.fromisoformat(told["ended_at"]) - datetime.fromisoformat(told["answered_at"])
    assert lasted.total_seconds() == pytest.approx(HOLD_MS / 1000, abs=1.5)


async def _report(url: str, call_id: str) -> None:
    body = json.dumps(report("r1", sip_call_id=call_id))
    path = f"{url}/api/v1/public/call?workspace_id=7&agent_remote_identifier=agent-1"
    async with aiohttp.ClientSession() as http, http.post(path, data=body, headers={"Authorization": "Bearer tr_api_test"}) as answer:
        assert answer.status in (200, 201)
