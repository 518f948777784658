"""The parts of the API that compute and touch nothing: captures, drawings, evidence, limits, addresses, codings."""

from __future__ import annotations

import ipaddress
import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from aiohttp.web_response import ContentCoding

from control.addresses import inside, inside_url
from control.api import evidence, ladder, ladder_svg, pcap
from control.api.answering import preferred
from control.api.limits import Allowance, Failures
from control.contract.call import Call
from control.contract.facts import FACT, Fact
from control.contract.fold import correlation_hash, fold
from tests.core.control.traces import TOKEN, Trace

STARTED = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
HOSTILE = '<script>alert(1)</script> & "x" ]]> \x00\x1b[31m\ufffe'


def told(trace: Trace) -> tuple[Call, list[Fact]]:
    facts = [FACT.validate_python(fact) for fact in trace.facts]
    call = fold(facts)
    assert call is not None
    return call, facts


def message(trace: Trace, ms: float, local: str, remote: str, direction: str, text: str, leg: str = "A") -> None:
    trace.add("sip_message", ms, leg=leg, direction=direction, transport="udp", local=local, remote=remote, text=text)


# ---- pcap


def packets(capture: bytes) -> Iterator[tuple[int, bytes]]:
    magic, major, minor, _zone, _digits, snaplen, link = struct.unpack_from("<IHHiIII", capture)
    assert (magic, major, minor, link) == (0xA1B23C4D, 2, 4, 101)
    at = 24
    while at < len(capture):
        seconds, nanos, kept, size = struct.unpack_from("<IIII", capture, at)
        assert kept == size <= snaplen
        yield seconds * 10**9 + nanos, capture[at + 16 : at + 16 + kept]
        at += 16 + kept


def checks(data: bytes) -> bool:
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


def unwrap(packet: bytes) -> tuple[str, int, str, int, str]:
    if packet[0] >> 4 == 4:
        assert checks(packet[:20])
        assert struct.unpack("!H", packet[2:4])[0] == len(packet)
        source, target, udp = packet[12:16], packet[16:20], packet[20:]
        pseudo = source + target + struct.pack("!BBH", 0, 17, len(udp))
        assert packet[9] == 17
    else:
        source, target, udp = packet[8:24], packet[24:40], packet[40:]
        assert struct.unpack("!H", packet[4:6])[0] == len(udp)
        pseudo = source + target + struct.pack("!II", len(udp), 17)
        assert packet[6] == 17
    assert checks(pseudo + udp)
    from_port, to_port, size, _ = struct.unpack("!HHHH", udp[:8])
    assert size == len(udp)
    return str(ipaddress.ip_address(source)), from_port, str(ipaddress.ip_address(target)), to_port, udp[8:].decode()


def test_a_capture_has_each_message_once_with_its_addresses_time_and_right_checksums() -> None:
    trace = Trace("c1", "SCL_abc", started=STARTED)
    message(trace, 0, "192.0.2.1:5060", "198.51.100.7:5080", "in", "INVITE sip:a@b SIP/2.0\r\n\r\n")
    message(trace, 1.5, "192.0.2.1:5060", "198.51.100.7:5080", "out", "SIP/2.0 100 Trying\r\n\r\nodd")
    message(trace, 2, "[2001:db8::1]:5060", "[2001:db8::2]:5070", "out", "INVITE sip:é SIP/2.0\r\n\r\n", leg="B")
    message(trace, 3, "192.0.2.1:5060", "[2001:db8::2]:5070", "in", "mixed")
    message(trace, 4, "edge.example:5061", "pipe", "in", "no addresses")
    found = list(packets(pcap.capture(told(trace)[1])))
    base = int(STARTED.timestamp()) * 10**9 + 123_456_000
    assert [at - base for at, _ in found] == [0, 1_500_000, 2_000_000, 3_000_000, 4_000_000]
    assert [unwrap(packet) for _, packet in found] == [
        ("198.51.100.7", 5080, "192.0.2.1", 5060, "INVITE sip:a@b SIP/2.0\r\n\r\n"),
        ("192.0.2.1", 5060, "198.51.100.7", 5080, "SIP/2.0 100 Trying\r\n\r\nodd"),
        ("2001:db8::1", 5060, "2001:db8::2", 5070, "INVITE sip:é SIP/2.0\r\n\r\n"),
        ("2001:db8::2", 5070, str(ipaddress.ip_address("::ffff:192.0.2.1")), 5060, "mixed"),
        ("0.0.0.0", 0, "0.0.0.0", 5061, "no addresses"),
    ]


