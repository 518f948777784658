"""Redundant audio (RFC 2198): the newest block of a packet, which is what the packet would hold without redundancy."""

from __future__ import annotations

from typing import Final

RED: Final = "RED"
_MORE: Final = 0x80
_BLOCK_HEADER: Final = 4


def primary(payload: bytes) -> tuple[int, int] | None:
    """Payload type and start of the primary block in `payload`; None where the block headers break section 3's rules."""
    at = older = 0
    while at < len(payload) and payload[at] & _MORE:
        if at + _BLOCK_HEADER > len(payload):
            return None
        older += int.from_bytes(payload[at + 2 : at + 4], "big") & 0x3FF
        at += _BLOCK_HEADER
    start = at + 1 + older
    return (payload[at] & 0x7F, start) if at < len(payload) and start <= len(payload) else None
