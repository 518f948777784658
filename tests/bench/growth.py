"""What Trunkside's cost depends on: calls that are on, calls that there were, the length of a call, calls that are stored.

`python -m tests.bench.growth`: each line is one quantity at growing sizes. Flat is the aim; what is linear says so.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import media, signalling
from tests.bench.machine import Meter, memory_kb, tree
from tests.bench.store_queries import measure
from tests.bench.systems import HOST, trunkside
from tests.bench.ua import Parties, hold, release
from tests.support.product import free_port

RATE = 50
LINGERING = f"(what is left of a call is kept for 64*T1, 32 s: that of {32 * RATE} calls)"
HELD = (0, 150, 300)
LONG_CALLS, STRETCH, STRETCHES = 50, 15.0, 4
ASKED = ("list, newest 50", "list, all filters", "show", "summary, all")
STORED = (1_000, 10_000, 50_000)


def one_after_the_other(folder: Path) -> list[str]:
    """CPU and memory, by how many calls there were before."""
    agent = free_port(HOST)
    costs: list[str] = []
    memory: list[str] = []
    with trunkside(folder, agent) as running:
        assert running.pid is not None
        signalling.load(running, agent, folder, rate=RATE, calls=RATE)
        for _ in range(3):
            done = signalling.load(running, agent, folder, rate=RATE, calls=8 * RATE)
            costs.append(f"{done.used.cpu / done.calls * 1e6:.0f}")
            memory.append(f"{memory_kb(tree(running.pid)) / 1024:.0f} MB")
    times = f"CPU µs a call at {RATE}/s, {8 * RATE} calls three times in one process"
    return [f"{times}: {', '.join(costs)}; memory {', '.join(memory)} {LINGERING}"]


def with_held(folder: Path) -> list[str]:
    """CPU of the sidecar each second, with answered calls that are on and silent."""
    agent = free_port(HOST)
    idle: list[str] = []
    with trunkside(folder, agent) as running:
        assert running.pid is not None
        parties = Parties(running.port, agent, routed=running.routed)
        try:
            for calls in HELD:
                hold(parties, calls - len(parties.calls))
                time.sleep(1.0)
                meter = Meter(running.pid)
                time.sleep(5.0)
                idle.append(f"{calls}: {meter.read().cpu / 5 * 1e3:.1f}")
            release(parties)
        finally:
            parties.close()
    return [f"CPU ms a second with so many silent calls on: {', '.join(idle)} (linear)"]


def over_length(folder: Path) -> list[str]:
    """CPU of a packet and memory, as calls with media grow longer."""
    costs: list[str] = []
    memory: list[str] = []
    with media.trunkside_relay(folder, LONG_CALLS) as relay:
        for _ in range(STRETCHES):
            seen = media.flow(relay, folder, warm_up=1.0, window=STRETCH)
            costs.append(f"{seen.used.cpu / max(1, seen.received) * 1e6:.1f}")
            memory.append(f"{memory_kb(tree(relay.pid)) / 1024:.0f}")
    return [
        f"CPU µs a packet of {LONG_CALLS} calls, in each {STRETCH:.0f} s: {', '.join(costs)}",
        f"memory MB behind each: {', '.join(memory)}",
    ]


async def over_stored(folder: Path) -> None:
    """Lists and summaries, as the store fills."""
    for calls in STORED:
        await measure("sqlite", f"sqlite+aiosqlite:///{folder / f'{calls}.db'}", calls, only=ASKED)


def main() -> int:
    """Take each measurement once and print it."""
    for part in (one_after_the_other, with_held, over_length):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            for line in part(Path(folder)):
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        asyncio.run(over_stored(Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
