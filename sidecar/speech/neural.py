"""Speech or not by a small neural network (silero, 16 kHz): dearer than the default and surer in noise. Many streams are judged at once.

The network itself is an argument, so that nothing here loads or runs it.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from sidecar.media.decode import RATE, Pcm
from sidecar.speech.detector import FRAME, Flags, Hold
from sidecar.speech.settings import SpeechSettings

Floats = npt.NDArray[np.float32]
WINDOW: Final = 512
"""Samples at 16 kHz that are judged at a time: 32 ms."""
CONTEXT: Final = 64
"""Samples before them that the network sees as well."""
STATE: Final = (2, 128)
"""What it remembers of a stream."""
_UNIT: Final = 16
"""Samples at 8 kHz: the longest stretch that divides frames as well as windows."""
_FRAME_UNITS: Final = FRAME // _UNIT
_WINDOW_UNITS: Final = WINDOW // 2 // _UNIT
_LONGEST_MAYBE: Final = 8
_HALF: Final = 12
_OFFSETS = np.arange(2 * _HALF) - _HALF + 0.5
_BETWEEN: Final = (np.sinc(_OFFSETS) * np.kaiser(2 * _HALF, 6.0)).astype(np.float32)
"""Filter that gives the sample half way between two."""


class Network(Protocol):
    """One step for several streams."""

    def __call__(self, windows: Floats, states: Floats) -> tuple[Floats, Floats]:
        """Probabilities, and the states after it. `windows`: CONTEXT + WINDOW samples (±1) a row; `states`: (2, streams, 128)."""
        ...


class Bench:
    """Where windows wait until all of them are judged together, stream beside stream."""

    def __init__(self, network: Network, name: str = "silero") -> None:
        self._network = network
        self._waiting: dict[Neural, None] = {}
        self.name: Final = name

    def enter(self, stream: Neural) -> None:
        """`stream` has windows that wait."""
        self._waiting[stream] = None

    def judge(self) -> None:
        """Judge all that wait: the first window of each stream, then the second …"""
        streams, self._waiting = sorted(self._waiting, key=lambda stream: -len(stream.windows)), {}
        if not streams or not streams[0].windows:
            for stream in streams:  # nothing but silence
                stream.answered(np.zeros(0, np.float32), stream.state)
            return
        counts = [len(stream.windows) for stream in streams]
        states = np.stack([stream.state for stream in streams], axis=1)
        steps = np.zeros((counts[0], len(streams)), np.float32)
        resets = np.zeros((counts[0], len(streams)), np.bool_)
        windows = np.zeros((counts[0], len(streams), CONTEXT + WINDOW), np.float32)
        for column, stream in enumerate(streams):
            if stream.windows:
                windows[: counts[column], column] = stream.windows
                resets[: counts[column], column] = stream.resets
        busy = len(streams)
        for step in range(counts[0]):
            while counts[busy - 1] <= step:  # the shortest stream has come to its end
                busy -= 1
            if resets[step, :busy].any():
                states[:, :busy][:, resets[step, :busy]] = 0
            steps[step, :busy], states[:, :busy] = self._network(windows[step, :busy], states[:, :busy])
        for column, stream in enumerate(streams):
            stream.answered(steps[: counts[column], column], states[:, column].copy())


class Neural:
    """One direction's detector. What it takes is judged with the next `Bench.judge`, at the latest once `most_waiting_s` have come."""

    def __init__(self, bench: Bench, settings: SpeechSettings) -> None:
        self.name: Final = bench.name
        self._bench, self._settings = bench, settings
        self._hold = Hold(settings.lost_hold_ms)
        self._tail: Pcm = np.zeros(2 * _HALF, np.int16)
        self._samples: Floats = np.zeros(CONTEXT, np.float32)
        self._audible: Flags = np.zeros(0, np.bool_)
        self._lost: Flags = np.zeros(0, np.bool_)
        self._speech: Flags = np.zeros(0, np.bool_)
        self._quiet = settings.network_quiet_windows
        self._speaks = False
        self._open = 0
        """Windows before this one that may have been the beginning of speech: what follows tells."""
        self._asked: list[bool] = []
        self.state: Floats = np.zeros(STATE, np.float32)
        self.windows: list[Floats] = []
        self.resets: list[bool] = []
        """Before which of the windows what was remembered is forgotten: long silence lay between."""

    def take(self, pcm: Pcm, audible: Flags, lost: Flags | None) -> None:
        """Take whole frames and cut them into windows."""
        self._audible = np.concatenate([self._audible, np.repeat(audible, _FRAME_UNITS)])
        self._lost = np.concatenate([self._lost, lost if lost is not None else np.zeros(len(audible), np.bool_)])
        self._samples = np.concatenate([self._samples, self._doubled(pcm)])
        self._cut()
        if len(self._lost) * FRAME >= self._settings.most_waiting_s * RATE:
            self._bench.judge()

    def finish(self) -> None:
        """Fill the last window with silence, and let it be judged."""
        missing = -len(self._audible) % _WINDOW_UNITS
        self._audible = np.concatenate([self._audible, np.zeros(missing, np.bool_)])
        self._samples = np.concatenate([self._samples, self._doubled(np.zeros(missing * _UNIT, np.int16))])
        self._cut()
        self._bench.judge()
        self._speech = np.concatenate([self._speech, np.zeros(self._open * _WINDOW_UNITS, np.bool_)])
        self._open = 0

    def judged(self) -> Flags:
        """The frames whose middle lies in windows that were judged."""
        count = min(len(self._speech) // _FRAME_UNITS, len(self._lost))
        speech = self._speech[: count * _FRAME_UNITS].reshape(-1, _FRAME_UNITS)[:, _FRAME_UNITS // 2].copy()
        self._hold.over(speech, self._lost[:count])
        self._speech, self._lost = self._speech[count * _FRAME_UNITS :], self._lost[count:]
        return speech

    def answered(self, probabilities: Floats, state: Floats) -> None:
        """Take the network's word on the windows that waited."""
        self.state, self.windows, self.resets = state, [], []
        told = iter(probabilities.tolist())
        flags: list[bool] = []
        for asked in self._asked:
            probability = next(told) if asked else 0.0
            self._speaks = probability >= (self._settings.network_off if self._speaks else self._settings.network_on)
            if not self._speaks and probability >= self._settings.network_maybe and self._open < _LONGEST_MAYBE:
                self._open += 1
                continue
            flags += [self._speaks] * (self._open + 1)
            self._open = 0
        self._asked = []
        self._speech = np.concatenate([self._speech, np.repeat(np.array(flags, np.bool_), _WINDOW_UNITS)])

    def _cut(self) -> None:
        """Make windows of what has come; those in long silence are not worth asking about."""
        count = (len(self._samples) - CONTEXT) // WINDOW
        heard: Flags = np.asarray(self._audible[: count * _WINDOW_UNITS].reshape(-1, _WINDOW_UNITS).any(axis=1))
        for index, sounds in enumerate(map(bool, heard)):
            long = self._quiet >= self._settings.network_quiet_windows
            self._quiet = 0 if sounds else self._quiet + 1
            self._asked.append(sounds or not long)
            if self._asked[-1]:
                self.windows.append(self._samples[index * WINDOW : (index + 1) * WINDOW + CONTEXT])
                self.resets.append(long)
        self._samples, self._audible = self._samples[count * WINDOW :], self._audible[count * _WINDOW_UNITS :]
        if self._asked:
            self._bench.enter(self)

    def _doubled(self, pcm: Pcm) -> Floats:
        """The next samples at 16 kHz, late by 1.5 ms."""
        whole = np.concatenate([self._tail, pcm]).astype(np.float32) / np.float32(32768)
        self._tail = np.concatenate([self._tail, pcm])[len(pcm) :]
        doubled = np.empty(2 * len(pcm), np.float32)
        doubled[0::2] = whole[_HALF : _HALF + len(pcm)]
        doubled[1::2] = np.convolve(whole, _BETWEEN, "valid")[1 : len(pcm) + 1]
        return doubled
