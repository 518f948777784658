"""The neural detector, with a network of a line: windows, batching, hysteresis and what is not worth asking about."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.speech.detector import FRAME
from sidecar.speech.neural import CONTEXT, WINDOW, Bench, Floats, Neural
from sidecar.speech.settings import SpeechSettings

SETTINGS = SpeechSettings()
ON, MAYBE, OFF = 0.4, 0.08, 0.0


class Loudness:
    """Says the greatest sample of each window, whatever came before, and remembers how it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.heard: list[Floats] = []

    def __call__(self, windows: Floats, states: Floats) -> tuple[Floats, Floats]:
        assert windows.shape[1] == CONTEXT + WINDOW
        assert states.shape == (2, len(windows), 128)
        self.asked.append(len(windows))
        self.heard.append(windows.copy())
        return np.abs(windows[:, CONTEXT:]).max(axis=1), states + 1


def sound(*parts: tuple[float, float]) -> np.ndarray:
    """Seconds of a tone of an amplitude, one after the other."""
    pieces = [np.sin(2 * np.pi * 500 * np.arange(int(seconds * 8000)) / 8000) * level for seconds, level in parts]
    return np.round(np.concatenate(pieces) * 32767).astype(np.int16)


def speech(pcm: np.ndarray, chunk: int = 800, lost: tuple[int, int] = (0, 0), network: Loudness | None = None) -> list[bool]:
    """The frames of one stream alone, asked for as they come."""
    detector = Neural(Bench(network or Loudness()), SETTINGS)
    found: list[bool] = []
    gone = np.zeros(len(pcm) // FRAME, np.bool_)
    gone[slice(*lost)] = True
    for start in range(0, len(pcm), chunk):
        piece, frames = pcm[start : start + chunk], slice(start // FRAME, (start + chunk) // FRAME)
        audible = np.abs(piece.reshape(-1, FRAME)).max(axis=1) > 20
        detector.take(piece, audible, gone[frames])
        found += detector.judged().tolist()
    detector.finish()
    return found + detector.judged().tolist()


def edges(flags: list[bool]) -> list[int]:
    """Where speech begins and ends, in ms."""
    return [i * 10 for i, (a, b) in enumerate(zip([False, *flags], [*flags, False], strict=True)) if a != b]


def test_speech_is_what_is_probable_from_its_beginning_to_its_end() -> None:
    """A window counts as a whole, so an edge is known to 32 ms."""
    flags = speech(sound((1.0, OFF), (0.8, 0.9), (1.2, OFF)))
    assert len(flags) == 300
    assert edges(flags) == [pytest.approx(1000, abs=40), pytest.approx(1800, abs=40)]


def test_probability_between_the_edges_ends_no_speech_and_begins_none() -> None:
    assert edges(speech(sound((0.5, OFF), (0.5, 0.9), (0.5, ON), (0.5, OFF)))) == [pytest.approx(500, abs=40), pytest.approx(1500, abs=40)]
    assert edges(speech(sound((0.5, OFF), (0.5, ON), (0.5, OFF)))) == []


def test_what_may_be_speech_right_before_it_belongs_to_it() -> None:
    assert edges(speech(sound((0.5, OFF), (0.1, 0.2), (0.5, 0.9), (0.5, OFF))))[0] == pytest.approx(500, abs=40)


def test_how_audio_comes_changes_nothing() -> None:
    pcm = sound((0.4, OFF), (0.06, 0.2), (0.7, 0.9), (0.3, ON), (1.0, OFF), (0.5, 0.9))
    assert speech(pcm, 80) == speech(pcm, 800) == speech(pcm, 16000)


def test_a_short_loss_in_speech_is_speech_and_a_long_one_is_not() -> None:
    pcm = sound((1.0, 0.9), (0.06, OFF), (0.5, 0.9), (0.4, OFF), (0.5, 0.9))
    flags = speech(pcm, lost=(100, 106))
    assert all(flags[100:106])
    flags = speech(pcm, lost=(156, 196))
    assert flags[160] is True
    assert not any(flags[170:190])


def test_long_silence_is_not_asked_about() -> None:
    network = Loudness()
    speech(sound((0.5, 0.9), (60.0, OFF), (0.5, 0.9)), network=network)
    assert len(network.asked) < 2 * 0.5 / 0.032 + 2 * SETTINGS.network_quiet_windows


def test_streams_are_judged_together_and_each_as_it_would_be_alone() -> None:
    network = Loudness()
    bench = Bench(network)
    streams = [Neural(bench, SETTINGS) for _ in range(3)]
    sounds = [sound((0.3, OFF), (0.5, 0.9), (0.7, OFF)), sound((0.9, 0.9)), sound((0.2, 0.9), (0.4, OFF), (0.5, 0.9))]
    for stream, pcm in zip(streams, sounds, strict=True):
        stream.take(pcm, np.ones(len(pcm) // FRAME, np.bool_), None)
    bench.judge()
    found = [stream.judged().tolist() for stream in streams]
    assert network.asked[0] == 3
    assert network.asked[-1] == 1
    assert sum(network.asked) == sum(len(pcm) // 256 for pcm in sounds)
    for flags, pcm in zip(found, sounds, strict=True):
        alone = speech(pcm)
        assert flags == alone[: len(flags)]


def test_no_stream_waits_for_ever_for_the_others() -> None:
    network = Loudness()
    detector = Neural(Bench(network), SETTINGS)
    pcm = sound((SETTINGS.most_waiting_s + 0.1, 0.9))
    detector.take(pcm, np.ones(len(pcm) // FRAME, np.bool_), None)
    assert len(detector.judged()) > 0.9 * len(pcm) / FRAME


def test_the_network_hears_sixteen_thousand_samples_a_second() -> None:
    """A tone of 500 Hz goes to 16 kHz as such, without an image beyond 4 kHz."""
    network = Loudness()
    speech(sound((1.0, 0.5)), network=network, chunk=8000)
    spectrum = np.abs(np.fft.rfft(network.heard[15][0, CONTEXT:] * np.hanning(WINDOW)))
    assert abs(int(spectrum.argmax()) * 16000 / WINDOW - 500) < 32
    assert spectrum[WINDOW // 4 :].max() < spectrum.max() / 1000


def test_what_waits_is_judged_before_a_long_silence_has_gone_by() -> None:
    """Silence asks no question, but whoever waits for the speech before it keeps only so much audio."""
    detector = Neural(Bench(Loudness()), SETTINGS)
    detector.take(sound((1.0, 0.9)), np.ones(100, np.bool_), None)
    for _ in range(3):
        detector.take(sound((2.0, OFF)), np.zeros(200, np.bool_), None)
    assert len(detector.judged()) >= 100
