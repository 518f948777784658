"""Figures of calls as they really run, over UDP through a sidecar, against the measurement of the same packets in place."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from control.contract.call import RelayDelay, Turn
from sidecar.analysis.silero import Silero
from sidecar.clocks import Mono
from sidecar.media.codec import STATIC
from sidecar.media.tap import Tapped
from sidecar.speech.neural import Bench
from sidecar.turns.measurement import Measurement
from tests.support.product import loopback, running
from tests.support.speech_call import Conversation, Network, Sender, conversation, merged, voice
from tests.support.speech_codec import a_law
from tests.support.wire_call import Exchange, Party, Sent, WireCall, measured, media_of

WITHIN_MS = 5.0
ROUGH = Network(loss=0.02, jitter_ms=40.0)
CLIPS = [voice(seed, 0.5 + seed % 4 * 0.25) for seed in range(8)]
TURNS = 3
PCMU, PCMA = "0 PCMU/8000", "8 PCMA/8000"


def talk(seed: int) -> Conversation:
    return conversation(seed, TURNS, CLIPS[:4], CLIPS[4:])


def in_place(caller: Sequence[Sent], agent: Sequence[Sent], seconds: float, *, accurate: bool = False) -> list[Turn]:
    """The turns of these packets, measured here."""
    measurement = Measurement(bench=Bench(Silero()) if accurate else None)
    for leg in ("A", "B"):
        measurement.negotiated(leg, STATIC)
    measurement.answered(Mono(999.9))
    packets: list[Tapped] = [("A" if leg == "A" else "B", data, Mono(1000.0 + at)) for leg, at, data in merged(A=caller, B=agent)]
    measurement.packets(packets)
    return measurement.finish(Mono(1000.0 + seconds), tap_dropped=0, refused=0, relay_delay=RelayDelay()).turns


def latencies(turns: Sequence[Turn]) -> list[float]:
    return [turn.response_latency_ms for turn in turns]


def in_a_law(sent: Sequence[Sent], audio: np.ndarray, since: float) -> list[Sent]:
    """The packets sent from `since` seconds on, in A-law instead."""
    coded = a_law(audio)
    changed: list[Sent] = []
    for index, (at, data) in enumerate(sent):
        head = bytes([data[0], data[1] | 8]) + data[2:12]
        changed.append((at, head + coded[index * 160 : index * 160 + 160]) if at >= since else (at, data))
    return changed


async def intrude(call: WireCall, agent: Sequence[Sent], host: str) -> Party:
    """Somebody at a third address speaks in the agent's name, with its very source and the numbers that come next, all call long."""
    stranger = Party.open(host)
    target = media_of(call.agent.remote_sdp)
    for (at, data), (following, _) in pairwise(agent):
        loud = data[:12] + bytes(reversed(data[12:]))
        stranger.sock.sendto(loud, target)
        stranger.drain()
        await asyncio.sleep(following - at)
    return stranger


