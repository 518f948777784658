"""Sounds of any kind in one direction (typing, tones, music, speech): where something begins to be heard after a quiet moment."""

from __future__ import annotations

from sidecar.media.decode import RATE
from sidecar.speech.refine import FLOOR_DB, Levels
from sidecar.speech.settings import SpeechSettings

_FRAME = RATE // 100


class Sounds:
    """Onsets on the stream's time line. A steady background (comfort noise, an open microphone) becomes the floor and is no sound."""

    def __init__(self, settings: SpeechSettings) -> None:
        self._settings = settings
        self._floor = FLOOR_DB
        self._quiet = settings.sound_gap_ms // 10
        self._run = 0
        self.onsets: list[int] = []

    def frames(self, position: int, levels: Levels, speech_level: float | None) -> None:
        """Take consecutive 10 ms frames that begin at `position`."""
        settings = self._settings
        audible = settings.sound_db if speech_level is None else max(settings.sound_db, speech_level - 32.0)
        gap = settings.sound_gap_ms // 10
        if self._quiet >= gap and levels.max() <= audible:  # most of a call: nothing to hear here
            low = float(levels.min())
            self._floor = low if low < self._floor else min(low, self._floor + 0.05 * len(levels))
            self._run = 0
            return
        for i, level in enumerate(levels.tolist()):
            # The floor falls at once and rises by 5 dB a second.
            self._floor = level if level < self._floor else min(level, self._floor + 0.05)
            if level > audible and level > self._floor + settings.sound_over_noise_db:
                self._run += 1
                if self._run == 2:
                    if self._quiet >= gap:
                        self.onsets.append(position + (i - 1) * _FRAME)
                    self._quiet = 0
            else:
                self._run = 0
                self._quiet += 1
