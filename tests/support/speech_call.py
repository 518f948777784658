"""Synthetic calls with exact truth: speech-like clips laid on two tracks, coded as G.711 and sent through a network that misbehaves.

Truth follows the definition that the measurement is held against: a clip's speech runs from the first to the last crossing of its
active level − 30 dB in the band 120–3700 Hz, averaged over 6 ms. The code here shares nothing with the code under test.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

RATE = 8000
Audio = npt.NDArray[np.float64]
"""Samples at 8 kHz, full scale ±1."""


@dataclass(frozen=True)
class Clip:
    """Audio and where its speech lies in it, in ms."""

    audio: Audio
    start_ms: float
    end_ms: float


def band_db(audio: Audio) -> Audio:
    """Power of the speech band in dB in a window of 6 ms, every ms; the first window is centred at 3 ms."""
    spectrum = np.fft.rfft(audio)
    hertz = np.fft.rfftfreq(len(audio), 1 / RATE)
    spectrum[(hertz < 120) | (hertz > 3700)] = 0
    energy = np.cumsum(np.concatenate(([0.0], np.fft.irfft(spectrum, len(audio)) ** 2)))
    middles = np.arange(24, len(audio) - 24, 8)
    return 10 * np.log10((energy[middles + 24] - energy[middles - 24]) / 48 + 1e-12)


def active_db(power: Audio) -> float:
    """Mean power in dB of the windows that lie within 15.9 dB of that mean."""
    linear = 10 ** (power / 10)
    level = linear.mean()
    for _ in range(4):
        level = linear[linear > level * 10**-1.59].mean()
    return float(10 * np.log10(level))


def bounds(audio: Audio) -> tuple[float, float]:
    """Start and end of the speech in `audio`, in ms."""
    power = band_db(np.pad(audio, 80))
    above = np.flatnonzero(power > active_db(power) - 30)
    return above[0] + 3.0 - 10, above[-1] + 3.0 - 10


def clip(audio: Audio, peak: float = 0.35) -> Clip:
    """Make a clip of raw audio: scaled to `peak`, cut 40 dB below its active level, its truth taken."""
    audio = audio * (peak / np.abs(audio).max())
    power = band_db(np.pad(audio, 80))
    kept = np.flatnonzero(power > active_db(power) - 40)
    audio = audio[max(0, int((kept[0] + 3 - 10) * 8)) : int((kept[-1] + 3 - 10) * 8) + 1]
    return Clip(audio, *bounds(audio))


def voice(seed: int, seconds: float) -> Clip:
    """Speech-like audio: syllables of a wavering harmonic source through moving formants, fricatives, pauses between words."""
    rng = np.random.default_rng(seed)
    pitch = rng.uniform(95, 210)
    parts: list[Audio] = []
    while sum(map(len, parts)) < seconds * RATE:
        parts.append(_syllable(rng, pitch * rng.uniform(0.85, 1.15)))
        if rng.random() < 0.25:
            parts.append(np.zeros(int(RATE * rng.uniform(0.03, 0.1))))
    return clip(np.concatenate(parts)[: int(seconds * RATE)] * _fade(int(seconds * RATE), rng))


def _fade(size: int, rng: np.random.Generator) -> Audio:
    """The faint end that speech has."""
    fade = np.ones(size)
    tail = min(size, int(RATE * rng.uniform(0.05, 0.2)))
    fade[size - tail :] = 10 ** (-np.linspace(0, rng.uniform(20, 45), tail) / 20)
    return fade


def _syllable(rng: np.random.Generator, pitch: float) -> Audio:
    size = int(RATE * rng.uniform(0.12, 0.26))
    time = np.arange(size) / RATE
    waver = np.interp(time, np.linspace(0, time[-1], 8), rng.normal(0, 0.02, 8))  # no voice holds its pitch
    glide = pitch * (1 + rng.choice([-1, 1]) * rng.uniform(0.1, 0.3) * time / time[-1] + waver)
    phase = 2 * np.pi * np.cumsum(glide) / RATE
    formants = [np.linspace(*rng.uniform(low, high, 2), size) for low, high in ((300, 800), (900, 2200), (2300, 3000))]
    audio = rng.normal(0, 0.004, size)
    for harmonic in range(1, int(3600 / pitch)):
        frequency = harmonic * glide
        gain = sum(weight / (1 + ((frequency - f) / 110) ** 2) for weight, f in zip((1.0, 0.5, 0.25), formants, strict=True))
        audio += (gain + 0.01) * np.sin(harmonic * phase)
    envelope = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 0.6
    audio *= envelope * rng.uniform(0.5, 1.0) / np.abs(audio).max()
    if rng.random() < 0.4:
        hiss = np.diff(rng.normal(0, 1, int(RATE * rng.uniform(0.04, 0.1)) + 1))
        audio = np.concatenate([hiss * 0.08 * np.hanning(len(hiss)), audio])
    return audio


@dataclass
class Track:
    """One party's audio over a call."""

    audio: Audio
    spans: list[tuple[float, float]] = field(default_factory=list)
    """True speech in ms."""

    @classmethod
    def silent(cls, seconds: float) -> Track:
        return cls(np.zeros(int(seconds * RATE)))

    def say(self, at_ms: float, spoken: Clip, gain: float = 1.0) -> tuple[float, float]:
        """Lay `spoken` so that its speech starts at `at_ms`; its true start and end."""
        first = round((at_ms - spoken.start_ms) * 8)
        cut = max(0, -first)
        part = spoken.audio[cut : max(cut, len(self.audio) - first)] * gain
        self.audio[first + cut : first + cut + len(part)] += part
        span = (first / 8 + spoken.start_ms, first / 8 + spoken.end_ms)
        self.spans.append(span)
        return span

    def add_noise(self, snr_db: float, seed: int, colour: float = 0.0) -> None:
        """Add noise `snr_db` under the active speech level; `colour` 0 is white, towards 1 it leans to the low end."""
        noise = np.random.default_rng(seed).normal(0, 1, len(self.audio))
        if colour:
            spectrum = np.fft.rfft(noise)
            spectrum /= np.maximum(np.arange(len(spectrum)) / len(spectrum) * 50, 1) ** colour
            noise = np.fft.irfft(spectrum, len(self.audio))
        loud = np.concatenate([self.audio[int(a * 8) : int(b * 8)] for a, b in self.spans])
        self.audio = self.audio + noise / noise.std() * np.sqrt((loud**2).mean()) * 10 ** (-snr_db / 20)


