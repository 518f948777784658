"""A call's capture file as Wireshark's own dissectors read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.api import pcap
from control.contract.facts import FACT, Fact, SipMessage
from tests.core.control.traces import Trace
from tests.core.trace.calls import CALL_ID, EPOCH, TOKEN, answered_call
from tests.support.tools import run

pytestmark = pytest.mark.peer
STRICT = ("-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-d", "udp.port==5060,sip")


def facts() -> list[Fact]:
    return [FACT.validate_json(line) for line in answered_call().lines]


def tshark(file: Path, *arguments: str) -> list[list[str]]:
    """Rows of fields."""
    return [line.split("\t") for line in run("tshark", "-r", str(file), *STRICT, *arguments).splitlines()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "call.pcap"
    path.write_bytes(pcap.capture(facts()))
    return path


def test_tshark_reads_every_message_as_sip_with_its_ends_and_its_time(file: Path) -> None:
    fields = ("frame.time_epoch", "ip.src", "udp.srcport", "ip.dst", "udp.dstport", "sip.Method", "sip.Status-Code", "sip.Call-ID")
    rows = tshark(file, "-T", "fields", *(part for name in fields for part in ("-e", name)))
    messages = [fact for fact in facts() if isinstance(fact, SipMessage)]
    assert len(rows) == len(messages) > 10
    for row, message in zip(rows, messages, strict=True):
        ends = (message.remote, message.local) if message.direction == "in" else (message.local, message.remote)
        assert float(row[0]) == pytest.approx(message.at.timestamp(), abs=1e-6)
        assert (f"{row[1]}:{row[2]}", f"{row[3]}:{row[4]}") == ends
        first = message.text.split(" ", 2)
        assert (row[6] if first[0].startswith("SIP/") else row[5]) == (first[1] if first[0].startswith("SIP/") else first[0])
        assert row[7] == CALL_ID
    assert float(rows[0][0]) == EPOCH


def test_tshark_finds_no_malformed_packet_and_no_wrong_checksum(file: Path) -> None:
    assert (
        tshark(file, "-Y", "_ws.malformed || ip.checksum.status == Bad || udp.checksum.status == Bad || _ws.expert.severity == Error") == []
    )
    assert len(tshark(file, "-Y", "udp.checksum.status == Good")) > 10


def test_wireshark_follows_the_call_and_the_file_holds_no_token(file: Path) -> None:
    counted = run("tshark", "-r", str(file), *STRICT, "-q", "-z", "sip,stat")
    assert [line.split() for line in counted.splitlines() if "200 OK" in line] == [["SIP", "200", "OK", ":", "4", "Packets"]]
    invites = tshark(file, "-Y", 'sip.CSeq.method == "INVITE" && sip.Status-Code == 200')
    assert len(invites) == 2  # one a leg
    assert TOKEN.encode() not in file.read_bytes()


def test_a_description_without_its_keys_is_still_read(tmp_path: Path) -> None:
    """What stands in the trace is shorter than its Content-Length says, and no key by its form."""
    crypto = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:redacted\r\n"
    body = f"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 0\r\n{crypto}"
    head = "INVITE sip:a@b SIP/2.0\r\nCall-ID: x\r\nContent-Type: application/sdp\r\nContent-Length: 999\r\n\r\n"
    trace = Trace("c1", "SCL_abc").message(0, "A", "in", head + body)
    path = tmp_path / "keys.pcap"
    path.write_bytes(pcap.capture(FACT.validate_python(fact) for fact in trace.facts))
    length = str(len(body) + 4 * len("redacted"))
    assert tshark(path, "-T", "fields", "-e", "sdp.media", "-e", "sip.Content-Length") == [["audio 4000 RTP/SAVP 0", length]]
    assert tshark(path, "-Y", "_ws.malformed") == []
