"""The clips that the stand-ins speak, with the exact samples at which each one's speech begins and ends.

8 kHz, mono, 16 bit. How they were made: see README.md beside them.
"""

from __future__ import annotations

import wave
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np

from sidecar.lab.speech.bounds import RATE, Pcm, Span, active_level, band_power, spans

Speaker = Literal["caller", "agent"]

TEXTS: dict[str, str] = {
    "agent_greeting": "Hello, this is City Dental.",
    "agent_which_day": "Sure, which day suits you best?",
    "agent_long_list": "Friday has a slot at nine fifteen, one at ten thirty and one at four.",
    "agent_booked": "Done, you are booked for ten thirty.",
    "agent_goodbye": "You are welcome, goodbye!",
    "caller_book": "Hi, I need an appointment.",
    "caller_pause": "Let me think. … Friday, please.",
    "caller_interrupts": "Sorry, ten thirty is perfect.",
    "caller_thanks": "Great, thank you very much.",
    "caller_yes": "Yes.",
}
"""What each clip says. A clip's speaker is the first part of its name; `…` is a pause of 350 ms."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One utterance. `spans` are its stretches of speech, in samples of the clip."""

    name: str
    speaker: Speaker
    text: str
    samples: Pcm
    level: float
    """Active level of its band power, the reference for a clip that is cut short."""
    spans: tuple[Span, ...]

    @property
    def onset(self) -> int:
        """Sample at which speech begins: the first crossing of 30 dB under the active level."""
        return self.spans[0].start

    @property
    def end(self) -> int:
        """Sample at which speech ends: the last such crossing."""
        return self.spans[-1].end

    @property
    def duration(self) -> float:
        """Length of the whole clip in seconds."""
        return len(self.samples) / RATE


@cache
def clip(name: str) -> Clip:
    """The clip of that name. Raises KeyError when there is none."""
    text = TEXTS[name]
    with resources.files(__package__).joinpath(f"{name}.wav").open("rb") as file, wave.open(file) as wav:
        samples = np.frombuffer(wav.readframes(wav.getnframes()), dtype="<i2").astype(np.int16)
    samples.setflags(write=False)
    return Clip(
        name=name,
        speaker="agent" if name.startswith("agent_") else "caller",
        text=text.replace(" …", ""),
        samples=samples,
        level=active_level(band_power(samples)),
        spans=tuple(spans(samples)),
    )
