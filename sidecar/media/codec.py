"""Payload formats: what a payload type of a session stands for."""

from __future__ import annotations

from dataclasses import dataclass

TELEPHONE_EVENT = "TELEPHONE-EVENT"
COMFORT_NOISE = "CN"


@dataclass(frozen=True, slots=True)
class Codec:
    """One `a=rtpmap` line with its `a=fmtp`. `name` is upper case, `clock_rate` is the RTP clock in Hz."""

    name: str
    clock_rate: int
    channels: int = 1
    fmtp: str = ""
    sealed: bool = False
    """Encrypted from end to end (SRTP that is passed on): counted, never looked into."""

    @property
    def audible(self) -> bool:
        """False for named events (RFC 4733) and comfort noise (RFC 3389): packets that carry no speech."""
        return self.name not in (TELEPHONE_EVENT, COMFORT_NOISE)


STATIC: dict[int, Codec] = {
    0: Codec("PCMU", 8000),
    3: Codec("GSM", 8000),
    4: Codec("G723", 8000),
    5: Codec("DVI4", 8000),
    6: Codec("DVI4", 16000),
    7: Codec("LPC", 8000),
    8: Codec("PCMA", 8000),
    9: Codec("G722", 8000),
    10: Codec("L16", 44100, 2),
    11: Codec("L16", 44100),
    12: Codec("QCELP", 8000),
    13: Codec(COMFORT_NOISE, 8000),
    14: Codec("MPA", 90000),
    15: Codec("G728", 8000),
    16: Codec("DVI4", 11025),
    17: Codec("DVI4", 22050),
    18: Codec("G729", 8000),
}
"""Payload types with a fixed meaning (RFC 3551 table 4). G.722 has an RTP clock of 8 kHz although it samples at 16 kHz (4.5.2)."""
