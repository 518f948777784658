"""Every constant of the speech measurement."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SpeechSettings:
    """Detector, segments and boundary refinement. Levels in dB; full scale is 0 dB."""

    mode: int = 3
    """WebRTC VAD aggressiveness: 0–2 take noise for speech."""
    join_ms: int = 140
    drop_ms: int = 90
    gate_db: float = 13.0
    """What lies further than this under the stream's own speech level is echo or babble."""
    lost_hold_ms: int = 100
    """A loss up to this long keeps the state that it found; a longer one is silence."""
    quiet_db: float = -66.0
    """Frames below this are never speech; the detector is not asked."""
    quiet_under_speech_db: float = 42.0
    """Nor are those further than this under the speech level."""
    reach_ms: int = 400
    """How far a refined boundary may lie from the detector's."""
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
    hole_in_noise_ms: int = 110
    window_s: float = 12.0
    """Decoded audio kept for refinement."""
    sound_db: float = -50.0
    """Quietest sound that counts as audible at all."""
    sound_over_noise_db: float = 10.0
    sound_gap_ms: int = 200
