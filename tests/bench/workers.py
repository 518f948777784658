"""One sidecar process against several workers behind one address, both on all cores: `python -m tests.bench.workers`.

The load tools share the cores, as agents and callers on one host do. So the rate at which a call goes wrong says what such a host takes,
and the CPU a call what the dispatching costs.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.bench import peers
from tests.bench.machine import CORES, cpu_seconds, describe, memory_kb, tree
from tests.bench.signalling import load
from tests.bench.systems import HOST, Running
from tests.support.product import free_port, until

RATE, SECONDS = 100, 5.0
FASTEST = 900
REPEATS = 3


@dataclass
class Seen:
    """Samples of one way to run it."""

    cpu_ms: list[float] = field(default_factory=list)
    reading_ms: list[float] = field(default_factory=list)
    most: list[int] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)


@contextmanager
def running(folder: Path, agent: int, workers: int) -> Iterator[Running]:
    """The sidecar with so many workers, and a control that takes its facts."""
    sink = subprocess.Popen([sys.executable, "-m", "tests.bench.facts_sink"], cwd=peers.ROOT, stdout=subprocess.PIPE, text=True)
    assert sink.stdout is not None
    port = free_port(HOST)
    settings = {
        "sip": {"listen": [f"udp://{HOST}:{port}"]},
        "routes": [{"name": "agent", "target": f"sip:agent@{HOST}:{agent}"}],
        "media": {"ports": [30000, 61000]},
        "control": {"url": f"http://{HOST}:{int(sink.stdout.readline())}"},
        "spool": {"path": str(folder / "spool")},
        "admin": {"listen": f"{HOST}:{free_port(HOST, socket.SOCK_STREAM)}"},
    }
    (folder / "sidecar.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "sidecar.cli", "sidecar", "--config", "sidecar.yaml", "--workers", str(workers)]
    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(["sh", "-c", 'ulimit -n "$(ulimit -Hn)"; exec "$@"', "sh", *command], cwd=folder, stderr=file)
    try:
        until("ready", lambda: b"workers ready" in log.read_bytes() if workers > 1 else b'"ready"' in log.read_bytes())
        yield Running("Trunkside", port, process.pid, 0.0, False)
    finally:
        for one in (process, sink):
            one.terminate()
            one.wait(60)


def measure(seen: Seen, workers: int) -> None:
    """One repetition."""
    with tempfile.TemporaryDirectory() as place:
        folder, agent = Path(place), free_port(HOST)
        with running(folder, agent, workers) as system:
            assert system.pid is not None
            load(system, agent, folder, rate=50, calls=100)
            reader = [system.pid] if workers > 1 else []
            before = cpu_seconds(reader)
            done = load(system, agent, folder, rate=RATE, calls=int(RATE * SECONDS))
            seen.cpu_ms.append(done.used.cpu / done.calls * 1e3)
            seen.reading_ms.append((cpu_seconds(reader) - before) / done.calls * 1e3)
            good, rate = 0, 2 * RATE
            while rate <= FASTEST:
                if not load(system, agent, folder, rate=rate, calls=int(rate * 3)).clean(rate):
                    break
                good, rate = rate, rate + 100
                time.sleep(0.5)
            seen.most.append(good)
            seen.memory_mb.append(memory_kb(tree(system.pid)) / 1024)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def main() -> None:
    """The table."""
    counts = (1, len(CORES))
    found = {count: Seen() for count in counts}
    _say(describe())
    for _ in range(REPEATS):
        for count in counts:
            measure(found[count], count)
    _say("| processes | CPU a call, ms (all) | of it reading and handing on | highest rate without a fault, calls/s | memory, MB |")
    _say("|---|---|---|---|---|")
    for count, seen in found.items():
        cells = [f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})" for values, digits in
                 ((seen.cpu_ms, 2), (seen.reading_ms, 3), (seen.most, 0), (seen.memory_mb, 0))]  # fmt: skip
        _say(f"| {count} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
