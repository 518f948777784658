"""A call's SIP messages as a capture file that Wireshark, sngrep and tshark read.

The form is the classic one with nanoseconds (magic a1b23c4d, draft-ietf-opsawg-pcap), link type RAW (101): every message becomes one UDP
datagram over IPv4 or IPv6 between the addresses it really had. Messages that came over TCP or TLS are written so too: what is shown is the
message, not its segments.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from control.contract import facts as f
from control.contract.redact import redact_correlation, token_of

_MAGIC = 0xA1B23C4D
_RAW = 101
_SNAPLEN = 262_144
_UDP = 17
_TTL = 64
_MOST_V4 = 0xFFFF - 20 - 8
_MOST_V6 = 0xFFFF - 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def capture(trace: Iterable[f.Fact]) -> bytes:
    """The capture of all SIP messages of a trace, in its order; correlation tokens are replaced by their hash, as the API shows them."""
    header = struct.pack("<IHHiIII", _MAGIC, 2, 4, 0, 0, _SNAPLEN, _RAW)
    facts = list(trace)
    token = token_of(facts)
    return header + b"".join(_record(fact, token) for fact in facts if isinstance(fact, f.SipMessage))


def _record(message: f.SipMessage, token: str | None) -> bytes:
    packet = _packet(message, token)
    micros = max(0, (message.at - _EPOCH) // _MICROSECOND)
    seconds, rest = divmod(micros, 1_000_000)
    return struct.pack("<IIII", seconds & 0xFFFFFFFF, rest * 1000, len(packet), len(packet)) + packet


def _packet(message: f.SipMessage, token: str | None) -> bytes:
    local, remote = _endpoint(message.local), _endpoint(message.remote)
    (source, from_port), (target, to_port) = (remote, local) if message.direction == "in" else (local, remote)
    if source.version != target.version:
        source, target = _six(source), _six(target)
    payload = redact_correlation(message.text, token).encode("utf-8", "replace")
    payload = payload[: _MOST_V4 if source.version == 4 else _MOST_V6]
    size = 8 + len(payload)
    pseudo = source.packed + target.packed + (struct.pack("!BBH", 0, _UDP, size) if source.version == 4 else struct.pack("!II", size, _UDP))
    udp = struct.pack("!HHHH", from_port, to_port, size, 0) + payload
    checksum = _checksum(pseudo + udp) or 0xFFFF  # RFC 768: 0 would say that there is none
    udp = udp[:6] + struct.pack("!H", checksum) + udp[8:]
    return _ip(source, target, size) + udp


def _ip(source: _Address, target: _Address, size: int) -> bytes:
    if source.version == 6:
        return struct.pack("!IHBB", 6 << 28, size, _UDP, _TTL) + source.packed + target.packed
    fixed = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 0, 0x4000, _TTL, _UDP, 0) + source.packed + target.packed
    return fixed[:10] + struct.pack("!H", _checksum(fixed)) + fixed[12:]


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _endpoint(text: str) -> tuple[_Address, int]:
    """Address and port of `host:port` or `[v6]:port`; 0.0.0.0 and 0 stand for what is no address, so that no message is left out."""
    host, _, port = text.rpartition(":")
    number = int(port) if port.isascii() and port.isdigit() and int(port[:6]) <= 0xFFFF else 0
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]").partition("%")[0]), number
    except ValueError:
        return ipaddress.IPv4Address(0), number


def _six(address: _Address) -> ipaddress.IPv6Address:
    """RFC 4291 section 2.5.5.2."""
    return ipaddress.IPv6Address(f"::ffff:{address}") if isinstance(address, ipaddress.IPv4Address) else address
