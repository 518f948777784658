"""`trunkside sidecar --workers 2`: one address, calls of one caller spread over both, and one that dies alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.product import Product, command, free_port, get_json, loopback, until
from tests.support.sipp import Sipp

pytestmark = pytest.mark.peer


@contextmanager
def workers(folder: Path, settings: dict[str, Any]) -> Iterator[Product]:
    """Two of them, ready."""
    config = folder / "sidecar.yaml"
    config.write_text(yaml.safe_dump(settings))
    run = [*command("sidecar", config), "--workers", "2"]
    product = Product(subprocess.Popen(run, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
    product.start_reading()
    try:
        product.event("workers ready")
        yield product
    finally:
        product.stop()


def settings(host: str, target: str) -> dict[str, Any]:
    ports = [free_port(host, socket.SOCK_STREAM) for _ in (1, 2)]
    return {
        "sip": {"listen": [f"udp://{host}:0"]},
        "routes": [{"name": "agent", "target": target}],
        "control": {"url": f"http://{host}:9"},
        "spool": {"path": "spool"},
        "admin": {"listen": f"{host}:{min(ports)}"},
        "drain": {"deadline_s": 10, "goodbye_s": 1, "flush_s": 0},
    }


def admins(product: Product) -> dict[str, str]:
    """The admin port of each worker that has said `ready`, the newest."""
    return {event["name"]: event["admin"] for event in product.events if event["event"] == "ready"}


def live(admin: str) -> int:
    return len(get_json(f"{admin}/v1/calls")["calls"])


def test_calls_of_one_address_are_spread_and_a_worker_dies_alone(tmp_path: Path) -> None:
    host, edge, caller = loopback(), loopback(), loopback()
    edge_port = free_port(edge)
    with workers(tmp_path, settings(host, f"sip:agent@{edge}:{edge_port}")) as product:
        sip = product.event("workers ready")["sip"][0].removeprefix("udp://")
        agent = Sipp("agent", tmp_path, edge, edge_port, calls=100)
        first = tmp_path / "first"
        dialler = Sipp("caller", first, caller, free_port(caller), calls=20, options=["-r", "20", "-s", "agent", "-d", "3000"], target=sip)
        try:
            until("calls on both", lambda: len(admins(product)) == 2 and all(live(admin) for admin in admins(product).values()))
            figures = dialler.wait(20)
            assert (figures.successful, figures.failed, figures.retransmissions, figures.unexpected) == (20, 0, 0, 0)

            product.process.send_signal(signal.SIGHUP)
            until("both have read it again", lambda: [e["event"] for e in product.events].count("configuration reloaded") == 2)

            before = admins(product)
            pid = get_pid(product)
            os.kill(pid, signal.SIGKILL)
            product.event("worker died")
            until("it is ready again", lambda: [e["event"] for e in product.events].count("ready") == 3)
            after = Sipp(
                "caller",
                tmp_path / "after",
                caller,
                free_port(caller),
                calls=10,
                options=["-r", "20", "-s", "agent", "-d", "1000"],
                target=sip,
            )
            try:
                until("all calls are up", lambda: sum(live(admin) for admin in admins(product).values()) == 10)
                product.process.send_signal(signal.SIGTERM)
                product.event("draining")
                assert after.wait(20).successful == 10, "the calls that were up end as they would"
            finally:
                after.stop()
            assert admins(product) == before, "each has its own admin port, also in its next life"
            assert product.process.wait(20) == 0
        finally:
            dialler.stop()
            agent.stop()
    traces = [json.loads(line) for file in tmp_path.glob("spool/worker-*/*.jsonl") for line in file.read_text().splitlines()]
    assert {fact["sidecar"] for fact in traces if fact["kind"] == "call_started"} == {"edge-1.1", "edge-1.2"}
    assert len([fact for fact in traces if fact["kind"] == "call_closed"]) == 30
    assert [event for event in product.events if event.get("level") == "error" and event["event"] != "worker died"] == []


def get_pid(product: Product) -> int:
    """The first worker's process."""
    children = Path(f"/proc/{product.process.pid}/task/{product.process.pid}/children").read_text().split()
    return next(int(pid) for pid in children if b"1/2" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))


def test_workers_that_cannot_start_end_it_with_one_line(tmp_path: Path) -> None:
    host = loopback()
    config = tmp_path / "sidecar.yaml"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind((host, 0))
        taken.listen()
        config.write_text(
            yaml.safe_dump(settings(host, "sip:agent@127.0.0.1:9") | {"admin": {"listen": "{}:{}".format(*taken.getsockname())}})
        )
        done = subprocess.run(
            [*command("sidecar", config), "--workers", "2"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
        )
    assert done.returncode == 2
    assert "worker 1 cannot start" in done.stderr
    assert "change admin.listen or free the port" in done.stderr
