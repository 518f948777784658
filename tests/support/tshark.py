"""SIP messages read by tshark: which of them it calls malformed, or finds an error in."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.tools import tool

_ERROR = 8388608
"""tshark's severity of an error. Below it: header names that it does not know, the epilogue of a multipart body."""
_MOST = 65535 - 28


def faults(messages: Sequence[bytes], folder: Path) -> list[tuple[bytes, str]]:
    """Each message that tshark cannot take, and what it says of it."""
    file = folder / "messages.pcap"
    with file.open("wb") as pcap:
        pcap.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))
        for number, data in enumerate(messages):
            packet = _packet(data[:_MOST])
            pcap.write(struct.pack("=IIII", number, 0, len(packet), len(packet)) + packet)
    fields = ["-T", "fields", "-e", "frame.number", "-e", "frame.protocols", "-e", "_ws.expert.message", "-e", "_ws.expert.severity"]
    told = subprocess.run(
        [tool("tshark"), "-r", str(file), *fields], capture_output=True, text=True, check=True, timeout=120
    ).stdout.splitlines()
    assert len(told) == len(messages)
    found = []
    for line in told:
        number, protocols, said, severity = line.split("\t")
        bad = any(int(level, 0) >= _ERROR for level in severity.split(",") if level)
        if ":sip" not in protocols or "malformed" in protocols or bad:
            found.append((messages[int(number) - 1], f"{protocols} {said}"))
    return found


def _packet(data: bytes) -> bytes:
    udp = struct.pack("!HHHH", 5060, 5060, 8 + len(data), 0) + data
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes([192, 0, 2, 1]), bytes([192, 0, 2, 10])) + udp
