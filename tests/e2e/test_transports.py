"""SIPp on both sides, on every transport and address family that it speaks: each leg on its own, audio through, nothing left behind."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.product import Product, free_port, get_json, loopback, running, until
from tests.support.sipp import SPEECH_PACKETS, Figures, Sipp

pytestmark = pytest.mark.peer

HOLD_MS = 2000
KIND = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}
SIPP = {"udp": "u1", "tcp": "t1"}


@dataclass(frozen=True)
class Leg:
    """One leg's transport and address family."""

    transport: str
    family: str

    def host(self) -> str:
        return loopback() if self.family == "v4" else "::1"

    def __str__(self) -> str:
        return f"{self.transport}-{self.family}"


def shown(host: str, port: int) -> str:
    """host:port as a URI has it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


LEGS = [Leg("udp", "v4"), Leg("tcp", "v4"), Leg("udp", "v6"), Leg("tcp", "v6")]


@pytest.mark.parametrize("a", LEGS, ids=str)
@pytest.mark.parametrize("b", LEGS, ids=str)
@pytest.mark.parametrize(("caller", "agent"), [("caller", "agent"), ("caller-hung-up-on", "agent-hangs-up")])
def test_a_call_crosses_from_any_transport_and_family_to_any(tmp_path: Path, a: Leg, b: Leg, caller: str, agent: str) -> None:
    with ExitStack() as stack:
        near, far = a.host(), b.host()
        caller_host, edge_host = a.host(), b.host()
        edge_port = free_port(edge_host, KIND[b.transport])
        listen = dict.fromkeys([f"{a.transport}://{shown(near, free_port(near, KIND[a.transport]))}"])
        if b != a:
            listen[f"{b.transport}://{shown(far, free_port(far, KIND[b.transport]))}"] = None
        settings = {
            "sip": {"listen": list(listen)},
            "callers": {"trusted": ["127.0.0.0/8", "::1/128"]},
            "routes": [{"name": "agent", "target": f"sip:agent@{shown(edge_host, edge_port)};transport={b.transport}"}],
            "control": {"url": "http://127.0.0.1:9"},
            "spool": {"path": "spool"},
            "admin": {"listen": "127.0.0.1:0"},
            "drain": {"deadline_s": 1, "goodbye_s": 1, "flush_s": 0},
        }
        sidecar = stack.enter_context(running("sidecar", tmp_path / "sidecar", settings))
        sip = sidecar.event("ready")["sip"][0].partition("://")[2]
        edge = Sipp(agent, tmp_path, edge_host, edge_port, calls=5, options=["-d", str(HOLD_MS), "-t", SIPP[b.transport]])
        stack.callback(edge.stop)
        options = ["-r", "10", "-s", "agent", "-d", str(HOLD_MS), "-t", SIPP[a.transport]]
        port = free_port(caller_host, KIND[a.transport])
        dialler = Sipp(caller, tmp_path, caller_host, port, calls=5, options=options, target=sip)
        stack.callback(dialler.stop)

        assert (dialler.wait(25), edge.wait(5)) == (clean(5), clean(5)), (dialler.errors(), edge.errors())
        quiet(sidecar)
        media_crossed(tmp_path, calls=5)
        assert sidecar.faults == []


def clean(calls: int) -> Figures:
    """Every call well, nothing sent twice."""
    return Figures(successful=calls, failed=0, retransmissions=0, unexpected=0, causes=())


def quiet(sidecar: Product) -> None:
    """Wait until no call is left and its figures are written."""
    admin = sidecar.event("ready")["admin"]
    until(
        "no live call",
        lambda: get_json(f"{admin}/v1/calls")["calls"] == [] and get_json(f"{admin}/v1/state")["reporter"]["spool"]["open"] == 0,
    )


def media_crossed(folder: Path, calls: int) -> None:
    """Every packet of both sides arrived and left."""
    media = [trace[-2]["media"] for trace in traces(folder)]
    assert len(media) == calls
    for item in media:
        for side in ("caller", "agent"):
            assert (item[side]["packets"], item[side]["lost"]) == (SPEECH_PACKETS, 0)


def traces(folder: Path) -> list[list[dict[str, Any]]]:
    """The facts of each call, from the sidecar's spool."""
    files = (folder / "sidecar" / "spool").glob("*.jsonl")
    return [[json.loads(text) for text in file.read_text().splitlines()] for file in files]
