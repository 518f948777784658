"""One direction of a call: its stream, the speech in it, and both in call time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import ceil

import numpy as np

from control.contract.call import Dtmf, Stream
from control.contract.facts import Levels, Track
from sidecar.clocks import Mono
from sidecar.media import mos
from sidecar.media.decode import RATE
from sidecar.media.stream import Stream as RtpStream
from sidecar.media.tap import Tapped
from sidecar.speech.neural import Bench, Neural
from sidecar.speech.refine import Levels as LevelArray
from sidecar.speech.sounds import Sounds
from sidecar.speech.track import SpeechTrack
from sidecar.turns.settings import MeasureSettings
from sidecar.turns.spans import Span
from sidecar.turns.stereo import Channel

_MOST_LEVELS = 2400
_LEAST_STEP_MS = 100.0
_UNHEARD_DB = -96
_MOST_JITTERS = 720
_SECOND = 100
"""Frames of 10 ms."""


class Side:
    """What the party of one leg sends. `listen`: note sounds that are no speech as well."""

    def __init__(self, settings: MeasureSettings, *, listen: bool, record: bool = False, bench: Bench | None = None) -> None:
        self._settings = settings
        self._sounds = Sounds(settings.speech) if listen else None
        speech = settings.speech if bench is None else settings.speech.accurate()
        self.track = SpeechTrack(speech, self._sounds, None if bench is None else Neural(bench, speech))
        self.channel = Channel(self.track) if record else None
        self.stream = RtpStream(self.channel or self.track, settings.stream)
        self._due = 0.0
        self.looked = 0.0
        """Arrival time up to which packets have been analysed."""
        self._waiting: list[Tapped] = []
        self._jitters: list[tuple[Mono, float]] = []
        """Until when, and how uneven the packets came since the entry before, in seconds."""
        self._located: dict[int, float] = {}
        self._framed: dict[int, int] = {}
        """Of the grid asked for last: frames of call time, and those of the stream that no packet to come can move any more."""
        self._settled_after = int((settings.stream.reach_s + 0.5) * RATE)

    def packet(self, packet: Tapped) -> None:
        """Take a packet. They are analysed together, a step's worth of arrivals at a time."""
        self._waiting.append(packet)
        if packet[2] >= self._due:
            self.advance(packet[2])

    def packets(self, packets: list[Tapped]) -> None:
        """Take packets in order of arrival; the same as `packet` for each of them."""
        if packets and packets[-1][2] < self._due:  # nothing is due, as is usual in a small batch
            self._waiting += packets
            return
        start = 0
        while start < len(packets):
            # All up to the first one that is due make one step, as they would one by one.
            due = max(self._due, packets[start][2])
            end = bisect_left(packets, due, start, key=_arrival) + 1
            self._waiting += packets[start:end]
            start = end
            if self._waiting[-1][2] >= due:
                self.advance(self._waiting[-1][2])

    def look(self, now: Mono) -> None:
        """Analyse what has come, if the last time is long enough ago."""
        if self._due - now <= self._settings.step_s - self._settings.live_step_s:
            self.advance(now)

    def advance(self, now: Mono) -> None:
        """Analyse what has come."""
        self._due = now + self._settings.step_s
        self.looked = now
        self._take()
        self.stream.advance(now)

    def _take(self) -> None:
        waiting, self._waiting = self._waiting, []
        self.stream.packets(waiting)
        known = [each for each in (r.take_deviation() for r in self.stream.receptions.values()) if each is not None]
        if known:
            self._jitters.append((waiting[-1][2], max(known)))
        if len(self._jitters) > _MOST_JITTERS:  # a long call is told more coarsely: of each two the worse
            worse = zip(self._jitters[::2], self._jitters[1::2], strict=False)
            self._jitters = [(until, max(one, other)) for (_, one), (until, other) in worse]

    def finish(self) -> None:
        """Analyse all that is left."""
        self._take()
        self.stream.finish()
        self.track.finish()

    def call_time(self, position: int, answered: Mono) -> float:
        """Call time in ms of a position on the stream's time line."""
        known = self._located.get(position)
        if known is None:
            known = self.stream.locate(position)
            if position < self.stream.position - self._settled_after:  # no packet to come can move it any more
                self._located[position] = known
        return (known - answered) * 1000

    def spans(self, answered: Mono, since: float = float("-inf")) -> list[Span]:
        """Speech segments in call time that end after `since` (ms), in order; never before the answer."""
        if self.stream.origin is None:
            return []
        first = 0 if since == float("-inf") else int((since / 1000 + answered - self.stream.origin - 1.0) * RATE)
        spans: list[Span] = []
        for segment in self.track.segments(first):
            start, end = self.call_time(segment.start, answered), self.call_time(segment.end, answered)
            start = max(start, 0.0, spans[-1].end if spans else 0.0)
            if end > start and end > since:
                spans.append(Span(start, end, segment.start_uncertainty_ms, segment.end_uncertainty_ms))
        return spans

    def grid(self, answered: Mono, first: int, last: int) -> LevelArray:
        """Levels (dB) in frames [first, last) of 10 ms of call time; what is not known is silence."""
        origin = self.stream.origin
        if origin is None:
            return np.full(max(0, last - first), float(_UNHEARD_DB), np.float32)
        grid = bytearray([-_UNHEARD_DB]) * (last - first)
        framed: dict[int, int] = {}
        for begin in range(first, last, 2 * _SECOND):
            known = self._framed.get(begin)
            if known is None:
                known = self._frame(answered, origin, begin)
            if known * RATE // _SECOND < self.stream.position - self._settled_after:
                framed[begin] = known
            levels = self.track.picture.between(known, known + min(2 * _SECOND, last - begin))
            at = begin - first + max(0, -known)
            grid[at : at + len(levels)] = levels
        self._framed = framed
        return -np.frombuffer(grid, np.uint8).astype(np.float32)

    def _frame(self, answered: Mono, origin: float, number: int) -> int:
        """The frame on the stream's time line that is frame `number` of call time."""
        at = answered + number / _SECOND
        position = (at - origin) * RATE
        for _ in range(2):  # the mapping is close to a straight line
            position += (at - self.stream.locate(int(position))) * RATE
        return round(position * _SECOND / RATE)

    def sound_onsets(self, answered: Mono, since: float = float("-inf")) -> list[float]:
        """Call times at which something began to be heard."""
        if self.stream.origin is None or self._sounds is None:
            return []
        onsets = self._sounds.onsets
        first = 0 if since == float("-inf") else bisect_left(onsets, int((since / 1000 + answered - self.stream.origin - 1.0) * RATE))
        return [self.call_time(onset, answered) for onset in onsets[first:]]

    def model(self, answered: Mono) -> Stream:
        """The stream as the call object shows it."""
        stream = self.stream
        receptions = list(stream.receptions.values())
        packets, lost = sum(r.packets for r in receptions), sum(r.lost for r in receptions)
        share = lost / (packets + lost) if packets + lost > 0 and lost > 0 else 0.0
        main = max(receptions, key=lambda r: r.packets, default=None)
        score = mos.mos_lq(stream.codec, share, mos.burst_ratio(share, stream.loss_runs, stream.loss_run_packets)) if packets else None
        return Stream(
            codec=stream.codec,
            analysed=stream.analysed,
            ssrcs=[f"{r.ssrc:08x}" for r in receptions],
            packets=packets,
            lost=lost,
            loss_pct=round(100 * share, 3),
            duplicates=sum(r.duplicates for r in receptions),
            reordered=sum(r.reordered for r in receptions),
            jitter_ms=round(1000 * main.jitter_s, 3) if main else 0.0,
            mos_lq=None if score is None else round(score, 2),
            dtmf=[
                Dtmf(
                    digit=p.digit, start_ms=round(self.call_time(p.position, answered), 1), duration_ms=round(p.duration * 1000 / p.rate, 1)
                )
                for p in stream.keypad.presses
            ],
        )

    @property
    def silent(self) -> bool:
        """Nothing was to be heard: no speech and, where that is listened for, no other sound."""
        return not self.track.segments() and not (self._sounds is not None and self._sounds.onsets)

    def drawn(self, answered: Mono, duration_ms: float, spans: Sequence[Span]) -> Track:
        """What can be drawn of the party in a call of `duration_ms`, its speech being `spans`."""
        segments = [(round(span.start, 1), round(span.end, 1)) for span in spans]
        if self.stream.origin is None or not self.stream.analysed or duration_ms <= 0:
            return Track(segments=segments)
        losses = [(self.call_time(start, answered), self.call_time(end, answered)) for start, end in self.track.picture.losses]
        lost = [(round(max(0.0, start), 1), round(min(end, duration_ms), 1)) for start, end in losses if end > 0 and start < duration_ms]
        return Track(
            segments=segments, levels=self._levels(answered, duration_ms), lost=lost, jitter=self._unevenness(answered, duration_ms)
        )

    def _unevenness(self, answered: Mono, duration_ms: float) -> list[tuple[float, float]]:
        told = [(round((until - answered) * 1000, 1), round(1000 * jitter, 2)) for until, jitter in self._jitters]
        return [(min(until, duration_ms), jitter) for until, jitter in told if until > 0]

    def _levels(self, answered: Mono, duration_ms: float) -> Levels:
        """Levels in steps of call time: those of the stream count wherever they reach into, and the loudest in a place stays."""
        step_ms = max(_LEAST_STEP_MS, duration_ms / _MOST_LEVELS)
        levels = [_UNHEARD_DB] * max(1, ceil(duration_ms / step_ms))
        width, known = self.track.picture.levels(2 * _MOST_LEVELS)
        for i, level in enumerate(known):
            start = self.call_time(i * width, answered)
            first = int(start // step_ms)
            last = int((start + width * 1000 / RATE - 1.0) // step_ms)
            for place in range(max(0, first), min(last + 1, len(levels))):
                levels[place] = max(level, levels[place])
        return Levels(from_ms=0.0, step_ms=step_ms, db=levels)


def _arrival(packet: Tapped) -> float:
    return packet[2]
