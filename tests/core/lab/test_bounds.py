"""The clips and the definition of where speech begins and ends."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.lab.speech import TEXTS, clip
from sidecar.lab.speech.bounds import RATE, Pcm, spans


def tone(seconds: float, amplitude: float = 8000.0) -> Pcm:
    return (amplitude * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)).astype(np.int16)


def silence(seconds: float) -> Pcm:
    return np.zeros(round(seconds * RATE), dtype=np.int16)


def test_a_tone_begins_and_ends_where_it_was_put() -> None:
    (span,) = spans(np.concatenate((silence(0.5), tone(1.0), silence(0.5))))
    assert span.start == pytest.approx(0.5 * RATE, abs=0.004 * RATE)
    assert span.end == pytest.approx(1.5 * RATE, abs=0.004 * RATE)


def test_a_hole_of_200_ms_is_bridged_and_one_of_250_ms_is_not() -> None:
    assert len(spans(np.concatenate((tone(0.5), silence(0.19), tone(0.5))))) == 1
    assert len(spans(np.concatenate((tone(0.5), silence(0.25), tone(0.5))))) == 2


def test_what_lies_more_than_30_db_under_the_level_is_no_speech() -> None:
    faint = 8000 * 10 ** (-33 / 20)
    (span,) = spans(np.concatenate((tone(0.5, faint), tone(0.5))))
    assert span.start == pytest.approx(0.5 * RATE, abs=0.004 * RATE)


def test_a_click_and_silence_are_no_speech() -> None:
    click = silence(0.5)
    click[100:130] = 9000
    (span,) = spans(np.concatenate((click, tone(0.5))))
    assert span.start == pytest.approx(0.5 * RATE, abs=0.004 * RATE)
    assert spans(silence(1.0)) == []


@pytest.mark.parametrize("name", TEXTS)
def test_each_clip_is_one_utterance_of_the_committed_length(name: str) -> None:
    found = clip(name)
    assert 0.3 < found.duration < 4.5
    assert 0 < found.onset < 0.03 * RATE
    assert len(found.samples) - 0.03 * RATE < found.end < len(found.samples)
    gaps = [b.start - a.end for a, b in zip(found.spans, found.spans[1:], strict=False)]
    assert all(gap <= 0.3 * RATE for gap in gaps) or name == "caller_pause"


def test_the_pause_inside_an_utterance_is_350_ms() -> None:
    first, second = clip("caller_pause").spans
    assert (second.start - first.end) / RATE == pytest.approx(0.35, abs=0.003)
