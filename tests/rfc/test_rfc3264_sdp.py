"""RFC 3264 (offer and answer): what a relay must leave as the two ends agreed it."""

from __future__ import annotations

import pytest

from sidecar.sip.sdp import parse

HEAD = b"v=0\r\no=alice 2890844526 2890844527 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"


def relayed(*media: bytes, ports: dict[int, tuple[int, int]] | None = None, head: bytes = HEAD) -> bytes:
    body = head + b"".join(line + b"\r\n" for line in media)
    sdp = parse(body)
    given = {m.index: (30000 + 2 * m.index, 30001 + 2 * m.index) for m in sdp.media if m.port} if ports is None else ports
    return sdp.rewrite("10.0.0.1", given)


def media_of(body: bytes) -> list[bytes]:
    return [line for line in body.split(b"\r\n") if line.startswith(b"m=")]


def test_rfc3264_5_an_offer_may_have_no_media_at_all() -> None:
    assert parse(HEAD).media == ()
    assert relayed() == HEAD.replace(b"c=IN IP4 192.0.2.1", b"c=IN IP4 10.0.0.1")


def test_rfc3264_6_number_and_order_of_media_lines_are_those_of_the_offer() -> None:
    out = relayed(b"m=video 4002 RTP/AVP 31", b"m=audio 0 RTP/AVP 0", b"m=image 4004 udptl t38", b"m=audio 4000 RTP/AVP 8")
    assert media_of(out) == [b"m=video 30000 RTP/AVP 31", b"m=audio 0 RTP/AVP 0", b"m=image 30004 udptl t38", b"m=audio 30006 RTP/AVP 8"]


def test_rfc3264_6_a_refused_medium_has_port_zero_and_stays_in_place() -> None:
    out = relayed(b"m=audio 4000 RTP/AVP 0", b"m=video 4002 RTP/AVP 31", b"a=label:v", ports={0: (30000, 30001)})
    assert media_of(out) == [b"m=audio 30000 RTP/AVP 0", b"m=video 0 RTP/AVP 31"]
    assert out.endswith(b"a=label:v\r\n")


def test_rfc3264_5_1_port_zero_is_never_given_a_port() -> None:
    assert media_of(relayed(b"m=audio 0 RTP/AVP 0", ports={0: (30000, 30001)})) == [b"m=audio 0 RTP/AVP 0"]


def test_rfc3264_5_1_a_medium_without_direction_is_sendrecv() -> None:
    assert parse(HEAD + b"m=audio 4000 RTP/AVP 0\r\n").media[0].direction == "sendrecv"


@pytest.mark.parametrize("direction", [b"sendrecv", b"sendonly", b"recvonly", b"inactive"])
def test_rfc3264_6_1_the_direction_crosses_as_it_was_stated(direction: bytes) -> None:
    out = relayed(b"m=audio 4000 RTP/AVP 0", b"a=" + direction)
    assert out.endswith(b"a=" + direction + b"\r\n")
    assert parse(out).media[0].held == (direction in (b"sendonly", b"inactive"))


def test_rfc3264_6_1_payload_types_and_their_order_are_kept() -> None:
    out = relayed(b"m=audio 4000 RTP/AVP 101 9 0 8", b"a=rtpmap:101 telephone-event/8000", b"a=fmtp:101 0-15")
    assert out.endswith(b"m=audio 30000 RTP/AVP 101 9 0 8\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n")


def test_rfc3264_8_the_origin_line_is_the_writers_own() -> None:
    assert relayed(b"m=audio 4000 RTP/AVP 0").split(b"\r\n")[1] == HEAD.split(b"\r\n")[1]


@pytest.mark.parametrize("connection", [b"IN IP4 0.0.0.0", b"IN IP6 ::", b"IN IP6 hold.invalid"])
def test_rfc3264_8_4_the_null_address_stays_and_means_hold(connection: bytes) -> None:
    out = relayed(b"m=audio 4000 RTP/AVP 0", b"c=" + connection)
    assert out.endswith(b"m=audio 30000 RTP/AVP 0\r\nc=" + connection + b"\r\n")
    (audio,) = parse(out).media
    assert (audio.held, audio.null_address, audio.remote) == (True, True, None)


def test_rfc3264_8_4_a_null_address_for_the_session_holds_only_the_media_under_it() -> None:
    head = HEAD.replace(b"c=IN IP4 192.0.2.1", b"c=IN IP4 0.0.0.0")
    out = relayed(b"m=audio 4000 RTP/AVP 0", b"m=audio 4002 RTP/AVP 0", b"c=IN IP4 192.0.2.1", head=head)
    assert [m.address for m in parse(out).media] == ["0.0.0.0", "10.0.0.1"]
