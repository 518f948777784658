"""HEP version 3 packets, chunk by chunk."""

from __future__ import annotations

import hashlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.b2bua import effects as e
from sidecar.clocks import Wall
from sidecar.sip.flow import Flow
from sidecar.sip.message import Request, parse
from sidecar.trace import hep
from tests.core.trace.calls import CALL, CALL_ID, EPOCH, B, request
from tests.core.trace.hep_packet import chunks


def packet(
    data: bytes = b"OPTIONS sip:a SIP/2.0\r\n\r\n", *, flow: Flow = B, direction: str = "out", wall: float = EPOCH, **more: str
) -> bytes:
    """One encoded message."""
    message = e.Message(CALL, "B", "in" if direction == "in" else "out", flow, data, retransmission=False)
    return hep.encode(message, CALL_ID, 2001, Wall(wall), auth_key=more.get("auth_key"))


def test_every_chunk_of_a_message_that_left_over_udp() -> None:
    data = request("INVITE", 1)
    assert chunks(packet(data, wall=EPOCH + 0.25)) == {
        0x01: b"\x02",
        0x02: b"\x11",
        0x03: bytes([192, 0, 2, 10]),
        0x04: bytes([192, 0, 2, 20]),
        0x07: (5060).to_bytes(2, "big"),
        0x08: (5070).to_bytes(2, "big"),
        0x09: int(EPOCH).to_bytes(4, "big"),
        0x0A: (250_000).to_bytes(4, "big"),
        0x0B: b"\x01",
        0x0C: (2001).to_bytes(4, "big"),
        0x0F: data,
        0x11: CALL_ID.encode(),
    }


def test_a_message_that_came_in_has_the_peer_as_its_source() -> None:
    told = chunks(packet(direction="in"))
    assert (told[0x03], told[0x04]) == (bytes([192, 0, 2, 20]), bytes([192, 0, 2, 10]))
    assert (told[0x07], told[0x08]) == ((5070).to_bytes(2, "big"), (5060).to_bytes(2, "big"))


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_connections_are_told_as_tcp_and_ipv6_in_its_own_chunks(transport: str) -> None:
    told = chunks(packet(flow=Flow(transport, ("2001:db8::1", 5061), ("fe80::2%eth0", 40000))))
    assert (told[0x01], told[0x02]) == (b"\x0a", b"\x06")
    assert told[0x05] == ipaddress.IPv6Address("2001:db8::1").packed
    assert told[0x06] == ipaddress.IPv6Address("fe80::2").packed
    assert 0x03 not in told
    assert 0x04 not in told


def test_addresses_of_two_families_meet_in_the_wider_one() -> None:
    told = chunks(packet(flow=Flow("udp", ("::", 5060), ("192.0.2.20", 5070))))
    assert told[0x01] == b"\x0a"
    assert ipaddress.IPv6Address(told[0x06]).ipv4_mapped == ipaddress.IPv4Address("192.0.2.20")


def test_the_auth_key_is_there_only_when_there_is_one() -> None:
    assert 0x0E not in chunks(packet())
    assert chunks(packet(auth_key="s3cret"))[0x0E] == b"s3cret"


def test_microseconds_never_reach_a_whole_second() -> None:
    told = chunks(packet(wall=EPOCH + 0.999_999_9))
    assert int.from_bytes(told[0x09], "big") == int(EPOCH) + 1
    assert told[0x0A] == bytes(4)


def test_octets_that_are_no_text_arrive_as_they_were() -> None:
    data = b"MESSAGE sip:a SIP/2.0\r\nSubject: \xff\xfe\r\nContent-Length: 2\r\n\r\n\x00\x80"
    assert chunks(packet(data))[0x0F] == data


def test_a_digest_response_is_masked_and_the_message_still_parses() -> None:
    secret = "6629fae49393a05397450978507c4ef1"
    credentials = f'Authorization: Digest username="u", realm="r", nonce="n", uri="sip:c", response="{secret}"'
    shown = chunks(packet(request("INVITE", 2, credentials, "Max-Forwards: 70", body="v=0\r\n")))[0x0F]
    assert secret.encode() not in shown
    message = parse(shown)
    assert isinstance(message, Request)
    assert message.body == b"v=0\r\n"
    assert 'username="u"' in (message.headers.get("Authorization") or "")


def test_content_length_follows_a_body_whose_credentials_were_masked() -> None:
    quoted = 'INVITE sip:c@d SIP/2.0\r\nAuthorization: Digest username="u", response="' + "0" * 32 + '"\r\n\r\n'
    data = request("NOTIFY", 2, "Content-Type: message/sipfrag", body=quoted)
    head, _, body = chunks(packet(data))[0x0F].partition(b"\r\n\r\n")
    assert b"0" * 32 not in body
    assert len(body) < len(quoted)
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")


def test_a_correlation_token_is_shown_as_its_hash() -> None:
    shown = chunks(packet(request("INVITE", 1, "X-Correlation-Id: corr-7f3a")))[0x0F]
    assert b"corr-7f3a" not in shown
    assert hashlib.sha256(b"corr-7f3a").hexdigest().encode() in shown


def test_the_largest_message_that_fits_and_the_next_one() -> None:
    room = 65535 - len(packet(b""))
    assert len(packet(b"x" * room)) == 65535
    with pytest.raises(hep.TooLong):
        packet(b"x" * (room + 1))


@pytest.mark.parametrize(("capture_id", "wall"), [(-1, EPOCH), (2**32, EPOCH), (1, -1.0), (1, 2.0**32)])
def test_what_32_bits_cannot_hold_is_refused(capture_id: int, wall: float) -> None:
    message = e.Message(CALL, "A", "in", B, b"", retransmission=False)
    with pytest.raises(ValueError, match="32 bits"):
        hep.encode(message, CALL_ID, capture_id, Wall(wall))


@given(st.binary(max_size=300), st.text(max_size=60).filter(lambda text: text.isascii() or text.isprintable()))
def test_any_octets_make_one_whole_packet(data: bytes, correlation: str) -> None:
    message = e.Message(CALL, "A", "in", B, data, retransmission=False)
    told = chunks(hep.encode(message, correlation, 1, Wall(EPOCH)))
    assert told[0x0F] == hep.shown(data)
    assert told[0x11] == correlation.encode()
