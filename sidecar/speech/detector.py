"""Speech or not, for each 10 ms of media time: the WebRTC detector, asked only where there is something to hear."""

from __future__ import annotations

from typing import Final, Protocol

import _webrtcvad  # type: ignore[import-not-found]
import numpy as np
import numpy.typing as npt

from sidecar.media.decode import RATE, Pcm
from sidecar.speech.settings import SpeechSettings

FRAME: Final = RATE // 100
"""Samples in a frame."""
Flags = npt.NDArray[np.bool_]
"""One for each frame."""


class Detector(Protocol):
    """Judges the frames of one direction in their order, at once or some time later."""

    @property
    def name(self) -> str:
        """What the figures call it."""
        ...

    def take(self, pcm: Pcm, audible: Flags, lost: Flags | None) -> None:
        """Take whole frames. Where `audible` is false there is nothing to hear; `lost` marks those of which nothing is known."""
        ...

    def finish(self) -> None:
        """No more frames come."""
        ...

    def judged(self) -> Flags:
        """Speech or not, for the frames that have been judged since the last call."""
        ...


class Hold:
    """Frames that were lost keep the state that they found, but not for long."""

    def __init__(self, longest_ms: int) -> None:
        self._longest = longest_ms // 10
        self._held = 0
        self._last = False

    def over(self, speech: Flags, lost: Flags | None) -> None:
        """Settle the lost ones among the frames that follow those before, in place."""
        if lost is None or not lost.any():
            self._held = 0
        else:
            for i, gone in enumerate(lost.tolist()):
                self._held = self._held + 1 if gone else 0
                if gone:
                    speech[i] = self._last and self._held <= self._longest
                else:
                    self._last = bool(speech[i])
        self._last = bool(speech[-1]) if len(speech) else self._last


class Webrtc:
    """The WebRTC detector, which judges at once."""

    name: Final = "webrtc3"

    def __init__(self, settings: SpeechSettings) -> None:
        # The extension module itself: its wrapper costs half as much again as the detector does.
        self._vad = _webrtcvad.create()
        _webrtcvad.init(self._vad)
        _webrtcvad.set_mode(self._vad, settings.mode)
        self._hold = Hold(settings.lost_hold_ms)
        self._judged: list[Flags] = []

    def take(self, pcm: Pcm, audible: Flags, lost: Flags | None) -> None:
        """Judge whole frames."""
        speech = np.zeros(len(audible), np.bool_)
        asked = audible.nonzero()[0]
        if len(asked):
            raw, judge, vad, width = pcm.tobytes(), _webrtcvad.process, self._vad, 2 * FRAME
            speech[asked] = [judge(vad, RATE, raw[at : at + width], FRAME) for at in (asked * width).tolist()]
        self._hold.over(speech, lost)
        self._judged.append(speech)

    def finish(self) -> None:
        """Nothing waits."""

    def judged(self) -> Flags:
        """All that were taken."""
        judged, self._judged = self._judged, []
        return judged[0] if len(judged) == 1 else np.concatenate([np.zeros(0, np.bool_), *judged])
