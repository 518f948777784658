"""Where the sidecar's time goes in a call without media: `python -m tests.bench.profile`, by stage of the data flow.

The sidecar runs under the deterministic profiler, which about trebles what a function call costs, so shares say more than times. What
the kernel and other threads take is told beside it.
"""

from __future__ import annotations

import asyncio
import cProfile
import os
import pstats
import runpy
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import uvloop

from tests.bench import signalling
from tests.bench.machine import TEST_CORE, threads, tree
from tests.bench.systems import HOST, trunkside
from tests.support.product import free_port

RATE, CALLS = 25, 250
_FILE = "BENCH_PROFILE"
STAGES = {
    "sidecar/net/": "sockets",
    "sidecar/sip/sdp": "session descriptions",
    "sidecar/sip/layer": "transactions",
    "sidecar/sip/transactions": "transactions",
    "sidecar/sip/": "messages, headers, dialogs",
    "sidecar/b2bua/": "two legs",
    "sidecar/identity/": "identity",
    "sidecar/native/": "media paths, opened and closed",
    "sidecar/media/": "media paths, opened and closed",
    "sidecar/trace/": "trace: lines",
    "sidecar/reporter/": "trace: spool and upload",
    "aiohttp/": "trace: spool and upload",
    "sidecar/analysis/": "analysis process, asked",
    "pydantic/": "analysis process, asked",
    "prometheus_client/": "logs and metrics",
    "sidecar/figures": "logs and metrics",
    "structlog/": "logs and metrics",
    "json/": "logs and metrics",
    "sidecar/": "session and pump",
}


def serve() -> None:
    """The sidecar's command line with its event loop under the profiler, from SIGUSR1 on."""
    profile = cProfile.Profile()
    run = uvloop.run

    def under(main):  # type: ignore[no-untyped-def]
        async def whole():  # type: ignore[no-untyped-def]
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, profile.enable)
            return await main

        try:
            return run(whole())
        finally:
            profile.disable()
            profile.dump_stats(os.environ[_FILE])

    uvloop.run = under
    runpy.run_module("sidecar.cli", run_name="__main__")


def stage_of(file: str, stages: Mapping[str, str], other: str) -> str:
    """The stage that a function of a file belongs to: the first whose part of a path is in its own."""
    return next((stage for part, stage in stages.items() if part in file), other)


def report(profile: Path | cProfile.Profile, stages: Mapping[str, str], other: str, *, things: int, thing: str) -> list[str]:
    """Shares by stage; built-in functions are counted where they are called. Function calls are told for each of `things`."""
    stats = pstats.Stats(str(profile) if isinstance(profile, Path) else profile).stats  # type: ignore[attr-defined]
    time: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for place, (_, n, own, _, callers) in stats.items():
        if place[0] != "~":
            time[stage_of(place[0], stages, other)] += own
            count[stage_of(place[0], stages, other)] += n
            continue
        for caller, (_, called, spent, _) in callers.items():
            time[stage_of(caller[0], stages, other)] += spent
            count[stage_of(caller[0], stages, other)] += called
    total = sum(time.values())
    lines = [f"{'stage':<34}{'share':>8}{f'function calls a {thing}':>26}"]
    digits = 0 if sum(count.values()) > 100 * things else 2
    lines += [f"{stage:<34}{100 * spent / total:7.1f} %{count[stage] / things:26.{digits}f}" for stage, spent in time.most_common()]
    return [*lines, f"{'all':<34}{'100.0 %':>9}{sum(count.values()) / things:26.{digits}f}"]


def main() -> int:
    """Profile some hundred calls, and say what share of the process's time the kernel has without the profiler."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder, agent = Path(name), free_port(HOST)
        with trunkside(folder, agent) as running:
            assert running.pid is not None
            signalling.load(running, agent, folder, rate=20, calls=20)
            before = _used(running.pid)
            signalling.load(running, agent, folder, rate=RATE, calls=CALLS)
            user, system = (after - earlier for after, earlier in zip(_used(running.pid), before, strict=True))
        os.environ[_FILE] = str(folder / "stats")
        with trunkside(folder, agent, ["tests.bench.profile", "serve"]) as running:
            assert running.pid is not None
            signalling.load(running, agent, folder, rate=20, calls=20)
            os.kill(running.pid, signal.SIGUSR1)
            signalling.load(running, agent, folder, rate=RATE, calls=CALLS)
        lines = [
            f"{CALLS} calls at {RATE}/s, 13 messages and about 25 facts each; the sidecar's process on core {TEST_CORE}",
            f"without a profiler: {user / CALLS * 1e6:.0f} µs a call in Python and libraries, {system / CALLS * 1e6:.0f} µs in the kernel",
            *report(folder / "stats", STAGES, "interpreter and event loop", things=CALLS, thing="call"),
        ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _used(pid: int) -> tuple[float, float]:
    """Seconds that a process and what it started have used, outside of the kernel and within."""
    used = threads(tree(pid)).values()
    return sum(thread.user for thread in used), sum(thread.system for thread in used)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        del sys.argv[1]
        serve()
    else:
        sys.exit(main())
