"""baresip insists on SRTP, the agent knows none: the sidecar ends it, hears both, and shows no key.

Three of them call at a time: one with keys in its description (SDES), one with those of a DTLS handshake, and one with SDES a fourth one
that insists on DTLS.
"""

from __future__ import annotations

import asyncio
import re
import socket
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest

from sidecar.lab.agent import Agent
from sidecar.lab.script import AgentScript
from tests.support.product import free_port, get_json, loopback, running, until
from tests.support.tools import run

MODULES = ("account", "menu", "g711", "aufile", "aubridge", "uuid")
SDES, DTLS = ("srtp", "srtp-mand"), ("dtls_srtp", "dtls_srtp")
"""baresip's module, and what its account says of media encryption."""
WAYS = {"sdes": SDES, "dtls": DTLS, "both": SDES, "robot": DTLS}
"""By baresip's user. The last one is called, by `both`."""
CONFIG = """
poll_method epoll
sip_listen {host}:{port}
rtp_ports 10000-20000
call_local_timeout 20
audio_source aufile,{tone}
audio_player aubridge,unheard
module_path {modules}
"""


def folder(tmp_path: Path, host: str, modules: Path, user: str, port: int = 0) -> Path:
    """What baresip reads at its start."""
    home = tmp_path / f"baresip-{user}"
    module, encryption = WAYS[user]
    home.mkdir()
    tone = home / "tone.wav"
    with wave.open(str(tone), "wb") as wav:
        wav.setparams((1, 2, 8000, 0, "NONE", ""))
        wav.writeframes((8000 * np.sin(2 * np.pi * 440 / 8000 * np.arange(20 * 8000))).astype("<i2").tobytes())
    text = CONFIG.format(host=host, port=port or free_port(host), modules=modules, tone=tone)
    (home / "config").write_text(text + "".join(f"module{'_app' if m in ('account', 'menu') else ''} {m}.so\n" for m in (*MODULES, module)))
    (home / "accounts").write_text(f"<sip:{user}@{host};transport=udp>;regint=0;answermode=auto;mediaenc={encryption};audio_codecs=PCMU\n")
    (home / "contacts").write_text("")
    return home


@pytest.mark.peer
async def test_srtp_of_baresip_ends_at_the_sidecar(tmp_path: Path) -> None:
    host, agent = loopback(), Agent(AgentScript())
    api_port = free_port(host, socket.SOCK_STREAM)
    api = f"http://{host}:{api_port}"
    modules, robot_port = next(Path("/usr/lib").glob("**/baresip/modules")), free_port("127.0.0.1")
    async with asyncio.TaskGroup() as tasks:
        await agent.start(tasks)
        settings: dict[str, Any] = {
            "sip": {"listen": [f"udp://{host}:0"]},
            "media": {"record": True, "capture": True},
            "routes": [
                {"name": "robot", "match": {"user": "robot"}, "target": f"sip:robot@127.0.0.1:{robot_port}", "srtp": "dtls"},
                {"name": "agent", "target": "sip:agent@{}:{}".format(*agent.ua.address), "srtp": "plain"},
            ],
            "control": {"url": api},
            "spool": {"path": "spool"},
            "recordings": {"path": "recordings"},
            "admin": {"listen": f"{host}:0"},
        }
        control = {"listen": f"{host}:{api_port}", "database": "sqlite+aiosqlite:///control.db", "recordings": {"path": "kept"}}
        with running("control", tmp_path / "control", control), running("sidecar", tmp_path / "sidecar", settings) as sidecar:
            sip = sidecar.event("ready")["sip"][0].removeprefix("udp://")
            robot = await baresip(folder(tmp_path, "127.0.0.1", modules, "robot", robot_port), "-t", "25")
            called = await asyncio.gather(*(call_by(user, tmp_path, modules, sip, api) for user in ("sdes", "dtls", "both")))
            robot.terminate()
            await robot.communicate()
            assert sidecar.faults == []
        await agent.stop()
    for each in called:
        check(each, sip)


