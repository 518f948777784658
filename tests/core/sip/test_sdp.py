"""Session descriptions: what is read from them, and that rewriting touches nothing but what it must."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.sip.sdp import RtpMap, UnusableSdp, parse

OFFER = (
    b"v=0\r\n"
    b"o=- 20518 0 IN IP4 203.0.113.1\r\n"
    b"s= \r\n"
    b"c=IN IP4 203.0.113.1\r\n"
    b"b=AS:84\r\n"
    b"t=0 0\r\n"
    b"a=ice-lite\r\n"
    b"a=unknown-thing:\x80\xff kept\r\n"
    b"m=audio 54400 RTP/AVP 0 8 9 96 101\r\n"
    b"a=rtpmap:0 PCMU/8000\r\n"
    b"a=rtpmap:96 opus/48000/2\r\n"
    b"a=fmtp:96 useinbandfec=1; minptime=10\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\n"
    b"a=fmtp:101 0-16\r\n"
    b"a=ptime:20\r\n"
    b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n"
    b"a=ice-ufrag:9uB6\r\n"
    b"a=ice-pwd:YH75Fviy6338Vbrhrlp8Yh\r\n"
    b"a=candidate:1 1 UDP 2130706431 203.0.113.1 54400 typ host\r\n"
    b"a=end-of-candidates\r\n"
    b"a=sendonly\r\n"
    b"m=video 54402/2 RTP/SAVPF 31\r\n"
    b"c=IN IP6 2001:db8::5\r\n"
    b"a=rtcp:54500 IN IP6 2001:db8::6\r\n"
    b"a=rtcp-mux\r\n"
    b"a=label:cam\r\n"
    b"m=image 0 udptl t38\r\n"
    b"a=T38FaxVersion:0\r\n"
)


def simple(*lines: str, end: str = "\r\n", address: str = "192.0.2.1") -> bytes:
    """A description with one session-level address and the given lines under it."""
    return end.join(["v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", f"c=IN IP4 {address}", "t=0 0", *lines, ""]).encode()


def test_media_lines_are_read_with_what_is_in_force_for_them() -> None:
    audio, video, image = parse(OFFER).media
    assert (audio.index, audio.kind, audio.port, audio.proto, audio.formats) == (0, "audio", 54400, "RTP/AVP", ("0", "8", "9", "96", "101"))
    assert (audio.address, audio.rtcp, audio.remote) == ("203.0.113.1", ("203.0.113.1", 54401), ("203.0.113.1", 54400))
    assert audio.rtpmap[96] == RtpMap("opus", 48000, 2)
    assert audio.rtpmap[101] == RtpMap("telephone-event", 8000)
    assert audio.fmtp == {96: "useinbandfec=1; minptime=10", 101: "0-16"}
    assert (audio.ptime, audio.direction, audio.held, audio.rtcp_mux) == (20.0, "sendonly", True, False)
    assert (video.port, video.port_count, video.address, video.rtcp) == (54402, 2, "2001:db8::5", ("2001:db8::6", 54500))
    assert (video.rtcp_mux, video.direction, video.held) == (True, "sendrecv", False)
    assert (image.port, image.proto, image.rtcp, image.remote) == (0, "udptl", None, None)


def test_static_payload_types_need_no_rtpmap() -> None:
    (audio,) = parse(simple("m=audio 4000 RTP/AVP 8 9 18")).media
    assert dict(audio.rtpmap) == {8: RtpMap("PCMA", 8000), 9: RtpMap("G722", 8000), 18: RtpMap("G729", 8000)}


def test_rewriting_changes_the_named_places_and_nothing_else() -> None:
    out = parse(OFFER).rewrite("10.0.0.9", {0: (30000, 30001), 1: (30002, 30003)})
    expected = OFFER
    for old, new in (
        (b"c=IN IP4 203.0.113.1", b"c=IN IP4 10.0.0.9"),
        (b"a=ice-lite\r\n", b""),
        (b"m=audio 54400", b"m=audio 30000"),
        (b"a=ice-ufrag:9uB6\r\n", b""),
        (b"a=ice-pwd:YH75Fviy6338Vbrhrlp8Yh\r\n", b""),
        (b"a=candidate:1 1 UDP 2130706431 203.0.113.1 54400 typ host\r\n", b""),
        (b"a=end-of-candidates\r\n", b""),
        (b"m=video 54402/2", b"m=video 30002/2"),
        (b"c=IN IP6 2001:db8::5", b"c=IN IP4 10.0.0.9"),
        (b"a=rtcp:54500 IN IP6 2001:db8::6", b"a=rtcp:30003 IN IP4 10.0.0.9"),
    ):
        assert expected.count(old) == 1
        expected = expected.replace(old, new)
    assert out == expected


@pytest.mark.parametrize(
    ("host", "line"),
    [("2001:db8::1", "IN IP6 2001:db8::1"), ("[2001:db8::1]", "IN IP6 2001:db8::1"), ("relay.example", "IN IP4 relay.example")],
)
def test_the_family_fits_the_host(host: str, line: str) -> None:
    out = parse(simple("m=audio 4000 RTP/AVP 0")).rewrite(host, {0: (30000, 30001)})
    assert f"c={line}\r\n".encode() in out


def test_rtcp_that_is_not_next_to_rtp_is_stated() -> None:
    body = simple("m=audio 4000 RTP/AVP 0", "a=ptime:20")
    assert parse(body).rewrite("192.0.2.1", {0: (30000, 30009)}) == simple("m=audio 30000 RTP/AVP 0", "a=rtcp:30009", "a=ptime:20")
    unended = simple("m=audio 4000 RTP/AVP 0", "i=voice", end="\n").rstrip(b"\n")
    assert parse(unended).rewrite("192.0.2.1", {0: (30000, 30009)}).endswith(b"m=audio 30000 RTP/AVP 0\ni=voice\na=rtcp:30009\n")


def test_rtcp_on_the_rtp_port_stays_there() -> None:
    body = simple("m=audio 4000 RTP/AVP 0", "a=rtcp:4000", "a=rtcp-mux")
    assert parse(body).rewrite("192.0.2.1", {0: (30000, 30001)}) == body.replace(b"4000", b"30000")


def test_a_session_level_line_serves_each_medium_without_its_own() -> None:
    body = simple("a=inactive", "m=audio 4000 RTP/AVP 0", "m=audio 4002 RTP/AVP 0", "c=IN IP4 192.0.2.7", "a=sendrecv")
    first, second = parse(body).media
    assert (first.address, first.direction) == ("192.0.2.1", "inactive")
    assert (second.address, second.direction) == ("192.0.2.7", "sendrecv")


def test_line_ends_are_kept_whatever_they_are() -> None:
    body = b"v=0\no=x\rx 1 1 IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0\n\na=foo"
    sdp = parse(body)
    assert sdp.encode() == body
    assert sdp.rewrite("192.0.2.9", {0: (9000, 9001)}) == body.replace(b"c=IN IP4 192.0.2.1", b"c=IN IP4 192.0.2.9").replace(
        b"4000", b"9000"
    )


def test_an_address_that_is_a_name_is_no_place_to_send_to() -> None:
    (audio,) = parse(simple("m=audio 4000 RTP/AVP 0", address="media.example.net")).media
    assert (audio.address, audio.remote) == ("media.example.net", None)


def test_origin_tells_whether_a_description_is_the_same_again() -> None:
    assert parse(OFFER).origin == "- 20518 0 IN IP4 203.0.113.1"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "v="),
        (b"hello", "v="),
        (simple("m=audio x RTP/AVP 0"), "media line 1"),
        (simple("m=audio 70000 RTP/AVP 0"), "media line 1"),
        (simple("m=audio 4000 RTP/AVP 0", "m=audio"), "media line 2"),
        (b"v=0\r\nm=audio 4000 RTP/AVP 0\r\n", "unicast"),
        (b"v=0\r\nc=IN IP4 224.2.1.1/127\r\nm=audio 4000 RTP/AVP 0\r\n", "unicast"),
        (b"v=0\r\nc=IN ATM whatever\r\nm=audio 4000 RTP/AVP 0\r\n", "unicast"),
    ],
)
def test_what_cannot_be_relayed_is_refused_with_488_and_a_reason(body: bytes, said: str) -> None:
    with pytest.raises(UnusableSdp) as caught:
        parse(body)
    assert caught.value.status == 488
    assert said in caught.value.detail


@pytest.mark.parametrize("host", ["", "a b", "x\r\ny", "192.0.2.1\r\na=evil"])
def test_a_host_that_would_break_the_line_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="host"):
        parse(simple()).rewrite(host, {})


ADDRESSES = st.sampled_from(["192.0.2.1", "2001:db8::1"])
LINES = st.sampled_from(
    [
        b"b=AS:64",
        b"i=some words",
        b"k=clear:x",
        b"a=ptime:20",
        b"a=sendonly",
        b"a=inactive",
        b"a=x-new",
        b"a=\xff\xfe",
        b"a=label:1",
        b"z=0 0",
        b"a=maxptime:60",
        b"",
    ]
)
ENDS = st.sampled_from([b"\r\n", b"\n"])


@st.composite
def descriptions(draw: st.DrawFn) -> tuple[str, bytes, list[tuple[int, int]]]:
    """An address, a description that uses it alone, and the ports (RTP, RTCP; 0 when disabled) of its media."""
    host = draw(ADDRESSES)
    family = "IP6" if ":" in host else "IP4"
    connection = f"c=IN {family} {host}".encode()
    lines = [b"v=0", b"o=- 1 1 IN IP4 198.51.100.1", connection, *draw(st.lists(LINES, max_size=3))]
    ports: list[tuple[int, int]] = []
    for _ in range(draw(st.integers(0, 4))):
        port = draw(st.one_of(st.just(0), st.integers(1, 65533)))
        rtcp = draw(st.integers(1, 65535)) if draw(st.booleans()) else None
        lines += [b"m=%s %d RTP/AVP 0 101" % (draw(st.sampled_from([b"audio", b"video"])), port), *draw(st.lists(LINES, max_size=3))]
        if draw(st.booleans()):
            lines.append(connection)
        if rtcp is not None:
            lines.append(b"a=rtcp:%d" % rtcp + (f" IN {family} {host}".encode() if draw(st.booleans()) else b""))
        ports.append((port, rtcp or port + 1))
    return host, b"".join(line + draw(ENDS) for line in lines), ports


@given(descriptions())
def test_rewriting_with_the_same_values_changes_nothing(case: tuple[str, bytes, list[tuple[int, int]]]) -> None:
    host, body, ports = case
    sdp = parse(body)
    same = {m.index: (m.port, m.rtcp[1]) for m in sdp.media if m.port and m.rtcp}
    assert {index: pair for index, pair in enumerate(ports) if pair[0]} == same
    assert sdp.rewrite(host, same) == body


@given(descriptions(), ADDRESSES, st.integers(1, 30000))
def test_all_but_the_named_lines_stay_byte_for_byte(case: tuple[str, bytes, list[tuple[int, int]]], host: str, base: int) -> None:
    _, body, ports = case
    sdp = parse(body)
    new = {index: (base + 2 * index, base + 2 * index + 1) for index, (port, _) in enumerate(ports) if port}
    out = sdp.rewrite(host, new)

    def others(text: bytes) -> list[bytes]:
        return [line for line in re.split(rb"(?<=\n)", text) if not line.startswith((b"c=", b"m=", b"a=rtcp:"))]

    assert others(out) == others(body)
    again = parse(out)
    assert [m.port for m in again.media] == [new.get(m.index, (0, 0))[0] for m in sdp.media]
    assert all(m.address == host for m in again.media)
    for old, medium in zip(sdp.media, again.media, strict=True):
        if old.port and old.rtcp:
            shared = old.rtcp[1] == old.port
            assert medium.rtcp == (host, new[old.index][0 if shared else 1])


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(lambda tail: simple("m=audio 4000 RTP/AVP 0") + tail)))
def test_no_octets_do_more_than_be_refused(body: bytes) -> None:
    try:
        sdp = parse(body)
    except UnusableSdp:
        return
    assert sdp.encode() == body
    sdp.rewrite("192.0.2.1", {m.index: (30000, 30001) for m in sdp.media})


def test_a_long_hostile_line_is_read_in_linear_time() -> None:
    for line in (
        "m=audio 1 RTP/AVP " + "0 " * 30000 + "\x01",
        "c=IN IP4 " + "/" * 60000,
        "a=candidate:" + " " * 60000 + "x",
        "a=rtcp:1" + " " * 60000 + "!",
    ):
        with suppress(UnusableSdp):
            parse(simple("m=audio 4000 RTP/AVP 0", line)).rewrite("192.0.2.1", {0: (30000, 30001)})
