"""Reading an RTP header (RFC 3550 5.1) without copying anything."""

from __future__ import annotations

import struct
from typing import NamedTuple

_FIXED = struct.Struct("!BBHII").unpack_from
_EXTENSION = struct.Struct("!HH").unpack_from
HEADER_LENGTH = 12
RTCP_TYPES = frozenset(bytes([number]) for number in range(192, 224))
"""Second octets of RTCP packets."""


class Packet(NamedTuple):
    """One packet's header; `start` and `end` bound the payload in the datagram."""

    marker: bool
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    start: int
    end: int


def is_rtcp(data: bytes) -> bool:
    """Whether a datagram on a multiplexed port is RTCP: its second octet lies in 192–223 (RFC 5761 4)."""
    return data[1:2] in RTCP_TYPES


def peek(data: bytes) -> Packet | None:
    """The header of an RTP packet, or None where the datagram is none: too short, another version, RTCP, lengths that do not add up."""
    size = len(data)
    if size < HEADER_LENGTH:
        return None
    first, second, sequence, timestamp, ssrc = _FIXED(data)
    if first == 0x80:  # no padding, no extension, no contributing sources: nearly every packet of a call
        if 192 <= second <= 223:
            return None
        return Packet(second > 127, second & 0x7F, sequence, timestamp, ssrc, HEADER_LENGTH, size)
    if first >> 6 != 2 or 192 <= second <= 223:
        return None
    start = HEADER_LENGTH + 4 * (first & 0x0F)
    if first & 0x10:  # 5.3.1: the extension's length counts 32-bit words after its own first word
        if start + 4 > size:
            return None
        start += 4 + 4 * _EXTENSION(data, start)[1]
    end = size
    if first & 0x20:  # 5.1: the last octet counts the padding, itself included
        padding = data[-1]
        if padding == 0:
            return None
        end -= padding
    if start > end:
        return None
    return Packet(second > 127, second & 0x7F, sequence, timestamp, ssrc, start, end)