@dataclass
class Called:
    """A call of one baresip: what it printed, and what control has of it."""

    user: str
    said: str
    call: dict[str, Any]
    messages: list[dict[str, Any]]
    recording: Path
    capture: Path


async def baresip(home: Path, *arguments: str) -> asyncio.subprocess.Process:
    """One that runs."""
    return await asyncio.create_subprocess_exec(
        *("baresip", "-f", str(home), *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def call_by(user: str, tmp_path: Path, modules: Path, sip: str, api: str) -> Called:
    """One call and its files."""
    target = "robot" if user == "both" else "agent"
    phone = await baresip(folder(tmp_path, "127.0.0.1", modules, user), "-t", "8", "-e", f"d sip:{target}@{sip}")
    said = (await asyncio.wait_for(phone.communicate(), 40))[0].decode("utf-8", "replace")

    def over() -> list[dict[str, Any]]:
        return [call for call in get_json(f"{api}/v1/calls")["calls"] if call["complete"] and f"sip:{user}@" in call["from"]]

    call = (await asyncio.to_thread(until, said, over))[0]
    messages = get_json(f"{api}/v1/calls/{call['id']}/messages")["messages"]
    kept = tmp_path / "control" / "kept" / f"{call['id']}.wav"
    await asyncio.to_thread(until, "the recording", kept.exists)
    await asyncio.to_thread(until, "the capture", kept.with_suffix(".pcap").exists)
    capture = tmp_path / f"{user}.pcap"
    with urlopen(f"{api}/v1/calls/{call['id']}/pcap", timeout=10) as answer:
        capture.write_bytes(answer.read())
    return Called(user, said, call, messages, kept, capture)


def check(called: Called, sip: str) -> None:
    """Heard in the clear on both sides, and no key anywhere."""
    call, said, messages = called.call, called.said, called.messages
    assert call["status"] == 200, said
    caller, spoken = call["media"]["caller"], call["media"]["agent"]
    assert (caller["codec"], caller["analysed"], caller["lost"]) == ("PCMU", True, 0), said
    assert min(caller["packets"], spoken["packets"]) > 100
    assert "SRTP is Enabled" in said if called.user != "dtls" else "DTLS-SRTP complete" in said, said
    assert "incoming rtp for 'audio' established" in said, "what the agent says is opened by baresip"
    with wave.open(str(called.recording)) as wav:
        left = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").reshape(-1, 2)[8000:24000, 0].astype(float)
    spectrum = np.abs(np.fft.rfft(left * np.hanning(len(left))))
    assert spectrum.argmax() * 8000 / len(left) == pytest.approx(440, abs=2), "its tone in the clear"
    offer = next(m["text"] for m in messages if m["text"].startswith("INVITE"))
    assert ("RTP/SAVP" in offer and "inline:redacted" in offer) if called.user != "dtls" else "UDP/TLS/RTP/SAVP" in offer
    assert not [m for m in messages if re.search(r"inline:(?!redacted)", m["text"])]
    offered = "UDP/TLS/RTP/SAVPF " if called.user == "both" else "RTP/AVP "
    assert any(offered in m["text"] and m["text"].startswith("INVITE") and m["leg"] == "B" for m in messages), "what the agent was offered"
    # What was sent as SRTP stands in the capture in the clear, says so, and Wireshark follows it.
    assert (call["media"]["capture"]["decrypted"], call["media"]["capture"]["cut"]) == (
        ["caller", "agent"] if called.user == "both" else ["caller"],
        False,
    )
    streams = run("tshark", "-r", str(called.capture), "-d", f"udp.port=={sip.rpartition(':')[2]},sip", "-q", "-z", "rtp,streams")
    lines = [line.split() for line in streams.splitlines() if "0x" in line]
    # baresip may name another address of its host than it sends from: what is sent before it has spoken goes there.
    assert len({(line[3], line[5], line[6]) for line in lines}) == 4, streams
    assert all("g711U" in line for line in lines), streams
    assert all(line[line.index("g711U") + 2] == "0" for line in lines), "nothing lost"
