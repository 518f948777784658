"""Stopping with calls on the line, as an operator and as callers see it."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from tests.support.product import Product, free_port, get_json, loopback, running, until
from tests.support.sipp import Sipp

pytestmark = pytest.mark.peer

CALLS = 50
DEADLINE_S = 8.0
HOLD_MS = 4000
"""Half of the calls end by themselves after this: within the deadline, but after the signal."""


@contextmanager
def sidecar_and_control(folder: Path, edge: str, edge_port: int, **drain: float) -> Iterator[tuple[Product, str]]:
    host = loopback()
    api_port = free_port(host, socket.SOCK_STREAM)
    api = f"http://{host}:{api_port}"
    settings = {
        "sip": {"listen": [f"udp://{host}:{free_port(host)}"]},
        "routes": [{"name": "agent", "target": f"sip:agent@{edge}:{edge_port}"}],
        "control": {"url": api},
        "spool": {"path": "spool"},
        "admin": {"listen": f"{host}:0"},
        "drain": drain,
        "limits": {"lag_ms": 5000},  # a busy machine is late with fifty calls at once, which is not what this is about
    }
    control = {"listen": f"{host}:{api_port}", "database": "sqlite+aiosqlite:///control.db"}
    with running("control", folder / "control", control), running("sidecar", folder / "sidecar", settings) as sidecar:
        yield sidecar, api


def ask(method: str, sip: str) -> str:
    """One request without a body from a party of its own, and the first final answer to it."""
    host, port = sip.rsplit(":", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as party:
        party.bind((host, 0))
        party.settimeout(5)
        own = f"{host}:{party.getsockname()[1]}"
        party.sendto(
            (
                f"{method} sip:agent@{sip} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{own};rport\r\nFrom: <sip:late@{own}>;tag=1\r\n"
                f"To: <sip:agent@{sip}>\r\nCall-ID: late-{own}\r\nCSeq: 1 {method}\r\nContact: <sip:late@{own}>\r\nMax-Forwards: 70\r\n"
                "Content-Length: 0\r\n\r\n"
            ).encode(),
            (host, int(port)),
        )
        while (answer := party.recv(65_535).decode()).startswith("SIP/2.0 1"):
            pass
    return answer


def drained(admin: str, seconds: list[float]) -> None:
    """Wait as an agent's preStop hook does; `seconds` gets the time of the answer."""
    with urlopen(f"{admin}/v1/drained", timeout=60) as response:
        assert response.status == 200
    seconds.append(time.monotonic())


def test_sigterm_with_fifty_live_calls(tmp_path: Path) -> None:
    edge = loopback()
    edge_port = free_port(edge)
    with (
        sidecar_and_control(tmp_path, edge, edge_port, deadline_s=DEADLINE_S, goodbye_s=5, flush_s=15) as (sidecar, api),
        ExitStack() as stack,
    ):
        ready = sidecar.event("ready")
        sip, admin = ready["sip"][0].removeprefix("udp://"), ready["admin"]
        agent = Sipp("agent", tmp_path, edge, edge_port, calls=CALLS)
        stack.callback(agent.stop)
        callers = {}
        for scenario in ("caller", "caller-hung-up-on"):
            host = loopback()
            options = ["-r", str(CALLS), "-s", "agent", "-d", str(HOLD_MS)]
            callers[scenario] = Sipp(scenario, tmp_path, host, free_port(host), calls=CALLS // 2, options=options, target=sip)
            stack.callback(callers[scenario].stop)
        until("every call answered", lambda: sum(bool(call["answered_at"]) for call in get_json(f"{admin}/v1/calls")["calls"]) == CALLS)

        begun = time.monotonic()
        sidecar.process.send_signal(signal.SIGTERM)
        assert sidecar.event("draining")["calls"] == CALLS
        over: list[float] = []
        waiting = threading.Thread(target=drained, args=(admin, over), daemon=True)
        waiting.start()

        refused = ask("INVITE", sip)
        assert refused.startswith("SIP/2.0 503 ")
        assert "\r\nRetry-After: " in refused
        assert ask("OPTIONS", sip).startswith("SIP/2.0 503 ")
        readiness = get_json(f"{admin}/readyz")
        assert (readiness["status"], readiness["reasons"]) == (503, ["the sidecar is draining"])
        assert get_json(f"{admin}/livez") == {"status": "alive"}

        short = callers["caller"].wait(20)
        assert (short.successful, short.failed, short.unexpected) == (CALLS // 2, 0, 0), "a call was cut"
        assert time.monotonic() - begun < DEADLINE_S, "the machine was too slow for the half that ends in time"
        assert len(get_json(f"{admin}/v1/calls")["calls"]) == CALLS // 2, "calls were cut before the deadline"
        assert not over

        assert sidecar.stop(60) == 0
        assert time.monotonic() - begun >= DEADLINE_S
        long = callers["caller-hung-up-on"].wait(10)
        assert (long.successful, long.failed, long.unexpected) == (CALLS // 2, 0, 0)
        figures = agent.wait(10)
        assert (figures.successful, figures.failed) == (CALLS, 0)
        waiting.join(5)
        assert over
        assert over[0] - begun >= DEADLINE_S

        assert sidecar.event("calls ended by the drain")["calls"] == CALLS // 2
        stopped = sidecar.event("stopped")
        assert (stopped["traces_left_in_spool"], stopped["calls"]) == (0, {"completed": CALLS // 2, "drained": CALLS // 2})
        assert sidecar.faults == []
        known = until("every trace", lambda: (calls := all_calls(api)) and len(calls) == CALLS and calls)
        assert all(call["complete"] for call in known)
        assert sorted(call["reason"] for call in known) == ["completed"] * (CALLS // 2) + ["drained"] * (CALLS // 2)
        one = next(call for call in known if call["reason"] == "drained")
        messages = get_json(f"{api}/v1/calls/{one['id']}/messages")["messages"]
        goodbyes = [message for message in messages if message["text"].startswith("BYE ")]
        assert sorted(message["leg"] for message in goodbyes) == ["A", "B"], "both sides are told"
        assert all('Reason: SIP;cause=503;text="drained"' in message["text"] for message in goodbyes)


def all_calls(api: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get_json(f"{api}/v1/calls?limit=100")["calls"]
    return found


def test_the_admin_port_drains_too(tmp_path: Path) -> None:
    edge = loopback()
    with sidecar_and_control(tmp_path, edge, free_port(edge), deadline_s=5, goodbye_s=1, flush_s=1) as (sidecar, _):
        admin = sidecar.event("ready")["admin"]
        with urlopen(Request(f"{admin}/v1/drain", method="POST"), timeout=10) as response:
            assert response.status == 202
        until("its end", lambda: sidecar.process.poll() is not None)
        assert sidecar.process.returncode == 0
        with pytest.raises(URLError):
            urlopen(f"{admin}/livez", timeout=1)
