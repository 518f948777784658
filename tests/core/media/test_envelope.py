"""Media time to arrival time."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.media.envelope import Envelope


def mapped(drift_ppm: float, jitter_ms: float, seconds: float = 60.0, seed: int = 3) -> tuple[Envelope, np.ndarray]:
    rng = np.random.default_rng(seed)
    times = np.arange(0, seconds, 0.02)
    envelope = Envelope()
    true = 1000.0 + times * (1 + drift_ppm * 1e-6)
    for time, arrival in zip(times, true + rng.uniform(0, jitter_ms / 1000, len(times)), strict=True):
        envelope.add(time, arrival)
    asked = np.arange(3.0, seconds - 3.0, 0.05)
    errors = [envelope.place(t) - (1000.0 + t * (1 + drift_ppm * 1e-6)) for t in asked]
    return envelope, np.array(errors) * 1000


@pytest.mark.parametrize("drift", [0.0, 100.0, -100.0])
def test_jitter_of_40_ms_vanishes(drift: float) -> None:
    _, errors = mapped(drift, 40.0)
    assert np.median(np.abs(errors)) < 0.8
    assert np.percentile(np.abs(errors), 99) < 3.0


def test_a_sender_that_paces_badly_is_followed() -> None:  # 2 % slow: a plain minimum over ±2 s would be 40 ms early
    _, errors = mapped(20_000.0, 0.0)
    assert np.abs(errors).max() < 0.1


def test_ends_are_placed_by_the_packets_that_there_are() -> None:
    envelope, _ = mapped(0.0, 0.0)
    assert envelope.place(0.0) == pytest.approx(1000.0)
    assert envelope.place(59.98) == pytest.approx(1059.98)
    assert envelope.place(70.0) == pytest.approx(1070.0)


def test_a_pause_without_packets_is_placed_by_its_neighbours() -> None:
    envelope = Envelope()
    envelope.add(0.0, 10.0)
    envelope.add(100.0, 110.002)
    assert envelope.place(50.0) == pytest.approx(60.001)


def test_a_packet_that_came_sooner_counts_for_times_that_were_asked_before() -> None:
    envelope = Envelope()
    for second in range(6):
        envelope.add(float(second), 10.02 + second)
    assert envelope.place(2.5) == pytest.approx(12.52)
    envelope.add(2.1, 12.1)
    assert envelope.place(2.5) < 12.51
