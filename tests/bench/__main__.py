"""`python -m tests.bench [NAME …] [--quick]`: measure beside the peers, in one run, and say how we stand.

Peers take turns within a repetition, so that a machine that is busy for a while is busy for all of them. What is measured has a core to
itself and the load tools have another. Nothing leaves the loopback.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import footprint, machine, media, peers, signalling
from tests.bench.systems import SYSTEMS
from tests.bench.table import Results

Sample = Callable[[Results, Path], None]
"""Takes one sample of one system, in an empty folder."""
CONTROL = {
    "start": ["tests.bench.start"],
    "ingest": ["tests.bench.ingest", "--seconds", "60"],
    "reports": ["tests.bench.ingest", "--seconds", "20", "--rate", "60", "--reports"],
    "queries": ["tests.bench.store_queries", "--calls", "100000"],
    "growth": ["tests.bench.growth"],
    "profile": ["tests.bench.profile"],
    "packets": ["tests.bench.packets"],
}
"""These measure Trunkside alone and print by their own rules."""
TITLES = {
    "start": "Control: until it is ready",
    "ingest": "Control: finished calls taken in",
    "reports": "Control: finished calls with their reports",
    "queries": "Control: lists and summaries over 100,000 calls",
    "growth": "What grows with what",
    "profile": "Where the time of a call goes",
    "packets": "Where the time of a packet goes",
}
NAMES = ("setup", "cost", "rate", "media", "relay", "footprint", *CONTROL)


def plan(names: list[str], *, quick: bool) -> list[tuple[str, Sample]]:
    """One repetition: what is to be sampled, in order."""
    samples: list[tuple[str, Sample]] = []
    systems = [(name, system) for name, system in SYSTEMS.items() if not quick or name != "Sippy"]
    for name, system in systems:
        if "setup" in names:
            calls = 40 if quick else 200
            samples.append((f"setup delay, {name}", lambda r, f, n=name, s=system, c=calls: signalling.setup_delay(r, n, s, f, calls=c)))
    for rate in (20, 200, 1000):
        for name, system in systems:
            if "cost" in names and name != "direct" and not (quick and rate > 20) and not (rate == 1000 and name == "Sippy"):
                seconds = 3.0 if quick else 4.0
                samples.append(
                    (
                        f"cost at {rate}/s, {name}",
                        lambda r, f, n=name, s=system, v=rate, t=seconds: signalling.cost(r, n, s, f, rate=v, seconds=t),
                    )
                )
    for name, system in systems:
        if "rate" in names and not quick and name != "direct":
            start = {"Kamailio": 800, "Sippy": 120}.get(name, 160)
            samples.append(
                (
                    f"most calls/s, {name}",
                    lambda r, f, n=name, s=system, b=start: signalling.most_calls(r, n, s, f, start=b, seconds=3.0, steps=3),
                )
            )
    for calls in (50,) if quick else (50, 300):
        for name in media.RELAYS:
            if "media" in names:
                window = 3.0 if quick else 6.0
                samples.append(
                    (f"media of {calls} calls, {name}", lambda r, f, n=name, c=calls, w=window: media.cost(r, n, f, calls=c, window=w))
                )
    if "relay" in names and not quick:
        samples += [
            (f"most calls with media, {name}", lambda r, f, n=name: media.most_calls(r, n, f, window=4.0, steps=3)) for name in media.RELAYS
        ]
    for name, system in systems:
        if "footprint" in names and name != "direct":
            calls = 100 if quick else 400
            samples.append((f"footprint, {name}", lambda r, f, n=name, s=system, c=calls: footprint.measure(r, n, s, f, calls=c)))
    return samples


def main() -> int:
    """Parse, install, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure Trunkside beside its peers.")
    parser.add_argument("names", nargs="*", help=f"what to measure: {', '.join(NAMES)} (all of it if none is named)")
    parser.add_argument("--quick", action="store_true", help="one sample of the short measurements, in two minutes; not for quoting")
    parser.add_argument("--repeat", type=int, default=3, help="samples of each (3)")
    parser.add_argument("--output", type=Path, default=None, help="the Markdown file (docs/bench.md, with --quick var/bench.md)")
    parser.add_argument(
        "--add", action="store_true", help="add to the samples of earlier runs, where else those of the same row are replaced"
    )
    parser.add_argument("--fresh", action="store_true", help="leave out what earlier runs measured of other names")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is to be stopped
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"no measurement {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    output = options.output or peers.ROOT / ("var" if options.quick else "docs") / "bench.md"
    kept = peers.ROOT / "var" / "bench.json"
    results = Results(machine.describe())
    if kept.exists() and not options.quick and not options.fresh:
        results.take(kept.read_text(), add=options.add)
    try:
        names = options.names or [name for name in NAMES if not options.quick or name not in CONTROL]
        if not set(names) <= CONTROL.keys():
            peers.install(list(peers.PACKAGES), sippy=not options.quick)
        for _ in measure(results, plan(names, quick=options.quick), 1 if options.quick else options.repeat):
            keep(results, output, None if options.quick else kept)
        for name in CONTROL:
            if name in names:
                results.section(TITLES[name], control(CONTROL[name]))
                keep(results, output, None if options.quick else kept)
    except peers.NoPeer as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    sys.stdout.write(f"{results.text()}\n\nwritten to {output}\n")
    return 0


def keep(results: Results, output: Path, kept: Path | None) -> None:
    """Write down what there is: a run that is stopped has measured something."""
    for file, text in ((output, results.markdown()), (kept, results.dump())):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)


def control(command: list[str]) -> str:
    """What one of control's own measurements printed."""
    sys.stderr.write(f"{' '.join(command)} …\n")
    try:
        done = subprocess.run([sys.executable, "-m", *command], cwd=peers.ROOT, capture_output=True, text=True, timeout=1200, check=False)
    except subprocess.TimeoutExpired as error:
        return f"failed: not done within {error.timeout:g} s"  # the other measurements are not to be lost with it
    return done.stdout.strip() if done.returncode == 0 else f"failed: {done.stderr.strip()[-500:]}"


def measure(results: Results, samples: list[tuple[str, Sample]], repeat: int) -> Iterator[None]:
    """Take every sample `repeat` times, one repetition after the other; comes back after each."""
    if machine.LOAD_CORE == machine.TEST_CORE:
        results.remark("this machine lent one core only: load tools and systems share it, and no figure can be trusted")
    for turn in range(repeat):
        for n, (name, take) in enumerate(samples, 1):
            begin = time.monotonic()
            sys.stderr.write(f"[{turn + 1}/{repeat}] {n}/{len(samples)} {name} …\n")
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                try:
                    take(results, Path(folder))
                except RuntimeError as error:
                    results.remark(f"{name}: {error}")
            sys.stderr.write(f"    {time.monotonic() - begin:.1f} s\n")
            yield


if __name__ == "__main__":
    sys.exit(main())
