"""What is kept of packets for a capture file."""

from __future__ import annotations

import io
import ipaddress
import struct

import pytest

from control.contract import capture
from sidecar.clocks import Mono
from sidecar.media.wire import Flow, Wire

FLOW = Flow("A", ("192.0.2.1", 4000), ("192.0.2.9", 30_000), ("192.0.2.9", 30_002), ("192.0.2.2", 5000))


def test_packets_come_out_in_order_of_arrival_with_one_object_a_way() -> None:
    wire = Wire(8)
    wire.offer(FLOW, b"late", Mono(2.0))
    wire.offer(Flow(*FLOW), b"early", Mono(1.0))
    first, second = wire.drain()
    assert (first[1], second[1]) == (b"early", b"late")
    assert first[0] is second[0]
    assert wire.drain() == []


def test_a_full_row_drops_the_oldest_and_says_so() -> None:
    wire = Wire(3)
    for number in range(10):
        wire.offer(FLOW, bytes([number]), Mono(number))
    assert [data[0] for _, data, _ in wire.drain()] == [7, 8, 9]
    assert wire.dropped == 7


@pytest.mark.parametrize("hosts", [("192.0.2.1", "198.51.100.7"), ("2001:db8::1", "2001:db8::2"), ("2001:db8::1", "192.0.2.1")])
@pytest.mark.parametrize("payload", [b"", b"x", b"\x80" * 172, bytes(range(256)) * 3 + b"\xff"])
def test_a_datagram_is_one_that_the_checksums_of_rfc_1071_fit(hosts: tuple[str, str], payload: bytes) -> None:
    source, target = (
        capture.end(f"[{host}]:{4000 + number}" if ":" in host else f"{host}:{4000 + number}") for number, host in enumerate(hosts)
    )
    packet = capture.Way(source, target).datagram(payload)
    version = packet[0] >> 4
    assert version == (4 if all("." in host for host in hosts) else 6)
    head = 20 if version == 4 else 40
    addresses = packet[12:20] if version == 4 else packet[8:40]
    size = len(packet) - head
    pseudo = addresses + (struct.pack("!BBH", 0, 17, size) if version == 4 else struct.pack("!II", size, 17))
    assert added(pseudo + packet[head:]) == 0xFFFF
    assert version == 6 or added(packet[:20]) == 0xFFFF
    assert packet[head + 8 :] == payload
    assert ipaddress.ip_address(addresses[len(addresses) // 2 :]) == (
        target[0] if target[0].version == version else ipaddress.ip_address(f"::ffff:{hosts[1]}")
    )


def added(data: bytes) -> int:
    """The one's complement sum, word by word."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_a_file_is_read_up_to_where_it_breaks_off() -> None:
    file = capture.HEADER + capture.record(1_500_000_000_123_456_789, b"one") + capture.record(-5, b"two")
    assert list(capture.records(io.BytesIO(file + b"\0" * 15))) == [(1_500_000_000_123_456_789, b"one"), (0, b"two")]
    assert list(capture.records(io.BytesIO(file[:-1]))) == [(1_500_000_000_123_456_789, b"one")]
    assert list(capture.records(io.BytesIO(b"RIFF" + file))) == []
