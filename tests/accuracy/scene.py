"""A conversation laid out by a script, so that every turn of it is known: who spoke when, who gave way, what else was to be heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tests.accuracy.clips import Clip, speech_until
from tests.support.speech_call import RATE, Audio

Filling = Literal["nothing", "typing", "beeps", "spoken", "music"]
Spans = list[tuple[float, float]]


@dataclass
class Voice:
    """One party over the call: what it sends and when it really speaks, in ms."""

    audio: Audio
    spans: Spans = field(default_factory=list)

    def add(self, at: int, sound: Audio) -> None:
        """Lay sound from sample `at`; what would lie before the call's first is left out."""
        at, sound = max(0, at), sound[max(0, -at) :]
        room = self.audio[at : at + len(sound)]
        room += sound[: len(room)]

    def say(self, at_ms: float, clip: Clip, gain: float, stop_ms: float | None = None) -> float:
        """Speak so that the speech starts at `at_ms`, or until `stop_ms` after that; the true end."""
        first = round((at_ms - clip.spans[0][0]) * 8)
        spans, audio = clip.spans, clip.audio
        if stop_ms is not None:
            stop_ms += clip.spans[0][0]
            spans, audio = speech_until(clip, stop_ms), audio[: int(stop_ms * 8)]
        self.add(first, audio * gain)
        self.spans += [(first / 8 + a, first / 8 + b) for a, b in spans]
        return self.spans[-1][1]


@dataclass(frozen=True)
class Exchange:
    """The floor passing from caller to agent."""

    caller_end: float
    agent_start: float

    @property
    def latency(self) -> float:
        return self.agent_start - self.caller_end


@dataclass
class Scene:
    """A call of `seconds` with its truth."""

    caller: Voice
    agent: Voice
    exchanges: list[Exchange] = field(default_factory=list)
    barge_ins: list[tuple[float, float]] = field(default_factory=list)
    """Caller's start, agent's stop."""
    greeting: float = 0.0
    seconds: float = 0.0


class Script:
    """Writes one scene. `rng` decides; the clips are the two parties' voices."""

    def __init__(self, rng: np.random.Generator, caller: Sequence[Clip], agent: Sequence[Clip], filling: Filling) -> None:
        self._rng, self._filling = rng, filling
        self._caller, self._agent = caller, agent
        self._gains = rng.uniform(0.5, 1.2, 2)
        longest = 300
        self.scene = Scene(Voice(np.zeros(longest * RATE)), Voice(np.zeros(longest * RATE)))

    def _pick(self, clips: Sequence[Clip], low: float = 0.0, high: float = 99.0) -> Clip:
        fitting = [clip for clip in clips if low <= clip.seconds <= high] or [max(clips, key=lambda c: c.seconds)]
        return fitting[self._rng.integers(len(fitting))]

    def write(self, exchanges: int) -> Scene:
        """Greeting, then so many exchanges."""
        scene, rng = self.scene, self._rng
        scene.greeting = float(rng.uniform(250, 1500))
        at = scene.agent.say(scene.greeting, self._pick(self._agent), self._gains[1]) + rng.uniform(500, 1500)
        barging: float | None = None
        for _ in range(exchanges):
            end = self._ask(at) if barging is None else barging
            barging, at = self._answer(end)
        if barging is not None:
            at = barging
        scene.seconds = at / 1000 + 1.5
        for voice in (scene.caller, scene.agent):
            voice.audio = voice.audio[: int(scene.seconds * RATE)]
        return scene

    def _ask(self, at: float) -> float:
        end = self.scene.caller.say(at, self._pick(self._caller), self._gains[0])
        if self._rng.random() < 0.25:  # a pause in which the agent stays silent ends no turn
            end = self.scene.caller.say(end + self._rng.uniform(350, 1200), self._pick(self._caller), self._gains[0])
        return end

    def _answer(self, end: float) -> tuple[float | None, float]:
        """The agent's answer: the end of a caller who barged in, if one did, and when the next exchange may begin."""
        rng, scene = self._rng, self.scene
        start = end + self._latency(end)
        scene.exchanges.append(Exchange(end, start))
        what = rng.random()
        if what < 0.22:
            return self._barged(start)
        clip = self._pick(self._agent, 2.0) if what < 0.4 else self._pick(self._agent)
        finish = scene.agent.say(start, clip, self._gains[1])
        short = [c for c in self._caller if c.seconds < 0.9]
        if what < 0.4 and short and clip.seconds > 2.0 and clip.longest_pause_ms < 250:  # a listener's "mm-hm" changes nothing
            scene.caller.say(start + rng.uniform(400, 800), self._pick(short), self._gains[0] * 0.8)
        return None, finish + rng.uniform(450, 1500)

    def _latency(self, end: float) -> float:
        rng = self._rng
        if self._filling == "nothing":
            return float(-rng.uniform(60, 200) if rng.random() < 0.08 else rng.uniform(250, 2000))
        if self._filling == "spoken":  # the filler is the response; the rest follows it
            wait = float(rng.uniform(300, 900))
            self.scene.agent.say(end + wait, self._pick(self._agent, 0.0, 1.2), self._gains[1])
            self.scene.exchanges.append(Exchange(end, end + wait))
            return wait + float(rng.uniform(2000, 3500))
        wait = float(rng.uniform(1400, 3500))
        first = end + rng.uniform(150, 500)
        size = int((end + wait - rng.uniform(60, 300) - first) * 8)
        sound = {"typing": typing, "beeps": beeps, "music": music}[self._filling](size, rng)
        self.scene.agent.add(int(first * 8), sound)
        return wait

    def _barged(self, start: float) -> tuple[float, float]:
        rng, scene = self._rng, self.scene
        # An agent that pauses for longer than a spurt's gap has fallen silent by itself: who begins then barges in on nobody.
        flowing = [clip for clip in self._agent if clip.longest_pause_ms < 250] or self._agent
        clip, talk = self._pick(flowing, 2.2), self._pick(self._caller, 1.2)
        into = float(rng.uniform(950, max(1000.0, clip.seconds * 1000 - 900)))
        over = float(rng.uniform(280, min(900.0, talk.seconds * 1000 - 250, max(300.0, clip.seconds * 1000 - into))))
        stop = scene.agent.say(start, clip, self._gains[1], into + over)
        began = start + into
        end = scene.caller.say(began, talk, self._gains[0])
        if stop - began > 220:
            scene.barge_ins.append((began, stop))
        return end, end


