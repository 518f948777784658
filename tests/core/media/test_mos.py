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


def test_defaults_without_delay_give_the_recommendations_rating() -> None:  # G.107 7.7: R = 93.2
    assert mos.mos_cq("PCMU", 0.0, 1.0, 0.0) == pytest.approx(mos.mos(93.2), abs=0.001)
    assert mos.delay_impairment(0.0) == pytest.approx(94.7688 - 1.4136 - 93.2, abs=0.01)


@pytest.mark.parametrize(("one_way", "absolute"), [(100.0, 0.0), (200.0, 3.0444), (400.0, 24.069)])
def test_absolute_delay_by_hand(one_way: float, absolute: float) -> None:  # equation 7-27 with X = 0, 1 and 2
    echo = mos.delay_impairment(one_way) - absolute
    assert 0 < echo < 9.5
    x = {100.0: 0, 200.0: 1, 400.0: 2}[one_way]
    assert 25 * ((1 + x**6) ** (1 / 6) - 3 * (1 + (x / 3) ** 6) ** (1 / 6) + 2) == pytest.approx(absolute, abs=0.002)


@pytest.mark.parametrize("one_way", [25, 50, 75, 100, 125, 150, 175, 200, 250, 300, 350])
def test_delay_impairment_follows_the_published_curve(one_way: float) -> None:
    """G.107's curve for its defaults, as fitted by Cole and Rosenbluth (2001): 0.024 d + 0.11 (d − 177.3) above 177.3 ms."""
    fitted = 0.024 * one_way + 0.11 * max(one_way - 177.3, 0.0)
    assert mos.delay_impairment(one_way) == pytest.approx(fitted, abs=1.5)


def test_delay_and_loss_add_up() -> None:
    assert mos.mos_cq("OPUS", 0.0, 1.0, 50.0) is None
    clean, far, lossy = (mos.mos_cq("PCMA", *args) for args in ((0.0, 1.0, 20.0), (0.0, 1.0, 300.0), (0.05, 1.0, 300.0)))
    assert clean is not None
    assert far is not None
    assert lossy is not None
    assert clean > far + 0.5 > far > lossy
