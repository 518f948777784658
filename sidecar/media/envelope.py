"""Media time to arrival time: the lower envelope of (arrival − RTP time).

The network can only delay, so the least delayed packets of a few seconds show when the sender's clock really ticked. Jitter vanishes,
drift between the two clocks is followed.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

_BIN_S: Final = 0.25


class Envelope:
    """One mapping: RTP time in seconds since its own zero to arrival time in seconds, for one run of one sender's clock."""

    __slots__ = ("_hull", "_hull_of", "_keys", "_points", "_reach")

    def __init__(self, reach_s: float = 2.0) -> None:
        self._reach = reach_s
        # Invariant: one point for each quarter of a second that had packets, its least delayed one; keys and points in order of time.
        self._keys: list[int] = []
        self._points: list[tuple[float, float]] = []
        # Invariant: the hull of the points between these two numbers, as they are now.
        self._hull_of = (0, 0)
        self._hull: list[tuple[float, float]] = []

    def add(self, time: float, arrival: float) -> None:
        """Note that the packet whose first sample is at `time` arrived at `arrival`."""
        offset, key, keys = arrival - time, int(time // _BIN_S), self._keys
        if not keys or key > keys[-1]:
            keys.append(key)
            self._points.append((time, offset))
            return
        index = bisect_left(keys, key)
        self._hull_of = (0, 0)
        if keys[index] != key:
            keys.insert(index, key)
            self._points.insert(index, (time, offset))
        elif offset < self._points[index][1]:
            self._points[index] = (time, offset)

    def place(self, time: float) -> float:
        """When the sample at `time` is taken to have passed, in arrival time. Needs at least one packet."""
        points, reach = self._points, self._reach
        low, high = bisect_left(points, (time - reach, 0.0)), bisect_left(points, (time + reach, 0.0))
        window = points[low:high]
        if not window:  # in a long pause of the sender: the packets on either side
            window = points[max(0, low - 1) : low + 1]
        if window[0][0] > time - reach / 2 or window[-1][0] < time + reach / 2:
            return time + min(offset for _, offset in window)
        if self._hull_of != (low, high):
            self._hull_of, self._hull = (low, high), _lower_hull(window)
        return time + _at(self._hull, time)


def _lower_hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The lower convex hull of `points`, sorted by time."""
    hull: list[tuple[float, float]] = []
    for x, y in points:
        while len(hull) >= 2:
            (x0, y0), (x1, y1) = hull[-2:]
            if (y1 - y0) * (x - x0) < (y - y0) * (x1 - x0):
                break
            hull.pop()
        hull.append((x, y))
    return hull


def _at(hull: list[tuple[float, float]], time: float) -> float:
    """The hull at `time`, which lies between its ends."""
    right = bisect_left(hull, (time, float("-inf")))
    right = min(max(right, 1), len(hull) - 1)
    (x0, y0), (x1, y1) = hull[right - 1], hull[right]
    return y0 + (y1 - y0) * (time - x0) / (x1 - x0)
