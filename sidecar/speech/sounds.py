"""Sounds of any kind in one direction (typing, tones, music, speech): where something begins to be heard after a quiet moment."""

from __future__ import annotations

from sidecar.media.decode import RATE
from sidecar.speech.refine import FLOOR_DB, Levels, stretches
from sidecar.speech.settings import SpeechSettings

_FRAME = RATE // 100


class Sounds:
    """Onsets on the stream's time line. A steady background (comfort noise, an open microphone) becomes the floor and is no sound."""

    def __init__(self, settings: SpeechSettings) -> None:
        self._settings = settings
        self._floor = FLOOR_DB
        self._gap = settings.sound_gap_ms // 10 * _FRAME
        self._heard_until = -self._gap
        self.onsets: list[int] = []

    def frames(self, position: int, levels: Levels, speech_level: float | None) -> None:
        """Take consecutive 10 ms frames that begin at `position`."""
        settings = self._settings
        audible = settings.sound_db if speech_level is None else max(settings.sound_db, speech_level - settings.sound_under_speech_db)
        # The floor falls at once and rises slowly, so that speech does not lift it.
        self._floor = min(self._floor + settings.floor_rise_db_s * len(levels) / 100, float(levels.min()))
        starts, ends = stretches(levels > max(audible, self._floor + settings.sound_over_noise_db))
        for first, last in zip(starts.tolist(), ends.tolist(), strict=True):
            start = position + first * _FRAME
            if last - first < 2 and levels[first] <= audible + settings.sudden_db and start > self._heard_until:
                continue  # a single frame is a sound only where it is loud, as a keystroke is
            if start - self._heard_until >= self._gap:
                self.onsets.append(start)
            self._heard_until = position + last * _FRAME
