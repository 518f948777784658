"""What a system takes before and between calls: the time to its first answer, its memory, and what a call adds to it."""

from __future__ import annotations

import time
from pathlib import Path

from tests.bench.machine import memory_kb, tree
from tests.bench.systems import HOST, System
from tests.bench.table import Results
from tests.bench.ua import Parties, hold, release
from tests.support.product import free_port


def measure(results: Results, name: str, system: System, folder: Path, *, calls: int) -> None:
    """Start a system, hold `calls` answered calls without media, hang up, and see what stays."""
    agent = free_port(HOST)
    with system(folder, agent) as running:
        if running.pid is None:
            return
        results.add("start to first answer", "ms", name, running.ready_s * 1000)
        parties = Parties(running.port, agent, routed=running.routed)
        try:
            hold(parties, 10)
            idle = memory_kb(tree(running.pid))
            results.add("memory before calls", "MB", name, idle / 1024)
            hold(parties, calls)
            time.sleep(0.5)
            results.add("memory a held call", "kB", name, (memory_kb(tree(running.pid)) - idle) / calls)
            release(parties)
        finally:
            parties.close()
