"""A recorded call: both halves as processes, real speech between the stand-ins, and the file that control gives out."""

from __future__ import annotations

import asyncio
import hashlib
import io
import socket
import wave
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest

from sidecar.lab.agent import Agent
from sidecar.lab.evaluator import Evaluator
from sidecar.lab.script import AgentScript, CallerScript
from sidecar.lab.truth import truth
from tests.support.product import free_port, get_json, loopback, running, until


def fetched(url: str, part: str | None = None) -> bytes:
    with urlopen(Request(url, headers={"Range": part} if part else {}), timeout=10) as response:
        content: bytes = response.read()
    return content


@pytest.mark.peer
async def test_a_recorded_call_is_heard_where_its_turns_say(tmp_path: Path) -> None:
    host, agent, evaluator = loopback(), Agent(AgentScript()), Evaluator(CallerScript())
    api_port = free_port(host, socket.SOCK_STREAM)
    api = f"http://{host}:{api_port}"
    async with asyncio.TaskGroup() as tasks:
        await agent.start(tasks)
        await evaluator.start()
        edge = "{}:{}".format(*agent.ua.address)
        settings: dict[str, Any] = {
            "sip": {"listen": [f"udp://{host}:0"]},
            "routes": [{"name": "agent", "target": f"sip:agent@{edge}", "record": True}],
            "control": {"url": api},
            "spool": {"path": "spool"},
            "recordings": {"path": "recordings"},
            "admin": {"listen": f"{host}:0"},
        }
        control = {"listen": f"{host}:{api_port}", "database": "sqlite+aiosqlite:///control.db", "recordings": {"path": "kept"}}
        with running("control", tmp_path / "control", control), running("sidecar", tmp_path / "sidecar", settings) as sidecar:
            sip = sidecar.event("ready")["sip"][0].removeprefix("udp://")
            simulation = await evaluator.simulate(f"sip:agent@{sip}")
            assert simulation.call is not None
            conversation = agent.conversations[-1]
            await asyncio.wait_for(conversation.done.wait(), 5)
            true = truth(simulation.call.answered, simulation.voice.speech(), conversation.voice.speech())
            calls = await asyncio.to_thread(until, "the call", lambda: [c for c in get_json(f"{api}/v1/calls")["calls"] if c["complete"]])
            call = calls[0]
            kept = tmp_path / "control" / "kept" / f"{call['id']}.wav"
            await asyncio.to_thread(until, "the recording", kept.exists)
            whole = await asyncio.to_thread(fetched, f"{api}/v1/calls/{call['id']}/recording")
            part = await asyncio.to_thread(fetched, f"{api}/v1/calls/{call['id']}/recording", "bytes=44-1043")
            await asyncio.to_thread(
                until, "an empty folder", lambda: not list((tmp_path / "sidecar" / "recordings" / "outgoing").iterdir())
            )
            assert sidecar.faults == []
        await evaluator.stop()
        await agent.stop()
    told = call["media"]["recording"]
    assert (told["sha256"], told["bytes"], told["cut"]) == (hashlib.sha256(whole).hexdigest(), len(whole), False)
    assert part == whole[44:1044]
    with wave.open(io.BytesIO(whole)) as wav:
        heard = np.abs(np.frombuffer(wav.readframes(wav.getnframes()), "<i2").reshape(-1, 2)) / 32768
    assert len(heard) / 8000 == pytest.approx(told["seconds"], abs=0.001)
    responses = [turn for turn in call["turns"] if turn["kind"] == "response"]
    assert [turn["response_latency_ms"] for turn in responses] == pytest.approx(true.response_latency_ms, abs=40)
    for turn in responses:
        start, end = (round(turn[name] * 8) for name in ("agent_start_ms", "caller_end_ms"))
        assert heard[start : start + 1600, 1].max() > 0.02, "the agent begins here, on the right"
        assert heard[end - 1600 : end, 0].max() > 0.02, "the caller has just spoken, on the left"
        assert heard[end + 800 : start - 160].max(initial=0.0) < 0.02, "nobody in between"
