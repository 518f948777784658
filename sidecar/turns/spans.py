"""Stretches of call time and what can be said of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """[start, end) in ms of call time, with ± of either edge."""

    start: float
    end: float
    start_uncertainty: float = 0.0
    end_uncertainty: float = 0.0

    @property
    def duration(self) -> float:
        """Length in ms."""
        return self.end - self.start

    def until(self, other: Span) -> Span:
        """From the start of this one to the end of another."""
        return Span(self.start, other.end, self.start_uncertainty, other.end_uncertainty)


def bridge(spans: Iterable[Span], gap: float) -> list[Span]:
    """Join spans (in order of start) whose gaps are not longer than `gap`."""
    joined: list[Span] = []
    for span in spans:
        if joined and span.start - joined[-1].end <= gap:
            if span.end > joined[-1].end:
                joined[-1] = joined[-1].until(span)
        else:
            joined.append(span)
    return joined


def without(spans: Iterable[Span], holes: Sequence[Span]) -> list[Span]:
    """The parts of `spans` outside `holes` (both in order)."""
    left = list(spans)
    for hole in holes:
        cut: list[Span] = []
        for span in left:
            if span.end <= hole.start or span.start >= hole.end:
                cut.append(span)
                continue
            if span.start < hole.start:
                cut.append(span._replace(end=hole.start))
            if span.end > hole.end:
                cut.append(span._replace(start=hole.end))
        left = cut
    return left


def total(spans: Iterable[Span]) -> float:
    """Sum of durations."""
    return sum(span.duration for span in spans)


def union(*parties: Iterable[Span]) -> list[Span]:
    """Where anyone's span is."""
    return bridge(sorted((span for spans in parties for span in spans), key=lambda s: s.start), 0.0)


def gaps(spans: Sequence[Span], start: float, end: float) -> list[float]:
    """Durations of the stretches of [start, end] that no span covers; `spans` in order and apart."""
    found, at = [], start
    for span in spans:
        if span.start > at:
            found.append(min(span.start, end) - at)
        at = max(at, span.end)
    if end > at:
        found.append(end - at)
    return found
