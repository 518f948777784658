"""Encoders for tests: audio at 8 kHz to one payload a packet, with the RTP clock that each codec has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sidecar.media.codec import Codec
from tests.support.speech_call import Audio, mu_law

_A_STEPS = np.array([0x100 << e for e in range(7)])


@dataclass(frozen=True)
class Coded:
    """Payloads of equal duration."""

    payloads: list[bytes]
    codec: Codec
    payload_type: int
    step: int
    """RTP time between two of them."""


def coded(audio: Audio, name: str, ptime_ms: int = 20) -> Coded:
    """`audio` as PCMU, PCMA, G722, OPUS, or L16 with its rate (`L16/16000`)."""
    size = ptime_ms * 8
    audio = audio[: len(audio) // size * size]
    match name.split("/"):
        case ["PCMU"]:
            return Coded(_cut(mu_law(audio), size), Codec("PCMU", 8000), 0, size)
        case ["PCMA"]:
            return Coded(_cut(a_law(audio), size), Codec("PCMA", 8000), 8, size)
        case ["G722"]:
            return Coded(_cut(b"".join(_encoded(audio, "g722", 16000, ptime_ms)), size), Codec("G722", 8000), 9, size)
        case ["OPUS"]:
            return Coded(_encoded(audio, "libopus", 48000, ptime_ms), Codec("OPUS", 48000, 2, "useinbandfec=1"), 111, 48 * ptime_ms)
        case ["L16", rate]:
            step = int(rate) * ptime_ms // 1000
            linear = _linear(upsampled(audio, int(rate))).astype(">i2").tobytes()
            return Coded(_cut(linear, 2 * step), Codec("L16", int(rate)), 97, step)
        case _:
            raise ValueError(name)


def upsampled(audio: Audio, rate: int) -> Audio:
    """`audio` at a higher rate, by its spectrum."""
    size = len(audio) * rate // 8000
    spectrum = np.fft.rfft(audio)
    return np.fft.irfft(np.pad(spectrum, (0, size // 2 + 1 - len(spectrum))), size) * (size / len(audio))


def a_law(audio: Audio) -> bytes:
    """G.711 A-law of `audio`."""
    linear = _linear(audio).astype(np.int64)
    magnitude = np.where(linear < 0, -linear - 1, linear)
    exponent = np.searchsorted(_A_STEPS, magnitude, side="right")
    mantissa = (magnitude >> np.maximum(exponent + 3, 4)) & 0x0F
    return bytes(((np.where(linear < 0, 0, 0x80) | exponent << 4 | mantissa) ^ 0x55).astype(np.uint8))


def _linear(audio: Audio) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    return np.clip(np.round(audio * 32768), -32768, 32767).astype(np.int16)


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def _encoded(audio: Audio, name: str, rate: int, ptime_ms: int) -> list[bytes]:
    import av

    encoder = av.CodecContext.create(name, "w")
    encoder.sample_rate, encoder.format, encoder.layout = rate, "s16", "mono"  # type: ignore[attr-defined]
    if name == "libopus":
        encoder.bit_rate = 32000
        encoder.options = {"application": "voip", "frame_duration": str(ptime_ms)}
    pcm = _linear(upsampled(audio, rate))
    size = rate * ptime_ms // 1000
    payloads: list[bytes] = []
    for start in range(0, len(pcm), size):
        frame = av.AudioFrame.from_ndarray(pcm[start : start + size].reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, start
        payloads += [bytes(packet) for packet in encoder.encode(frame)]  # type: ignore[attr-defined]
    return payloads
