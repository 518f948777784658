"""How a stand-in listens: it notices when the other side begins and ends to speak, and knows both times to the sample.

An energy threshold and a hangover decide; the boundaries are then taken from the audio itself by the definition in `bounds`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np

from sidecar.clocks import Mono
from sidecar.lab.rtp import Arrivals, Heard
from sidecar.lab.speech.bounds import RATE, Pcm, spans

THRESHOLD_RMS = 82.0
"""−52 dBov: 32 dB under the clips, 27 dB over the line noise."""
ONSET_FRAMES = 4
"""Active packets in a row that make a beginning: a click is shorter."""
LEAD_IN = RATE // 5


@dataclass(frozen=True, slots=True)
class Began:
    """The other side began to speak at `start`."""

    start: Mono


@dataclass(frozen=True, slots=True)
class Fell:
    """The other side fell silent: it spoke from `start` to `end`, and that was decided at `decided`."""

    start: Mono
    end: Mono
    decided: Mono


class Ear:
    """Turns what is heard into `Began` and `Fell` events on a queue. A pause shorter than `hangover_s` is part of the utterance."""

    def __init__(self, arrivals: Arrivals, *, hangover_s: float) -> None:
        self.events: asyncio.Queue[Began | Fell] = asyncio.Queue()
        self.speaking = False
        self._arrivals = arrivals
        self._hangover = round(hangover_s * RATE)
        self._audio: Pcm = np.zeros(0, dtype=np.int16)
        self._base = 0
        self._run = 0
        self._start = 0
        self._last_active = 0

    def hear(self, heard: Heard) -> None:
        """Take the next packet."""
        self._store(heard)
        active = float(np.sqrt(np.mean(np.square(heard.samples, dtype=np.float64)))) > THRESHOLD_RMS
        self._run = self._run + 1 if active else 0
        end = heard.sample + len(heard.samples)
        if active:
            self._last_active = end
        if not self.speaking and self._run >= ONSET_FRAMES:
            self._begin(end)
        elif self.speaking and end - self._last_active >= self._hangover:
            self._finish(end)
        elif not self.speaking:
            self._forget(end - LEAD_IN - ONSET_FRAMES * len(heard.samples))

    def _store(self, heard: Heard) -> None:
        at = heard.sample - self._base
        if at < 0:
            return
        if at + len(heard.samples) > len(self._audio):
            self._audio = np.concatenate((self._audio, np.zeros(at + len(heard.samples) - len(self._audio), dtype=np.int16)))
        self._audio[at : at + len(heard.samples)] = heard.samples

    def _forget(self, before: int) -> None:
        """Let go of audio that no utterance can reach back to."""
        if before - self._base > RATE:
            self._audio = self._audio[before - self._base :]
            self._base = before

    def _begin(self, now: int) -> None:
        self.speaking = True
        found = spans(self._audio)
        recent = [span for span in found if self._base + span.end >= now - LEAD_IN]
        self._start = self._base + (recent[0].start if recent else max(0, len(self._audio) - LEAD_IN))
        self.events.put_nowait(Began(self._arrivals.time_of(self._start)))

    def _finish(self, now: int) -> None:
        self.speaking = False
        first = max(0, self._start - LEAD_IN - self._base)
        found = spans(self._audio[first:])
        start, end = (
            (found[0].start, found[-1].end) if found else (self._start - self._base - first, self._last_active - self._base - first)
        )
        place = self._arrivals.time_of
        self.events.put_nowait(Fell(place(self._base + first + start), place(self._base + first + end), place(now)))
        self._forget(now)
