"""How a stand-in hears: beginnings and ends to the sample, pauses inside an utterance, clicks, and a network that delays."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.clocks import Mono
from sidecar.lab.ear import Began, Ear, Fell
from sidecar.lab.rtp import FRAME, Arrivals, Heard
from sidecar.lab.speech import clip
from sidecar.lab.speech.bounds import RATE, Pcm


def listen(audio: Pcm, *, hangover_s: float = 0.4, delay: float = 0.0) -> list[Began | Fell]:
    """Events for `audio`, whose packets arrive on time but for every third one, which is `delay` late. Sample 0 is heard at 100 s."""
    arrivals = Arrivals()
    ear = Ear(arrivals, hangover_s=hangover_s)
    for k in range(len(audio) // FRAME):
        late = delay if k % 3 == 2 else 0.0
        sample = arrivals.place(7, k, k * FRAME + 4_294_967_000 & 0xFFFF_FFFF, Mono(100.0 + k * 0.02 + late))
        ear.hear(Heard(sample, audio[k * FRAME : (k + 1) * FRAME]))
    return [ear.events.get_nowait() for _ in range(ear.events.qsize())]


def line(*parts: Pcm | float) -> Pcm:
    """Clips and silences (seconds) one after the other, a faint noise under all."""
    audio = np.concatenate([np.zeros(round(part * RATE), dtype=np.int16) if isinstance(part, float) else part for part in parts])
    return (audio + np.random.default_rng(2).integers(-6, 7, len(audio))).astype(np.int16)


@pytest.mark.parametrize("delay", [0.0, 0.015])
def test_beginning_and_end_are_known_to_the_sample_whatever_the_network_delays(delay: float) -> None:
    said = clip("caller_interrupts")
    began, fell = listen(line(0.7, said.samples, 1.0), delay=delay)
    start, end = 100.7 + said.onset / RATE, 100.7 + said.end / RATE
    assert isinstance(began, Began)
    assert isinstance(fell, Fell)
    assert began.start == pytest.approx(start, abs=0.006)
    assert fell.start == pytest.approx(start, abs=0.004)
    assert fell.end == pytest.approx(end, abs=0.004)
    assert fell.end + 0.4 - 0.02 <= fell.decided <= fell.end + 0.4 + 0.04


def test_a_pause_shorter_than_the_hangover_is_part_of_the_utterance() -> None:
    audio = line(0.3, clip("caller_pause").samples, 1.0)
    assert [type(event) for event in listen(audio, hangover_s=0.37)] == [Began, Fell]
    assert [type(event) for event in listen(audio, hangover_s=0.25)] == [Began, Fell, Began, Fell]


def test_two_utterances_are_two_even_after_minutes_of_silence() -> None:
    said = clip("caller_yes")
    events = listen(line(0.5, said.samples, 65.0, said.samples, 1.0))
    assert [type(event) for event in events] == [Began, Fell, Began, Fell]
    assert isinstance(events[3], Fell)
    assert events[3].end == pytest.approx(100 + 0.5 + said.duration + 65.0 + said.end / RATE, abs=0.004)


def test_a_click_is_no_speech() -> None:
    audio = line(2.0)
    audio[4000:4040] = 12000
    assert listen(audio) == []


def test_a_new_source_goes_on_where_the_old_one_stopped() -> None:
    arrivals = Arrivals()
    assert arrivals.place(1, 0, 5000, Mono(1.0)) == 0
    assert arrivals.place(1, 1, 5160, Mono(1.02)) == 160
    assert arrivals.place(2, 9, 77, Mono(2.0)) == 320
    assert arrivals.time_of(320) == pytest.approx(2.0)
