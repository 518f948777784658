"""Sequence, loss and jitter after RFC 3550, against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.media.reception import Reception


def received(*sequences: int) -> Reception:
    counted = Reception(1, 8000, sequences[0])
    for sequence in sequences:
        counted.packet(sequence & 0xFFFF)
    return counted


def test_nothing_lost() -> None:
    counted = received(*range(100, 200))
    assert (counted.packets, counted.expected, counted.lost) == (100, 100, 0)


def test_wrap_is_no_loss() -> None:  # A.1
    counted = received(*range(65530, 65546))
    assert (counted.packets, counted.lost, counted.reordered) == (16, 0, 0)
    assert counted.packet(10) == 65546


def test_loss_is_what_never_came() -> None:  # A.3
    counted = received(1, 2, 3, 6, 7, 10)
    assert (counted.expected, counted.lost) == (10, 4)


def test_a_late_packet_is_reordered_and_not_lost() -> None:
    counted = received(1, 2, 4, 5, 3, 6)
    assert (counted.lost, counted.reordered, counted.duplicates) == (0, 1, 0)


def test_reordering_over_the_wrap_and_before_the_first() -> None:
    counted = received(65535, 65534, 1, 0)
    assert (counted.packets, counted.lost, counted.reordered) == (4, 0, 2)


def test_a_duplicate_hides_no_loss() -> None:
    counted = received(1, 2, 2, 2, 4)
    assert (counted.packets, counted.lost, counted.duplicates) == (3, 1, 2)


def test_one_wild_number_changes_nothing() -> None:
    counted = received(100, 101, 30000, 102, 103)
    assert (counted.packets, counted.lost) == (4, 0)


def test_a_restarted_sequence_adds_to_what_was_counted() -> None:
    counted = received(100, 101, 103, 30000, 30001, 30002)
    assert (counted.packets, counted.expected, counted.lost) == (6, 7, 1)


def test_interval_loss_is_not_cumulative_loss() -> None:  # A.3
    counted = received(1, 2, 4)
    first = counted.interval()
    assert (first.expected, first.lost, first.fraction) == (4, 1, 0.25)
    for sequence in range(5, 15):
        counted.packet(sequence)
    second = counted.interval()
    assert (second.expected, second.lost, second.fraction) == (10, 0, 0.0)
    assert counted.lost == 1


def test_jitter_by_hand() -> None:  # A.8: D = 40, 80, 0 units → J = 2.5, 7.34375, 6.884765625
    counted = Reception(1, 8000, 0)
    for sequence, arrival in enumerate((0.0, 0.025, 0.035, 0.055)):
        counted.packet(sequence)
        counted.jitter(sequence * 160, arrival)
    assert counted.jitter_s * 8000 == pytest.approx(6.884765625)
    assert (counted.take_deviation() or 0.0) * 8000 == pytest.approx(40.0)
    assert counted.take_deviation() is None, "nothing came since"


def test_jitter_over_a_time_stamp_wrap() -> None:
    counted = Reception(1, 8000, 0)
    for sequence in range(50):
        counted.packet(sequence)
        counted.jitter((2**32 - 800 + sequence * 160) % 2**32, sequence * 0.02)
    assert counted.jitter_s == pytest.approx(0.0, abs=1e-9)


def test_a_clock_set_anew_is_no_jitter() -> None:
    counted = Reception(1, 8000, 0)
    for sequence in range(100):
        counted.packet(sequence)
        counted.jitter(sequence * 160 + (900_000 if sequence >= 50 else 0), sequence * 0.02)
    assert counted.jitter_s == pytest.approx(0.0, abs=1e-9)


def test_a_stretch_counts_as_its_packets_do() -> None:
    rng = np.random.default_rng(4)
    arrivals = np.sort(np.arange(60) * 0.02 + rng.uniform(0, 0.015, 60))
    singly, together = Reception(1, 8000, 65500), Reception(1, 8000, 65500)
    for i, arrival in enumerate(arrivals.tolist()):
        singly.packet(65500 + i & 0xFFFF)
        singly.jitter(8000 + 160 * i, arrival)
    together.stretch(65500, 8000, 160, arrivals[:20])
    together.stretch(65520, 8000 + 160 * 20, 160, arrivals[20:])
    assert together.jitter_s == pytest.approx(singly.jitter_s)
    assert together.take_deviation() == pytest.approx(singly.take_deviation())
    assert (together.packets, together.lost, together.highest) == (singly.packets, singly.lost, singly.highest)
    assert together.packet(65550 & 0xFFFF) is None
    assert together.duplicates == 1
