"""Every constant of the speech measurement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, slots=True)
class SpeechSettings:
    """Detector, segments and boundary refinement. Levels in dB; full scale is 0 dB."""

    mode: int = 3
    """WebRTC VAD aggressiveness: 0–2 take noise for speech."""
    join_ms: int = 140
    drop_ms: int = 90
    """A shorter segment of the detector is dropped; it counts its own hangover in."""
    shortest_ms: int = 30
    """So is one that refinement leaves shorter than this."""
    gate_db: float = 13.0
    """What lies further than this under the stream's own speech level is echo or babble."""
    lost_hold_ms: int = 100
    """A loss up to this long keeps the state that it found; a longer one is silence."""
    network_on: float = 0.5
    network_off: float = 0.3
    """The neural detector: speech begins at a probability of the first and ends under the second."""
    network_maybe: float = 0.08
    """What came right before and was this probable belongs to it."""
    network_quiet_windows: int = 16
    """After so many of its windows (32 ms) without anything to hear it is not asked, and forgets what it remembered."""
    most_waiting_s: float = 4.0
    """So much audio of a stream may wait for it."""
    quiet_db: float = -66.0
    """Frames below this are never speech; the detector is not asked."""
    quiet_under_speech_db: float = 42.0
    """Nor are those further than this under the speech level."""
    reach_ms: int = 400
    """How far a refined boundary may lie from the detector's, …"""
    onset_reach_ms: int = 400
    """… and a refined onset before it."""
    faint_start_db: float = 13.0
    """Where speech begins with sound that stays further than this under the speech level for `faint_ms`, that is echo or babble."""
    faint_ms: int = 150
    noise_reach_ms: int = 800
    """How far beyond a boundary its local noise is looked for."""
    low_hz: float = 120.0
    high_hz: float = 3700.0
    depth_db: float = 30.0
    """A boundary is the crossing of the speech level less this."""
    noise_percentile: float = 96.0
    noise_margin_db: float = 1.5
    shortest_run_ms: int = 6
    shortest_run_in_noise_ms: int = 14
    hole_ms: int = 200
    onset_hole_ms: int = 110
    hole_in_noise_ms: int = 110
    window_s: float = 6.0
    """Decoded audio kept for refinement, beside what waits for the neural detector."""
    level_s: float = 10.0
    """A segment's level is that of its last seconds."""
    voiced_correlation: float = 0.5
    voiced_share: float = 0.1
    """Sound with a pitch in less than this share of its frames is no speech."""
    steady_likeness: float = 0.968
    held_pitch: float = 0.004
    held_share: float = 0.48
    """Sound whose spectrum hardly changes from frame to frame, with its strongest component held this often, is a tone or music."""
    frozen_likeness: float = 0.955
    """So is sound whose spectrum is still this much the same after 128 ms."""
    clearly_voiced_share: float = 0.8
    frozen_chord_likeness: float = 0.86
    """Where fewer frames than that share have one pitch, several notes may sound at once: their spectrum needs to change more."""
    false_start_ms: int = 400
    """Other sound for less than this right before speech is taken for part of it."""
    sound_db: float = -50.0
    """Quietest sound that counts as audible at all."""
    sound_over_noise_db: float = 10.0
    sound_under_speech_db: float = 32.0
    sudden_db: float = 6.0
    """A single frame of 10 ms counts where it is this much louder than what is audible."""
    floor_rise_db_s: float = 5.0
    sound_gap_ms: int = 200

    def accurate(self) -> Self:
        """The same for the neural detector, whose onsets need less mending and which other sounds do not fool."""
        return replace(self, onset_reach_ms=200)
