"""What the stand-ins are told to do in a call. The defaults are the demo's: four turns, one barge-in, one pause inside an utterance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sidecar.clocks import Mono
from sidecar.lab.g711 import Codec

Progress = Callable[[Mono, str], None]
"""Told what is heard or done at a time, in a few words; the time may lie a little ahead."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the agent says next, `latency_s` after the caller's end."""

    clip: str
    latency_s: float


@dataclass(frozen=True, slots=True)
class AgentScript:
    """How the agent behaves in a call."""

    greeting: str | None = "agent_greeting"
    greeting_after_s: float = 0.4
    """Answer to first speech."""
    answers: Sequence[Answer] = (
        Answer("agent_which_day", 0.62),
        Answer("agent_long_list", 0.85),
        Answer("agent_booked", 0.48),
        Answer("agent_goodbye", 1.1),
    )
    hangover_s: float = 0.37
    """Silence after which the caller is taken to have finished: over the longest pause inside an utterance, under the shortest latency."""
    reaction_s: float = 0.3
    """From the caller's barging in to the agent's silence."""
    ring_s: float = 0.1
    hang_up_after_s: float | None = None
    """Silence after the last answer before the agent hangs up itself; None waits for the caller."""
    codecs: Sequence[Codec] = ("PCMU", "PCMA")


@dataclass(frozen=True, slots=True)
class Say:
    """Wait until the agent has fallen silent, then speak `pause_s` after its end."""

    clip: str
    pause_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Wait until the agent speaks, then speak over it `after_s` after its start."""

    clip: str
    after_s: float = 1.2


@dataclass(frozen=True, slots=True)
class HangUp:
    """Wait until the agent has fallen silent, then send BYE `pause_s` after its end."""

    pause_s: float = 0.4


@dataclass(frozen=True, slots=True)
class CallerScript:
    """How the evaluator behaves in a call. Without a HangUp at the end it waits for the agent's BYE."""

    steps: Sequence[Say | Interrupt | HangUp] = (
        Say("caller_book"),
        Say("caller_pause"),
        Interrupt("caller_interrupts"),
        Say("caller_thanks"),
        HangUp(),
    )
    hangover_s: float = 0.38
    """Silence after which the agent is taken to have finished; shorter than any pause above."""
    patience_s: float = 8.0
    """How long to wait for the agent before the call is given up."""
    codecs: Sequence[Codec] = ("PCMU", "PCMA")