@pytest.mark.peer
async def test_live_figures_are_those_of_the_same_packets_measured_in_place(tmp_path: Path) -> None:
    """Four calls at once: two over a rough network, one that changes its codec, one that a stranger breaks into."""
    host = loopback()
    exchange = Exchange()
    await exchange.open(host)
    target = "sip:agent@{}:{}".format(*exchange.agent.address)
    settings: dict[str, Any] = {
        "sip": {"listen": [f"udp://{host}:0"]},
        "routes": [
            {"name": "surer", "match": {"user": "surer"}, "target": target, "detector": "accurate"},
            {"name": "agent", "target": target},
        ],
        "control": {"url": f"http://{host}:9"},
        "spool": {"path": "spool"},
        "admin": {"listen": f"{host}:0"},
    }
    rough, changing, broken = talk(23), talk(26), talk(38)
    parts = {
        "surer": [Sender(ssrc=s).packets(t.audio, 0.0, ROUGH, seed=s) for s, t in ((7, rough.caller), (8, rough.agent))],
        "rough": [Sender(ssrc=s).packets(t.audio, 0.0, ROUGH, seed=s) for s, t in ((1, rough.caller), (2, rough.agent))],
        "changing": [Sender(ssrc=s).packets(t.audio, 0.0) for s, t in ((3, changing.caller), (4, changing.agent))],
        "broken": [Sender(ssrc=s).packets(t.audio, 0.0) for s, t in ((5, broken.caller), (6, broken.agent))],
    }
    middle = changing.seconds / 2
    parts["changing"] = [in_a_law(p, t.audio, middle) for p, t in zip(parts["changing"], (changing.caller, changing.agent), strict=True)]
    with running("sidecar", tmp_path, settings) as sidecar:
        exchange.sip = sidecar.event("ready")["sip"][0].removeprefix("udp://")
        calls = {name: await exchange.place(f"{name}@test", name, PCMU, PCMA) for name in parts}
        async with asyncio.TaskGroup() as tasks:
            stranger = tasks.create_task(intrude(calls["broken"], parts["broken"][1], loopback()))
            for name, call in calls.items():
                tasks.create_task(call.play(*parts[name]))
        for call in calls.values():
            await call.end()
        live = {name: await asyncio.to_thread(measured, tmp_path / "spool", f"{name}@test") for name in parts}
    await exchange.close()
    stranger.result().sock.close()

    for name, said in (("surer", rough), ("rough", rough), ("changing", changing), ("broken", broken)):
        here = in_place(*parts[name], said.seconds, accurate=name == "surer")
        assert live[name].call.speech.detector == ("silero" if name == "surer" else "webrtc3")
        there = live[name].call.turns
        assert [turn.kind for turn in there] == [turn.kind for turn in here] == ["response"] * TURNS, name
        assert latencies(there) == pytest.approx(latencies(here), abs=WITHIN_MS), name
        shifts = [b.agent_start_ms - a.agent_start_ms for a, b in zip(here, there, strict=True)]
        assert max(shifts) - min(shifts) < WITHIN_MS, name
        if name != "surer":  # the network knows speech, and doubts how these voices of arithmetic end
            assert latencies(here) == pytest.approx(said.latencies, abs=100.0), name
        final = {turn.n: turn for turn in there}
        assert {turn.n for turn in live[name].told} <= set(final), "what was told while the call ran has stood or was corrected"
        last = {turn.n: turn for turn in live[name].told}
        assert latencies([last[n] for n in sorted(last)]) == pytest.approx(
            [final[n].response_latency_ms for n in sorted(last)], abs=WITHIN_MS
        )
    media = live["rough"].call.media
    assert (media.caller.packets, media.agent.packets) == (len(parts["rough"][0]), len(parts["rough"][1]))
    assert 0.5 < media.caller.loss_pct < 5.0
    assert media.tap_dropped == 0
    heard = live["changing"].call.media
    assert (heard.caller.lost, heard.agent.lost, heard.caller.analysed) == (0, 0, True)
    media = live["broken"].call.media
    assert (media.agent.packets, media.agent.lost, media.agent.duplicates) == (len(parts["broken"][1]), 0, 0)
    assert media.refused > 0.9 * len(parts["broken"][1])
    assert calls["broken"].parties["A"].received == len(parts["broken"][1]), "what the stranger sent reached nobody"
    assert stranger.result().received == 0


def ports_of(call: WireCall) -> set[tuple[str, int]]:
    """The sidecar's media ports of a call."""
    return {media_of(call.caller.remote_sdp), media_of(call.agent.remote_sdp)}


async def straggle(call: WireCall, sent: Sequence[Sent], seconds: float, host: str) -> None:
    """The agent of a call that is over has not noticed, and goes on for a while."""
    target, party = media_of(call.agent.remote_sdp), Party.open(host)
    for (at, data), (following, _) in pairwise(sent):
        if at > seconds:
            break
        party.sock.sendto(data, target)
        await asyncio.sleep(following - at)
    party.sock.close()


@pytest.mark.peer
async def test_a_port_in_use_again_at_once_keeps_both_calls_figures_apart(tmp_path: Path) -> None:
    """The range has room for one call, so the second gets the ports of the first while the first one's agent still sends to them."""
    host = loopback()
    exchange = Exchange()
    await exchange.open(host)
    settings: dict[str, Any] = {
        "sip": {"listen": [f"udp://{host}:0"]},
        "routes": [{"name": "agent", "target": "sip:agent@{}:{}".format(*exchange.agent.address)}],
        "media": {"ports": [30000, 30003]},
        "control": {"url": f"http://{host}:9"},
        "spool": {"path": "spool"},
        "admin": {"listen": f"{host}:0"},
    }
    said = [conversation(seed, 1, CLIPS[:1], CLIPS[4:5]) for seed in (41, 42)]
    parts = [[Sender(ssrc=s + 10 * i).packets(t.audio, 0.0) for s, t in ((1, c.caller), (2, c.agent))] for i, c in enumerate(said)]
    with running("sidecar", tmp_path, settings) as sidecar:
        exchange.sip = sidecar.event("ready")["sip"][0].removeprefix("udp://")
        first = await exchange.place("first@test", "agent", PCMU)
        await first.play(*parts[0])
        await first.end()
        second = await exchange.place("second@test", "agent", PCMU)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(straggle(first, parts[0][1], 1.0, host))
            tasks.create_task(second.play(*parts[1]))
        await second.end()
        live = [await asyncio.to_thread(measured, tmp_path / "spool", f"{name}@test") for name in ("first", "second")]
    await exchange.close()
    assert ports_of(first) == ports_of(second)
    for part, talked, shown in zip(parts, said, live, strict=True):
        here = in_place(*part, talked.seconds)
        assert len(here) == 1
        assert latencies(shown.call.turns) == pytest.approx(latencies(here), abs=WITHIN_MS)
        assert (shown.call.media.caller.lost, shown.call.media.agent.lost) == (0, 0)
    # Before a party's first packet nobody can tell it from one that sends from another port of its host.
    counted = live[1].call.media
    assert 0 <= counted.caller.packets + counted.agent.packets - len(parts[1][0]) - len(parts[1][1]) < 10
    assert counted.refused > 30
