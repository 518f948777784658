"""The evaluator's offer (G722, PCMU, PCMA, telephone-event), and the few packets of silence that a test call sends."""

from __future__ import annotations

import struct
from types import MappingProxyType

from sidecar.clocks import Addr

CODECS = ("G722", "PCMU", "PCMA")
TYPE = "application/sdp"
PTIME_S = 0.02
_SAMPLES = 160
# One octet of each codec that means no sound. RFC 3551 4.5.2: G.722 has a clock of 8000 in RTP although it samples at 16 kHz.
_PAYLOADS = MappingProxyType({"PCMU": (0, b"\xff"), "PCMA": (8, b"\xd5"), "G722": (9, b"\xfa")})


def describe(address: Addr) -> bytes:
    """The offer for audio at `address`."""
    host, port = address
    family = "IP6" if ":" in host else "IP4"
    lines = (
        "v=0",
        f"o=- {port} 1 IN {family} {host}",
        "s=-",
        f"c=IN {family} {host}",
        "t=0 0",
        f"m=audio {port} RTP/AVP 9 0 8 101",
        "a=rtpmap:9 G722/8000",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-16",
        "a=ptime:20",
        "a=sendrecv",
    )
    return ("\r\n".join(lines) + "\r\n").encode()


def silence(codec: str, number: int, ssrc: int) -> bytes:
    """RTP packet `number` (from 0) of 20 ms of silence. KeyError for a codec that is not offered."""
    payload_type, octet = _PAYLOADS[codec]
    marker = 0x80 if number == 0 else 0
    return struct.pack("!BBHII", 0x80, marker | payload_type, number, number * _SAMPLES, ssrc) + octet * _SAMPLES
