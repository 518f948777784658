"""Counting RTP packets on loopback beside the product, in the kernel and without reading them.

A packet socket with a filter counts every packet that the filter passes, whether anyone reads it or not (PACKET_STATISTICS in packet(7)).
"""

from __future__ import annotations

import ctypes
import socket
import struct
from types import TracebackType
from typing import Self

_SOL_PACKET, _PACKET_STATISTICS, _SO_ATTACH_FILTER, _ETH_P_IP = 263, 6, 26, 0x0800
_LOAD_BYTE, _LOAD_WORD, _JUMP_EQUAL, _AND, _RETURN = 0x30, 0x20, 0x15, 0x54, 0x06


class RtpCount:
    """Counts RTP packets of payload type `payload` from one address to another. Needs CAP_NET_RAW: raises PermissionError without."""

    def __init__(self, source: str, destination: str, payload: int = 0) -> None:
        """Counts from here on."""
        self._total = 0
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
        self._socket.bind(("lo", _ETH_P_IP))
        program = _program(source, destination, payload)
        buffer = ctypes.create_string_buffer(program)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(program) // 8, ctypes.addressof(buffer)))
        self._read()
        self._total = 0

    def _read(self) -> None:
        # Reading the statistics resets them.
        packets, _ = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        self._total += packets

    @property
    def packets(self) -> int:
        """Packets since the start."""
        self._read()
        return self._total

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._socket.close()


def _program(source: str, destination: str, payload: int) -> bytes:
    """Classic BPF over an IPv4 header of 20 bytes and a UDP header of 8: protocol, addresses, RTP version 2, payload type."""
    checks = [
        [(_LOAD_BYTE, 9)],
        [(_LOAD_WORD, 12)],
        [(_LOAD_WORD, 16)],
        [(_LOAD_BYTE, 28), (_AND, 0xC0)],
        [(_LOAD_BYTE, 29), (_AND, 0x7F)],
    ]
    wanted = [17, _number(source), _number(destination), 0x80, payload]
    length = sum(len(steps) + 1 for steps in checks)
    code: list[tuple[int, int, int, int]] = []
    for steps, value in zip(checks, wanted, strict=True):
        code += [(operation, 0, 0, operand) for operation, operand in steps]
        # On a mismatch go to the last instruction, which takes nothing.
        code.append((_JUMP_EQUAL, 0, length - len(code), value))
    code += [(_RETURN, 0, 0, 0xFFFF), (_RETURN, 0, 0, 0)]
    return b"".join(struct.pack("HBBI", *step) for step in code)


def _number(address: str) -> int:
    return int.from_bytes(socket.inet_aton(address), "big")
