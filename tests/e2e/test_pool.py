"""Two sidecars of one host behind Kamailio's dispatcher: each is restarted while calls come in, and no call fails."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.dispatcher import dispatcher
from tests.support.product import Product, free_port, get_json, loopback, running, until
from tests.support.sipp import Sipp

pytestmark = pytest.mark.peer

RATE, HOLD_MS = 15, 1500
MOST = 10_000
"""Calls; the test ends the load before."""


def settings(host: str, port: int, name: str, target: str) -> dict[str, Any]:
    return {
        "name": name,
        "sip": {"listen": [f"udp://{host}:{port}"]},
        "routes": [{"name": "agent", "target": target}],
        "control": {"url": f"http://{host}:9"},
        "spool": {"path": "spool"},
        "admin": {"listen": f"{host}:0"},
        "drain": {"deadline_s": 20, "goodbye_s": 1, "flush_s": 0},
    }


def taken(sidecar: Product) -> int:
    """How many calls the sidecar has."""
    return len(get_json(sidecar.event("ready")["admin"] + "/v1/calls")["calls"])


def test_each_is_restarted_under_load_and_no_call_fails(tmp_path: Path) -> None:
    hosts = [loopback(), loopback()]
    ports = [free_port(host) for host in hosts]
    edge, proxy, caller = loopback(), loopback(), loopback()
    edge_port, proxy_port = free_port(edge), free_port(proxy)
    with ExitStack() as stack:
        start = [settings(hosts[n], ports[n], f"edge-{n}", f"sip:agent@{edge}:{edge_port}") for n in (0, 1)]
        lives = [stack.enter_context(ExitStack()) for _ in start]
        pool = [lives[n].enter_context(running("sidecar", tmp_path / str(n), start[n])) for n in (0, 1)]
        stack.enter_context(dispatcher(tmp_path, proxy, proxy_port, [f"{hosts[n]}:{ports[n]}" for n in (0, 1)]))
        agent = Sipp("agent", tmp_path, edge, edge_port, calls=MOST)
        stack.callback(agent.stop)
        options = ["-r", str(RATE), "-s", "agent", "-d", str(HOLD_MS)]
        dialler = Sipp("caller", tmp_path, caller, free_port(caller), calls=MOST, options=options, target=f"{proxy}:{proxy_port}")
        stack.callback(dialler.stop)
        for n in (0, 1):
            until("calls on both", lambda: all(taken(sidecar) for sidecar in pool))
            pool[n].process.send_signal(signal.SIGTERM)
            assert pool[n].event("draining")["calls"] > 0, "nothing was drained"
            assert pool[n].stop() == 0
            assert "calls ended by the drain" not in [event["event"] for event in pool[n].events]
            lives[n].close()
            pool[n] = lives[n].enter_context(running("sidecar", tmp_path / str(n), start[n]))
            until("calls on the new one", lambda n=n: taken(pool[n]))
        assert dialler.process.poll() is None, "the load ended before the second restart was over"
        for party in (dialler, agent):
            party.process.send_signal(signal.SIGUSR1)  # SIPp: no new calls, and the end when the last one is over
        figures = dialler.wait(60)
        assert (figures.failed, figures.unexpected, figures.causes) == (0, 0, ())
        assert figures.successful > RATE
        assert agent.wait(60).successful == figures.successful
