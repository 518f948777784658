"""Capture files: classic pcap with nanoseconds (magic a1b23c4d, draft-ietf-opsawg-pcap), link type RAW (101). Sidecars write them, control
merges them with the SIP messages that it has; every packet is one UDP datagram over IPv4 or IPv6.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import BinaryIO, Final, NamedTuple

_MAGIC: Final = 0xA1B23C4D
_RAW: Final = 101
_SNAPLEN: Final = 262_144
_UDP: Final = 17
_TTL: Final = 64
_MOST_V4: Final = 0xFFFF - 20 - 8
_MOST_V6: Final = 0xFFFF - 8
_HEAD: Final = struct.Struct("<IIII")
_SECOND: Final = 1_000_000_000

HEADER: Final = struct.pack("<IHHiIII", _MAGIC, 2, 4, 0, 0, _SNAPLEN, _RAW)
"""Of the file."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
End = tuple[Address, int]
"""Address and port."""


class Record(NamedTuple):
    """One packet of a file as it stands there. `at_ns`: nanoseconds since the epoch."""

    at_ns: int
    packet: bytes


class Way:
    """From one end to another: what of a datagram's headers is the same for each."""

    def __init__(self, source: End, target: End) -> None:
        """Ends of two families meet in IPv6 (RFC 4291 section 2.5.5.2)."""
        (host, port), (to_host, to_port) = source, target
        if host.version != to_host.version:
            host, to_host = _six(host), _six(to_host)
        self._addresses, self._ports = host.packed + to_host.packed, struct.pack("!HH", port, to_port)
        self._version = host.version
        self._sum = int.from_bytes(self._addresses) + int.from_bytes(self._ports) + _UDP
        """Of the pseudo header and the ports, as one large number: 2¹⁶ is 1 in the arithmetic of RFC 1071."""

    def datagram(self, payload: bytes) -> bytes:
        """A packet with right checksums."""
        payload = payload[: _MOST_V4 if self._version == 4 else _MOST_V6]
        size = 8 + len(payload)
        total = self._sum + 2 * size + int.from_bytes(payload) * (256 if len(payload) % 2 else 1)
        checksum = ~_folded(total) & 0xFFFF or 0xFFFF  # RFC 768: 0 would say that there is none
        udp = self._ports + struct.pack("!HH", size, checksum) + payload
        if self._version == 6:
            return struct.pack("!IHBB", 6 << 28, size, _UDP, _TTL) + self._addresses + udp
        fixed = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 0, 0x4000, _TTL, _UDP, 0)
        return fixed[:10] + struct.pack("!H", ~_folded(int.from_bytes(fixed + self._addresses)) & 0xFFFF) + self._addresses + udp


def record(at_ns: int, packet: bytes) -> bytes:
    """A packet as it stands in a file; a time before 1970 becomes 0."""
    seconds, rest = divmod(max(0, at_ns), _SECOND)
    return _HEAD.pack(seconds & 0xFFFFFFFF, rest, len(packet), len(packet)) + packet


def records(file: BinaryIO) -> Iterator[Record]:
    """The packets of a file of ours, up to where it breaks off. A file of another form has none."""
    if file.read(len(HEADER)) != HEADER:
        return
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        seconds, rest, length, _ = _HEAD.unpack(head)
        if length > _SNAPLEN or len(packet := file.read(length)) < length:
            return
        yield Record(seconds * _SECOND + rest, packet)


@lru_cache(maxsize=4096)
def end(text: str) -> End:
    """The end of `host:port` or `[v6]:port`; 0.0.0.0 and 0 stand for what is no address, so that no packet is left out."""
    host, _, port = text.rpartition(":")
    number = int(port) if port.isascii() and port.isdigit() and int(port[:6]) <= 0xFFFF else 0
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]").partition("%")[0]), number
    except ValueError:
        return ipaddress.IPv4Address(0), number


def _six(address: Address) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address(f"::ffff:{address}") if isinstance(address, ipaddress.IPv4Address) else address


def _folded(total: int) -> int:
    """The one's complement sum of a large number's 16-bit words (RFC 1071): what it leaves, divided by 2¹⁶ − 1."""
    return total % 0xFFFF or (0xFFFF if total else 0)
