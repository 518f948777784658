"""From the command to ready: `trunkside control` with an empty database, and with one that has the present schema.

`python -m tests.bench.start [--runs 7]`: the median and the worst time until the log says `ready`, with the processor time used until then.
PostgreSQL is started by the measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tests.support.postgres import server


def start(config: Path) -> tuple[float, float]:
    """Seconds of one start until ready, on the wall and on processors."""
    began = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "sidecar.cli", "control", "--config", str(config)], stderr=subprocess.PIPE)
    try:
        assert child.stderr is not None
        while b'"event": "ready"' not in (line := child.stderr.readline()):
            assert line, "control ended before it was ready"
        took = time.perf_counter() - began
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        return took, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    finally:
        child.terminate()
        child.communicate()


def measure(name: str, folder: Path, runs: int, database: Callable[[int], str]) -> None:
    """Several starts; prints their figures. `database` gives the URL of a run."""
    took: list[tuple[float, float]] = []
    for run in range(runs):
        config = folder / "control.yaml"
        told = {"listen": "127.0.0.1:0", "database": database(run), "evaluator": {"api_key": "k"}}
        config.write_text(json.dumps(told))  # JSON is YAML
        took.append(start(config))
    wall, used = zip(*took, strict=True)
    sys.stdout.write(f"{name:<36}{median(wall):6.2f} s, at worst {max(wall):.2f} s; {median(used):.2f} s of processor time\n")
    sys.stdout.flush()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="trunkside-bench-") as name, server(durable=True) as running:
        folder = Path(name)
        measure("SQLite, empty", folder, runs, lambda run: f"sqlite+aiosqlite:///{folder}/{run}.db")
        measure("SQLite", folder, runs, lambda _: f"sqlite+aiosqlite:///{folder}/0.db")
        for run in range(runs):
            running.sql(f"CREATE DATABASE bench{run}")
        measure("PostgreSQL, empty", folder, runs, lambda run: running.url(f"bench{run}"))
        measure("PostgreSQL", folder, runs, lambda _: running.url("bench0"))


if __name__ == "__main__":
    main()
