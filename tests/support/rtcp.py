"""RTCP as parties send it, written from RFC 3550 section 6 and RFC 3611; shares nothing with the code that reads it."""

from __future__ import annotations

import struct


def packet(kind: int, count: int, body: bytes) -> bytes:
    """One packet of a compound; `body` is filled up to whole words."""
    body += bytes(-len(body) % 4)
    return struct.pack("!BBH", 0x80 | count, kind, len(body) // 4) + body


def block(ssrc: int, *, fraction: int = 0, lost: int = 0, highest: int = 0, jitter: int = 0, lsr: int = 0, delay: float = 0.0) -> bytes:
    """A report block; `fraction` in 1/256, `delay` in seconds."""
    return struct.pack("!IIIIII", ssrc, fraction << 24 | lost & 0xFFFFFF, highest, jitter, lsr, round(delay * 65536))


def sender_report(ssrc: int, ntp: float, rtp: int, *blocks: bytes) -> bytes:
    """`ntp` in seconds."""
    stamp = round(ntp * 2**32)
    return packet(200, len(blocks), struct.pack("!IQIII", ssrc, stamp, rtp & 0xFFFFFFFF, 10, 1600) + b"".join(blocks))


def receiver_report(ssrc: int, *blocks: bytes) -> bytes:
    """A report of one that does not send."""
    return packet(201, len(blocks), struct.pack("!I", ssrc) + b"".join(blocks))


def middle(ntp: float) -> int:
    """The middle 32 bits of a time stamp of `ntp` seconds, as LSR repeats them."""
    return round(ntp * 2**32) >> 16 & 0xFFFFFFFF
