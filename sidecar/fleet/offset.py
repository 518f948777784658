"""How far control's clock is from ours, from the four times of each beat (RFC 5905 section 8): ours when it left and when its answer came,
control's when it came there and when the answer left.

Our two are monotonic, so that a step of our wall clock between two beats spoils nothing: what is kept is control's clock against the
monotonic one, and the wall clock is looked at only when the offset is asked for. Times are microseconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from control.contract.call import ClockOffset

WINDOW = 8
"""Measurements that are kept; the one with the shortest way tells the offset."""
DRIFT = 15e-6
"""What two clocks may drift apart (RFC 5905: PHI): an older measurement is worth less."""
_MARGIN_US = 1000.0


@dataclass(frozen=True, slots=True)
class Sample:
    """`base`: control's clock minus the monotonic one; `error`: half the way there and back; `at`: monotonic."""

    base: float
    error: float
    at: float

    def error_at(self, now: float) -> float:
        """How wrong it may be by now."""
        return self.error + DRIFT * (now - self.at)


class Offset:
    """The best of the last measurements."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=WINDOW)

    def add(self, left: float, received: float, replied: float, came: float) -> None:
        """One beat: `left` and `came` monotonic, `received` and `replied` on control's clock. A beat that makes no sense is left out."""
        way = (came - left) - (replied - received)
        if way < 0 or replied < received:
            return
        new = Sample(replied + way / 2 - came, way / 2, came)
        # Control's clock was set meanwhile: what was measured before says nothing any more.
        if any(abs(new.base - old.base) > new.error + old.error_at(came) + _MARGIN_US for old in self._samples):
            self._samples.clear()
        self._samples.append(new)

    def now(self, wall: float, mono: float) -> ClockOffset | None:
        """Control's clock minus our wall clock, at this moment; None before the first measurement."""
        best = min(self._samples, key=lambda sample: sample.error_at(mono), default=None)
        if best is None:
            return None
        return ClockOffset(offset_ms=round((best.base + mono - wall) / 1000, 3), uncertainty_ms=round(best.error_at(mono) / 1000, 3))
