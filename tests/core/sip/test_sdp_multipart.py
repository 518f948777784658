"""Finding the description in a body, and putting another in its place without touching the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.sip.sdp import UnusableSdp, find_sdp, parse

SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
MIXED = (
    b"preamble\r\n--b1\r\nContent-Type: application/isup;version=x\r\n\r\n\x00\x01--b1 not a delimiter\xff\r\n"
    b"--b1\r\nContent-Disposition: session\r\nCONTENT-TYPE:\r\n application/SDP; x=y\r\nContent-Length: 87\r\n\r\n"
    + SDP
    + b"\r\n--b1--\r\nepilogue"
)


@pytest.mark.parametrize("kind", ["application/sdp", "Application/SDP;charset=utf-8", " application / sdp ", None])
def test_a_plain_body_is_the_description(kind: str | None) -> None:
    part = find_sdp(kind, SDP)
    assert part is not None
    assert part.body == SDP
    assert part.replace(b"v=0\r\n") == b"v=0\r\n"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", SDP),
        (None, b"hello"),
        ("application/sdp", b""),
        ("multipart/mixed", MIXED),
        ("multipart/mixed;boundary=other", MIXED),
        ("multipart/mixed;boundary=b1", b"--b1\r\n\r\nno type\r\n--b1--"),
        ("nonsense", SDP),
        ("", SDP),
    ],
)
def test_what_holds_no_description_is_left_alone(kind: str | None, body: bytes) -> None:
    assert find_sdp(kind, body) is None


@pytest.mark.parametrize("kind", ['multipart/mixed; boundary="b1"', "MULTIPART/related;type=a;Boundary=b1"])
def test_the_other_parts_stay_byte_for_byte(kind: str) -> None:
    part = find_sdp(kind, MIXED)
    assert part is not None
    assert part.body == SDP
    assert part.replace(SDP) == MIXED.replace(b"Content-Length: 87", b"Content-Length: %d" % len(SDP))
    new = parse(part.body).rewrite("198.51.100.200", {0: (30000, 30001)})
    assert part.replace(new) == MIXED.replace(SDP, new).replace(b"Content-Length: 87", b"Content-Length: %d" % len(new))


def test_a_description_in_a_nested_multipart_is_found() -> None:
    inner = b"--in\r\nContent-Type: text/plain\r\n\r\nx\r\n--in\r\nContent-Type: application/sdp\r\n\r\n" + SDP + b"\r\n--in--\r\n"
    body = (
        b"--out\r\nContent-Type: multipart/alternative;boundary=in\r\n\r\n"
        + inner
        + b"\r\n--out\r\nContent-Type: text/x\r\n\r\ny\r\n--out--\r\n"
    )
    part = find_sdp("multipart/mixed;boundary=out", body)
    assert part is not None
    assert part.body == SDP
    assert part.replace(b"v=0\r\n") == body.replace(SDP, b"v=0\r\n")


def test_bare_line_feeds_part_a_multipart_too() -> None:
    body = b"--b\nContent-Type: application/sdp\n\nv=0\nc=IN IP4 192.0.2.1\n--b--\n"
    part = find_sdp("multipart/mixed;boundary=b", body)
    assert part is not None
    assert part.body == b"v=0\nc=IN IP4 192.0.2.1"
    assert part.replace(part.body) == body


def test_a_description_under_a_transfer_encoding_is_refused_not_passed_by() -> None:
    body = b"--b\r\nContent-Type: application/sdp\r\nContent-Transfer-Encoding: base64\r\n\r\ndj0wDQo=\r\n--b--"
    part = find_sdp("multipart/mixed;boundary=b", body)
    assert part is not None
    with pytest.raises(UnusableSdp):
        parse(part.body)


PIECES = st.lists(
    st.sampled_from(
        [
            b"--b",
            b"--",
            b"\r\n",
            b"\n",
            b"Content-Type: application/sdp",
            b"\r\n\r\n",
            b"v=0",
            b"x",
            b"content-type: multipart/x;boundary=b",
        ]
    ),
    max_size=20,
)


@given(PIECES.map(b"".join))
def test_putting_back_what_was_found_gives_the_body_again(body: bytes) -> None:
    part = find_sdp("multipart/mixed;boundary=b", body)
    assert part is None or part.replace(part.body) == body
