"""The demo as a user runs it, and the processes that it is made of."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from sidecar.lab.processes import LOOPBACK, Process, ProcessFailed, free_udp_range, reserve_tcp_port


async def demo(tmp_path: Path, *options: str, interrupt: bool = False) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of `trunkside demo`, its temporary files under `tmp_path`; interrupted once both halves run."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sidecar.cli", "demo", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        preexec_fn=_interruptible,
    )
    if interrupt:
        async with asyncio.timeout(40):
            while len(running_from(tmp_path)) < 2:
                await asyncio.sleep(0.1)
        await asyncio.sleep(1.5)
        process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


def _interruptible() -> None:
    """Whoever runs the tests in the background of a shell has SIGINT ignored, and so would the demo."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def running_from(directory: Path) -> list[str]:
    """Command lines of processes that were started with a file under `directory`."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = each.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if str(directory) in line:
                found.append(line)
    return found


@pytest.mark.peer
async def test_a_report_without_ids_is_repaired_and_every_turn_is_true(tmp_path: Path) -> None:
    status, out, _ = await demo(tmp_path, "--json", "--no-agent-id")
    shown: dict[str, Any] = json.loads(out)
    assert status == 0
    assert set(shown) == {"call", "truth", "evaluator"}
    call, true = shown["call"], shown["truth"]["response_latency_ms"]
    measured = [turn["response_latency_ms"] for turn in call["turns"] if turn["kind"] == "response"]
    assert len(true) == 4
    assert measured == pytest.approx(true, abs=40)
    assert call["kind"] == "simulation"
    assert call["verdict"]["outcome"] == "repaired"
    assert shown["evaluator"]["linked"] is True
    assert shown["evaluator"]["received"]["sip_call_id"] == call["sip_call_id"]
    assert list(tmp_path.iterdir()) == []
    assert running_from(tmp_path) == []


@pytest.mark.peer
async def test_wrong_credentials_end_it_with_one_line_that_names_the_realm(tmp_path: Path) -> None:
    status, out, err = await demo(tmp_path, "--wrong-credentials")
    assert (status, out) == (1, ""), err
    (line,) = err.splitlines()
    assert "credentials refused by" in line
    assert 'realm "agent-edge"' in line
    assert "demo-password" not in line


@pytest.mark.peer
async def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    status, _, err = await demo(tmp_path, interrupt=True)
    assert status != 0, err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
    assert running_from(tmp_path) == []


@pytest.mark.peer
async def test_a_half_that_cannot_start_is_quoted(tmp_path: Path) -> None:
    config = tmp_path / "control.yaml"
    config.write_text("listem: 127.0.0.1:0\n")
    async with Process("control", config) as process:
        with pytest.raises(ProcessFailed, match=r"trunkside control did not start: .*listem"):
            await process.ready()


def test_a_reserved_port_can_be_taken_by_a_listener() -> None:
    with contextlib.closing(reserve_tcp_port()) as held, socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(held.getsockname())
        listener.listen()


def test_a_free_range_is_even_and_bindable() -> None:
    low, high = free_udp_range(10)
    assert low % 2 == 0
    assert high - low == 9
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK, high))
