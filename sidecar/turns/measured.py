"""What a measurement comes to. Apart from the measuring, so that who only writes it down need not load that."""

from __future__ import annotations

from dataclasses import dataclass

from control.contract.call import BargeIn, Media, Speech, Turn
from control.contract.facts import Tracks


@dataclass(frozen=True, slots=True)
class Measured:
    """The final figures of a call."""

    turns: list[Turn]
    barge_ins: list[BargeIn]
    speech: Speech
    media: Media
    greeting_ms: float | None
    """200 OK → first agent speech."""
    first_agent_rtp_ms: float | None
    """Call time of the agent's first RTP packet; negative for early media."""
    tracks: Tracks | None = None
    """What can be drawn of both sides."""
