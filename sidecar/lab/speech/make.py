"""Make the clips anew with espeak-ng: `python -m sidecar.lab.speech.make`. Needs the espeak-ng command; the results are committed."""

from __future__ import annotations

import io
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np

from sidecar.lab.speech import TEXTS
from sidecar.lab.speech.bounds import RATE, Pcm, active_level, band_power, spans

VOICES = {"agent": ("en-gb", "185"), "caller": ("en-us+f3", "180")}
"""Voice and words per minute."""
LEVEL_DBOV = -20.0
PAUSE_S = 0.35
CUT_DB = 40.0
MARGIN = RATE // 100


def synthesise(text: str, voice: str, speed: str) -> Pcm:
    """What espeak-ng says, resampled to 8 kHz through a 3.4–3.9 kHz roll-off."""
    command = ["espeak-ng", "-v", voice, "-s", speed, "-g", "1", "--stdout", text]
    with wave.open(io.BytesIO(_patched(subprocess.run(command, check=True, capture_output=True).stdout))) as wav:  # noqa: S603
        rate = wav.getframerate()
        samples = np.frombuffer(wav.readframes(wav.getnframes()), dtype="<i2").astype(np.float64)
    length = len(samples) * RATE // rate
    spectrum = np.fft.rfft(samples)
    frequency = np.fft.rfftfreq(len(samples), 1 / rate)
    spectrum *= 0.5 + 0.5 * np.cos(np.pi * np.clip((frequency - 3400) / 500, 0, 1))
    return _scaled(np.fft.irfft(spectrum[: length // 2 + 1], length))


def _patched(stream: bytes) -> bytes:
    """espeak-ng writes a stream's sizes as unknown; a reader wants the true ones."""
    data = bytearray(stream)
    data[4:8] = (len(data) - 8).to_bytes(4, "little")
    data[40:44] = (len(data) - 44).to_bytes(4, "little")
    return bytes(data)


def _scaled(samples: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Pcm:
    unit = (samples / np.abs(samples).max() * 16000).astype(np.int16)
    power = band_power(unit)
    active = unit[np.repeat(power > active_level(power) / 39, 8)[: len(unit)]].astype(np.float64)
    gain = 32768 * 10 ** (LEVEL_DBOV / 20) / np.sqrt(np.mean(active**2))
    scaled: Pcm = np.clip(np.round(unit * gain), -32768, 32767).astype(np.int16)
    return scaled


def cut(samples: Pcm) -> Pcm:
    """The clip from 40 dB under its level to 40 dB under its level, edges faded over 5 ms, 10 ms of silence around it."""
    deep = spans(samples, depth_db=CUT_DB)
    kept = samples[deep[0].start : deep[-1].end].astype(np.float64)
    ramp = np.linspace(0, 1, RATE // 200)
    kept[: len(ramp)] *= ramp
    kept[-len(ramp) :] *= ramp[::-1]
    return np.pad(np.round(kept).astype(np.int16), MARGIN)


def utterance(name: str) -> Pcm:
    """The clip of that name; its parts are set 350 ms apart, speech to speech."""
    voice, speed = VOICES[name.split("_")[0]]
    whole: Pcm = np.zeros(0, dtype=np.int16)
    for text in TEXTS[name].split("…"):
        part = cut(synthesise(text.strip(), voice, speed))
        if len(whole):
            around = len(whole) - spans(whole)[-1].end + spans(part)[0].start
            whole = np.concatenate((whole, np.zeros(round(PAUSE_S * RATE) - around, dtype=np.int16)))
        whole = np.concatenate((whole, part))
    return whole


def main() -> None:
    """Write every clip beside this module and say how long each is."""
    for name in TEXTS:
        samples = utterance(name)
        with wave.open(str(Path(__file__).with_name(f"{name}.wav")), "wb") as wav:
            wav.setnchannels(1)
            wav.setsampwidth(2)
            wav.setframerate(RATE)
            wav.writeframes(samples.astype("<i2").tobytes())
        found = " ".join(f"{s.start / RATE:.3f}-{s.end / RATE:.3f}" for s in spans(samples))
        sys.stdout.write(f"{name:18} {len(samples) / RATE:.2f} s  peak {np.abs(samples.astype(int)).max():5d}  speech {found}\n")


if __name__ == "__main__":
    main()
