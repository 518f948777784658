"""`python -m tests.soak [--seconds N] [--rate N]`: calls of every kind for a long time, and whether anything grows or stays.

Both halves run as processes; SIPp plays the callers and the edges: calls with speech, calls that are cancelled, refused, challenged, and
hung up by the agent. Exit status 1 when a call failed, memory is not flat, or something of a call is left at the end.
"""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.support.product import Product, free_port, get_json, loopback, running, until
from tests.support.sipp import Figures, Sipp

KINDS = {  # user: (the caller's scenario, the edge's, share of the calls)
    "speaks": ("caller", "agent", 0.6),
    "cancels": ("caller-cancels", "agent-cancelled", 0.1),
    "busy": ("caller-refused", "agent-busy", 0.1),
    "challenges": ("caller", "agent-challenges-407", 0.1),
    "hangs-up": ("caller-hung-up-on", "agent-hangs-up", 0.1),
}
HOLD_MS = 2000
PERIOD_S = 10.0
LINGERING_S = 60.0
"""RFC 3261 keeps ended transactions for 32 s."""
GROWTH = 0.03
"""Of the last third's memory over the second's: more is growth and no noise."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one moment. Memory in KiB, the analysis process included."""

    at_s: float
    sidecar_kb: int
    control_kb: int
    blocks: int
    tasks: int
    files: int
    live: int


