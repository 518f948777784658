"""Calls with media: what a packet costs, how long it waits, how many are lost. Trunkside listens to all of them, rtpengine to none."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sidecar.lab import g711
from sidecar.lab.speech import TEXTS, clip
from sidecar.media.decode import Pcm
from tests.bench.machine import LOAD_CORE, TEST_CORE, Meter, Used, cpu_seconds, pinned
from tests.bench.ng import Engine
from tests.bench.peers import NoPeer
from tests.bench.systems import HOST, trunkside
from tests.bench.table import Results
from tests.bench.ua import Parties, hold, release
from tests.support.product import free_port

OCTETS, PAUSE = 160, 6400
"""Of a packet's audio; samples between what the one party says and the other's answer."""
LOSS_PCT, DELAY_US = 0.01, 5000.0
"""A relay keeps up while less is lost and the slowest hundredth waits less."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What the load generator saw of a window."""

    calls: int
    sent: int
    received: int
    reordered: int
    p50_us: float
    p99_us: float
    late_us: float
    used: Used
    relaying: float
    """CPU seconds of the relaying process, which copies each packet for the tap, without the process that listens to the copies."""
    window_s: float

    @property
    def loss_pct(self) -> float:
        """Share of packets that never came."""
        return 100 * (self.sent - self.received) / self.sent if self.sent else 100.0

    @property
    def kept_up(self) -> bool:
        """Whether the relay was fast enough for this many calls."""
        return self.loss_pct < LOSS_PCT and self.p99_us < DELAY_US


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay with its calls up: each caller's and each agent's port of it."""

    pid: int
    ports: list[tuple[int, int]]
    caller: int
    agent: int


def compiled(folder: Path) -> Path:
    """The load generator. Raises NoPeer when it does not compile."""
    program = folder / "rtpload"
    if not program.exists():
        source = Path(__file__).parent / "rtpload.c"
        done = subprocess.run(["gcc", "-O2", "-o", str(program), str(source)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NoPeer(f"the media load generator does not compile: {done.stderr[-500:]}")
    return program


def audio(folder: Path) -> Path:
    """Raw µ-law of a conversation whose parties take turns with the lab's clips: a frame of the caller, one of the agent, and so on."""
    file = folder / "audio.ulaw"
    if not file.exists():
        parties: tuple[list[Pcm], list[Pcm]] = ([], [])
        for n, name in enumerate(TEXTS):
            said = np.concatenate((clip(name).samples, np.zeros(PAUSE, np.int16)))
            parties[n % 2].append(said)
            parties[1 - n % 2].append(np.zeros_like(said))
        tracks = [np.concatenate(party) for party in parties]
        whole = len(tracks[0]) // OCTETS * OCTETS
        frames = [np.frombuffer(g711.encode(track[:whole], "PCMU"), np.uint8).reshape(-1, OCTETS) for track in tracks]
        file.write_bytes(np.stack(frames, axis=1).tobytes())
    return file


