"""`python -m tests.accuracy`: score the whole corpus, print the table, keep it in var/accuracy.md. Exits 1 where a goal is missed."""

from __future__ import annotations

import sys
from pathlib import Path
from time import process_time

from control.contract.call import RelayDelay
from sidecar.clocks import Mono
from sidecar.media.codec import STATIC
from sidecar.turns.measurement import Measurement
from tests.accuracy.goals import table
from tests.accuracy.groups import CASES, calls, voices
from tests.accuracy.line import ANSWER
from tests.accuracy.score import Tally, pooled
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
    pairs = voices()
    tallies: dict[tuple[str, str], Tally] = {}
    began = process_time()
    for seed, case in enumerate(CASES, 1):
        for kind, pair in pairs.items():
            whole = pooled(calls(case, pair, CALLS if case.line.codec in G711 else 1, seed))
            tallies.setdefault((case.group, kind), Tally()).add(whole)
        sys.stderr.write(f"\r{seed}/{len(CASES)} ")
    sys.stderr.write("\r")
    text, passed = table(tallies)
    seconds = sum(t.seconds for t in tallies.values())
    text += f"\nVoices: {', '.join(f'{kind} ({len(p)})' for kind, p in pairs.items())}. {seconds / 3600:.1f} hours of calls, "
    text += f"made, carried and measured in {process_time() - began:.0f} s of CPU.\n"
    text += f"An hour's call, in batches of 200 ms, was measured in {an_hour():.1f} s of CPU.\n"
    sys.stdout.write(text)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(text, encoding="utf-8")
    return 0 if passed else 1


sys.exit(main())
