"""The offset of two clocks from the four times of a beat (RFC 5905 section 8)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.fleet.offset import WINDOW, Offset

MS = 1000.0
WALL = 1_800_000_000_000_000.0
"""Our wall clock when the monotonic one shows 0."""


def beat(offset: Offset, at: float, ahead: float, there: float, back: float, *, think: float = 0.0) -> float:
    """One beat that leaves at monotonic `at`; control's clock is `ahead` of our wall clock. Returns when its answer came. Microseconds."""
    received = WALL + at + there + ahead
    came = at + there + think + back
    offset.add(at, received, received + think, came)
    return came


def test_nothing_is_known_before_the_first_beat() -> None:
    assert Offset().now(WALL, 0.0) is None


@given(
    ahead=st.floats(-1e12, 1e12),
    ways=st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=1, max_size=20),
)
def test_the_true_offset_is_never_further_away_than_the_uncertainty(ahead: float, ways: list[tuple[float, float]]) -> None:
    offset, at = Offset(), 0.0
    for there, back in ways:
        came = beat(offset, at, ahead, there, back, think=500.0)
        told = offset.now(WALL + came, came)
        assert told is not None
        assert abs(told.offset_ms - ahead / MS) <= told.uncertainty_ms + 0.01  # microseconds as floats of this size, rounded
        at = came + 5_000_000


def test_the_shortest_way_tells_the_offset_even_when_later_ones_are_lopsided() -> None:
    offset = Offset()
    beat(offset, 0.0, 250 * MS, 0.2 * MS, 0.2 * MS)
    for number in range(1, WINDOW):
        came = beat(offset, number * 5e6, 250 * MS, 90 * MS, 1 * MS)
    told = offset.now(WALL + came, came)
    assert told is not None
    assert told.offset_ms == pytest.approx(250, abs=0.3)
    assert told.uncertainty_ms < 1.0


def test_a_step_of_our_own_clock_shows_at_once() -> None:
    offset = Offset()
    came = beat(offset, 0.0, 0.0, MS, MS)
    told = offset.now(WALL + came - 3600e6, came)  # set back by an hour, no beat since
    assert told is not None
    assert told.offset_ms == pytest.approx(3_600_000, abs=1.1)


def test_a_step_of_controls_clock_drops_what_was_measured_before() -> None:
    offset = Offset()
    for number in range(4):
        beat(offset, number * 5e6, 0.0, 0.1 * MS, 0.1 * MS)
    came = beat(offset, 30e6, 60_000 * MS, 20 * MS, 20 * MS)
    told = offset.now(WALL + came, came)
    assert told is not None
    assert told.offset_ms == pytest.approx(60_000, abs=0.01)
    assert told.uncertainty_ms == pytest.approx(20, abs=0.01)


def test_a_beat_that_makes_no_sense_is_left_out() -> None:
    offset = Offset()
    offset.add(0.0, WALL, WALL + 50 * MS, 10 * MS)  # control thought longer than we waited
    offset.add(0.0, WALL, WALL - 1, 10 * MS)
    assert offset.now(WALL, 0.0) is None
