"""Speech or not, for each 10 ms of media time: the WebRTC detector, asked only where there is something to hear."""

from __future__ import annotations

from dataclasses import dataclass

import _webrtcvad  # type: ignore[import-not-found]
import numpy as np
import numpy.typing as npt

from sidecar.media.decode import RATE, Pcm
from sidecar.speech.refine import Levels, mean_power
from sidecar.speech.settings import SpeechSettings

FRAME = RATE // 100
"""Samples in a frame."""
NAME = "webrtc3"


@dataclass(frozen=True, slots=True)
class Frames:
    """Consecutive frames: their level in dB of full scale, and whether each is speech."""

    level: Levels
    speech: npt.NDArray[np.bool_]


class Detector:
    """State of one direction."""

    def __init__(self, settings: SpeechSettings) -> None:
        self._settings = settings
        # The extension module itself: its wrapper costs half as much again as the detector does.
        self._vad = _webrtcvad.create()
        _webrtcvad.init(self._vad)
        _webrtcvad.set_mode(self._vad, settings.mode)
        self._held = 0
        self._last = False

    def frames(self, pcm: Pcm, lost: npt.NDArray[np.bool_] | None, speech_level: float | None) -> Frames:
        """Judge whole frames. `lost` marks frames of which nothing is known: for a short time they take the state that they found."""
        count = len(pcm) // FRAME
        level = mean_power(pcm[: count * FRAME].astype(np.float32), FRAME)
        quiet = self._settings.quiet_db
        if speech_level is not None:
            quiet = max(quiet, speech_level - self._settings.quiet_under_speech_db)
        audible = level > quiet
        if lost is not None:
            audible &= ~lost
        speech = np.zeros(count, np.bool_)
        asked = audible.nonzero()[0]
        if len(asked):
            raw, judge, vad, width = pcm.tobytes(), _webrtcvad.process, self._vad, 2 * FRAME
            speech[asked] = [judge(vad, RATE, raw[at : at + width], FRAME) for at in (asked * width).tolist()]
        if lost is not None and lost.any():
            self._hold(speech, lost)
        else:
            self._held = 0
        self._last = bool(speech[-1]) if count else self._last
        return Frames(level, speech)

    def _hold(self, speech: npt.NDArray[np.bool_], lost: npt.NDArray[np.bool_]) -> None:
        longest = self._settings.lost_hold_ms // 10
        last = self._last
        for i, gone in enumerate(lost.tolist()):
            if gone:
                self._held += 1
                speech[i] = last and self._held <= longest
            else:
                self._held = 0
                last = bool(speech[i])
