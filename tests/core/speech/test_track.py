"""Segments of one direction."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.speech.settings import SpeechSettings
from sidecar.speech.sounds import Sounds
from sidecar.speech.track import Segment, SpeechTrack
from tests.support.speech_call import Clip, Track, voice

RATE = 8000
CLIPS = [voice(seed, seconds) for seed, seconds in ((1, 0.6), (2, 1.4), (3, 2.5), (4, 0.9))]


def pcm(audio: np.ndarray) -> np.ndarray:
    return np.round(np.clip(audio, -1, 1) * 32767).astype(np.int16)


def heard(audio: np.ndarray, sounds: Sounds | None = None, chunk: int = 1600) -> tuple[SpeechTrack, list[Segment]]:
    track = SpeechTrack(SpeechSettings(), sounds)
    samples = pcm(audio)
    for start in range(0, len(samples), chunk):
        track.audio(samples[start : start + chunk])
    track.finish()
    return track, track.segments()


def laid(*at: tuple[float, Clip], seconds: float = 12.0, gain: float = 1.0) -> Track:
    track = Track.silent(seconds)
    for start, clip in at:
        track.say(start, clip, gain)
    return track


def joined(segments: list[Segment], gap_ms: float = 300.0) -> list[tuple[float, float]]:
    spurts: list[tuple[float, float]] = []
    for segment in segments:
        start, end = segment.start / 8, segment.end / 8
        if spurts and start - spurts[-1][1] <= gap_ms:
            spurts[-1] = (spurts[-1][0], end)
        else:
            spurts.append((start, end))
    return spurts


def test_clean_speech_is_found_to_a_few_milliseconds() -> None:
    track = laid((700, CLIPS[0]), (2500, CLIPS[1]), (5200, CLIPS[2]), (9000, CLIPS[3]))
    found = joined(heard(track.audio)[1])
    assert len(found) == 4
    for (start, end), (true_start, true_end) in zip(found, track.spans, strict=True):
        assert start == pytest.approx(true_start, abs=8)
        assert end == pytest.approx(true_end, abs=25)


def test_silence_and_noise_are_no_speech() -> None:
    assert heard(np.zeros(5 * RATE))[1] == []
    assert heard(np.random.default_rng(1).normal(0, 0.003, 20 * RATE))[1] == []


@pytest.mark.parametrize("chunk", [80, 333, 8000, 60_000])
def test_the_size_of_the_pieces_does_not_matter(chunk: int) -> None:
    track = laid((700, CLIPS[1]), (4000, CLIPS[2]))
    whole = joined(heard(track.audio)[1])
    for (start, end), (other_start, other_end) in zip(joined(heard(track.audio, chunk=chunk)[1]), whole, strict=True):
        assert start == pytest.approx(other_start, abs=3)
        assert end == pytest.approx(other_end, abs=3)


def test_echo_20_db_down_is_rejected() -> None:
    track = laid((1000, CLIPS[1]), (7000, CLIPS[2]))
    echo = laid((4000, CLIPS[2]), gain=0.1)
    found = joined(heard(track.audio + echo.audio)[1])
    assert len(found) == 2
    assert found[1][0] == pytest.approx(7000, abs=10)


def test_a_quieter_word_10_db_down_is_kept() -> None:
    track = laid((1000, CLIPS[1]), (7000, CLIPS[2]))
    track.say(4500, CLIPS[3], 0.32)
    assert len(joined(heard(track.audio)[1])) == 3


def test_uncertainty_tells_clean_from_noisy() -> None:
    clean, noisy = laid((1500, CLIPS[2])), laid((1500, CLIPS[2]))
    noisy.add_noise(12.0, 5)
    clean_end, noisy_end = heard(clean.audio)[1][-1], heard(noisy.audio)[1][-1]
    assert clean_end.end_uncertainty_ms < 20 < 60 < noisy_end.end_uncertainty_ms


def test_a_lost_packet_within_speech_splits_nothing() -> None:
    track = SpeechTrack(SpeechSettings())
    samples = pcm(laid((1000, CLIPS[2])).audio)
    for start in range(0, len(samples), 160):
        if start // 160 in (80, 81, 110):
            track.lost(160)
        else:
            track.audio(samples[start : start + 160])
    track.finish()
    assert joined(track.segments())[0] == pytest.approx((1000, 1000 + CLIPS[2].end_ms - CLIPS[2].start_ms), abs=25)


def test_a_long_segment_keeps_the_onset_that_was_found_in_time() -> None:
    talk = np.concatenate([voice(40 + i, 3.0).audio for i in range(8)])  # 24 s: more than the history holds
    _, segments = heard(np.concatenate([np.zeros(RATE), talk, np.zeros(RATE)]))
    assert segments[0].start / 8 == pytest.approx(1000, abs=40)
    assert segments[-1].end / 8 == pytest.approx(1000 + len(talk) / 8, abs=60)


def test_a_long_silence_costs_no_precision() -> None:
    track = SpeechTrack(SpeechSettings())
    samples = pcm(laid((500, CLIPS[1]), seconds=4.0).audio)
    track.audio(samples)
    track.silence(90 * RATE)
    track.audio(samples)
    track.finish()
    found = joined(track.segments())
    assert found[1][0] - found[0][0] == pytest.approx(94_000, abs=4)
    assert found[1][1] - found[0][1] == pytest.approx(94_000, abs=4)


def tone(seconds: float, *hertz: float) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    return 0.2 * sum(np.sin(2 * np.pi * f * time) for f in hertz)  # type: ignore[return-value]


def typing(seconds: float, seed: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    audio, at = np.zeros(int(seconds * RATE)), 0
    while at < len(audio) - 800:
        size = int(RATE * rng.uniform(0.008, 0.025))
        audio[at : at + size] += rng.normal(0, 0.08, size) * np.exp(-np.arange(size) / size * 5)
        at += int(RATE * rng.uniform(0.09, 0.25))
    return audio


def chords(seconds: float) -> np.ndarray:
    notes = [tone(0.5, root, root * 1.26, root * 1.5, root * 2) * np.exp(-3 * np.arange(4000) / RATE) for root in (220, 262, 196, 247)]
    return np.tile(np.concatenate(notes), int(seconds / 2) + 1)[: int(seconds * RATE)]


@pytest.mark.parametrize(
    "other",
    [tone(1.5, 440, 480), tone(0.3, 1000), tone(1.5, 425), typing(1.5), chords(1.5)],
    ids=["ringback", "beep", "dial tone", "typing", "music"],
)
def test_other_sounds_are_heard_and_are_no_speech(other: np.ndarray) -> None:
    sounds = Sounds(SpeechSettings())
    track = laid((500, CLIPS[1]), (6000, CLIPS[2]))
    track.audio[3 * RATE : 3 * RATE + len(other)] += other
    _, segments = heard(track.audio, sounds)
    found = joined(segments)
    assert [round(start, -2) for start, _ in found] == [500, 6000]
    assert any(onset / 8 == pytest.approx(3000, abs=30) for onset in sounds.onsets)


def test_no_speech_is_taken_for_another_sound() -> None:
    track = laid(*((500 + 3500 * i, voice(60 + i, 2.0)) for i in range(12)), seconds=43.0)
    assert len(joined(heard(track.audio, Sounds(SpeechSettings()))[1])) == len(joined(heard(track.audio)[1])) == 12


def test_a_steady_background_is_no_sound() -> None:
    sounds = Sounds(SpeechSettings())
    noise = np.random.default_rng(3).normal(0, 0.002, 10 * RATE)
    heard(noise, sounds)
    assert sounds.onsets == []


class Credulous:
    """A detector that takes all that can be heard for speech."""

    name = "credulous"

    def __init__(self) -> None:
        self._frames: list[np.ndarray] = []

    def take(self, pcm: np.ndarray, audible: np.ndarray, lost: np.ndarray | None) -> None:
        self._frames.append(audible)

    def finish(self) -> None: ...

    def judged(self) -> np.ndarray:
        judged, self._frames = self._frames, []
        return np.concatenate([np.zeros(0, bool), *judged])


def test_speech_on_top_of_a_long_murmur_is_not_as_faint_as_that() -> None:
    """Six seconds of babble, now and then a little louder, then somebody speaks over it, all of it one to the detector."""
    said = laid((500, CLIPS[2]), (4000, CLIPS[1]), (14_000, CLIPS[2]), seconds=18.0)
    first, last = int(7.8 * RATE), int(15.5 * RATE)
    murmur = np.zeros(18 * RATE)
    murmur[first:last] = np.random.default_rng(3).normal(0, 0.003, last - first)
    for at in range(first, last, 2000):
        murmur[at : at + 240] *= 8
    track = SpeechTrack(SpeechSettings(), None, Credulous())
    samples = pcm(said.audio + murmur)
    for start in range(0, len(samples), 1600):
        track.audio(samples[start : start + 1600])
    track.finish()
    assert any(segment.start / 8 < 14_100 and segment.end / 8 > 15_500 for segment in track.segments())
