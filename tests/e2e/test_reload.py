"""SIGHUP under load: the new file counts for the next call, a broken one for none, and no call fails."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.support.product import free_port, loopback, running, until
from tests.support.sipp import Sipp

pytestmark = [pytest.mark.peer, pytest.mark.load]
"""With other work on the machine SIPp itself counts retransmissions as failures."""

RATE, CALLS = 50, 400


def test_reloads_at_fifty_calls_a_second_cost_no_call(tmp_path: Path) -> None:
    host, edge, caller = loopback(), loopback(), loopback()
    edge_port = free_port(edge)
    settings = {
        "sip": {"listen": [f"udp://{host}:{free_port(host)}"]},
        "routes": [{"name": "first", "target": f"sip:agent@{edge}:{edge_port}"}],
        "control": {"url": f"http://{host}:9"},
        "spool": {"path": "spool"},
        "admin": {"listen": f"{host}:0"},
        "drain": {"deadline_s": 1, "goodbye_s": 1, "flush_s": 0},
    }
    file = tmp_path / "sidecar" / "sidecar.yaml"
    with running("sidecar", tmp_path / "sidecar", settings) as sidecar, ExitStack() as stack:

        def started(route: str) -> int:
            return sum(1 for event in list(sidecar.events) if event.get("event") == "call started" and event.get("route") == route)

        sip = sidecar.event("ready")["sip"][0].removeprefix("udp://")
        agent = Sipp("agent", tmp_path, edge, edge_port, calls=CALLS)
        stack.callback(agent.stop)
        options = ["-r", str(RATE), "-s", "agent", "-d", "1000"]
        dialler = Sipp("caller", tmp_path, caller, free_port(caller), calls=CALLS, options=options, target=sip)
        stack.callback(dialler.stop)

        until("calls by the first route", lambda: started("first") > RATE // 2)
        file.write_text(yaml.safe_dump(settings | {"routes": [{"name": "second", "target": f"sip:agent@{edge}:{edge_port}"}]}))
        sidecar.process.send_signal(signal.SIGHUP)
        sidecar.event("configuration reloaded")
        until("calls by the second route", lambda: started("second") > RATE // 2)

        file.write_text("routes:\n  - name: third\n    target: sip:nobody@127.0.0.1\n    platfrom: generic\n")
        sidecar.process.send_signal(signal.SIGHUP)
        refused = sidecar.event("configuration refused")
        assert "sidecar.yaml:4" in refused["detail"]
        assert "platfrom" in refused["detail"]
        before = started("second")
        until("calls by the second route still", lambda: started("second") > before)
        assert dialler.process.poll() is None, "the load ended before the reloads were over"

        figures = dialler.wait(60)
        # What was sent twice on a busy machine may come after its call; a call that failed may not.
        assert (figures.successful, figures.failed, figures.causes) == (CALLS, 0, ())
        assert agent.wait(20).successful == CALLS, agent.errors()
        assert started("first") + started("second") == CALLS
