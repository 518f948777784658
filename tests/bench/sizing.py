"""What docs/sizing.md reckons with: `python -m tests.bench.sizing [--calls 50] [--seconds 20]`.

Calls with speech in both directions through a sidecar, with its own relay and with rtpengine: CPU and memory of each process while they are
up, CPU of setting one up and ending it, and what its trace takes on disk in the spool and in control's database.
"""

from __future__ import annotations

import argparse
import socket
import sqlite3
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from tests.bench.machine import cpu_seconds, describe, memory_kb, tree
from tests.support.product import Product, free_port, get_json, loopback, running, until
from tests.support.rtpengine import rtpengine
from tests.support.sipp import SCENARIOS, Sipp


def endless(folder: Path, name: str) -> Path:
    """A scenario of the tests whose speech goes on until the call ends."""
    file = folder / f"{name}.xml"
    file.write_text((SCENARIOS / f"{name}.xml").read_text().replace("speech.ulaw,1,0", "speech.ulaw,-1,0"))
    return file


def processes(sidecar: Product) -> dict[str, list[int]]:
    """The sidecar with its threads, and its analysis."""
    main, *others = tree(sidecar.process.pid)
    return {"sidecar": [main], "analysis": others}


def calls_of(api: str) -> list[dict[str, Any]]:
    """What control has."""
    found: list[dict[str, Any]] = get_json(f"{api}/v1/calls?limit=200")["calls"]
    return found


def measure(engine: str, calls: int, seconds: float) -> None:
    """One run, and its lines."""
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        host, edge, caller = loopback(), loopback(), loopback()
        edge_port, api_port = free_port(edge), free_port(host, socket.SOCK_STREAM)
        api = f"http://{host}:{api_port}"
        media: dict[str, Any] = {"ports": [30000, 39999], "engine": engine}
        relay = stack.enter_context(rtpengine(folder / "relay", loopback())) if engine == "rtpengine" else None
        if relay is not None:
            media["rtpengine"] = {"servers": [relay.server]}
        settings = {
            "sip": {"listen": [f"udp://{host}:0"]},
            "routes": [{"name": "agent", "target": f"sip:agent@{edge}:{edge_port}"}],
            "media": media,
            "control": {"url": api},
            "spool": {"path": "spool"},
            "admin": {"listen": f"{host}:0"},
        }
        control = {"listen": f"{host}:{api_port}", "database": "sqlite+aiosqlite:///control.db"}
        stack.enter_context(running("control", folder / "control", control))
        sidecar = stack.enter_context(running("sidecar", folder / "sidecar", settings))
        sip = sidecar.event("ready")["sip"][0].removeprefix("udp://")
        parts = processes(sidecar) | ({"rtpengine": [relay.process.pid]} if relay is not None else {})
        agent = Sipp("agent", folder, edge, edge_port, calls=100_000, file=endless(folder, "agent"))
        stack.callback(agent.stop)

        def dial(name: str, number: int, rate: int, hold_s: float) -> Sipp:
            options = ["-r", str(rate), "-s", "agent", "-d", str(int(hold_s * 1000))]
            made = Sipp(
                "caller",
                folder / name,
                caller,
                free_port(caller),
                calls=number,
                options=options,
                target=sip,
                file=endless(folder, "caller"),
            )
            stack.callback(made.stop)
            return made

        dial("warm", 10, 10, 0.2).wait(20)
        idle = {name: memory_kb(pids) for name, pids in parts.items()}
        up = dial("up", calls, 25, calls / 25 + seconds + 4)
        until("all are up", lambda: len(get_json(sidecar.event("ready")["admin"] + "/v1/calls")["calls"]) == calls)
        time.sleep(1.5)
        begin, before = time.monotonic(), {name: cpu_seconds(pids) for name, pids in parts.items()}
        time.sleep(seconds)
        spent = {name: cpu_seconds(pids) - before[name] for name, pids in parts.items()}
        window = time.monotonic() - begin
        grown = {name: (memory_kb(pids) - idle[name]) / calls for name, pids in parts.items()}
        if up.wait(60).successful != calls:
            raise SystemExit(f"{engine}: not every call went through: {up.figures()}")
        for name in parts:
            _say(f"{engine}: {name}: {spent[name] / window / calls * 1e3:.2f} ms CPU a second of a call, {grown[name]:.0f} kB a live call")
        until("the traces", lambda: all(call["complete"] for call in calls_of(api)))
        before, size = {name: cpu_seconds(pids) for name, pids in parts.items()}, _size(folder)
        if dial("short", 200, 20, 0.05).wait(60).successful != 200:
            raise SystemExit(f"{engine}: not every short call went through")
        time.sleep(2)
        for name, pids in parts.items():
            _say(
                f"{engine}: {name}: {(cpu_seconds(pids) - before[name]) / 200 * 1e3:.2f} ms CPU a call of 50 ms, set-up and end and figures"
            )
        if engine == "embedded":
            _say(f"control's database: {(_size(folder) - size) / 200 / 1024:.1f} KiB a call (SQLite, twelve messages)")


def _size(folder: Path) -> int:
    """Octets of control's database, what is still in its log included."""
    with closing(sqlite3.connect(folder / "control" / "control.db")) as database:
        pages, octets = (int(database.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "page_size"))
    return pages * octets


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def main() -> None:
    """Both engines, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    _say(describe())
    for engine in ("embedded", "rtpengine"):
        measure(engine, given.calls, given.seconds)


if __name__ == "__main__":
    main()