def main() -> int:
    """Run, print each sample, judge."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description="Calls of every kind for a long time, and whether anything grows."
    )
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--rate", type=float, default=25.0, help="calls a second; half of what the machine carries")
    asked = parser.parse_args()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="trunkside-soak-") as folder, ExitStack() as stack:
        faults, samples, figures = _run(Path(folder), stack, asked.seconds, asked.rate, console)
    faults += _grown(samples)
    table = Table(title=f"{asked.seconds} s at {asked.rate:g} calls a second")
    for heading in ("", "start", "a third", "two thirds", "end"):
        table.add_column(heading)
    marks = [samples[0], *(samples[len(samples) * k // 3 - (k == 3)] for k in (1, 2, 3))]
    for name in ("sidecar_kb", "control_kb", "blocks", "tasks", "files"):
        table.add_row(name, *(str(getattr(mark, name)) for mark in marks))
    out = Console()
    out.print(table)
    out.print(", ".join(f"{name}: {good} calls well, {bad} not" for name, (good, bad) in figures.items()))
    for fault in faults:
        out.print(f"[red]{fault}[/red]")
    return 1 if faults else 0


def _run(
    folder: Path, stack: ExitStack, seconds: int, rate: float, console: Console
) -> tuple[list[str], list[Sample], dict[str, tuple[int, int]]]:
    host, caller = loopback(), loopback()
    port = free_port(host, socket.SOCK_STREAM)
    url = f"http://{host}:{port}"
    control = stack.enter_context(
        running("control", folder / "control", {"listen": f"{host}:{port}", "database": "sqlite+aiosqlite:///control.db"})
    )
    edges = {user: (address := loopback(), free_port(address)) for user in KINDS}
    settings = {
        "sip": {"listen": [f"udp://{host}:{free_port(host)}"]},
        "routes": [
            {"name": user, "match": {"user": user}, "target": f"sip:agent@{at[0]}:{at[1]}", "username": "trunkside", "password": "s3cret"}
            for user, at in edges.items()
        ],
        "control": {"url": url},
        "spool": {"path": "spool"},
        "admin": {"listen": f"{host}:0"},
    }
    sidecar = stack.enter_context(running("sidecar", folder / "sidecar", settings))
    admin = sidecar.event("ready")["admin"]
    target = sidecar.event("ready")["sip"][0].removeprefix("udp://")
    until("the connection to control", lambda: get_json(f"{admin}/v1/state")["fleet"]["link"] == "up")
    time.sleep(2.0)  # the uploader's first connection
    files = sidecar.open_files()
    callers: dict[str, Sipp] = {}
    for user, (calling, answering, share) in KINDS.items():
        edge = Sipp(answering, folder / user, *edges[user], calls=10_000_000, options=["-d", str(HOLD_MS)])
        stack.callback(edge.stop)
        options = ["-r", str(max(1, round(rate * share * 10))), "-rp", "10000", "-s", user, "-d", str(HOLD_MS)]
        callers[user] = Sipp(calling, folder / user, caller, free_port(caller), calls=10_000_000, options=options, target=target)
        stack.callback(callers[user].stop)
    samples, began = [], time.monotonic()
    while (at := time.monotonic() - began) < seconds:
        samples.append(_sample(at, sidecar, control, admin))
        console.print(_line(samples[-1]))
        time.sleep(min(PERIOD_S, max(0.0, seconds - at)))
    ended = {user: _ended(dialler) for user, dialler in callers.items()}
    figures = {user: (told.successful, told.failed + told.unexpected) for user, told in ended.items()}
    faults = [
        f"{user}: {bad} calls did not go as they should: {', '.join(ended[user].causes)}" for user, (_, bad) in figures.items() if bad
    ]
    try:
        until("the last of every call gone", lambda: _left(get_json(f"{admin}/v1/state"), sidecar, files) == [], LINGERING_S)
    except AssertionError:
        faults += [f"left at the end: {what}" for what in _left(get_json(f"{admin}/v1/state"), sidecar, files)]
    samples.append(_sample(time.monotonic() - began, sidecar, control, admin))
    console.print(_line(samples[-1]))
    faults += [f"logged: {fault}" for product in (sidecar, control) for fault in product.faults]
    return faults, samples, figures


def _sample(at: float, sidecar: Product, control: Product, admin: str) -> Sample:
    state = get_json(f"{admin}/v1/state")
    process = state["process"]
    return Sample(
        round(at, 1),
        sidecar.memory_kb(),
        control.memory_kb(),
        process["allocated_blocks"],
        process["tasks"],
        sidecar.open_files(),
        state["engine"]["calls"],
    )


def _line(sample: Sample) -> str:
    return "  ".join(f"{name} {value}" for name, value in asdict(sample).items())


def _ended(dialler: Sipp) -> Figures:
    """Let the calls under way end, and see what became of all."""
    dialler.process.send_signal(signal.SIGUSR1)
    try:
        dialler.process.wait(30)
    except subprocess.TimeoutExpired:
        dialler.stop()
    return dialler.figures()


def _left(state: dict[str, Any], sidecar: Product, files: int) -> list[str]:
    """What of the calls is still there."""
    engine, spool = state["engine"], state["reporter"]["spool"]
    counted = {
        "live calls": engine["calls"],
        "dialogs": engine["dialogs"],
        "transactions": sum(sum(states.values()) for states in engine["transactions"].values()),
        "bound transactions": engine["bound_transactions"],
        "lookups": engine["lookups"],
        "measurements": state["analysis"]["calls"],
        "open traces": spool["open"],
        "port pairs in use": 5000 - state["rtp_port_pairs_free"],
        "files": max(0, sidecar.open_files() - files),
    }
    return [f"{count} {name}" for name, count in counted.items() if count]


def _grown(samples: list[Sample]) -> list[str]:
    """What was more in the last third of the time than in the second."""
    third = (len(samples) - 1) // 3
    if third < 3:
        return []
    found = []
    for name in ("sidecar_kb", "control_kb"):
        before, after = (
            sum(getattr(s, name) for s in part) / third for part in (samples[third : 2 * third], samples[2 * third : 3 * third])
        )
        if after > before * (1 + GROWTH):
            found.append(f"{name} grew from {before:.0f} to {after:.0f}")
    # What is allocated goes up and down with the collection of cycles while calls come; at rest it tells of what stayed, and so do tasks.
    if samples[-1].blocks > min(s.blocks for s in samples[third:]):
        found.append(f"{samples[-1].blocks} blocks are allocated at rest, more than among calls")
    if samples[-1].tasks > samples[0].tasks:
        found.append(f"tasks grew from {samples[0].tasks} to {samples[-1].tasks}")
    return found


if __name__ == "__main__":
    sys.exit(main())
