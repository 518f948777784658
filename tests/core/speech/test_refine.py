"""Boundaries on the audio itself."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.speech import refine
from sidecar.speech.settings import SpeechSettings
from tests.support.speech_call import voice

SETTINGS = SpeechSettings()


def pcm(audio: np.ndarray) -> np.ndarray:
    return np.round(audio * 32767).astype(np.int16)


def test_band_power_of_a_full_scale_tone_is_minus_3_db() -> None:
    time = np.arange(8000) / 8000
    power = refine.band_power(pcm(np.sin(2 * np.pi * 1000 * time)), SETTINGS)
    assert len(power) == 500
    assert np.median(power) == pytest.approx(-3.0, abs=0.1)


@pytest.mark.parametrize("hertz", [50, 60, 3900])
def test_hum_and_what_lies_above_the_band_are_not_heard(hertz: float) -> None:
    time = np.arange(8000) / 8000
    power = refine.band_power(pcm(0.5 * np.sin(2 * np.pi * hertz * time)), SETTINGS)
    assert np.median(power) < -35


def test_active_level_leaves_pauses_out() -> None:
    levels = np.array([-20.0] * 50 + [-60.0] * 50, np.float32)
    assert refine.active_level(levels) == pytest.approx(-20.0, abs=0.1)


@pytest.mark.parametrize("seed", range(6))
def test_clean_boundaries_are_found_to_the_window(seed: int) -> None:
    spoken = voice(seed, 1.2)
    power = refine.band_power(pcm(np.concatenate([np.zeros(4000), spoken.audio, np.zeros(4000)])), SETTINGS)
    start, end = 500 + spoken.start_ms, 500 + spoken.end_ms
    level = refine.active_level(power[int(start / 2) : int(end / 2)]) - 30
    onset = refine.crossing(power, level, int(start / 2) + 30, "onset", noisy=False, settings=SETTINGS)
    stop = refine.crossing(power, level, int(end / 2) - 30, "end", noisy=False, settings=SETTINGS)
    assert onset is not None
    assert stop is not None
    assert onset * 2 == pytest.approx(start, abs=4)
    assert stop * 2 == pytest.approx(end, abs=4)


def runs(*spans: tuple[int, int], length: int = 500) -> refine.Levels:
    levels = np.full(length, -60.0, np.float32)
    for start, end in spans:
        levels[start:end] = -20.0
    return levels


def test_holes_are_bridged_and_longer_ones_are_not() -> None:
    assert refine.crossing(runs((100, 200), (300, 320)), -50, 190, "end", noisy=False, settings=SETTINGS) == 320  # 200 ms
    assert refine.crossing(runs((100, 200), (302, 320)), -50, 190, "end", noisy=False, settings=SETTINGS) == 200
    assert refine.crossing(runs((100, 200), (256, 320)), -50, 190, "end", noisy=True, settings=SETTINGS) == 200  # 112 ms in noise


def test_short_runs_are_ignored_and_in_noise_longer_ones_too() -> None:
    assert refine.crossing(runs((100, 200), (220, 222)), -50, 190, "end", noisy=False, settings=SETTINGS) == 200
    assert refine.crossing(runs((100, 200), (220, 224)), -50, 190, "end", noisy=False, settings=SETTINGS) == 224
    assert refine.crossing(runs((100, 200), (220, 226)), -50, 190, "end", noisy=True, settings=SETTINGS) == 200


def test_onsets_are_ends_seen_backwards() -> None:
    assert refine.crossing(runs((90, 95), (150, 300)), -50, 170, "onset", noisy=False, settings=SETTINGS) == 90
    assert refine.crossing(runs((10, 40), (150, 300)), -50, 170, "onset", noisy=False, settings=SETTINGS) == 150


def test_nothing_above_the_level_is_no_boundary() -> None:
    assert refine.crossing(runs(), -50, 100, "end", noisy=False, settings=SETTINGS) is None


@pytest.mark.parametrize("noise", [None, -90.0])
def test_nothing_is_hidden_where_no_noise_is_whatever_the_level(noise: float | None) -> None:
    levels = [-level / 997 for level in range(5_000, 45_000, 7)]
    assert {refine.threshold(level, noise, SETTINGS)[1] for level in levels} == {SETTINGS.depth_db}


def test_noise_raises_the_threshold_and_hides_depth() -> None:
    assert refine.threshold(-20.0, None, SETTINGS) == (-50.0, 30.0)
    assert refine.threshold(-20.0, -60.0, SETTINGS) == (-50.0, 30.0)
    assert refine.threshold(-20.0, -36.5, SETTINGS) == (-35.0, 15.0)


def test_what_the_noise_hides_grows_and_onsets_lose_little() -> None:
    ends = [refine.expected_loss(depth, "end") for depth in (30, 25, 20, 15, 10)]
    assert [bias for bias, _ in ends] == sorted(bias for bias, _ in ends)
    assert [u for _, u in ends] == sorted(u for _, u in ends)
    assert ends[0][0] == 0
    assert refine.expected_loss(10, "onset")[0] < 10 < 60 < refine.expected_loss(10, "end")[0]


def test_the_level_goes_straight_over_what_was_lost() -> None:
    levels = runs((0, 100), length=200)
    levels[100:] = -40.0
    levels[95:105] = -96.0
    longest = refine.bridge_lost(levels, [(96 * 16, 104 * 16)])
    assert longest == pytest.approx(16.0)
    assert np.all(np.diff(levels[94:107]) <= 0)
    assert levels[100] == pytest.approx(-30.0, abs=4)
