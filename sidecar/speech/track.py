"""The speech of one direction: segments on its time line, found as the audio comes in and refined as soon as it is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sidecar.media.decode import RATE, Pcm
from sidecar.speech import refine, voicing
from sidecar.speech.detector import FRAME, Detector, Webrtc
from sidecar.speech.history import History
from sidecar.speech.picture import Picture
from sidecar.speech.refine import HOP, Boundary, Levels, Side
from sidecar.speech.settings import SpeechSettings
from sidecar.speech.sounds import Sounds

_MS = RATE // 1000
_STRIDE = 2 * RATE
_CHUNK = 50  # hops: 100 ms
_SAME_LEVEL_DB = 0.5
_SILENT_DB = 10.0


class Segment(NamedTuple):
    """Speech without a pause worth the name. Positions in samples at 8 kHz; `closed` is False while it may still grow."""

    start: int
    end: int
    level_db: float
    start_uncertainty_ms: float
    end_uncertainty_ms: float
    closed: bool


@dataclass(slots=True)
class _Raw:
    """What the detector found, and what refinement made of it so far."""

    start: int
    end: int
    open: bool = True
    level: float = refine.FLOOR_DB
    onset: Boundary | None = None
    stop: Boundary | None = None
    levels: list[Levels] = field(default_factory=list)
    band: tuple[int, int, Levels] | None = None
    """Band power around the onset, and where it was taken."""
    judged: int = 0
    """Samples from the start that were found to be no voice."""
    voice: bool = False
    faint: bool = False
    """It was cut off from fainter sound right before it."""


class SpeechTrack:
    """Sink of one stream (`audio`, `silence`, `lost`). `segments()` tells what is known; `finish()` settles the rest.

    With `sounds`, what is heard is noted there, and sounds that fooled the detector are told from a voice.

    Invariant: audio older than `window_s` is gone, so every boundary is refined within that time of being heard.
    """

    def __init__(self, settings: SpeechSettings, sounds: Sounds | None = None, detector: Detector | None = None) -> None:
        """`detector`: the default one unless another is given, which may judge some time later (`decide`)."""
        self._settings = settings
        self._sounds = sounds
        self.picture = Picture()
        self._detector: Detector = detector or Webrtc(settings)
        waiting = int(settings.most_waiting_s * RATE) + _STRIDE if detector is not None else 0
        self._history = History(int(settings.window_s * RATE) + waiting)
        self._within = int(settings.window_s * RATE) - settings.noise_reach_ms * _MS
        self._heard = 0
        """Position up to which the detector was given audio, and …"""
        self._head = 0
        """… up to which it has judged."""
        self._levels: list[Levels] = []
        """Of the frames between the two."""
        self._known: Levels = np.zeros(0, np.float32)
        """Of the last frames before `_head`."""
        self._open: _Raw | None = None
        self._unsettled: list[_Raw] = []
        self._settled: list[Segment] = []
        self._previous_end = 0
        self._last_noise: float | None = None
        self._by_level = np.zeros(int(-refine.FLOOR_DB) + 1, np.int64)
        self._level: float | None = None
        self.version = 0
        """Rises whenever a boundary was found."""

    def audio(self, pcm: Pcm) -> None:
        """Take decoded samples."""
        for start in range(0, len(pcm), _STRIDE):
            self._history.append(pcm[start : start + _STRIDE])
            self._work()

    def silence(self, samples: int) -> None:
        """Take a stretch in which nothing was sent."""
        self._fill(samples, lost=False)

    def lost(self, samples: int) -> None:
        """Take a stretch that never arrived."""
        self.picture.lost(self._history.head, samples)
        self._fill(samples, lost=True)

    def finish(self) -> None:
        """No more audio comes: close and settle everything."""
        if self._history.head == 0:
            return  # nothing was ever heard
        self._fill(FRAME - self._history.head % FRAME, lost=False)
        self._detector.finish()
        self.decide()
        if self._open is not None:
            self._close(self._open)
        self._settle(final=True)

    def segments(self, since: int = 0) -> list[Segment]:
        """Known segments that end after position `since`, in order, the one still open last."""
        first = len(self._settled)
        while first > 0 and self._settled[first - 1].end > since:
            first -= 1
        known = self._settled[first:]
        known += [self._segment(raw) for raw in self._growing() if raw.onset is not None]
        if self._level is None:
            return known
        faint = self._level - self._settings.gate_db
        return [segment for segment in known if segment.level_db >= faint]

    def _fill(self, samples: int, *, lost: bool) -> None:
        while samples > 0:
            part = min(samples, _STRIDE)
            self._history.append(np.zeros(part, np.int16), lost=lost)
            self._work()
            samples -= part

    def _work(self) -> None:
        count = (self._history.head - self._heard) // FRAME
        if count == 0:
            return
        pcm = self._history.between(self._heard, self._heard + count * FRAME)
        lost = self._history.lost_mask(self._heard, count, FRAME)
        level = refine.mean_power(pcm.astype(np.float32), FRAME)
        self.picture.frames(level)
        if self._sounds is not None:
            self._sounds.frames(self._heard, level, self._level)
        self._heard += count * FRAME
        audible = level > self._quiet_db
        if lost is not None:
            audible &= ~lost
        self._levels.append(level)
        self._detector.take(pcm, audible, lost)
        self.decide()

    @property
    def detector(self) -> str:
        """Name of the detector."""
        return self._detector.name

    @property
    def _quiet_db(self) -> float:
        """What is below this is never speech."""
        quiet = self._settings.quiet_db
        return quiet if self._level is None else max(quiet, self._level - self._settings.quiet_under_speech_db)

    def decide(self) -> None:
        """Make segments of what the detector has judged."""
        speech = self._detector.judged()
        count = len(speech)
        if count == 0:
            return
        level = self._levels[0] if len(self._levels) == 1 else np.concatenate(self._levels)
        self._levels = [level[count:]] if len(level) > count else []
        self._known = np.concatenate([self._known[-self._within // FRAME :], level[:count]])
        starts, ends = refine.stretches(speech)
        for first, last in zip(starts.tolist(), ends.tolist(), strict=True):
            self._speech(self._head + first * FRAME, self._head + last * FRAME, level[first:last])
        self._head += count * FRAME
        if self._open is not None and self._head - self._open.end > self._settings.join_ms * _MS:
            self._close(self._open)
        self._settle(final=False)

    def _speech(self, start: int, end: int, levels: Levels) -> None:
        raw = self._open
        if raw is not None and start - raw.end > self._settings.join_ms * _MS:
            self._close(raw)
            raw = None
        if raw is None:
            self._open = raw = _Raw(start, end)
        raw.end = end
        raw.levels.append(levels)
        if len(raw.levels) > 64:  # a long segment's level is that of its last part, about as much as the history holds
            raw.levels = [np.concatenate(raw.levels)[-int(self._settings.level_s * 100) :]]

    def _close(self, raw: _Raw) -> None:
        self._open = None
        if raw.end - raw.start >= self._settings.drop_ms * _MS:
            raw.open = False
            self._unsettled.append(raw)

    def _settle(self, *, final: bool) -> None:
        """Refine each boundary once the audio around it is there."""
        head, reach, beyond = self._head, self._settings.reach_ms * _MS, self._settings.noise_reach_ms * _MS
        while self._unsettled and (final or head >= self._unsettled[0].end + beyond):
            raw = self._unsettled.pop(0)
            if not self._is_voice(raw):
                continue
            self._drop_faint_start(raw)
            following = self._unsettled[0] if self._unsettled else self._open
            if raw.onset is None or raw.start > head - self._within:  # else its audio is gone, and what was found in time stands
                self._refine_onset(raw)
            else:
                raw.level = refine.active_level(np.concatenate(raw.levels))  # of the whole: it may have begun with what is fainter
            raw.stop = self._boundary(raw, "end", following.start if following is not None else head)
            self._keep(raw)
        for raw in self._growing():
            if raw.onset is None or (self._level is not None and raw.level < self._level - self._settings.gate_db):
                self._drop_faint_start(raw)
            long_enough = raw.end - raw.start >= self._settings.drop_ms * _MS
            if raw.onset is None and long_enough and head >= raw.start + reach + 50 * _MS and self._is_voice(raw):
                self._refine_onset(raw)

    def _growing(self) -> list[_Raw]:
        """Segments that have begun and are not settled yet."""
        return [*self._unsettled, self._open] if self._open is not None else self._unsettled

    def _is_voice(self, raw: _Raw) -> bool:
        """Whether there is a voice in what was found so far; other sound before it is cut off."""
        if raw.voice or self._sounds is None:
            return True
        while raw.end - raw.start - raw.judged >= self._settings.drop_ms * _MS:
            at = raw.start + raw.judged
            if raw.open and self._head < at + voicing.BLOCK:
                return False  # not enough heard yet
            block = self._history.between(at, min(at + voicing.BLOCK, raw.end))
            if voicing.is_voice(block, self._settings):
                raw.voice = True
                if raw.judged >= self._settings.false_start_ms * _MS:
                    self._cut(raw, at + voicing.first_pitch(block, self._settings))
                return True
            raw.judged += voicing.STEP
        return False

    def _cut(self, raw: _Raw, at: int) -> None:
        """Let speech begin where the sound was faintest around `at`, from which on there is a voice."""
        low = max(raw.start, at - voicing.STEP)
        power = refine.band_power(self._history.between(low, min(at + voicing.STEP // 2, raw.end)), self._settings)
        raw.start = low + int(power.argmin()) * HOP if len(power) else at
        self._previous_end = max(self._previous_end, raw.start)

    def _drop_faint_start(self, raw: _Raw) -> None:
        """Let speech begin where it is as loud as speech: what stays fainter before that is echo or babble that it came on top of.

        Unstressed ends of speech can be as faint, so they stay; beginnings never are for so long.
        """
        if self._level is None or raw.end - raw.start < 3 * self._settings.faint_ms * _MS:
            return
        start = max(raw.start, self._head - len(self._known) * FRAME)
        first = len(self._known) - (self._head - start) // FRAME
        level = self._known[first : len(self._known) - (self._head - raw.end) // FRAME]
        loud = (level > self._level - self._settings.faint_start_db).nonzero()[0]
        reach = self._settings.faint_ms // 10
        quiet = int(loud[0]) - reach if len(loud) else len(level) - 2 * reach
        if quiet > 0:
            raw.start, raw.faint, raw.onset = start + quiet * FRAME, True, None

    def _refine_onset(self, raw: _Raw) -> None:
        before = self._unsettled_before(raw)
        level = refine.active_level(np.concatenate(raw.levels))
        if raw.onset is None or abs(level - raw.level) > _SAME_LEVEL_DB:
            raw.level = level
            raw.onset = self._boundary(raw, "onset", before)
            self.version += 1
        raw.level = level

    def _unsettled_before(self, raw: _Raw) -> int:
        earlier = [other.end for other in self._unsettled if other.start < raw.start]
        return max(earlier, default=self._previous_end)

    def _boundary(self, raw: _Raw, side: Side, limit: int) -> Boundary:
        """Refine one boundary; `limit` is where the neighbouring speech ends or starts."""
        settings = self._settings
        rough = raw.start if side == "onset" else raw.end
        reach, beyond = settings.reach_ms * _MS, settings.noise_reach_ms * _MS
        if side == "onset":
            low, high = max(limit, rough - beyond, 0), min(rough + reach, max(raw.end, rough + FRAME))
        else:
            low, high = max(raw.start, rough - reach), min(limit, rough + beyond)
        silence = self._silence(rough, low, high, side)
        if silence is not None and silence < raw.level - settings.depth_db - _SILENT_DB:
            # No noise to look for, so the dear look at the band need not go that far.
            self._last_noise = silence
            low, high = (max(low, rough - reach), high) if side == "onset" else (low, min(high, rough + reach))
        low -= low % HOP
        power = self._band(raw, low, high) if side == "onset" else refine.band_power(self._history.between(low, high), settings)
        longest_loss = refine.bridge_lost(power, [(a - low, b - low) for a, b in self._history.lost_between(low, high)])
        level = max(raw.level, self._reference(raw))
        noise = self._noise(power, rough - low, side, faint=raw.faint and side == "onset")
        crossing, depth = refine.threshold(level, noise, settings)
        core = (rough - low) // HOP + (30 if side == "onset" else -30)
        out = settings.onset_reach_ms * _MS if side == "onset" else reach
        near = slice(max(0, (rough - low - out) // HOP), (rough - low + reach) // HOP)
        found = refine.crossing(power[near], crossing, core - near.start, side, noisy=depth < settings.depth_db, settings=settings)
        if found is None:
            return Boundary(rough, 100.0, not raw.open)
        position = low + (found + near.start) * HOP
        bias, uncertainty = refine.expected_loss(depth, side)
        corrected = position + round(bias * _MS) * (1 if side == "end" else -1)
        return Boundary(corrected, uncertainty + longest_loss / 2, True)

    def _silence(self, rough: int, low: int, high: int, side: Side) -> float | None:
        """Level of the loudest frame in the pause beside a boundary; None where the pause is short, or too long ago."""
        first, last = (low, rough - 5 * FRAME) if side == "onset" else (rough + 15 * FRAME, high)
        known = self._head - len(self._known) * FRAME
        if last - first < _CHUNK * HOP or first < known or last > self._head:
            return None
        return float(self._known[(first - known) // FRAME : (last - known) // FRAME].max())

    def _band(self, raw: _Raw, low: int, high: int) -> Levels:
        """Band power around an onset, which is looked at again once more of the speech is known."""
        if raw.band is None or raw.band[:2] != (low, high):
            raw.band = low, high, refine.band_power(self._history.between(low, high), self._settings)
        return raw.band[2].copy()

    def _noise(self, power: Levels, rough: int, side: Side, *, faint: bool) -> float | None:
        """Level that the local noise exceeds 4 % of the time, from the pause beside the boundary.

        Of the pause's tenths of a second the quieter ones are believed: breath and faint ends of speech reach into the others. Where the
        pause is too short, the noise found last stands.
        """
        hop = rough // HOP
        pause = power[: max(0, hop - 20)] if side == "onset" else power[hop + 60 :]
        if len(pause) >= _CHUNK:
            chunks = pause[: len(pause) // _CHUNK * _CHUNK].reshape(-1, _CHUNK)
            rank = round(_CHUNK * self._settings.noise_percentile / 100)
            exceeded = np.sort(np.partition(chunks, rank, axis=1)[:, rank])
            if faint:
                return float(exceeded[-1])
            self._last_noise = float(exceeded[len(exceeded) // 4])
        return self._last_noise

    def _reference(self, raw: _Raw) -> float:
        return refine.FLOOR_DB if self._level is None else self._level - 8.0

    def _keep(self, raw: _Raw) -> None:
        self.version += 1
        segment = self._segment(raw)
        raw.levels.clear()
        raw.band = None
        self._previous_end = raw.end
        if segment.end - segment.start < self._settings.shortest_ms * _MS:
            return
        self._settled.append(segment)
        self._by_level[min(len(self._by_level) - 1, max(0, round(-segment.level_db)))] += segment.end - segment.start
        self._level = _upper_level(self._by_level)

    def _segment(self, raw: _Raw) -> Segment:
        start = raw.onset or Boundary(raw.start, 50.0, False)
        end = raw.stop or Boundary(raw.end, 100.0, False)
        level = raw.level if raw.level > refine.FLOOR_DB else refine.active_level(np.concatenate(raw.levels))
        return Segment(start.position, end.position, level, start.uncertainty_ms, end.uncertainty_ms, raw.stop is not None)


def _upper_level(samples_by_level: npt.NDArray[np.int64]) -> float:
    """The level that the loudest fifth of the speech, by duration, reaches; index i of the histogram counts speech at −i dB."""
    reached = samples_by_level.cumsum()
    return -float(reached.searchsorted(reached[-1] / 5))