def flow(relay: Relay, folder: Path, *, warm_up: float, window: float, edge: Callable[[], object] = lambda: None) -> Flow:
    """Play audio both ways through every call of a relay, and read its CPU over the window. `edge` is called where it begins and ends."""
    table = folder / "ports.txt"
    table.write_text("".join(f"{caller} {agent}\n" for caller, agent in relay.ports))
    program, sound = compiled(folder), audio(folder)
    command = [str(program), str(table), str(sound), str(relay.caller), str(relay.agent), str(warm_up), str(window)]
    meter = Meter(relay.pid)
    with subprocess.Popen(pinned(LOAD_CORE, command), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        _expect(process.stdout.readline(), "begin")
        meter.start()
        begin, relaying = time.monotonic(), cpu_seconds([relay.pid])
        edge()
        _expect(process.stdout.readline(), "end")
        used, relaying, seconds = meter.read(), cpu_seconds([relay.pid]) - relaying, time.monotonic() - begin
        edge()
        seen = json.loads(process.stdout.readline())
    return Flow(
        calls=len(relay.ports),
        sent=seen["sent"],
        received=seen["received"],
        reordered=seen["reordered"],
        p50_us=seen["p50_us"],
        p99_us=seen["p99_us"],
        late_us=seen["late_us"],
        used=used,
        relaying=relaying,
        window_s=seconds,
    )


def _expect(line: str, word: str) -> None:
    if line.strip() != word:
        raise RuntimeError(f"the media load generator said {line!r} and not {word!r}")


@contextmanager
def trunkside_relay(folder: Path, calls: int) -> Iterator[Relay]:
    """Answered calls through the sidecar: its tap sees every packet, and turns are measured while the load runs."""
    agent, media = free_port(HOST), (free_port(HOST), free_port(HOST))
    with trunkside(folder, agent) as running:
        assert running.pid is not None
        parties = Parties(running.port, agent, routed=running.routed, media=media)
        try:
            held = hold(parties, calls)
            yield Relay(running.pid, [(call.caller_sends_to, call.agent_sends_to) for call in held], *media)
            release(parties)
        finally:
            parties.close()


@contextmanager
def rtpengine_relay(folder: Path, calls: int) -> Iterator[Relay]:
    """The same calls through rtpengine in user space, with one thread."""
    control, media = free_port(HOST), (free_port(HOST), free_port(HOST))
    command = ["rtpengine", "--foreground", "--log-stderr", "--log-level=3", "--table=-1", f"--interface={HOST}"]
    command += [f"--listen-ng={HOST}:{control}", "--num-threads=1", "--port-min=30000", "--port-max=61000"]
    with (folder / "rtpengine.log").open("wb") as log:
        process = subprocess.Popen(pinned(TEST_CORE, command), cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    engine = Engine(control)
    try:
        engine.ask("ping")
        yield Relay(process.pid, [engine.call(f"bench-{n}", *media) for n in range(calls)], *media)
    finally:
        engine.close()
        process.kill()
        process.wait()


RELAYS = {"rtpengine": rtpengine_relay, "Trunkside": trunkside_relay}


def cost(results: Results, name: str, folder: Path, *, calls: int, window: float) -> None:
    """CPU a packet, delay and loss with `calls` calls."""
    with RELAYS[name](folder, calls) as relay:
        seen = flow(relay, folder, warm_up=min(2.0, window / 2), window=window)
    _note(results, name, seen)
    results.add(f"CPU a packet, {calls} calls", "µs", name, seen.used.cpu / max(1, seen.received) * 1e6)
    results.add(f"CPU a packet of the relay with its tap, {calls} calls", "µs", name, seen.relaying / max(1, seen.received) * 1e6)
    results.add(f"delay of a packet p50, {calls} calls", "µs", name, seen.p50_us)
    results.add(f"delay of a packet p99, {calls} calls", "µs", name, seen.p99_us)
    results.add(f"packets lost, {calls} calls", "%", name, seen.loss_pct)


def most_calls(results: Results, name: str, folder: Path, *, window: float, steps: int, low: int = 50, high: int = 800) -> None:
    """The highest number of calls with which the relay keeps up, between `low` and `high`, narrowed `steps` times."""
    best = 0
    for _ in range(steps):
        calls = (low + high) // 2
        with RELAYS[name](folder, calls) as relay:
            kept_up = flow(relay, folder, warm_up=1.0, window=window).kept_up
        if kept_up:
            best = low = calls
        else:
            high = calls
    results.add("most calls with media", "calls", name, best, more_is_better=True)


def _note(results: Results, name: str, seen: Flow) -> None:
    results.note_foreign(seen.used.foreign / seen.window_s)
    if seen.reordered:
        results.remark(f"{name} reordered {seen.reordered} of {seen.sent} packets at {seen.calls} calls")
    if seen.late_us > 20000:
        results.remark(f"the load generator itself was up to {seen.late_us / 1000:.0f} ms late: other work had its core")
