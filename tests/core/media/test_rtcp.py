"""Reading RTCP (RFC 3550 section 6, RFC 3611)."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from sidecar.media import rtcp
from tests.support.rtcp import block, packet, receiver_report, sender_report


def test_sender_report_with_a_block() -> None:  # 6.4.1
    data = sender_report(0xA, 3_900_000_000.5, 160_000, block(0xB, fraction=64, lost=-3, highest=70_000, jitter=80, lsr=0x1234, delay=1.5))
    (report,) = rtcp.reports(data)
    assert isinstance(report, rtcp.SenderReport)
    assert (report.ssrc, report.seconds, report.rtp, report.packets, report.octets) == (0xA, 3_900_000_000.5, 160_000, 10, 1600)
    assert report.blocks == (rtcp.Block(0xB, 0.25, -3, 70_000, 80, 0x1234, 1.5),)


def test_compound_is_read_to_its_end() -> None:  # 6.1
    names = struct.pack("!I", 0xA) + b"\x01\x05a@b.c\x02\x01N\x00"
    data = receiver_report(0xA, block(0xB), block(0xC)) + packet(202, 1, names) + packet(203, 2, struct.pack("!II", 0xA, 0xD) + b"\x04gone")
    report, description, bye = rtcp.reports(data)
    assert isinstance(report, rtcp.ReceiverReport)
    assert [b.ssrc for b in report.blocks] == [0xB, 0xC]
    assert description == rtcp.Description(0xA, {1: "a@b.c", 2: "N"})
    assert bye == rtcp.Bye((0xA, 0xD), "gone")


def test_two_chunks_of_descriptions_each_end_on_a_word() -> None:  # 6.5
    chunk = struct.pack("!I", 1) + b"\x01\x02ab" + b"\x00\x00\x00\x00" + struct.pack("!I", 2) + b"\x01\x01c\x00"
    assert rtcp.reports(packet(202, 2, chunk)) == [rtcp.Description(1, {1: "ab"}), rtcp.Description(2, {1: "c"})]


def test_extended_reports() -> None:  # RFC 3611 4.4, 4.5, 4.7
    reference = struct.pack("!BBHQ", 4, 0, 2, 7 << 32)
    answer = struct.pack("!BBHIII", 5, 0, 3, 0xB, 0x55, 65536)
    voip = struct.pack("!BBHI4B4H10B3H", 7, 0, 8, 0xB, 26, 13, 0, 0, 0, 0, 120, 60, 0, 0, 0, 16, 88, 127, 41, 127, 0, 0, 40, 80, 200)
    extended = rtcp.reports(packet(207, 0, struct.pack("!I", 0xA) + reference + answer + voip))
    assert extended[0] == rtcp.ReferenceTime(0xA, 7 << 32)
    assert extended[1] == rtcp.LastReference(0xA, 0xB, 0x55, 1.0)
    rated = extended[2]
    assert isinstance(rated, rtcp.VoipMetrics)
    assert (rated.round_trip_ms, rated.end_system_ms, rated.r_factor, rated.mos_lq, rated.mos_cq) == (120, 60, 88, 4.1, None)


def test_padding_is_not_read() -> None:  # 6.4.1
    data = bytearray(receiver_report(0xA) + packet(203, 1, struct.pack("!I", 0xA) + b"\x00\x00\x00\x04"))
    data[8] |= 0x20
    assert rtcp.reports(bytes(data))[-1] == rtcp.Bye((0xA,), "")


def test_a_length_beyond_the_datagram_ends_the_reading() -> None:
    good = receiver_report(0xA)
    assert len(rtcp.reports(good + struct.pack("!BBH", 0x81, 201, 900) + bytes(20))) == 1


@given(st.binary(max_size=200), st.sampled_from([200, 201, 202, 203, 207]), st.integers(0, 31))
def test_hostile_octets_are_read_or_left(body: bytes, kind: int, count: int) -> None:
    for report in rtcp.reports(packet(kind, count, body)):
        assert report is not None
    rtcp.reports(body)
