"""Media time to arrival time: the lower envelope of (arrival − RTP time).

The network can only delay, so the least delayed packets of a few seconds show when the sender's clock really ticked. Jitter vanishes,
drift between the two clocks is followed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

_BIN_S: Final = 0.25


class Envelope:
    """One mapping: RTP time in seconds since its own zero to arrival time in seconds, for one run of one sender's clock."""

    __slots__ = ("_hull", "_hull_of", "_offsets", "_reach", "_times")

    def __init__(self, reach_s: float = 2.0) -> None:
        self._reach = reach_s
        # Invariant: one point for each quarter of a second that had packets, its least delayed one; in order of time.
        self._times: list[float] = []
        self._offsets: list[float] = []
        # Invariant: the hull of the points between these two numbers, as they are now.
        self._hull_of = (0, 0)
        self._hull: list[tuple[float, float]] = []

    def add(self, time: float, arrival: float) -> None:
        """Note that the packet whose first sample is at `time` arrived at `arrival`."""
        offset, key, times = arrival - time, time // _BIN_S, self._times
        if not times or key > times[-1] // _BIN_S:
            times.append(time)
            self._offsets.append(offset)
            return
        index = bisect_left(times, key * _BIN_S)
        self._hull_of = (0, 0)
        if times[index] // _BIN_S != key:
            times.insert(index, time)
            self._offsets.insert(index, offset)
        elif offset < self._offsets[index]:
            times[index], self._offsets[index] = time, offset

    def place(self, time: float) -> float:
        """When the sample at `time` is taken to have passed, in arrival time. Needs at least one packet."""
        times, reach = self._times, self._reach
        low, high = bisect_left(times, time - reach), bisect_left(times, time + reach)
        if low == high:  # in a long pause of the sender: the packets on either side
            low, high = max(0, low - 1), min(low + 1, len(times))
        if times[low] > time - reach / 2 or times[high - 1] < time + reach / 2:
            return time + min(self._offsets[low:high])
        if self._hull_of != (low, high):
            self._hull_of, self._hull = (low, high), _lower_hull(zip(times[low:high], self._offsets[low:high], strict=True))
        return time + _at(self._hull, time)


def _lower_hull(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The lower convex hull of `points`, sorted by time."""
    hull: list[tuple[float, float]] = []
    for point in points:
        x, y = point
        while len(hull) > 1:
            x0, y0 = hull[-2]
            x1, y1 = hull[-1]
            if (y1 - y0) * (x - x0) < (y - y0) * (x1 - x0):
                break
            hull.pop()
        hull.append(point)
    return hull


def _at(hull: list[tuple[float, float]], time: float) -> float:
    """The hull at `time`, which lies between its ends."""
    right = bisect_left(hull, (time, float("-inf")))
    right = min(max(right, 1), len(hull) - 1)
    (x0, y0), (x1, y1) = hull[right - 1], hull[right]
    return y0 + (y1 - y0) * (time - x0) / (x1 - x0)
