"""Bursts and gaps (RFC 3611 4.7.2), and the worst five seconds."""

from __future__ import annotations

import pytest

from sidecar.media.losses import Interval, Losses


def fed(came: str, packet_s: float = 0.02) -> Losses:
    """Losses of a stream: one sign a packet, `x` for a lost one."""
    losses, missing = Losses(), 0
    for index, sign in enumerate(came):
        if sign == "x":
            missing += 1
        else:
            losses.packets(index * packet_s, 1, missing)
            missing = 0
    return losses


def test_no_loss() -> None:
    pattern = fed("." * 500).finish()
    assert (pattern.bursts, pattern.burst_density, pattern.gap_density, pattern.lossy_intervals, pattern.worst) == (0, 0.0, 0.0, 0, None)


def test_a_lone_loss_belongs_to_the_gap() -> None:
    pattern = fed("." * 50 + "x" + "." * 49).finish()
    assert (pattern.bursts, pattern.gap_density) == (0, pytest.approx(0.01))


def test_fifteen_packets_between_two_losses_join_them_and_sixteen_do_not() -> None:  # Gmin = 16
    joined = fed("." * 20 + "x" + "." * 15 + "x" + "." * 20).finish()
    assert (joined.bursts, joined.burst_packets, joined.burst_density) == (1, 17, pytest.approx(2 / 17))
    assert joined.gap_density == 0.0
    apart = fed("." * 20 + "x" + "." * 16 + "x" + "." * 20).finish()
    assert (apart.bursts, apart.gap_density) == (0, pytest.approx(2 / 58))


def test_bursts_and_gap_by_hand() -> None:
    pattern = fed("." * 100 + "xxx..xx" + "." * 60 + "x" + "." * 40 + "xxxx" + "." * 30).finish()
    assert pattern.bursts == 2
    assert pattern.burst_packets == pytest.approx((7 + 4) / 2)
    assert pattern.burst_density == pytest.approx(9 / 11)
    assert pattern.gap_density == pytest.approx(1 / 231)


def test_the_worst_five_seconds_are_told_and_each_lossy_one_counted() -> None:
    second = "." * 50
    came = second * 5 + second * 2 + "x" * 10 + "." * 40 + second * 2 + second * 5 + second * 4 + "x" * 2 + "." * 48
    pattern = fed(came).finish()
    assert pattern.lossy_intervals == 2
    assert pattern.worst == Interval(5.0, 250, 10)
