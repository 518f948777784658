"""Named telephone events (RFC 4733): key presses, each told by many packets."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

_DIGITS: Final = "0123456789*#ABCD"  # RFC 4733 3.2 table 3
_PAYLOAD = struct.Struct("!BBH").unpack_from


@dataclass(slots=True)
class Press:
    """One key: `position` on its stream's time line in samples, `duration` in units of the RTP clock."""

    digit: str
    position: int
    timestamp: int
    duration: int
    over: bool = False
    rate: int = 8000
    """The RTP clock in Hz."""


class Keypad:
    """Folds event packets into presses. All packets of one press share a time stamp; only its duration grows (2.5.1.2)."""

    def __init__(self) -> None:
        self.presses: list[Press] = []

    def packet(self, payload: bytes, timestamp: int, position: int, rate: int = 8000) -> None:
        """Take one event packet; anything but a DTMF event, and a payload cut short, changes nothing."""
        if len(payload) < 4:
            return
        event, flags, duration = _PAYLOAD(payload)
        if event >= len(_DIGITS):
            return
        last = self.presses[-1] if self.presses else None
        if last is not None and last.digit == _DIGITS[event]:
            # 2.5.1.3: a press longer than 0xFFFF units goes on under a new time stamp, where the last segment stopped
            follows = not last.over and (timestamp - last.timestamp) & 0xFFFFFFFF == 0xFFFF and last.duration % 0xFFFF == 0
            if last.timestamp == timestamp:
                last.duration = max(last.duration, duration)
                last.over = last.over or bool(flags & 0x80)
                return
            if follows and last.duration:
                last.timestamp, last.duration = timestamp, last.duration + duration
                return
        self.presses.append(Press(_DIGITS[event], position, timestamp, duration, bool(flags & 0x80), rate))
