"""`python -m tests.accuracy [GROUP …]`: score the corpus or some groups of it, print both tables, keep them in var/accuracy.md.

Exits 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import process_time

from control.contract.call import RelayDelay
from sidecar.analysis.silero import Silero
from sidecar.clocks import Mono
from sidecar.media.codec import STATIC
from sidecar.speech.neural import Bench
from sidecar.turns.measurement import Measurement
from tests.accuracy.goals import Detector, table
from tests.accuracy.groups import CASES, made, voices
from tests.accuracy.line import ANSWER
from tests.accuracy.score import Tally, measured, scored
from tests.support.speech_call import voice
from tests.support.speech_hour import batches, hour

CALLS = 3
G711 = ("PCMU", "PCMA")
OUT = Path("var/accuracy.md")


def an_hour() -> float:
    """Seconds of CPU that the measurement of an hour takes."""
    _, _, packets, seconds = hour([voice(seed, 0.5 + seed % 5 * 0.6) for seed in range(10)], ANSWER)
    measurement = Measurement()
    measurement.negotiated("A", STATIC)
    measurement.negotiated("B", STATIC)
    measurement.answered(Mono(ANSWER))
    began = process_time()
    for batch in batches(packets, 0.2):
        measurement.packets(batch)
    measurement.finish(Mono(ANSWER + seconds), tap_dropped=0, refused=0, relay_delay=RelayDelay())
    return process_time() - began


def main() -> int:
    """Score, print, keep."""
    known = sorted({case.group for case in CASES})
    parser = argparse.ArgumentParser(prog="python -m tests.accuracy", description="Score the measurement against labelled conversations.")
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(known)}; all of them if none is named".replace("%", "%%"))
    groups = parser.parse_args().groups
    if strange := set(groups) - set(known):
        parser.error(f"no such group: {', '.join(sorted(strange))}; there are {', '.join(known)}")
    pairs, bench = voices(), Bench(Silero())
    tallies: dict[Detector, dict[tuple[str, str], Tally]] = {"default": {}, "accurate": {}}
    began, cpu = process_time(), dict.fromkeys(tallies, 0.0)
    for seed, case in enumerate(CASES, 1):
        if groups and case.group not in groups:
            continue
        for kind, pair in pairs.items():
            for told, call in made(case, pair, CALLS if case.line.codec in G711 else 1, seed):
                for detector, tally in tallies.items():
                    if (detector, kind) == ("accurate", "made"):
                        continue  # a network that knows speech rightly doubts what arithmetic says
                    before = process_time()
                    result = measured(call, told.seconds, bench if detector == "accurate" else None)
                    cpu[detector] += process_time() - before
                    tally.setdefault((case.group, kind), Tally()).add(scored(case.line.drifted(told), result))
        sys.stderr.write(f"\r{seed}/{len(CASES)} ")
    sys.stderr.write("\r")
    text, passed = "", True
    for detector, tally in tallies.items():
        rows, reached = table(tally, detector)
        passed &= reached
        hours = sum(t.seconds for t in tally.values()) / 3600
        text += f"## {detector}\n\n{rows}\n{hours:.1f} hours of calls, measured in {cpu[detector] / hours:.1f} s of CPU an hour.\n\n"
    text += f"Voices: {', '.join(f'{kind} ({len(p)})' for kind, p in pairs.items())}. Made, carried and measured in "
    text += f"{process_time() - began:.0f} s of CPU.\n"
    if not groups:
        text += f"An hour's call, in batches of 200 ms, is measured in {an_hour():.1f} s of CPU.\n"
    sys.stdout.write(text)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(text, encoding="utf-8")
    return 0 if passed else 1


sys.exit(main())