def test_a_capture_of_a_call_without_messages_is_a_header() -> None:
    assert list(packets(pcap.capture(told(Trace("c1", "x"))[1]))) == []


def test_a_capture_takes_what_is_larger_than_a_datagram_and_hides_the_correlation_token() -> None:
    trace = Trace("c1", "SCL_abc")
    message(trace, 0, "192.0.2.1:5060", "192.0.2.2:5060", "in", f"INVITE x SIP/2.0\r\nX-Correlation-Id: {TOKEN}\r\n\r\n" + "a" * 70_000)
    [(_, packet)] = packets(pcap.capture(told(trace)[1]))
    assert len(packet) == 65535
    text = unwrap(packet)[4]
    assert TOKEN not in text
    assert f"X-Correlation-Id: sha256:{correlation_hash(TOKEN)}\r\n" in text


# ---- drawings and evidence


def hostile() -> tuple[Call, list[Fact]]:
    trace = Trace("c1", HOSTILE, **{"from": HOSTILE, "to": HOSTILE, "route": HOSTILE, "sidecar": HOSTILE})
    trace.add("finding_made", 0, name="odd", detail=HOSTILE)
    message(
        trace,
        0,
        "192.0.2.1:5060",
        "192.0.2.2:5060",
        "in",
        f"{HOSTILE} sip:a SIP/2.0\r\nX-Correlation-Id: {TOKEN}\r\nSubject: {HOSTILE}\r\n\r\n",
    )
    message(trace, 1, "192.0.2.1:5060", "192.0.2.2:5060", "out", f"SIP/2.0 486 {HOSTILE}\r\n\r\n")
    trace.answered()
    trace.add("media_opened", 101, leg="B", codec=HOSTILE, local="a", remote="b")
    trace.add("authentication", 102, leg="B", status=407, realm=HOSTILE, algorithm="MD5", result="answered", detail="")
    return told(trace.ended())


def test_a_drawing_is_one_well_formed_picture_whatever_the_messages_say() -> None:
    call, facts = hostile()
    root = ET.fromstring(ladder_svg.render_svg(call, facts))
    names = {element.tag.removeprefix("{http://www.w3.org/2000/svg}") for element in root.iter()}
    assert names == {"svg", "title", "style", "rect", "text", "line", "path"}
    assert not [key for element in root.iter() for key in element.attrib if key.startswith("on") or key.endswith("href")]
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "turn 1: agent answers after 600 ms ±20, speaks 1400 ms" in words
    assert "answered: call time 0" in words


def test_all_three_forms_of_a_ladder_tell_the_same_steps_in_the_same_order() -> None:
    call, facts = told(Trace("c1", "SCL_abc").message(0, "A", "in", "INVITE sip:a@b SIP/2.0\r\n\r\n").answered().ended())
    steps = ladder.steps(call, facts)
    text, svg, mermaid = ladder.render(call, facts), ladder_svg.render_svg(call, facts), ladder_svg.render_mermaid(call, facts)
    assert len(steps) == 6
    for step in steps:
        words = step.label if isinstance(step, ladder.Arrow) else step.text
        assert words in text
        assert words in svg
        assert words in mermaid
    assert mermaid.splitlines()[:5] == [
        "sequenceDiagram",
        "  participant caller",
        "  participant trunkside",
        "  participant agent",
        "  caller->>trunkside: INVITE",
    ]


