"""`python -m tests.bench.hour`: what it costs to measure an hour's call, two parties in G.711, in CPU of one core.

Whole: its packets at once, as a trace is measured again. Batches: 200 ms of packets at a time, as the analysis gets them. Looked at: the
same with the turns asked for each time, as for a live call. Accurate: looked at, with the neural detector.
"""

from __future__ import annotations

import sys
from time import process_time

from control.contract.call import RelayDelay
from sidecar.analysis.silero import Silero
from sidecar.clocks import Mono
from sidecar.media.codec import STATIC
from sidecar.speech.neural import Bench
from sidecar.turns.measurement import Measurement
from tests.accuracy.line import ANSWER
from tests.support.speech_call import voice
from tests.support.speech_hour import Packet, batches, hour

TIMES = 3


def seconds(packets: list[Packet], length: float, *, batch: float | None, live: bool = False, bench: Bench | None = None) -> float:
    """CPU for one measurement."""
    measurement = Measurement(bench=bench)
    for leg in ("A", "B"):
        measurement.negotiated(leg, STATIC)
    measurement.answered(Mono(ANSWER))
    parts = [packets] if batch is None else list(batches(packets, batch))
    began = process_time()
    for part in parts:
        measurement.packets(part)
        if live:
            measurement.live(part[-1][2])
    measurement.finish(Mono(ANSWER + length), tap_dropped=0, refused=0, relay_delay=RelayDelay())
    return process_time() - began


def main() -> None:
    """Print the least of some runs of each."""
    _, _, packets, length = hour([voice(seed, 0.5 + seed % 5 * 0.6) for seed in range(10)], ANSWER)
    bench = Bench(Silero())
    rows = {
        "whole": lambda: seconds(packets, length, batch=None),
        "batches of 200 ms": lambda: seconds(packets, length, batch=0.2),
        "looked at": lambda: seconds(packets, length, batch=0.2, live=True),
        "accurate": lambda: seconds(packets, length, batch=0.2, live=True, bench=bench),
    }
    for name, run in rows.items():
        best = min(run() for _ in range(TIMES if name != "accurate" else 1))
        sys.stdout.write(f"an hour's call, {name}: {best:.2f} s of CPU\n")


if __name__ == "__main__":
    main()
