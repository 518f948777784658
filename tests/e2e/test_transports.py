"""SIPp on both sides, on every transport and address family that it speaks: each leg on its own, audio through, nothing left behind."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.product import Product, free_port, get_json, loopback, running, until
from tests.support.sipp import SPEECH_PACKETS, Figures, Sipp

pytestmark = pytest.mark.peer

HOLD_MS = 2000
CALLS = 2
KIND = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}
SIPP = {"udp": "u1", "tcp": "t1"}


@dataclass(frozen=True)
class Side:
    """One leg's transport and address family."""

    transport: str
    family: str

    def host(self) -> str:
        return loopback() if self.family == "IPv4" else "::1"

    def __str__(self) -> str:
        return f"{self.transport}/{self.family}"


SIDES = [Side(transport, family) for family in ("IPv4", "IPv6") for transport in ("udp", "tcp")]


def shown(host: str, port: int) -> str:
    """host:port as a URI has it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@pytest.mark.parametrize(
    ("caller", "agent", "case"),
    [
        ("caller", "agent", "call, the caller hangs up"),
        ("caller-hung-up-on", "agent-hangs-up", "call, the agent hangs up"),
        ("caller-cancels", "agent-cancelled", "the caller cancels"),
        ("caller-refused", "agent-busy", "the agent is busy"),
    ],
)
def test_calls_cross_from_any_transport_and_family_to_any(
    tmp_path: Path, caller: str, agent: str, case: str, record_property: Callable[[str, object], None]
) -> None:
    """All pairs at once, on one sidecar with four listeners and a route for each way to the agent."""
    with ExitStack() as stack:
        near = {side: side.host() for side in SIDES}
        edges = {(a, b): (b.host(), 0) for a in SIDES for b in SIDES}
        edges = {pair: (host, free_port(host, KIND[pair[1].transport])) for pair, (host, _) in edges.items()}
        numbers = {pair: str(number) for number, pair in enumerate(edges)}
        settings = {
            "sip": {"listen": [f"{side.transport}://{shown(host, free_port(host, KIND[side.transport]))}" for side, host in near.items()]},
            "routes": [
                {"name": number, "match": {"user": number}, "target": f"sip:agent@{shown(*edges[pair])};transport={pair[1].transport}"}
                for pair, number in numbers.items()
            ],
            "control": {"url": "http://127.0.0.1:9"},
            "spool": {"path": "spool"},
            "admin": {"listen": "127.0.0.1:0"},
            "drain": {"deadline_s": 1, "goodbye_s": 1, "flush_s": 0},
        }
        sidecar = stack.enter_context(running("sidecar", tmp_path / "sidecar", settings))
        reached = dict(zip(SIDES, (uri.partition("://")[2] for uri in sidecar.event("ready")["sip"]), strict=True))
        run: dict[tuple[Side, Side], tuple[Sipp, Sipp]] = {}
        for (a, b), (host, port) in edges.items():
            folder = tmp_path / numbers[a, b]
            options = ["-d", str(HOLD_MS), "-t", SIPP[b.transport]]
            edge = Sipp(agent, folder, host, port, calls=CALLS, options=options)
            stack.callback(edge.stop)
            own = a.host()
            options = ["-r", "10", "-s", numbers[a, b], "-d", str(HOLD_MS), "-t", SIPP[a.transport]]
            dialler = Sipp(caller, folder, own, free_port(own, KIND[a.transport]), calls=CALLS, options=options, target=reached[a])
            stack.callback(dialler.stop)
            run[a, b] = dialler, edge
        wrong = {}
        for (a, b), (dialler, edge) in run.items():
            figures = outcome(dialler, 30), outcome(edge, 5)
            if figures != (clean(CALLS), clean(CALLS)):
                wrong[f"{a} → {b}"] = (figures, dialler.errors(), edge.errors())
            record_property("scenario", (case, f"{a} → {b}", "SIPp", "failed" if f"{a} → {b}" in wrong else "passed"))
        assert wrong == {}
        quiet(sidecar)
        if caller in ("caller", "caller-hung-up-on"):
            media_crossed(tmp_path, calls=CALLS * len(run))
        assert sidecar.faults == []


def outcome(peer: Sipp, seconds: float) -> Figures | str:
    """What a peer counted, or that it was not done in time."""
    try:
        return peer.wait(seconds)
    except AssertionError as error:
        return str(error)


def clean(calls: int) -> Figures:
    """Every call well, nothing sent twice."""
    return Figures(successful=calls, failed=0, retransmissions=0, unexpected=0, causes=())


def quiet(sidecar: Product) -> None:
    """Wait until no call is left and its figures are written."""
    admin = sidecar.event("ready")["admin"]

    def done() -> bool:
        state = get_json(f"{admin}/v1/state")
        return get_json(f"{admin}/v1/calls")["calls"] == [] and state["reporter"]["spool"]["open"] == 0

    until("no live call", done)


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
