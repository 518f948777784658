"""Waiting between tries: doubling, jittered, bounded, and as long as control asks."""

from __future__ import annotations

import pytest

from sidecar.reporter.pace import Backoff, Pace, retry_after
from tests.support.trace_lines import NOW


def test_waits_double_up_to_the_last_and_start_again_after_an_answer() -> None:
    backoff = Backoff(Pace(first_retry=1.0, last_retry=6.0), jitter=lambda: 1.0)
    assert [backoff.next(None) for _ in range(5)] == [1.0, 2.0, 4.0, 6.0, 6.0]
    backoff.reset()
    assert backoff.next(None) == 1.0


def test_jitter_takes_off_up_to_half() -> None:
    assert Backoff(Pace(first_retry=1.0), jitter=lambda: 0.0).next(None) == 0.5


def test_a_refusal_waits_for_a_person() -> None:
    assert Backoff(Pace(), jitter=lambda: 0.0).next(None, refused=True) == Pace().refused_retry


@pytest.mark.parametrize("asked", [2.0, 5000.0])
def test_a_retry_after_is_followed_within_reason(asked: float) -> None:
    assert Backoff(Pace(longest_wait=300.0), jitter=lambda: 0.0).next(asked) == min(asked, 300.0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 3 ", 3.0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("²", None),
    ],
)
def test_retry_after_as_a_number_or_a_date(value: str | None, seconds: float | None) -> None:  # RFC 9110 10.2.3
    assert retry_after(value, NOW) == seconds
