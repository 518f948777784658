"""Speech with known boundaries: made by arithmetic, by speech synthesisers, and recorded.

A clip is cut at 40 dB below its active speech level. Its speech is what lies above −30 dB in the band 120–3700 Hz, with holes up to
200 ms bridged.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import wave
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from tests.support.speech_call import RATE, Audio, active_db, band_db, voice

LAB = Path(__file__).parents[2] / "sidecar" / "lab" / "speech"
RECORDED = (Path("/usr/share/asterisk/sounds"), Path("/usr/share/pocketsphinx/test"))
SENTENCES = (
    "I would like to book a table for four on Friday evening, please.",
    "Yes.",
    "No, that is not what I asked for.",
    "Could you tell me whether the shop is open on Sunday?",
    "My number is five five five, zero one nine two.",
    "Thank you very much for your help.",
    "The first one sounds good to me, thanks.",
    "I have been waiting for this parcel since last week and nobody can say where it is.",
    "Which of the two is cheaper?",
    "Just a moment.",
    "We have rooms with a view of the lake, with breakfast, and with a late check out, if that helps.",
    "Your appointment is moved to half past six on Tuesday.",
    "Is there anything else that I can do for you today?",
    "I am sorry, I did not catch that.",
)
_LEVEL_DB = -22.0
_SHORTEST_MS = 80.0


@dataclass(frozen=True)
class Clip:
    """Audio at 8 kHz and its stretches of speech in ms."""

    audio: Audio
    spans: tuple[tuple[float, float], ...]

    @property
    def seconds(self) -> float:
        """From the first to the last of the speech."""
        return (self.spans[-1][1] - self.spans[0][0]) / 1000

    @property
    def longest_pause_ms(self) -> float:
        return max((b[0] - a[1] for a, b in zip(self.spans, self.spans[1:], strict=False)), default=0.0)


def cut(audio: Audio) -> Clip | None:
    """A clip of raw audio; None for a recording whose background reaches into its truth."""
    power = band_db(np.pad(audio, 80))
    level = active_db(power)
    if level < -70 or np.percentile(power[60:-60], 3) > level - 42:
        return None
    kept = np.flatnonzero(power > level - 40)
    first, last = max(0, int((kept[0] + 3 - 10) * 8)), int((kept[-1] + 3 - 10) * 8) + 1
    audio = audio[first:last] * 10 ** ((_LEVEL_DB - level) / 20)
    return Clip(audio, _spans(audio))


def speech_until(clip: Clip, stop_ms: float) -> tuple[tuple[float, float], ...]:
    """The speech of a clip that falls silent at `stop_ms`, against the level of the whole."""
    audio = clip.audio.copy()
    audio[int(stop_ms * 8) :] = 0
    return _spans(audio, _LEVEL_DB)


def _spans(audio: Audio, level: float | None = None) -> tuple[tuple[float, float], ...]:
    power = band_db(np.pad(audio, 80))
    above = np.concatenate([[False], power > (active_db(power) if level is None else level) - 30, [False]])
    edges = np.flatnonzero(above[1:] != above[:-1])
    spans: list[tuple[float, float]] = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if spans and start - spans[-1][1] <= 200:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return tuple((a + 3.0 - 10, b + 3.0 - 10) for a, b in spans if b - a >= 14)


def made(count: int = 14) -> list[Clip]:
    """Speech-like sound from arithmetic alone: the same on every machine."""
    found = (cut(voice(seed, 0.5 + seed % 7 * 0.55).audio) for seed in range(100, 100 + 2 * count))
    return list(islice((clip for clip in found if clip is not None), count))


def shipped() -> list[Clip]:
    """The clips of the demo."""
    return list(_usable(_read(path) for path in sorted(LAB.glob("*.wav"))))


def espeak() -> list[Clip]:
    """What espeak-ng says in four voices, where it is installed."""
    if shutil.which("espeak-ng") is None:
        return []
    voices = ("en-us+f3", "en-gb+m3", "en-us+m7", "en-gb+f2")
    return _spoken(lambda i, text, to: ["espeak-ng", "-v", voices[i % 4], "-s", str(150 + i * 7 % 40), "-w", to, text])


def flite() -> list[Clip]:
    """What flite says in three voices, where it is installed."""
    if shutil.which("flite") is None:
        return []
    return _spoken(lambda i, text, to: ["flite", "-voice", ("slt", "rms", "awb")[i % 3], "-t", text, "-o", to])


def _spoken(command: Callable[[int, str, str], list[str]]) -> list[Clip]:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.wav" for i in range(len(SENTENCES))]
        for i, (text, path) in enumerate(zip(SENTENCES, paths, strict=True)):
            subprocess.run(command(i, text, str(path)), check=True, capture_output=True)
        return list(_usable(_read(path) for path in paths))


def recorded(limit: int = 45) -> list[list[Clip]]:
    """Recorded people, from Debian's packages, where they are installed: clips by speaker."""
    speakers = [folder for root in RECORDED if root.is_dir() for folder in sorted(root.iterdir()) if folder.is_dir()]
    found: list[list[Clip]] = []
    for speaker in speakers:
        paths = sorted(speaker.rglob("*.wav"))
        shuffled = [paths[i] for i in np.random.default_rng(7).permutation(len(paths)).tolist()]
        clips = list(islice(_usable(_read(path) for path in shuffled), limit))
        if len(clips) >= 10:
            found.append(clips)
    return found


def _usable(audios: Iterable[Audio]) -> Iterator[Clip]:
    clips = (cut(audio) for audio in audios if len(audio) > RATE // 4)
    return (clip for clip in clips if clip is not None and _is_plain(clip) and 0.3 < clip.seconds < 9 and clip.longest_pause_ms < 450)


def _is_plain(clip: Clip) -> bool:
    """A burst of some ms standing alone after more than 200 ms of silence may be speech or may not: such a clip has no certain truth."""
    return bool(clip.spans) and min(end - start for start, end in clip.spans) >= _SHORTEST_MS


def _read(path: Path) -> Audio:
    """A mono WAV of 16 bits at 8 kHz; other rates are brought down to it."""
    with wave.open(str(path)) as wav:
        rate, channels = wav.getframerate(), wav.getnchannels()
        audio = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").reshape(-1, channels).mean(axis=1) / 32768
    return audio if rate == RATE else resampled(audio, rate, RATE)


def resampled(audio: Audio, rate: int, wanted: int) -> Audio:
    """`audio` at another rate, by its spectrum, with a soft roll-off below the lower rate's half."""
    size = len(audio) * wanted // rate
    spectrum = np.fft.rfft(audio)
    hertz = np.fft.rfftfreq(len(audio), 1 / rate)
    edge = min(rate, wanted) / 2
    spectrum *= 0.5 + 0.5 * np.cos(np.pi * np.clip((hertz - 0.88 * edge) / (0.1 * edge), 0, 1))
    bins = size // 2 + 1
    spectrum = spectrum[:bins] if bins <= len(spectrum) else np.pad(spectrum, (0, bins - len(spectrum)))
    return np.fft.irfft(spectrum, size) * (size / len(audio))
