"""Recorded calls: both halves as processes, real speech between the stand-ins, and the files that control gives out.

Two calls at a time: one as WAV whose route captures packets as well, one as Opus in Ogg whose packets are kept because somebody asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import av
import numpy as np
import pytest

from sidecar.lab.agent import Agent
from sidecar.lab.evaluator import Evaluator, Simulation
from sidecar.lab.rtp import RtpParty
from sidecar.lab.script import AgentScript, CallerScript
from sidecar.lab.truth import Truth, truth
from tests.support.product import free_port, get_json, loopback, running, until
from tests.support.tools import run


def fetched(url: str, part: str | None = None) -> bytes:
    with urlopen(Request(url, headers={"Range": part} if part else {}), timeout=10) as response:
        content: bytes = response.read()
    return content


@dataclass
class Lived:
    """One call: as it really was, as control tells it, and what control gives out."""

    simulation: Simulation
    agent: RtpParty
    true: Truth
    call: dict[str, Any]
    audio: bytes
    capture: Path


@dataclass
class Both:
    """The product with its stand-ins, for the time of two calls."""

    folder: Path
    host: str = field(default_factory=loopback)
    agents: dict[str, Agent] = field(default_factory=dict)

    async def call(self, user: str, sip: str, api: str, *, ask: bool) -> Lived:
        """One call, and what is left of it; with `ask`, capture is asked for once it is up."""
        evaluator, agent = Evaluator(CallerScript()), self.agents[user]
        await evaluator.start()
        simulating = asyncio.create_task(evaluator.simulate(f"sip:{user}@{sip}"))
        if ask:
            live = await asyncio.to_thread(until, "a live call", lambda: [c for c in calls_of(api, user) if c["answered_at"]])
            await asyncio.to_thread(urlopen, Request(f"{api}/v1/calls/{live[0]['id']}/capture", method="POST"), timeout=10)
        simulation = await simulating
        assert simulation.call is not None
        conversation = agent.conversations[-1]
        await asyncio.wait_for(conversation.done.wait(), 5)
        true = truth(simulation.call.answered, simulation.voice.speech(), conversation.voice.speech())
        call = (await asyncio.to_thread(until, "the call", lambda: [c for c in calls_of(api, user) if c["complete"]]))[0]
        outgoing = self.folder / "sidecar" / "recordings" / "outgoing"
        await asyncio.to_thread(until, "nothing left to bring", lambda: not list(outgoing.glob(f"{call['id']}.*")))
        audio = await asyncio.to_thread(fetched, f"{api}/v1/calls/{call['id']}/recording")
        capture = self.folder / f"{user}.pcap"
        capture.write_bytes(await asyncio.to_thread(fetched, f"{api}/v1/calls/{call['id']}/pcap"))
        await evaluator.stop()
        return Lived(simulation, conversation.voice, true, call, audio, capture)


def calls_of(api: str, route: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get_json(f"{api}/v1/calls?route={route}")["calls"]
    return found


@pytest.mark.peer
async def test_recorded_and_captured_calls_are_heard_and_seen_where_their_turns_say(tmp_path: Path) -> None:
    both = Both(tmp_path)
    api_port = free_port(both.host, socket.SOCK_STREAM)
    api = f"http://{both.host}:{api_port}"
    async with asyncio.TaskGroup() as tasks:
        for user in ("wav", "ogg"):
            both.agents[user] = Agent(AgentScript())
            await both.agents[user].start(tasks)
        kept = {"wav": {"record": True, "capture": True}, "ogg": {"record": "ogg"}}
        targets = {user: "sip:{}@{}:{}".format(user, *agent.ua.address) for user, agent in both.agents.items()}
        settings: dict[str, Any] = {
            "sip": {"listen": [f"udp://{both.host}:0"]},
            "routes": [{"name": user, "match": {"user": user}, "target": targets[user], **wanted} for user, wanted in kept.items()],
            "control": {"url": api},
            "spool": {"path": "spool"},
            "recordings": {"path": "recordings"},
            "admin": {"listen": f"{both.host}:0"},
        }
        control = {"listen": f"{both.host}:{api_port}", "database": "sqlite+aiosqlite:///control.db", "recordings": {"path": "kept"}}
        with running("control", tmp_path / "control", control), running("sidecar", tmp_path / "sidecar", settings) as sidecar:
            sip = sidecar.event("ready")["sip"][0].removeprefix("udp://")
            lived = await asyncio.gather(*(both.call(user, sip, api, ask=user == "ogg") for user in kept))
            part = await asyncio.to_thread(fetched, f"{api}/v1/calls/{lived[0].call['id']}/recording", "bytes=44-1043")
            assert sidecar.faults == []
        for agent in both.agents.values():
            await agent.stop()
    assert part == lived[0].audio[44:1044]
    for each, form in zip(lived, kept, strict=True):
        check_recording(each, form)
        check_capture(each, sip, from_the_start=form == "wav")


def check_recording(each: Lived, form: str) -> None:
    """Both parties are heard where the turns say, and the turns are where they really were."""
    told, call = each.call["media"]["recording"], each.call
    assert (told["format"], told["bytes"], told["cut"]) == (form, len(each.audio), False)
    assert told["sha256"] == hashlib.sha256(each.audio).hexdigest()
    with av.open(io.BytesIO(each.audio)) as container:
        resampler = av.AudioResampler("fltp", "stereo", 8000)
        frames = [out.to_ndarray() for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        frames += [out.to_ndarray() for out in resampler.resample(None)]
    heard = np.abs(np.concatenate(frames, axis=1).T)
    assert len(heard) / 8000 == pytest.approx(told["seconds"], abs=0.005)
    responses = [turn for turn in call["turns"] if turn["kind"] == "response"]
    assert [turn["response_latency_ms"] for turn in responses] == pytest.approx(each.true.response_latency_ms, abs=40)
    for turn in responses:
        start, end = (round(turn[name] * 8) for name in ("agent_start_ms", "caller_end_ms"))
        assert heard[start : start + 1600, 1].max() > 0.02, "the agent begins here, on the right"
        assert heard[end - 1600 : end, 0].max() > 0.02, "the caller has just spoken, on the left"
        assert heard[end + 800 : start - 160].max(initial=0.0) < 0.02, "nobody in between"


def check_capture(each: Lived, sip: str, *, from_the_start: bool) -> None:
    """Wireshark's own dissectors follow SIP and all four streams, each with the addresses that it really had."""
    sip_port = ("-d", f"udp.port=={sip.rpartition(':')[2]},sip")
    told = each.call["media"]["capture"]
    assert (told["cut"], told["dropped"], told["decrypted"]) == (False, 0, [])
    rows = tshark_rows(
        each.capture, *sip_port, "-Y", "rtp", fields=("ip.src", "udp.srcport", "ip.dst", "udp.dstport", "rtp.ssrc", "rtp.seq")
    )
    streams: dict[tuple[str, ...], list[int]] = {}
    for *way, sequence in rows:
        streams.setdefault(tuple(way), []).append(int(sequence))
    parties = [("{}:{}".format(*voice.address), f"0x{voice.ssrc:08x}") for voice in (each.simulation.voice, each.agent)]
    seen = {(f"{way[0]}:{way[1]}", f"{way[2]}:{way[3]}", way[4]) for way in streams}
    for (source, ssrc), (other, _) in (parties, parties[::-1]):
        inward, outward = (
            [(a, b) for a, b, c in seen if c == ssrc and a == source],
            [(a, b) for a, b, c in seen if c == ssrc and a != source],
        )
        assert (len(inward), len(outward)) == (1, 1), seen
        assert outward[0][1] == other, "the copy that left went to the other party"
    assert len(seen) == 4
    for numbers in streams.values():
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "in order, none missing"
    assert 2 * told["packets"] == sum(len(numbers) for numbers in streams.values()), "each packet twice"
    broken = "_ws.malformed || ip.checksum.status == Bad || udp.checksum.status == Bad || frame.time_delta < 0"
    checks = ("-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE")
    assert tshark_rows(each.capture, *sip_port, *checks, "-Y", broken, fields=("frame.number",)) == []
    assert tshark_rows(each.capture, *sip_port, "-Y", 'sip.Method == "INVITE"', fields=("sip.Call-ID",)) != []
    if from_the_start:
        total = sum(each.call["media"][party]["packets"] for party in ("caller", "agent"))
        assert told["packets"] >= total > 500


def tshark_rows(file: Path, *arguments: str, fields: Sequence[str]) -> list[list[str]]:
    shown = [part for name in fields for part in ("-e", name)]
    return [line.split("\t") for line in run("tshark", "-r", str(file), *arguments, "-T", "fields", *shown).splitlines()]
