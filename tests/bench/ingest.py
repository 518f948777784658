"""Finished calls into control on SQLite: a steady rate for a while, the lag behind it, and what the disk itself can do.

`python -m tests.bench.ingest [--rate 300] [--seconds 60] [--calls-per-post 1] [--reports]`: each post holds the whole traces of that many
calls, as a sidecar sends them. Lag is from the moment a post was due to its answer, which says that it is on disk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles

import aiohttp
import uvloop

from tests.core.control.traces import Trace, report, turn

CONNECTIONS = 32
_MARK = 987_654_321
_HEADERS = "\r\n".join(f"X-Header-{n}: {'v' * 40}" for n in range(8))


def finished_call(number: int) -> Trace:
    """The facts of an answered call of two turns as a sidecar sends them: 23, twelve of them SIP messages of some 700 octets."""
    trace = Trace(f"{number:032x}", f"SCL_{number:024d}", token=f"{number:032x}", started=datetime.now(UTC))
    for n, (leg, way, first) in enumerate(
        [("A", "in", "INVITE sip:agent@edge SIP/2.0"), ("A", "out", "SIP/2.0 100 Trying"), ("B", "out", "INVITE sip:agent@edge SIP/2.0"),
         ("B", "in", "SIP/2.0 180 Ringing"), ("A", "out", "SIP/2.0 180 Ringing"), ("B", "in", "SIP/2.0 200 OK"), ("B", "out", "ACK sip:a"),
         ("A", "out", "SIP/2.0 200 OK"), ("A", "in", "ACK sip:agent@edge SIP/2.0"), ("A", "in", "BYE sip:agent@edge SIP/2.0"),
         ("A", "out", "SIP/2.0 200 OK"), ("B", "out", "BYE sip:a SIP/2.0")]
    ):  # fmt: skip
        trace.message(n, leg, way, f"{first}\r\nCall-ID: SCL_{number:024d}\r\n{_HEADERS}\r\n\r\n")
    trace.answered()
    for n in (1, 2):
        trace.add("turn_measured", 5000.0 * n, turn=turn(n, 1000, 2000, 2600, 4000))
    return trace.ended()


class Bodies:
    """Posts of finished calls, made from one by putting numbers in: the poster must not be what is measured."""

    def __init__(self) -> None:
        trace = finished_call(_MARK)
        self._facts = ",".join(json.dumps(fact) for fact in trace.facts)
        self._report = json.dumps(report(f"r-{trace.call}", trace, sip_call_id=trace.sip_call_id))

    def facts(self, sidecar: str, numbers: range) -> bytes:
        """A batch of the facts of these calls."""
        facts = ",".join(self._numbered(self._facts, number) for number in numbers)
        return f'{{"version": 1, "sidecar": "{sidecar}", "facts": [{facts}]}}'.encode()

    def report(self, number: int) -> bytes:
        """The agent's report of a call."""
        return self._numbered(self._report, number).encode()

    def _numbered(self, text: str, number: int) -> str:
        return text.replace(f"{_MARK:032x}", f"{number:032x}").replace(f"{_MARK:024d}", f"{number:024d}")


async def measure(rate: float, seconds: float, per_post: int, with_reports: bool) -> None:
    """One run; prints its figures."""
    with tempfile.TemporaryDirectory(prefix="trunkside-bench-") as folder:
        say(f"disk: {fsyncs(Path(folder)):.0f} fsync/s of 4 KiB appended")
        config = Path(folder) / "control.yaml"
        evaluator = {"base_url": "http://127.0.0.1:9", "api_key": "k", "workspace_id": 1, "agent_id": "a"}
        database = f"sqlite+aiosqlite:///{folder}/control.db"
        config.write_text(json.dumps({"listen": "127.0.0.1:0", "database": database, "enrich_wait_s": 600, "evaluator": evaluator}))
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sidecar.cli", "control", "--config", str(config), stderr=asyncio.subprocess.PIPE
        )
        assert child.stderr is not None
        try:
            while '"event": "ready"' not in (line := (await child.stderr.readline()).decode()):
                assert line, "control ended before it was ready"
            drain = asyncio.create_task(child.stderr.read())
            await load(json.loads(line)["url"], rate, seconds, per_post, with_reports, Path(f"/proc/{child.pid}/stat"))
            child.terminate()
            await drain
        finally:
            if child.returncode is None:
                await child.wait()
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        say(f"stored: {size / 2**20:.0f} MiB")


async def load(url: str, rate: float, seconds: float, per_post: int, with_reports: bool, stat: Path) -> None:
    """Post at `rate` calls a second, then count what is there."""
    posts = int(rate * seconds / per_post)
    lags: list[float] = []
    bodies = Bodies()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as http:
        turn_of = iter(range(posts))
        began = time.perf_counter() + 0.5
        used = cpu(stat)

        async def poster() -> None:
            for post in turn_of:
                due = began + post * per_post / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                numbers = range(post * per_post, (post + 1) * per_post)
                await stubborn(http, f"{url}/v1/ingest/facts", bodies.facts(f"edge-{post % 4}", numbers))
                for number in numbers if with_reports else ():
                    await stubborn(http, f"{url}/api/v1/public/call", bodies.report(number))
                lags.append(time.perf_counter() - due)

        await asyncio.gather(*(poster() for _ in range(CONNECTIONS)))
        took = time.perf_counter() - began
        used = cpu(stat) - used
        async with http.get(f"{url}/metrics") as response:
            counted = [line for line in (await response.text()).splitlines() if line.startswith("trunkside_calls{")]
    stored = int(sum(float(line.rsplit(" ", 1)[1]) for line in counted))
    first, last = lags[: len(lags) // 4], lags[-len(lags) // 4 :]
    cuts = quantiles(lags, n=100)
    say(f"offered {rate:.0f} calls/s for {seconds:.0f} s, {per_post} a post{', each with its report' if with_reports else ''}")
    say(f"stored {stored} of {posts * per_post} calls, {stored / took:.0f} calls/s, control used {100 * used / took:.0f} % of a core")
    say(f"lag: p50 {cuts[49] * 1000:.1f} ms, p95 {cuts[94] * 1000:.1f} ms, max {max(lags) * 1000:.0f} ms")
    say(f"lag p50 in the first quarter {middle(first):.1f} ms, in the last {middle(last):.1f} ms")


async def stubborn(http: aiohttp.ClientSession, url: str, body: bytes) -> None:
    """Post until it is taken, as a sidecar does."""
    while True:
        async with http.post(url, data=body) as response:
            await response.read()
            if response.status == 200:
                return
        await asyncio.sleep(0.2)


def say(line: str) -> None:
    """Put out one line now."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def middle(values: list[float]) -> float:
    """The median in milliseconds."""
    return sorted(values)[len(values) // 2] * 1000


def cpu(stat: Path) -> float:
    """Seconds of processor time of a process."""
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fsyncs(folder: Path) -> float:
    """How often a second the disk confirms 4 KiB appended to a file."""
    file = os.open(folder / "probe", os.O_CREAT | os.O_WRONLY)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < 2.0:
        os.write(file, bytes(4096))
        os.fsync(file)
        count += 1
    os.close(file)
    (folder / "probe").unlink()
    return count / (time.perf_counter() - began)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=300.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--calls-per-post", type=int, default=1)
    parser.add_argument("--reports", action="store_true")
    told = parser.parse_args()
    uvloop.run(measure(told.rate, told.seconds, told.calls_per_post, told.reports))


if __name__ == "__main__":
    main()
