"""Listening in, from an offer of a real WebRTC peer to the audio that it hears; the sidecar is a stand-in that tells a tone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aioice.ice
import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from control.listening import peers
from tests.core.control.traces import Trace
from tests.shell.control.kit import Client, control, settings, until
from tests.shell.control.test_fleet import BOTH_ON_POSTGRESQL, NOWHERE, Host, is_connected, sidecar

RATE, LEFT_HZ, RIGHT_HZ = 8000, 440, 1250


@dataclass
class Telling(Host):
    """Tells a call that is a tone of its own from each party, five pieces a second, until `over` is set."""

    over: asyncio.Event = field(default_factory=asyncio.Event)
    listening: int = 0

    def listen(self, call: str, by: str) -> AsyncIterator[bytes] | None:
        return self.tell() if call == "c1" else None

    async def tell(self) -> AsyncIterator[bytes]:
        self.listening += 1
        try:
            yield b""
            at = 0
            while not self.over.is_set():
                yield tones(at, RATE // 5)
                at += RATE // 5
                await asyncio.sleep(0.2)
        finally:
            self.listening -= 1


def tones(start: int, count: int) -> bytes:
    time = np.arange(start, start + count) / RATE
    both = [np.sin(2 * np.pi * hertz * time) * 8000 for hertz in (LEFT_HZ, RIGHT_HZ)]
    return np.stack(both, axis=1).astype("<i2").tobytes()


@pytest.fixture(autouse=True)
def _on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers of one process meet on the loopback; otherwise ICE leaves it out."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda *_, **__: ["127.0.0.1"])


@asynccontextmanager
async def browser() -> AsyncIterator[RTCPeerConnection]:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        yield peer
    finally:
        await peer.close()


async def offer(peer: RTCPeerConnection) -> dict[str, str]:
    peer.addTransceiver("audio", direction="recvonly")
    await peer.setLocalDescription(await peer.createOffer())
    return {"sdp": peer.localDescription.sdp}


async def join(client: Client, peer: RTCPeerConnection) -> Any:
    answer = await client.post("/v1/calls/c1/listen", await offer(peer))
    await peer.setRemoteDescription(RTCSessionDescription(sdp=answer["sdp"], type="answer"))
    return answer


def strongest(samples: np.ndarray[Any, Any], rate: int) -> float:
    """The frequency that is heard."""
    return float(np.fft.rfftfreq(len(samples), 1 / rate)[np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax()])


async def heard(peer: RTCPeerConnection) -> tuple[float, float]:
    """What the left and the right ear hear, once sound has come."""
    track = peer.getReceivers()[0].track
    kept: list[np.ndarray[Any, Any]] = []
    rate = 0
    while len(kept) < 25:
        frame = await asyncio.wait_for(track.recv(), 10)
        rate = frame.sample_rate
        sound = frame.to_ndarray().reshape(-1, 2)
        if kept or np.abs(sound).max() > 2000:
            kept.append(sound)
    both = np.concatenate(kept[5:])
    return strongest(both[:, 0], rate), strongest(both[:, 1], rate)


async def test_a_browser_hears_the_caller_left_and_the_agent_right_until_it_leaves(tmp_path: Path) -> None:
    host = Telling()
    async with control(settings(tmp_path, NOWHERE)) as client, sidecar(client.url, host):
        await until(lambda: is_connected(client))
        await client.facts(*Trace("c1", "SCL_abc").facts)
        async with browser() as peer:
            answer = await join(client, peer)
            assert (answer["call"], answer["sidecar"]) == ("c1", "edge-1")
            assert "a=sendonly" in answer["sdp"]
            left, right = await heard(peer)
            assert (abs(left - LEFT_HZ) < 10, abs(right - RIGHT_HZ) < 10) == (True, True), (left, right)
            assert host.listening == 1
        await until(lambda: host.listening == 0)
        entries = (await client.get("/v1/audit?action=call.listen"))["entries"]
        assert [entry["target"] for entry in entries] == ["c1"]


async def test_it_ends_with_the_call(tmp_path: Path) -> None:
    host = Telling()
    async with control(settings(tmp_path, NOWHERE)) as client, sidecar(client.url, host):
        await until(lambda: is_connected(client))
        await client.facts(*Trace("c1", "SCL_abc").facts)
        async with browser() as peer:
            await join(client, peer)
            await until(lambda: peer.connectionState == "connected")
            host.over.set()
            await until(lambda: peer.connectionState == "closed")


@BOTH_ON_POSTGRESQL
async def test_the_sidecar_may_be_connected_to_another_replica(tmp_path: Path) -> None:
    host, config = Telling(), settings(tmp_path, NOWHERE)
    async with control(config) as here, control(config) as there, sidecar(there.url, host):
        await until(lambda: is_connected(here))
        await here.facts(*Trace("c1", "SCL_abc").facts)
        async with browser() as peer:
            await join(here, peer)
            left, right = await heard(peer)
            assert (abs(left - LEFT_HZ) < 10, abs(right - RIGHT_HZ) < 10) == (True, True), (left, right)
        await until(lambda: host.listening == 0)


async def test_what_cannot_be_heard_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Telling()
    async with control(settings(tmp_path, NOWHERE)) as client, browser() as peer:
        told = Trace("c1", "SCL_abc")
        await client.facts(*told.facts, *Trace("c2", "SCL_def", token=None).facts)
        asked = await offer(peer)
        assert "is not connected" in (await client.post("/v1/calls/c1/listen", asked, status=409))["detail"]
        async with sidecar(client.url, host):
            await until(lambda: is_connected(client))
            assert "sdp" in (await client.post("/v1/calls/c1/listen", {}, status=422))["detail"]
            for sdp in ("nonsense", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n", "\r\n" * 100):
                assert "WebRTC offer" in (await client.post("/v1/calls/c1/listen", {"sdp": sdp}, status=422))["detail"]
            await until(lambda: host.listening == 0)
            assert "not live" in (await client.post("/v1/calls/c2/listen", asked, status=409))["detail"]
            await client.post("/v1/calls/nobody/listen", asked, status=404)
            with monkeypatch.context() as patch:
                patch.setattr(peers, "MOST", 0)
                assert "as many as may" in (await client.post("/v1/calls/c1/listen", asked, status=409))["detail"]
            await client.facts(*told.answered().ended().facts)
            assert "ended already" in (await client.post("/v1/calls/c1/listen", asked, status=409))["detail"]


async def test_it_can_be_switched_off_and_tells_browsers_their_servers(tmp_path: Path) -> None:
    turn = {"urls": ["turn:turn.example:3478"], "username": "trunkside", "credential": "word"}
    async with control(settings(tmp_path, NOWHERE, listen_in={"ice_servers": [turn]})) as client:
        assert await client.get("/v1/listening") == {"ice_servers": [turn]}
    async with control(settings(tmp_path, NOWHERE, listen_in={"enabled": False})) as client:
        assert "listen_in.enabled" in (await client.get("/v1/listening", status=409))["detail"]
        assert "listen_in.enabled" in (await client.post("/v1/calls/c1/listen", {"sdp": "x"}, status=409))["detail"]
