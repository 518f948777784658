"""HEP version 3: a SIP message with its addresses and time, as Homer and other capture servers take it. Pure.

A packet is the four octets `HEP3`, its total length in 16 bits, and chunks of vendor (0: generic), type, length (six octets of chunk header
included) and value, all in network order. Source: the HEP3 network protocol specification of the sipcapture project.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from control.contract.redact import redact_correlation
from sidecar.b2bua import effects as e
from sidecar.clocks import Wall
from sidecar.identity.digest import redact_message

MAGIC = b"HEP3"
MAX_PACKET = 0xFFFF
"""What the 16 bits of the total length can say."""
MAX_U32 = 0xFFFFFFFF


class Chunk(IntEnum):
    """Generic chunk types that are sent here."""

    FAMILY = 0x01
    TRANSPORT = 0x02
    SOURCE_V4 = 0x03
    DESTINATION_V4 = 0x04
    SOURCE_V6 = 0x05
    DESTINATION_V6 = 0x06
    SOURCE_PORT = 0x07
    DESTINATION_PORT = 0x08
    SECONDS = 0x09
    MICROSECONDS = 0x0A
    PROTOCOL = 0x0B
    CAPTURE_ID = 0x0C
    AUTH_KEY = 0x0E
    PAYLOAD = 0x0F
    CORRELATION = 0x11


class Protocol(IntEnum):
    """What a payload is (chunk 0x0b)."""

    SIP = 1
    RTCP = 5


_FAMILY = {4: 2, 6: 10}
"""IP version → AF_INET and AF_INET6 as Linux numbers them, which is what capture servers compare with."""
_TCP, _UDP = 6, 17
_U16 = struct.Struct("!H")
_U32 = struct.Struct("!I")
_CHUNK = struct.Struct("!HHH")


class TooLong(ValueError):
    """The message does not fit into one HEP packet."""


def encode(message: e.Message, correlation: str, capture_id: int, wall: Wall, *, auth_key: str | None = None) -> bytes:
    """One SIP message as a HEP packet, seen at `wall`.

    `correlation` is the Call-ID of the A leg for the messages of both legs, so that a capture server shows them as one call; `capture_id`
    (32 bits) names this sidecar. Digest responses are masked and correlation tokens replaced by their hash; every other octet is as it was
    on the wire. Raises TooLong, and ValueError for a flow whose host is not an IP literal and for a `capture_id` or time out of range.
    """
    flow = message.flow
    source, destination = (flow.remote, flow.local) if message.direction == "in" else (flow.local, flow.remote)
    seconds, micros = divmod(round(wall * 1_000_000), 1_000_000)
    for name, number in (("capture id", capture_id), ("time", seconds)):
        if not 0 <= number <= MAX_U32:
            raise ValueError(f"{name} {number} does not fit into 32 bits")
    from_ip, to_ip = _ip(source[0]), _ip(destination[0])
    if from_ip.version != to_ip.version:  # a socket that serves both families names its IPv4 peers in mapped form
        from_ip, to_ip = _mapped(from_ip), _mapped(to_ip)
    v4 = from_ip.version == 4
    chunks = [
        (Chunk.FAMILY, bytes([_FAMILY[from_ip.version]])),
        (Chunk.TRANSPORT, bytes([_UDP if flow.transport == "udp" else _TCP])),
        (Chunk.SOURCE_V4 if v4 else Chunk.SOURCE_V6, from_ip.packed),
        (Chunk.DESTINATION_V4 if v4 else Chunk.DESTINATION_V6, to_ip.packed),
        (Chunk.SOURCE_PORT, _U16.pack(source[1])),
        (Chunk.DESTINATION_PORT, _U16.pack(destination[1])),
        (Chunk.SECONDS, _U32.pack(seconds)),
        (Chunk.MICROSECONDS, _U32.pack(micros)),
        (Chunk.PROTOCOL, bytes([Protocol.SIP])),
        (Chunk.CAPTURE_ID, _U32.pack(capture_id)),
        (Chunk.CORRELATION, correlation.encode("utf-8", "surrogateescape")),
    ]
    if auth_key is not None:
        chunks.append((Chunk.AUTH_KEY, auth_key.encode()))
    chunks.append((Chunk.PAYLOAD, shown(message.data)))
    return _packet(chunks)


def shown(data: bytes) -> bytes:
    """A SIP message without what a password or a correlation token would give away.

    Where masking changed the length of the body (a `message/sipfrag` that quotes credentials), Content-Length follows it.
    """
    text = data.decode("utf-8", "surrogateescape")
    masked = redact_correlation(redact_message(text))
    if masked == text:
        return data
    result = masked.encode("utf-8", "surrogateescape")
    before, after = _body_length(data), _body_length(result)
    return result if before == after else _with_length(result, before, after)


def _body_length(message: bytes) -> int:
    return len(message.partition(b"\r\n\r\n")[2])


def _with_length(message: bytes, before: int, after: int) -> bytes:
    """`message` with its Content-Length changed from `before` to `after`; one that said something else is left as it was."""
    head, blank, body = message.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    for at, line in enumerate(lines):
        name, colon, value = line.partition(b":")
        if name.strip().lower() in (b"content-length", b"l") and value.strip() == b"%d" % before:
            lines[at] = name + colon + b" %d" % after
    return b"\r\n".join(lines) + blank + body


def _packet(chunks: list[tuple[Chunk, bytes]]) -> bytes:
    total = len(MAGIC) + _U16.size + sum(_CHUNK.size + len(value) for _, value in chunks)
    if total > MAX_PACKET:
        raise TooLong(f"a HEP packet of {total} octets; {MAX_PACKET} is the most that its length field can say")
    return b"".join((MAGIC, _U16.pack(total), *(_CHUNK.pack(0, kind, _CHUNK.size + len(value)) + value for kind, value in chunks)))


@lru_cache(maxsize=1024)
def _ip(host: str) -> IPv4Address | IPv6Address:
    return ip_address(host.partition("%")[0])  # a scope (RFC 4007) has no place in the packet


def _mapped(address: IPv4Address | IPv6Address) -> IPv6Address:
    """An address in IPv6 form (RFC 4291 2.5.5.2)."""
    return address if isinstance(address, IPv6Address) else IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)