def _drop_doubles(exchanges: list[Exchange]) -> list[Exchange]:
    """One exchange a caller's end: where a filler answered, what follows it is no turn."""
    first: dict[float, Exchange] = {}
    for exchange in exchanges:
        first.setdefault(exchange.caller_end, exchange)
    return list(first.values())


def scene(seed: int, caller: Sequence[Clip], agent: Sequence[Clip], exchanges: int, filling: Filling = "nothing") -> Scene:
    """The scene that a seed gives."""
    written = Script(np.random.default_rng(seed), caller, agent, filling).write(exchanges)
    written.exchanges = _drop_doubles(written.exchanges)
    return written


def typing(size: int, rng: np.random.Generator) -> Audio:
    """Keystrokes."""
    sound, at = np.zeros(size), 0
    while at < size - 400:
        stroke = rng.normal(0, 1, 160) * np.exp(-np.arange(160) / rng.uniform(12, 40)) * rng.uniform(0.02, 0.08)
        sound[at : at + 160] += stroke
        at += int(rng.uniform(60, 260) * 8)
    return sound


def beeps(size: int, rng: np.random.Generator) -> Audio:
    """A waiting tone, on and off."""
    time = np.arange(size) / RATE
    return 0.06 * np.sin(2 * np.pi * rng.uniform(400, 900) * time) * (time % 0.9 < rng.uniform(0.15, 0.4))


def music(size: int, rng: np.random.Generator) -> Audio:
    """Chords with a tune over them."""
    sound, time = np.zeros(size), np.arange(size) / RATE
    for begin in np.arange(0, size / RATE, 0.5):
        root = 110 * 2 ** (rng.integers(0, 12) / 12)
        envelope = np.clip((time - begin) / 0.02, 0, 1) * np.exp(-np.clip(time - begin, 0, None) * 2.5) * (time >= begin)
        for ratio in (1, 1.26, 1.5, 2, 2 * 2 ** (rng.integers(0, 12) / 12)):
            for overtone, weight in ((1, 1.0), (2, 0.4), (3, 0.15)):
                sound += 0.012 * weight * envelope * np.sin(2 * np.pi * root * ratio * overtone * time)
    return sound
