"""Our HEP packets, unwrapped by somebody else: sngrep decodes HEPv3 and writes what was inside, tshark reads that.

Debian's tshark has no HEP dissector of its own, so the one judge opens the envelope and the other reads the letter.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from sidecar.b2bua import effects as e
from sidecar.clocks import Wall
from sidecar.trace import hep
from tests.core.trace.calls import CALL, CALL_ID, EPOCH, A, B, request, response
from tests.support.tools import run

FIELDS = ("ip.src", "ip.dst", "udp.srcport", "udp.dstport", "sip.Call-ID", "sip.Method", "sip.Status-Code")


def capture(path: Path, payloads: list[bytes]) -> None:
    """A capture file (Ethernet) with a UDP datagram to port 9060 for each payload, a second apart."""
    frames = []
    for n, payload in enumerate(payloads):
        udp = struct.pack("!HHHH", 40000, 9060, 8 + len(payload), 0) + payload
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes([127, 0, 0, 1]), bytes([127, 0, 0, 1]))
        frame = bytes(12) + b"\x08\x00" + ip + udp
        frames.append(struct.pack("=IIII", int(EPOCH) + n, 0, len(frame), len(frame)) + frame)
    path.write_bytes(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + b"".join(frames))


def unwrapped(folder: Path, payloads: list[bytes]) -> list[tuple[str, ...]]:
    """The `FIELDS` of each message that sngrep found, in order; it may write one twice."""
    capture(folder / "hep.pcap", payloads)
    run("sngrep", "-F", "-I", str(folder / "hep.pcap"), "-E", "-N", "-q", "-O", str(folder / "sip.pcap"))
    wanted = [part for name in FIELDS for part in ("-e", name)]
    told = run("tshark", "-r", str(folder / "sip.pcap"), "-d", "udp.port==5060,sip", "-Y", "sip && !_ws.malformed", "-T", "fields", *wanted)
    return list(dict.fromkeys(tuple(line.split("\t")) for line in told.splitlines()))


@pytest.mark.peer
def test_sngrep_unwraps_both_legs_and_tshark_reads_the_messages(tmp_path: Path) -> None:
    messages = [
        e.Message(CALL, "A", "in", A, request("INVITE", 1), retransmission=False),
        e.Message(CALL, "B", "out", B, request("INVITE", 1), retransmission=False),
        e.Message(CALL, "B", "in", B, response(180, "INVITE", 1), retransmission=False),
    ]
    packets = [hep.encode(message, CALL_ID, 2001, Wall(EPOCH + n)) for n, message in enumerate(messages)]
    assert unwrapped(tmp_path, packets) == [
        ("192.0.2.1", "192.0.2.10", "5062", "5060", CALL_ID, "INVITE", ""),
        ("192.0.2.10", "192.0.2.20", "5060", "5070", CALL_ID, "INVITE", ""),
        ("192.0.2.20", "192.0.2.10", "5070", "5060", CALL_ID, "", "180"),
    ]


@pytest.mark.peer
def test_what_sngrep_unwraps_has_the_time_at_which_we_saw_the_message(tmp_path: Path) -> None:
    message = e.Message(CALL, "A", "in", A, request("OPTIONS", 1), retransmission=False)
    capture(tmp_path / "hep.pcap", [hep.encode(message, CALL_ID, 2001, Wall(EPOCH + 77.25))])
    run("sngrep", "-F", "-I", str(tmp_path / "hep.pcap"), "-E", "-N", "-q", "-O", str(tmp_path / "sip.pcap"))
    told = run("tshark", "-r", str(tmp_path / "sip.pcap"), "-T", "fields", "-e", "frame.time_epoch")
    assert {float(line) for line in told.splitlines()} == {EPOCH + 77.25}