_MU_STEPS = np.array([0x80 << e for e in range(1, 8)])


def mu_law(audio: Audio) -> bytes:
    """G.711 μ-law of `audio`, by nearest step."""
    linear = np.clip(np.round(audio * 32768), -32635, 32635).astype(np.int64)
    magnitude = np.abs(linear) + 0x84
    exponent = np.searchsorted(_MU_STEPS, magnitude, side="right")
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    return bytes((~(np.where(linear < 0, 0x80, 0) | exponent << 4 | mantissa) & 0xFF).astype(np.uint8))


@dataclass(frozen=True)
class Network:
    """What happens between the sender and the sidecar."""

    jitter_ms: float = 0.0
    """Each packet is delayed by up to this, uniformly (which reorders packets where it exceeds ptime)."""
    loss: float = 0.0
    duplication: float = 0.0
    drift_ppm: float = 0.0
    dtx: bool = False
    """Packets of near silence are not sent."""


@dataclass
class Sender:
    """RTP of one party. Sequence and time stamps begin where they are told to, so that wraps can be tried."""

    ssrc: int = 0x1234
    sequence: int = 65500
    timestamp: int = 2**32 - 40000
    ptime_ms: int = 20
    payload_type: int = 0

    def packets(self, audio: Audio, start: float, network: Network = Network(), seed: int = 1) -> list[tuple[float, bytes]]:
        """(arrival, packet) in order of arrival; the packet of sample 0 leaves at `start` seconds."""
        rng = np.random.default_rng(seed)
        size = self.ptime_ms * 8
        coded = mu_law(audio)
        sent: list[tuple[float, bytes]] = []
        marker = True
        for index in range(len(coded) // size):
            piece = audio[index * size : (index + 1) * size]
            if network.dtx and np.abs(piece).max() < 0.0008:
                marker = True
                continue
            header = self._header(marker, self.timestamp + index * size)
            marker = False
            leaves = start + index * size / RATE * (1 + network.drift_ppm * 1e-6)
            arrival = leaves + rng.uniform(0, network.jitter_ms / 1000)
            if rng.random() >= network.loss:
                sent.append((arrival, header + coded[index * size : (index + 1) * size]))
                if rng.random() < network.duplication:
                    sent.append((arrival + 0.004, sent[-1][1]))
        self.timestamp += len(coded) // size * size
        return sorted(sent, key=lambda packet: packet[0])

    def _header(self, marker: bool, timestamp: int) -> bytes:
        header = struct.pack("!BBHII", 0x80, self.payload_type | marker << 7, self.sequence & 0xFFFF, timestamp & 0xFFFFFFFF, self.ssrc)
        self.sequence += 1
        return header


def merged(**legs: Iterable[tuple[float, bytes]]) -> list[tuple[str, float, bytes]]:
    """(leg, arrival, packet) of several legs in order of arrival."""
    return sorted(((leg, at, data) for leg, sent in legs.items() for at, data in sent), key=lambda packet: packet[1])


@dataclass(frozen=True)
class Conversation:
    """A call with its truth: one latency (ms) for each exchange."""

    caller: Track
    agent: Track
    latencies: list[float]
    caller_ends: list[float]
    seconds: float


def conversation(seed: int, turns: int, clips: Sequence[Clip], agent_clips: Sequence[Clip] | None = None) -> Conversation:
    """Caller and agent by turns; the agent answers after 300–1800 ms, the caller after 400–1500 ms, sometimes with a pause within."""
    rng = np.random.default_rng(seed)
    answers = agent_clips or clips
    plan: list[tuple[str, float, Clip]] = []
    at, latencies, ends = 600.0, [], []
    for _ in range(turns):
        for part in range(1 + (rng.random() < 0.3)):
            spoken = clips[rng.integers(len(clips))]
            at += rng.uniform(550, 1200) if part else 0
            plan.append(("A", at, spoken))
            at += spoken.end_ms - spoken.start_ms
        ends.append(at)
        latencies.append(float(rng.uniform(300, 1800)))
        at += latencies[-1]
        answer = answers[rng.integers(len(answers))]
        plan.append(("B", at, answer))
        at += answer.end_ms - answer.start_ms + rng.uniform(400, 1500)
    seconds = at / 1000 + 1.5
    caller, agent = Track.silent(seconds), Track.silent(seconds)
    for leg, start, spoken in plan:
        (caller if leg == "A" else agent).say(start, spoken)
    return Conversation(caller, agent, latencies, ends, seconds)
