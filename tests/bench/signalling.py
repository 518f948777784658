"""Calls without media: what a system adds to their set-up, what each costs, and how many a second it takes before one goes wrong."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench import peers
from tests.bench.machine import LOAD_CORE, Meter, Used, pinned
from tests.bench.systems import HOST, Running, System
from tests.bench.table import Results
from tests.support.product import free_port

FASTEST = 3000
"""Calls a second at which the search ends: the load tools share one core."""
_SCENARIOS = Path(__file__).parent / "sipp"


@dataclass(frozen=True, slots=True)
class Load:
    """What SIPp saw of a run on both ends, and what it cost the system."""

    calls: int
    failed: int
    again: int
    """Messages that had to be sent again."""
    seconds: float
    used: Used

    def clean(self, rate: float) -> bool:
        """Whether every call went through at the first attempt, and as fast as asked."""
        return self.failed == 0 and self.again == 0 and self.calls / self.seconds > 0.93 * rate


def load(running: Running, agent: int, folder: Path, *, rate: int, calls: int, patience: float = 12.0) -> Load:
    """`calls` calls at `rate` a second through a system, from SIPp to SIPp; whoever needs `patience` seconds more is not waited for."""
    target = "[next_url]" if running.routed else "sip:[service]@[remote_ip]:[remote_port]"
    caller = folder / "caller.xml"
    caller.write_text((_SCENARIOS / "caller.xml").read_text().replace("%target%", target))
    limit = calls / rate + patience
    answering = _sipp(_SCENARIOS / "agent.xml", folder / "agent", agent, calls, [])
    time.sleep(0.2)
    meter = Meter(running.pid) if running.pid is not None else None
    begin = time.monotonic()
    options = [f"{HOST}:{running.port}", "-s", "agent", "-r", str(rate), "-l", "100000", "-timeout", f"{limit:.0f}s"]
    dialling = _sipp(caller, folder / "caller", free_port(HOST), calls, options)
    try:
        dialling.wait(limit + 3)
    except subprocess.TimeoutExpired:
        dialling.kill()
    seconds = time.monotonic() - begin
    time.sleep(0.5)  # figures of the last calls, traces, uploads: they belong to the cost
    used = meter.read() if meter is not None else Used(0.0, 0.0)
    for process in (dialling, answering):
        if process.poll() is None:
            process.kill()
        process.wait()
    mine, theirs = _figures(folder / "caller"), _figures(folder / "agent")
    failed = mine.get("FailedCall(C)", calls) + max(0, calls - mine.get("SuccessfulCall(C)", 0) - mine.get("FailedCall(C)", 0))
    again = mine.get("Retransmissions(C)", 0) + theirs.get("Retransmissions(C)", 0)
    return Load(calls, failed, again, max(seconds - 0.2, 0.01), used)


def _sipp(scenario: Path, folder: Path, port: int, calls: int, options: list[str]) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    (folder / "statistics.csv").unlink(missing_ok=True)
    command = ["sipp", *options, "-sf", str(scenario), "-i", HOST, "-p", str(port), "-mi", HOST, "-m", str(calls), "-nostdin"]
    command += ["-trace_stat", "-stf", str(folder / "statistics.csv"), "-fd", "1", "-buff_size", str(4 << 20)]
    return subprocess.Popen(pinned(LOAD_CORE, command), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _figures(folder: Path) -> dict[str, int]:
    """The counters of SIPp's last line; none when it never came to write one."""
    file = folder / "statistics.csv"
    rows = list(csv.DictReader(file.open(newline=""), delimiter=";")) if file.exists() else []
    return {key: int(value) for key, value in rows[-1].items() if key and key.endswith("(C)") and value and value.isdigit()} if rows else {}


def cost(results: Results, name: str, system: System, folder: Path, *, rate: int, seconds: float) -> None:
    """CPU a call at one rate."""
    agent = free_port(HOST)
    with system(folder, agent) as running:
        load(running, agent, folder, rate=rate, calls=max(5, min(rate, 50)))  # caches, first connections, imports that wait for a need
        done = load(running, agent, folder, rate=rate, calls=int(rate * seconds))
    if running.pid is None:
        return
    results.note_foreign(done.used.foreign / (done.seconds + 0.5))
    if done.failed > done.calls // 100:
        # What calls cost that mostly fail says nothing; `most_calls` gives the cost at the rate that a system does reach.
        results.remark(f"{name} does not carry {rate} calls/s: {done.failed} of {done.calls} calls failed")
        return
    results.add(f"CPU a call at {rate} calls/s", "µs", name, done.used.cpu / done.calls * 1e6)


def setup_delay(results: Results, name: str, system: System, folder: Path, *, calls: int) -> None:
    """INVITE → 200 as the caller sees it, at 20 calls/s."""
    agent = free_port(HOST)
    with system(folder, agent) as running:
        for size in (20, calls):
            command = [sys.executable, "-m", "tests.bench.ua", str(running.port), str(agent), "20", str(size), str(int(running.routed))]
            done = subprocess.run(pinned(LOAD_CORE, command), cwd=peers.ROOT, capture_output=True, text=True, timeout=60, check=True)
    delays = json.loads(done.stdout)["delays_us"]
    if len(delays) < calls:
        results.remark(f"{name}: {calls - len(delays)} of {calls} calls were not answered within a second")
    for share in (50, 99) if delays else ():
        taken, wire = delays[(len(delays) - 1) * share // 100], f"set-up delay p{share} at 20 calls/s"
        results.add(wire, "µs", name, taken)
        alone = results.rows[wire].samples.get("direct")
        if alone and name != "direct":  # the wire's own delay of this repetition: it is measured first
            results.add(f"added {wire}", "µs", name, max(0.0, taken - alone[-1]))


def most_calls(results: Results, name: str, system: System, folder: Path, *, start: int, seconds: float, steps: int) -> None:
    """The highest rate without a failed or repeated message: doubled until it breaks, then halved in between, `steps` times."""
    agent = free_port(HOST)
    cost_at = {0: 0.0}
    with system(folder, agent) as running:

        def clean(rate: int) -> bool:
            done = load(running, agent, folder, rate=rate, calls=int(rate * seconds), patience=3.0)
            cost_at[rate] = done.used.cpu / done.calls * 1e6
            return done.clean(rate)

        load(running, agent, folder, rate=20, calls=20)
        best, worst = 0, FASTEST
        rate = start
        while rate < FASTEST and best == 0 and rate > 4:
            if clean(rate):
                best = rate
            else:
                worst, rate = rate, rate // 2
        while best and worst == FASTEST and best * 2 <= FASTEST:
            if clean(best * 2):
                best *= 2
            else:
                worst = best * 2
        for _ in range(steps):
            middle = (best + worst) // 2
            if worst - best <= max(2, best // 16):
                break
            if clean(middle):
                best = middle
            else:
                worst = middle
    results.add("most clean calls/s", "calls/s", name, best, more_is_better=True)
    if best and running.pid is not None:
        results.add("CPU a call at the most clean calls/s", "µs", name, cost_at[best])
