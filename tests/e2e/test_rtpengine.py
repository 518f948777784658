"""Media by rtpengine: the same call at the end, and what is said when an instance dies in a call."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from sidecar.lab.agent import Agent
from sidecar.lab.evaluator import Evaluator
from sidecar.lab.script import AgentScript, Answer, CallerScript, HangUp, Say
from sidecar.lab.truth import truth
from tests.support.product import free_port, get_json, loopback, running, until
from tests.support.rtpengine import Rtpengine, rtpengine
from tests.support.sipp import Sipp

pytestmark = pytest.mark.peer

ASKS = CallerScript(steps=(Say("caller_yes"), HangUp(0.1)), patience_s=5.0)
ANSWERS = AgentScript(greeting="caller_yes", greeting_after_s=0.2, answers=(Answer("caller_yes", 0.6),), ring_s=0.0)


def sidecar_settings(host: str, target: str, api: str, *relays: Rtpengine) -> dict[str, Any]:
    return {
        "sip": {"listen": [f"udp://{host}:0"]},
        "routes": [{"name": "agent", "target": target}],
        "media": {"engine": "rtpengine", "rtpengine": {"servers": [relay.server for relay in relays], "ping_s": 0.5, "timeout_s": 0.4}},
        "control": {"url": api},
        "spool": {"path": "spool"},
        "admin": {"listen": f"{host}:0"},
        "drain": {"deadline_s": 1, "goodbye_s": 1, "flush_s": 1},
    }


async def test_a_call_by_rtpengine_is_measured_as_one_by_the_sidecar(tmp_path: Path) -> None:
    host, agent, evaluator = loopback(), Agent(ANSWERS), Evaluator(ASKS)
    api_port = free_port(host, socket.SOCK_STREAM)
    api = f"http://{host}:{api_port}"
    control = {"listen": f"{host}:{api_port}", "database": "sqlite+aiosqlite:///control.db"}
    with rtpengine(tmp_path / "relay", loopback()) as relay:
        async with asyncio.TaskGroup() as tasks:
            await agent.start(tasks)
            await evaluator.start()
            settings = sidecar_settings(host, "sip:agent@{}:{}".format(*agent.ua.address), api, relay)
            with running("control", tmp_path / "control", control), running("sidecar", tmp_path / "sidecar", settings) as sidecar:
                sip = sidecar.event("ready")["sip"][0].removeprefix("udp://")
                simulation = await evaluator.simulate(f"sip:agent@{sip}")
                assert simulation.call is not None
                conversation = agent.conversations[-1]
                await asyncio.wait_for(conversation.done.wait(), 5)
                true = truth(simulation.call.answered, simulation.voice.speech(), conversation.voice.speech())
                calls = await asyncio.to_thread(
                    until, "the call", lambda: [c for c in get_json(f"{api}/v1/calls")["calls"] if c["complete"]]
                )
                messages = get_json(f"{api}/v1/calls/{calls[0]['id']}/messages")["messages"]
                assert relay.calls == []
                assert sidecar.faults == []
            await evaluator.stop()
            await agent.stop()
    call = calls[0]
    assert (call["status"], call["reason"]) == (200, "completed")
    assert [turn["response_latency_ms"] for turn in call["turns"]] == pytest.approx(true.response_latency_ms, abs=40)
    for party in ("caller", "agent"):
        stream = call["media"][party]
        assert (stream["codec"], stream["analysed"], stream["lost"]) == ("PCMU", True, 0)
        assert stream["packets"] > 100
    assert (call["media"]["tap_dropped"], call["media"]["refused"], call["media"]["findings"]) == (0, 0, [])
    left = [m["text"] for m in messages if m["direction"] == "out" and "m=audio" in m["text"]]
    assert len(left) == 2
    assert all(f"c=IN IP4 {relay.host}" in text for text in left), "both parties send to the relay"


def test_an_instance_that_dies_is_told_in_its_call_and_the_next_call_goes_by_another(tmp_path: Path) -> None:
    host, edge, caller = loopback(), loopback(), loopback()
    edge_port, api_port = free_port(edge), free_port(host, socket.SOCK_STREAM)
    api = f"http://{host}:{api_port}"
    control = {"listen": f"{host}:{api_port}", "database": "sqlite+aiosqlite:///control.db"}
    with rtpengine(tmp_path / "1", loopback()) as one, rtpengine(tmp_path / "2", loopback()) as two:
        settings = sidecar_settings(host, f"sip:agent@{edge}:{edge_port}", api, one, two)
        with running("control", tmp_path / "control", control), running("sidecar", tmp_path / "sidecar", settings) as sidecar:
            ready = sidecar.event("ready")
            sip = ready["sip"][0].removeprefix("udp://")
            agent = Sipp("agent", tmp_path, edge, edge_port, calls=2)
            dialler = Sipp(
                "caller",
                tmp_path,
                caller,
                free_port(caller),
                calls=2,
                options=["-s", "agent", "-r", "1", "-rp", "2000", "-d", "2500"],
                target=sip,
            )
            try:
                first = until("a call in a relay", lambda: one.calls or two.calls)[0]
                dying, other = (one, two) if one.calls else (two, one)
                until("both copies", lambda: all(_copied(ready["admin"]).values()))
                dying.kill()
                until("the second call in the other relay", lambda: other.calls)
                assert (
                    get_json(ready["admin"] + "/v1/state")["media_relays"][0]["up"]
                    != get_json(ready["admin"] + "/v1/state")["media_relays"][1]["up"]
                )
                assert dialler.wait(20).successful == 2
            finally:
                dialler.stop()
                agent.stop()
            told = until("both traces", lambda: (f := [c for c in get_json(f"{api}/v1/calls")["calls"] if c["complete"]])[1:] and f)
    by_id = {call["id"]: call for call in told}
    found = by_id[first]["verdict"]["findings"]
    assert [finding["name"] for finding in found] == ["media_relay_lost"]
    assert found[0]["detail"].startswith(f"media relay {dying.server} does not answer any more")
    assert by_id[first]["media"]["caller"]["packets"] > 0, "what was heard before counts"
    (second,) = [call for call in told if call["id"] != first]
    assert (second["verdict"]["findings"], second["media"]["caller"]["lost"]) == ([], 0)
    assert second["media"]["agent"]["packets"] == 75


def _copied(admin: str) -> dict[str, int]:
    calls = get_json(f"{admin}/v1/calls")["calls"]
    copied: dict[str, int] = calls[0]["details"]["media"]["copied"] if calls else {"A": 0}
    return copied or {"A": 0}
