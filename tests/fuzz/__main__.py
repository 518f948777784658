"""`python -m tests.fuzz [DECODER…] [--seconds N] [--random]`: look for inputs that a decoder chokes on, and print what was tried.

With atheris (libFuzzer, guided by coverage) where it is installed, else by chance alone. A crash is left in var/fuzz, named by its decoder;
add it to the corpus when it is mended.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

FOUND = Path("var/fuzz")


@dataclass
class Tried:
    """What became of one decoder."""

    decoder: str
    how: str
    inputs: int
    crashes: int
    seconds: float
    detail: str = ""


def by_chance(name: str, seconds: float) -> Tried:
    """Broken pieces of the corpus, until the time is over or something breaks."""
    from tests.fuzz.decoders import DECODERS
    from tests.fuzz.inputs import changed, seeds

    good, seed = seeds(name), random.SystemRandom().randrange(2**32)
    draw, began, inputs = random.Random(seed), time.monotonic(), 0
    while (took := time.monotonic() - began) < seconds:
        data = changed(draw, good)
        inputs += 1
        try:
            DECODERS[name](data)
        except Exception:  # noqa: BLE001 - whatever it is, it is what is looked for
            FOUND.mkdir(parents=True, exist_ok=True)
            (FOUND / f"{name}-{seed}-{inputs}").write_bytes(data)
            return Tried(name, "random", inputs, 1, took, traceback.format_exc(limit=-3))
    return Tried(name, "random", inputs, 0, took)


def by_coverage(name: str, seconds: float) -> Tried:
    """libFuzzer in a process of its own, since it ends the one it runs in."""
    FOUND.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as grown:
        command = [
            *(sys.executable, "-m", "tests.fuzz.guided", name, grown, str(Path(__file__).parent / "corpus" / name)),
            *(f"-max_total_time={max(1, round(seconds))}", "-print_final_stats=1", "-timeout=20", "-max_len=8192", "-rss_limit_mb=2048"),
            f"-artifact_prefix={FOUND}/{name}-",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    said = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    detail = "" if done.returncode == 0 else (done.stdout + done.stderr)[-3000:]
    return Tried(name, "atheris", int(said[1]) if said else 0, int(done.returncode != 0), time.monotonic() - began, detail)


def main() -> int:
    """The table; 1 when something broke."""
    from tests.fuzz.decoders import DECODERS

    options = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Look for inputs that a decoder chokes on.")
    options.add_argument("decoders", nargs="*", metavar="DECODER", help=f"of {', '.join(DECODERS)}; all when none is named")
    options.add_argument("--seconds", type=float, default=60.0, help="for each decoder")
    options.add_argument("--random", action="store_true", help="by chance, also where atheris is installed")
    asked = options.parse_args()
    if unknown := set(asked.decoders) - set(DECODERS):
        options.error(f"no decoder {', '.join(sorted(unknown))}")
    guided = importlib.util.find_spec("atheris") is not None and not asked.random
    failed = 0
    print(f"{'decoder':<17} {'how':<8} {'inputs':>9} {'crashes':>8} {'seconds':>8}")  # noqa: T201
    for name in asked.decoders or DECODERS:
        tried = (by_coverage if guided else by_chance)(name, asked.seconds)
        print(f"{name:<17} {tried.how:<8} {tried.inputs:>9} {tried.crashes:>8} {tried.seconds:>8.1f}", flush=True)  # noqa: T201
        if tried.crashes:
            failed = 1
            print(tried.detail, flush=True)  # noqa: T201
    return failed


if __name__ == "__main__":
    sys.exit(main())
