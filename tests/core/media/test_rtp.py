"""Reading RTP headers (RFC 3550 5.1, RFC 5761 4)."""

from __future__ import annotations

import struct

import pytest

from sidecar.media.rtp import is_rtcp, peek


def packet(first: int = 0x80, second: int = 0, rest: bytes = b"payload!") -> bytes:
    return struct.pack("!BBHII", first, second, 7, 160, 0xCAFE) + rest


def test_plain_packet() -> None:
    seen = peek(packet(second=0x80 | 8))
    assert seen is not None
    assert (seen.marker, seen.payload_type, seen.sequence, seen.timestamp, seen.ssrc) == (True, 8, 7, 160, 0xCAFE)
    assert packet()[seen.start : seen.end] == b"payload!"


def test_payload_begins_after_contributing_sources_and_extension() -> None:
    data = packet(first=0x80 | 0x10 | 2, rest=bytes(8) + struct.pack("!HH", 0xBEDE, 1) + bytes(4) + b"voice")
    seen = peek(data)
    assert seen is not None
    assert data[seen.start : seen.end] == b"voice"


def test_padding_is_not_payload() -> None:
    data = packet(first=0xA0, rest=b"voice" + b"\x00\x00\x03")
    seen = peek(data)
    assert seen is not None
    assert data[seen.start : seen.end] == b"voice"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        packet()[:11],
        packet(first=0x40),  # version 1
        packet(second=200),  # sender report on a multiplexed port
        packet(first=0x80 | 15),  # more contributing sources than octets
        packet(first=0x90, rest=b"\x00\x00\xff\xff"),  # an extension longer than the packet
        packet(first=0x90, rest=b"\x00"),
        packet(first=0xA0, rest=b"\x00"),  # padding of nothing
        packet(first=0xA0, rest=b"\x63"),  # padding longer than the packet
    ],
)
def test_what_is_no_rtp_is_refused(data: bytes) -> None:
    assert peek(data) is None


def test_rtcp_is_told_apart_from_marked_audio() -> None:
    assert is_rtcp(packet(second=200))
    assert not is_rtcp(packet(second=0x80 | 0))
    assert not is_rtcp(b"\x80")
