"""Where the time of a media packet goes: `python -m tests.bench.packets`, by thread of the sidecar, and within the analysis by stage.

The threads are those of the sidecar as users run it, with 300 calls. The stages come from the deterministic profiler over the same audio
in this process, without a network; it about doubles what Python code costs beside numpy's, so shares say more than times.
"""

from __future__ import annotations

import cProfile
import random
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sidecar.analysis.calls import Calls
from sidecar.analysis.work import Answered, Look, Negotiated, Work
from sidecar.clocks import Mono
from sidecar.media.codec import STATIC
from sidecar.media.relay import Leg
from sidecar.media.tap import Tapped
from tests.bench import media
from tests.bench.machine import TEST_CORE, threads, tree
from tests.bench.profile import report

LIVE_CALLS, WINDOW = 300, 6.0
CALLS, SECONDS, PERIOD = 32, 30.0, 0.7
"""Of the profile: a look comes to each call so often at 300 calls."""
STEP = 0.02
_LEGS: tuple[Leg, Leg] = ("A", "B")
PARTS = FORWARDING, LOOP, ANALYSIS = ("the thread that forwards", "event loop: copies to the analysis", "analysis process")
_FORWARDER = "trunkside-media"
STAGES = {
    "sidecar/media/": "packets to a time line",
    "sidecar/speech/detector": "speech or not, frame by frame",
    "sidecar/speech/sounds": "speech or not, frame by frame",
    "webrtcvad": "speech or not, frame by frame",
    "sidecar/speech/picture": "levels kept for the page",
    "sidecar/speech/": "where speech begins and ends",
    "sidecar/turns/echo": "echo of the agent",
    "sidecar/turns/": "turns and figures",
    "numpy/": "numpy, of all of these",
    "sidecar/analysis/": "calls and requests",
}


class Party:
    """What one side of a call sends: its part of a conversation from somewhere on, 20 ms a packet, the arrivals a little uneven."""

    def __init__(self, leg: Leg, said: Sequence[bytes], first: int, chance: random.Random) -> None:
        self._leg, self._said, self._first, self._chance = leg, said, first, chance
        self._sequence, self._timestamp, self._ssrc = chance.randrange(1 << 15), chance.randrange(1 << 31), chance.randrange(1 << 32)
        self._lag = chance.random() * STEP
        self._sent = 0

    def until(self, now: float) -> list[Tapped]:
        """The packets that came before `now`, seconds since the answer, and after the last call of this method."""
        sent: list[Tapped] = []
        while (at := self._sent * STEP + self._lag) < now - STEP:
            head = struct.pack("!BBHII", 0x80, 0, self._sequence + self._sent, self._timestamp + self._sent * media.OCTETS, self._ssrc)
            audio = self._said[(self._first + self._sent) % len(self._said)]
            sent.append((self._leg, head + audio, Mono(at + self._chance.random() * 3e-4)))
            self._sent += 1
        return sent


def requests(sound: bytes) -> list[Look]:
    """What the sidecar would ask of the analysis while `CALLS` calls talk for `SECONDS`."""
    chance = random.Random(1)
    frames = [sound[at : at + media.OCTETS] for at in range(0, len(sound), media.OCTETS)]
    parties = {str(n): _conversation(frames, chance) for n in range(CALLS)}
    begin: list[Work] = [*(Negotiated(leg, {0: STATIC[0]}) for leg in _LEGS), Answered(Mono(0.0))]
    looks = [Look([(call, begin) for call in parties], Mono(0.0))]
    for n in range(1, int(SECONDS / PERIOD) + 1):
        now = n * PERIOD
        looks.append(Look([(call, _heard(both, now)) for call, both in parties.items()], Mono(now)))
    return looks


def _conversation(frames: Sequence[bytes], chance: random.Random) -> list[Party]:
    first = chance.randrange(len(frames) // 2)
    return [Party(leg, frames[n::2], first, chance) for n, leg in enumerate(_LEGS)]


def _heard(parties: Sequence[Party], now: float) -> list[Work]:
    return [*sorted((packet for party in parties for packet in party.until(now)), key=lambda packet: packet[2])]


def analysis(sound: bytes) -> list[str]:
    """The analysis's time for a packet, and its shares by stage."""
    lines: list[str] = []
    for profile in (None, cProfile.Profile()):
        calls, looks = Calls(), requests(sound)
        warm = len(looks) // 4  # until the detectors know their noise
        for look in looks[:warm]:
            calls.answer(look)
        packets = sum(len(work) for look in looks[warm:] for _, work in look.calls)
        begin = time.process_time()
        if profile is not None:
            profile.enable()
        for look in looks[warm:]:
            calls.answer(look)
        if profile is None:
            lines.append(f"the analysis of {CALLS} calls by itself: {(time.process_time() - begin) / packets * 1e6:.1f} µs a packet")
        else:
            profile.disable()
            lines += report(profile, STAGES, "Python's own library", things=packets, thing="packet")
    return lines


def live(folder: Path) -> list[str]:
    """CPU a packet of each part of a sidecar with `LIVE_CALLS` calls."""
    seen: list[Counter[tuple[str, str]]] = []
    with media.trunkside_relay(folder, LIVE_CALLS) as relay:
        flow = media.flow(relay, folder, warm_up=2.0, window=WINDOW, edge=lambda: seen.append(_used(relay.pid)))
    before, after = seen
    lines = [
        f"{LIVE_CALLS} calls, {flow.received} packets in {WINDOW:.0f} s, the sidecar on core {TEST_CORE}",
        f"{'µs a packet':<34}{'user':>8}{'kernel':>8}",
    ]
    for part in PARTS:
        user, kernel = ((after[part, mode] - before[part, mode]) / flow.received * 1e6 for mode in ("user", "kernel"))
        lines.append(f"{part:<34}{user:8.1f}{kernel:8.1f}")
    return lines


def _used(pid: int) -> Counter[tuple[str, str]]:
    """Seconds that each part of a sidecar has used so far."""
    used: Counter[tuple[str, str]] = Counter()
    for process in tree(pid):
        for thread in threads([process]).values():
            part = ANALYSIS if process != pid else FORWARDING if thread.name == _FORWARDER else LOOP
            used[part, "user"] += thread.user
            used[part, "kernel"] += thread.system
    return used


def main() -> int:
    """Print both."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        lines = [*live(folder), "", *analysis(media.audio(folder).read_bytes())]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
