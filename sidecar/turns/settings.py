"""Every constant of the measurement, stated with its results."""

from __future__ import annotations

from dataclasses import dataclass, field

from sidecar.media.stream import StreamSettings
from sidecar.speech.settings import SpeechSettings


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """The edges between one kind of turn and another, in ms."""

    spurt_gap_ms: float = 300.0
    """One party's speech: gaps up to this are bridged."""
    utterance_gap_ms: float = 500.0
    """A caller's utterance: gaps up to this are bridged."""
    overlap_ms: float = 250.0
    """An agent that starts more than this before the caller's end interrupts."""
    resume_ms: float = 1000.0
    """A caller who goes on within this while the agent speaks had only paused."""
    terminal_overlap_ms: float = 200.0
    agent_silent_ms: float = 600.0
    """An agent silent for this long has stopped, whatever follows."""
    slow_ms: float = 500.0
    """An agent that stops up to this after a long caller utterance has ended gave way slowly."""
    short_ms: float = 1000.0
    """Up to this an utterance over the other's speech is a backchannel."""
    same_sound_ms: float = 40.0
    """A sound this close before the response is the response's own beginning."""
    dead_air_ms: float = 3000.0
    percentile_floor: int = 20
    """No p95 under this many."""


@dataclass(frozen=True, slots=True)
class MeasureSettings:
    """Time, speech and turns."""

    stream: StreamSettings = field(default_factory=StreamSettings)
    speech: SpeechSettings = field(default_factory=SpeechSettings)
    turns: TurnSettings = field(default_factory=TurnSettings)
    live_window_s: float = 20.0
    """Live turns are folded over about this much of the call, so that a live look costs the same in the first minute and in the last."""
    step_s: float = 4.0
    """Packets are looked at in steps of this much arrival time; a longer step costs less."""
    record_lag_s: float = 3.5
    """How far a recording stays behind: reordering, a stall, and the mapping's half width."""
    echo_window_s: float = 40.0
    """While a call runs, echo of the agent is looked for in so much of it …"""
    echo_period_s: float = 12.0
    """… so often, …"""
    echo_final_s: float = 300.0
    """… and once it has ended, in so much."""
    live_step_s: float = 1.5
    """The same while somebody looks at the call as it runs."""
