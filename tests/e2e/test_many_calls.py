"""Three hundred calls with speech both ways through one sidecar on one core: every packet passes, and the measurement keeps up."""

from __future__ import annotations

import json
import resource
import socket
from pathlib import Path
from typing import Any

import pytest

from control.contract.call import Call
from control.contract.facts import FACT
from control.contract.fold import fold
from tests.bench.machine import TEST_CORE, pinned
from tests.bench.media import Relay, flow
from tests.bench.systems import HOST
from tests.bench.ua import Parties, hold, release
from tests.support.product import free_port, running, until

pytestmark = [pytest.mark.peer, pytest.mark.load]
CALLS, WINDOW_S = 300, 30.0


def ended(spool: Path) -> list[Call]:
    """The calls whose traces are whole."""
    shown: list[Call] = []
    for file in spool.glob("*.jsonl"):
        *lines, unfinished = file.read_bytes().split(b"\n")
        if lines and not unfinished and json.loads(lines[-1])["kind"] == "call_closed":
            call = fold(FACT.validate_json(line) for line in lines)
            assert call is not None
            shown.append(call)
    return shown


def test_three_hundred_calls_on_one_core_lose_no_packet_and_are_all_measured(tmp_path: Path) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    agent, media = free_port(HOST), (free_port(HOST), free_port(HOST))
    port = free_port(HOST)
    settings: dict[str, Any] = {
        "sip": {"listen": [f"udp://{HOST}:{port}"]},
        "routes": [{"name": "agent", "target": f"sip:agent@{HOST}:{agent}"}],
        "media": {"ports": [30000, 61000]},
        "control": {"url": f"http://{HOST}:9"},
        "spool": {"path": "spool"},
        "admin": {"listen": f"{HOST}:{free_port(HOST, socket.SOCK_STREAM)}"},
    }
    with running("sidecar", tmp_path, settings, prefix=pinned(TEST_CORE, [])) as sidecar:
        parties = Parties(port, agent, routed=False, media=media)
        try:
            held = hold(parties, CALLS)
            relay = Relay(sidecar.process.pid, [(call.caller_sends_to, call.agent_sends_to) for call in held], *media)
            seen = flow(relay, tmp_path, warm_up=2.0, window=WINDOW_S)
            release(parties)
            until("the traces of all calls", lambda: len(ended(tmp_path / "spool")) == CALLS, 120.0)
        finally:
            parties.close()
        calls = ended(tmp_path / "spool")
    print(  # noqa: T201 - the figures are what one runs this for
        f"\n{CALLS} calls, {seen.sent} packets in {seen.window_s:.0f} s: {seen.sent - seen.received} lost, "
        f"delay p50 {seen.p50_us:.0f} µs, p99 {seen.p99_us:.0f} µs, {100 * seen.used.cpu / seen.window_s:.0f} % of a core; "
        f"of the tap {sum(call.media.tap_dropped for call in calls)} dropped"
    )
    assert seen.sent > 0.98 * CALLS * 100 * WINDOW_S
    assert seen.received == seen.sent
    whole = [call for call in calls if call.media.tap_dropped == 0]
    assert all(call.media.caller.lost == 0 and call.media.agent.lost == 0 for call in whole)
    told = [call for call in calls if call.media.tap_dropped]
    assert all(any(finding.name == "tap_dropped" for finding in call.media.findings) for call in told)
    assert all(call.speech is not None and call.speech.caller_ms > 0.3 * 1000 * WINDOW_S for call in calls)
    assert sidecar.faults == []
