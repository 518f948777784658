"""The E-model, against values of G.107 and G.113."""

from __future__ import annotations

import pytest

from sidecar.media import mos


def test_reference_connection() -> None:  # G.107 annex B: R = 93.2 gives 4.41
    assert mos.mos(93.2) == pytest.approx(4.41, abs=0.005)
    assert mos.mos_lq("PCMU", 0.0) == pytest.approx(4.41, abs=0.005)


@pytest.mark.parametrize(("r", "score"), [(90.0, 4.34), (80.0, 4.03), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58), (-3.0, 1.0), (101.0, 4.5)])
def test_categories(r: float, score: float) -> None:  # G.107 annex B table B.1
    assert mos.mos(r) == pytest.approx(score, abs=0.007)


def test_random_loss_by_hand() -> None:  # Ie,eff = 95 · 2 / (2 + 25.1) = 7.011
    assert mos.rating(0.02, 1.0, 0.0, 25.1) == pytest.approx(93.2 - 7.0111, abs=1e-3)


def test_bursts_hurt_more_than_random_loss() -> None:
    assert mos.rating(0.05, 3.0, 0.0, 25.1) < mos.rating(0.05, 1.0, 0.0, 25.1)


def test_burst_ratio_by_hand() -> None:  # 100 of 1000 lost in 20 runs of 5: 5 / (1 / 0.9) = 4.5
    assert mos.burst_ratio(0.1, 20, 100) == pytest.approx(4.5)
    assert mos.burst_ratio(0.1, 100, 100) == 1.0
    assert mos.burst_ratio(0.0, 0, 0) == 1.0


def test_codec_without_published_figures_has_no_score() -> None:
    assert mos.mos_lq("OPUS", 0.0) is None
    assert mos.mos_lq(None, 0.0) is None
