"""What tshark makes of our HEP packets, where tshark and its HEP dissector are there."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from sidecar.b2bua import effects as e
from sidecar.clocks import Wall
from sidecar.trace import hep
from tests.core.trace.calls import CALL, CALL_ID, EPOCH, B, request

TSHARK = shutil.which("tshark")


def _capture(path: Path, payload: bytes) -> None:
    """A capture file with one UDP datagram to port 9060; link type 101 is raw IP."""
    udp = struct.pack("!HHHH", 40000, 9060, 8 + len(payload), 0) + payload
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes([127, 0, 0, 1]), bytes([127, 0, 0, 1]))
    frame = ip + udp
    head = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    path.write_bytes(head + struct.pack("=IIII", int(EPOCH), 0, len(frame), len(frame)) + frame)


def _tshark(*arguments: str) -> str:
    assert TSHARK is not None
    return subprocess.run([TSHARK, *arguments], capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.peer
@pytest.mark.skipif(TSHARK is None, reason="tshark is not installed; test_hep decodes the packets chunk by chunk")
def test_tshark_finds_the_sip_message_in_the_packet(tmp_path: Path) -> None:
    if not any(line.split("\t")[2:3] == ["hep"] for line in _tshark("-G", "protocols").splitlines()):
        pytest.skip("this tshark has no HEP dissector; test_hep decodes the packets chunk by chunk")
    file = tmp_path / "hep.pcap"
    _capture(file, hep.encode(e.Message(CALL, "B", "out", B, request("OPTIONS", 1), retransmission=False), CALL_ID, 2001, Wall(EPOCH)))
    told = _tshark("-r", str(file), "-d", "udp.port==9060,hep", "-T", "fields", "-e", "frame.protocols", "-e", "sip.Call-ID")
    protocols, call_id = told.rstrip("\n").split("\t")
    layers = protocols.split(":")
    assert layers.index("hep") < layers.index("sip")
    assert "_ws.malformed" not in layers
    assert call_id == CALL_ID
