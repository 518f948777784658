"""Reads HEP packets by the specification's own layout, without anything of the product."""

from __future__ import annotations

import struct


def chunks(packet: bytes) -> dict[int, bytes]:
    """Chunk type → value. Fails on anything that is not one whole HEP3 packet of generic chunks, each at most once."""
    assert packet[:4] == b"HEP3"
    assert struct.unpack("!H", packet[4:6])[0] == len(packet)
    found: dict[int, bytes] = {}
    at = 6
    while at < len(packet):
        vendor, kind, length = struct.unpack("!HHH", packet[at : at + 6])
        assert vendor == 0
        assert kind not in found
        assert length >= 6
        found[kind] = packet[at + 6 : at + length]
        assert len(found[kind]) == length - 6
        at += length
    return found
