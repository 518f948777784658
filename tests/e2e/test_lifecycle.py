"""Starting, dying and coming back, as an operator sees it: processes, exit statuses, single lines."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.product import Product, free_port, get_json, loopback, refused, running, until
from tests.support.sipp import Sipp

pytestmark = pytest.mark.peer


def sidecar_settings(host: str, target: str, control: str) -> dict[str, Any]:
    return {
        "sip": {"listen": [f"udp://{host}:{free_port(host)}"]},
        "routes": [{"name": "agent", "target": target}],
        "control": {"url": control},
        "spool": {"path": "spool"},
        "admin": {"listen": f"{host}:0"},
        "drain": {"deadline_s": 1, "goodbye_s": 1, "flush_s": 1},
    }


def control_settings(host: str, port: int) -> dict[str, Any]:
    return {"listen": f"{host}:{port}", "database": "sqlite+aiosqlite:///control.db"}


@contextmanager
def one_call(folder: Path, sip: str, edge: str, edge_port: int, hold_ms: int) -> Iterator[tuple[Sipp, Sipp]]:
    """SIPp calling SIPp once through `sip`."""
    caller = loopback()
    with ExitStack() as stack:
        agent = Sipp("agent", folder, edge, edge_port, calls=1)
        stack.callback(agent.stop)
        dialler = Sipp("caller", folder, caller, free_port(caller), calls=1, options=["-s", "agent", "-d", str(hold_ms)], target=sip)
        stack.callback(dialler.stop)
        yield dialler, agent


def sip_of(sidecar: Product) -> str:
    address: str = sidecar.event("ready")["sip"][0]
    return address.removeprefix("udp://")


def test_a_call_in_which_the_sidecar_is_killed_comes_back_as_interrupted(tmp_path: Path) -> None:
    host, edge = loopback(), loopback()
    edge_port, api_port = free_port(edge), free_port(host, socket.SOCK_STREAM)
    api = f"http://{host}:{api_port}"
    settings = sidecar_settings(host, f"sip:agent@{edge}:{edge_port}", api)
    with running("control", tmp_path / "control", control_settings(host, api_port)):
        with running("sidecar", tmp_path / "sidecar", settings) as first, one_call(tmp_path, sip_of(first), edge, edge_port, 60_000):
            seen = until("the live call in control", lambda: get_json(f"{api}/v1/calls").get("calls"))
            call = seen[0]["id"]
            until("the answer", lambda: get_json(f"{api}/v1/calls/{call}")["answered_at"])
            first.kill()
        assert get_json(f"{api}/v1/calls/{call}")["complete"] is False
        with running("sidecar", tmp_path / "sidecar", settings) as second:
            assert second.event("spool recovered")["interrupted"] == 1
            told = until("the end of the call", lambda: (found := get_json(f"{api}/v1/calls/{call}"))["complete"] and found)
            assert (told["reason"], told["ended_by"]) == ("interrupted", "sidecar")
            assert "the sidecar stopped in this call" in told["cause"]
            until("an empty spool", lambda: not list((tmp_path / "sidecar" / "spool").glob("*.jsonl")))


def test_a_control_that_comes_later_gets_the_calls_that_it_missed(tmp_path: Path) -> None:
    host, edge = loopback(), loopback()
    edge_port, api_port = free_port(edge), free_port(host, socket.SOCK_STREAM)
    api = f"http://{host}:{api_port}"
    settings = sidecar_settings(host, f"sip:agent@{edge}:{edge_port}", api)
    with running("sidecar", tmp_path / "sidecar", settings) as sidecar:
        with one_call(tmp_path, sip_of(sidecar), edge, edge_port, 300) as (caller, _):
            figures = caller.wait(20)
        assert (figures.successful, figures.retransmissions) == (1, 0), "an absent control touched the call"
        assert sidecar.event("control unreachable")["level"] == "warning"
        with running("control", tmp_path / "control", control_settings(host, api_port)):
            calls = until("the call in control", lambda: [call for call in get_json(f"{api}/v1/calls")["calls"] if call["complete"]])
            assert [call["reason"] for call in calls] == ["completed"]
            sidecar.event("control takes facts")
        assert sidecar.stop() == 0
    assert [event["event"] for event in sidecar.events].count("control unreachable") == 1
    assert sidecar.plain == []


def one_line(outcome: Any) -> str:
    """The single line of a start that failed as it should: status 2, nothing on stdout, no traceback."""
    assert (outcome.returncode, outcome.stdout) == (2, ""), outcome.stderr
    lines: list[str] = outcome.stderr.strip().splitlines()
    assert len(lines) == 1, outcome.stderr
    return lines[0]


@pytest.mark.parametrize("half", ["sidecar", "control"])
def test_an_unknown_key_is_named(tmp_path: Path, half: str) -> None:
    host = loopback()
    settings = sidecar_settings(host, "sip:a@127.0.0.1:5070", "http://127.0.0.1:9") if half == "sidecar" else control_settings(host, 0)
    line = one_line(refused(half, tmp_path, settings | {"nmae": "edge-1"}))
    assert "nmae" in line
    assert f"{half}.yaml" in line


@pytest.mark.parametrize("half", ["sidecar", "control"])
@pytest.mark.parametrize("text", ["a: [", "- not a mapping\n", "listen: {\tx"])
def test_a_file_that_is_no_configuration(tmp_path: Path, half: str, text: str) -> None:
    assert f"{half}.yaml" in one_line(refused(half, tmp_path, text))


def test_a_busy_sip_port_is_named(tmp_path: Path) -> None:
    host = loopback()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((host, 0))
        settings = sidecar_settings(host, "sip:a@127.0.0.1:5070", "http://127.0.0.1:9")
        settings["sip"]["listen"] = [f"udp://{host}:{taken.getsockname()[1]}"]
        line = one_line(refused("sidecar", tmp_path, settings))
        assert f"{host}:{taken.getsockname()[1]}" in line
        assert "in use" in line


@pytest.mark.parametrize("half", ["sidecar", "control"])
def test_a_busy_http_port_is_named(tmp_path: Path, half: str) -> None:
    host = loopback()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind((host, 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = sidecar_settings(host, "sip:a@127.0.0.1:5070", "http://127.0.0.1:9") | {"admin": {"listen": f"{host}:{port}"}}
        line = one_line(refused(half, tmp_path, settings if half == "sidecar" else control_settings(host, port)))
        assert f"{host}:{port}" in line
        assert "in use" in line


def test_an_unwritable_spool_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = sidecar_settings(loopback(), "sip:a@127.0.0.1:5070", "http://127.0.0.1:9") | {"spool": {"path": "file/spool"}}
    assert "the spool file/spool cannot be written: Not a directory" in one_line(refused("sidecar", tmp_path, settings))


def test_a_spool_in_use_is_named(tmp_path: Path) -> None:
    settings = sidecar_settings(loopback(), "sip:a@127.0.0.1:5070", "http://127.0.0.1:9")
    with running("sidecar", tmp_path, settings):
        other = sidecar_settings(loopback(), "sip:a@127.0.0.1:5070", "http://127.0.0.1:9")
        assert "in use by another running sidecar" in one_line(refused("sidecar", tmp_path, other))


def test_an_unopenable_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = control_settings(loopback(), 0) | {"database": "sqlite+aiosqlite:///file/control.db"}
    assert one_line(refused("control", tmp_path, settings)).startswith("trunkside: database: file")


@pytest.mark.parametrize("half", ["sidecar", "control"])
def test_sigterm_ends_with_status_0(tmp_path: Path, half: str) -> None:
    host = loopback()
    settings = sidecar_settings(host, "sip:a@127.0.0.1:5070", "http://127.0.0.1:9") if half == "sidecar" else control_settings(host, 0)
    with running(half, tmp_path, settings) as product:
        assert product.stop() == 0
    assert product.plain == []


def test_a_call_outlives_the_analysis_process(tmp_path: Path) -> None:
    host, edge = loopback(), loopback()
    edge_port = free_port(edge)
    settings = sidecar_settings(host, f"sip:agent@{edge}:{edge_port}", f"http://{host}:9")
    with running("sidecar", tmp_path / "sidecar", settings) as sidecar, one_call(tmp_path, sip_of(sidecar), edge, edge_port, 4_000) as pair:
        admin = sidecar.event("ready")["admin"]
        until("the answer", lambda: any(call["answered_at"] for call in get_json(f"{admin}/v1/calls")["calls"]))
        until("the analysis of the call", lambda: get_json(f"{admin}/v1/state")["analysis"]["calls"] == 1)
        first = get_json(f"{admin}/v1/state")["analysis"]["pid"]
        os.kill(first, signal.SIGKILL)
        until("another process", lambda: get_json(f"{admin}/v1/state")["analysis"]["pid"] != first)
        assert [(figures.successful, figures.failed) for figures in (peer.wait(30.0) for peer in pair)] == [(1, 0)] * 2
        assert sidecar.event("call ended")["reason"] == "completed"
        assert [event["event"] for event in sidecar.faults] == ["analysis lost"]
        until("the trace to be complete", lambda: get_json(f"{admin}/v1/state")["reporter"]["spool"]["open"] == 0)
