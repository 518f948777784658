"""The line that a scene goes through: background, echo, codec, silence suppression, network, two clocks. What comes out is packets."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import numpy as np

from sidecar.clocks import Mono
from sidecar.media.codec import STATIC, Codec
from sidecar.media.relay import Leg
from tests.accuracy.scene import Exchange, Scene, Voice
from tests.support.speech_call import RATE, Audio
from tests.support.speech_codec import coded

ANSWER = 1000.0
Packet = tuple[Leg, bytes, Mono]


@dataclass(frozen=True)
class Line:
    """What is wrong with a line; nothing by default."""

    snr_db: float | None = None
    """Background on the caller's side."""
    echo_db: float | None = None
    """The agent's speech in the caller's stream."""
    codec: str = "PCMU"
    ptime_ms: int = 20
    dtx: bool = False
    loss: float = 0.0
    jitter_ms: float = 0.0
    drift_ppm: float = 0.0

    def drifted(self, scene: Scene) -> Scene:
        """The scene as it passes by the sidecar's clock: the caller's runs slow by the drift, the agent's fast."""
        caller, agent = 1 + self.drift_ppm * 1e-6, 1 - self.drift_ppm * 1e-6
        return replace(
            scene,
            caller=replace(scene.caller, spans=[(a * caller, b * caller) for a, b in scene.caller.spans]),
            agent=replace(scene.agent, spans=[(a * agent, b * agent) for a, b in scene.agent.spans]),
            exchanges=[Exchange(e.caller_end * caller, e.agent_start * agent) for e in scene.exchanges],
            barge_ins=[(began * caller, stop * agent) for began, stop in scene.barge_ins],
            greeting=scene.greeting * agent,
        )


@dataclass(frozen=True)
class Call:
    """Packets of both parties in order of arrival, and the payload types that were negotiated."""

    packets: list[Packet]
    codecs: dict[int, Codec]


def carried(scene: Scene, line: Line, seed: int) -> Call:
    """What the sidecar receives of a scene."""
    rng = np.random.default_rng(seed)
    caller, agent = scene.caller.audio, scene.agent.audio
    if line.echo_db is not None:
        delay = int(rng.uniform(0.08, 0.25) * RATE)
        echo = np.convolve(agent, [0.25, 0.5, 0.25], "same") * 10 ** (line.echo_db / 20)
        caller = caller + np.concatenate([np.zeros(delay), echo[:-delay]])
    if line.snr_db is not None:
        caller = caller + _noise(scene.caller, line.snr_db, rng)
    codecs = dict(STATIC)
    legs: list[list[Packet]] = []
    for leg, audio, sign in (("A", caller, 1), ("B", agent, -1)):
        sent = coded(audio, line.codec, line.ptime_ms)
        codecs[sent.payload_type] = sent.codec
        codecs[13] = Codec("CN", sent.codec.clock_rate)
        send = _silent(audio, line.ptime_ms) if line.dtx else np.zeros(len(sent.payloads), np.bool_)
        legs.append(_sent(leg, sent.payloads, sent.payload_type, sent.step, send, line, sign, rng))  # type: ignore[arg-type]
    return Call(sorted((p for leg in legs for p in leg), key=lambda p: p[2]), codecs)


def _noise(voice: Voice, snr_db: float, rng: np.random.Generator) -> Audio:
    """Background between white and brown, `snr_db` under the active speech."""
    noise = rng.normal(0, 1, len(voice.audio))
    spectrum = np.fft.rfft(noise)
    spectrum /= np.maximum(np.arange(len(spectrum)) / len(spectrum) * 40, 1) ** rng.uniform(0, 0.8)
    spectrum[: int(len(spectrum) * 200 / 4000)] *= 0.5
    noise = np.fft.irfft(spectrum, len(noise))
    loud = np.concatenate([voice.audio[int(a * 8) : int(b * 8)] for a, b in voice.spans])
    return noise / noise.std() * np.sqrt((loud**2).mean()) * 10 ** (-snr_db / 20)


def _silent(audio: Audio, ptime_ms: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which packets a sender with silence suppression leaves out: quiet ones, once 100 ms were quiet."""
    size = ptime_ms * 8
    quiet = np.abs(audio[: len(audio) // size * size].reshape(-1, size)).max(axis=1) < 0.0008
    hangover = max(1, 100 // ptime_ms)
    return np.array([quiet[max(0, i - hangover) : i + 1].all() for i in range(len(quiet))])


def _sent(
    leg: Leg, payloads: list[bytes], payload_type: int, step: int, left_out: np.ndarray, line: Line, sign: int, rng: np.random.Generator
) -> list[Packet]:
    sequence, timestamp = int(rng.integers(1 << 16)), int(rng.integers(1 << 32))
    ssrc = 0xA if leg == "A" else 0xB
    packets: list[Packet] = []
    marker = True
    for i, payload in enumerate(payloads):
        kind = payload_type
        if left_out[i]:
            if marker and i % 10:
                continue
            payload, kind, marker = b"\x4f", 13, True
        begins = i * line.ptime_ms / 1000 * (1 + sign * line.drift_ppm * 1e-6)
        head = struct.pack("!BBHII", 0x80, kind | (marker and kind != 13) << 7, sequence, timestamp + i * step & 0xFFFFFFFF, ssrc)
        sequence = sequence + 1 & 0xFFFF
        marker = kind == 13
        arrival = ANSWER + begins + rng.exponential(line.jitter_ms / 3000 if line.jitter_ms else 1e-4)
        if line.jitter_ms:
            arrival = min(arrival, ANSWER + begins + line.jitter_ms / 1000)
        if rng.random() >= line.loss:
            packets.append((leg, head + payload, Mono(arrival)))
    return packets