def test_a_diagram_keeps_its_grammar_whatever_the_messages_say() -> None:
    call, facts = hostile()
    for line in ladder_svg.render_mermaid(call, facts).splitlines()[1:]:
        assert line.startswith(("  participant ", "  Note over caller,agent: ", "  caller->>", "  trunkside->>", "  agent->>"))
        assert "<" not in line


class Page(HTMLParser):
    """The tags of a page, and its attributes by name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.words += data


def test_evidence_is_one_file_that_runs_and_loads_nothing_and_tells_the_call() -> None:
    call, facts = hostile()
    text = evidence.render(call, facts)
    page = Page(text)
    assert not page.tags & {"script", "img", "link", "iframe", "object", "embed", "a", "form"}
    assert not {name for name in page.attributes if name.startswith("on") or name in ("src", "href")}
    assert "http-equiv" in page.attributes
    assert TOKEN not in text
    for words in ("<script>alert(1)</script>", "Verdict: pending", "600 ± 20", "Call-ID kept on the B leg", "486", "sha256:"):
        assert words in page.words


# ---- limits


def test_failures_are_limited_by_source_and_forgiven_with_time() -> None:
    table = Failures(Allowance(burst=3, every_s=10.0, most=100))
    for _ in range(3):
        assert table.wait_s("a", 0.0) == 0
        table.failed("a", 0.0)
    assert table.wait_s("a", 0.0) == 10
    assert table.wait_s("b", 0.0) == 0
    assert table.wait_s("a", 9.5) == 1
    assert table.wait_s("a", 10.0) == 0
    table.failed("a", 10.0)
    assert table.wait_s("a", 10.0) == 10
    assert table.wait_s("a", 1000.0) == 0
    assert table.describe()["refused"] == 3


def test_the_table_of_failures_does_not_grow_without_end() -> None:
    table = Failures(Allowance(burst=1, every_s=10.0, most=50))
    for number in range(1000):
        table.failed(f"source {number}", 0.0)
    assert table.describe()["sources"] == 50
    assert table.wait_s("source 999", 0.0) == 10
    assert table.wait_s("source 0", 0.0) == 0


# ---- addresses


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.5.5", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255",
        "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a00:1",
        "2002:a00:1::1", "localhost", "LOCALHOST", "localhost.", "api.localhost", "metadata.google.internal", "printer.local",
        "control.default.svc.cluster.local", "control.default.svc", "control", "2130706433", "0x7f000001", "0x7f.0.0.1", "127.1", "",
    ],
)  # fmt: skip
def test_a_host_inside_is_recognised_in_every_disguise(host: str) -> None:
    assert inside(host) is not None


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "example.com", "hooks.example.co.uk.", "2606:4700::1111", "::ffff:8.8.8.8", "1e100.net", "0xide.example"]
)
def test_a_public_host_is_taken(host: str) -> None:
    assert inside(host) is None


def test_a_url_is_judged_by_its_host() -> None:
    assert inside_url("https://hooks.example.com:8443/path?x=1") is None
    assert "link-local" in str(inside_url("http://169.254.169.254/latest/meta-data"))
    assert inside_url("http://[::1]:8080/") is not None


# ---- codings


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("", None),
        ("gzip", ContentCoding.gzip),
        ("deflate", ContentCoding.deflate),
        ("gzip, deflate, br", ContentCoding.gzip),
        ("deflate, gzip;q=0.5", ContentCoding.deflate),
        ("gzip;q=0", None),
        ("gzip;q=0, *", ContentCoding.deflate),
        ("*;q=0", None),
        ("identity, gzip;q=0.2", None),
        ("br, zstd", None),
        ("GZIP ; q=0.4", ContentCoding.gzip),
        ("gzip;q=high", None),
    ],
)  # fmt: skip
def test_the_coding_that_the_client_weighs_most(accept: str, coding: ContentCoding | None) -> None:
    assert preferred(accept) is coding
