"""Framing of an octet stream: whatever its split, the same messages and keepalives come out, and what cannot be framed ends it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.sip.message import Request, parse
from sidecar.sip.stream import Broken, Framed, Keepalive, StreamFramer
from tests.support.sip import SDP, request


def message(call_id: str = "call-1", body: bytes = SDP) -> bytes:
    made = request("INVITE", call_id=call_id, body=body)
    made.headers.prepend("Via", "SIP/2.0/TCP 192.0.2.1:5060;branch=z9hG4bK-1")
    return made.encode()


def bare(*lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join(["OPTIONS sip:a@192.0.2.2 SIP/2.0", *lines, "", ""]).encode() + body


def fed(stream: bytes, cuts: list[int] | None = None) -> list[Framed]:
    framer = StreamFramer()
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts or []), len(stream)]
    return [item for start, end in pairwise(edges) for item in framer.feed(stream[start:end])]


STREAM = b"\r\n\r\n" + message("one") + message("two", b"") + b"\r\n\r\n" + b"\r\n" + message("three")
EXPECTED = [Keepalive.PING, message("one"), message("two", b""), Keepalive.PING, message("three")]


@given(st.lists(st.integers(min_value=0), max_size=40))
def test_the_split_of_the_stream_changes_nothing(cuts: list[int]) -> None:
    assert fed(STREAM, cuts) == EXPECTED


def test_one_octet_at_a_time() -> None:
    assert fed(STREAM, list(range(len(STREAM)))) == EXPECTED


def test_a_message_comes_out_with_its_last_octet_and_not_before() -> None:
    framer = StreamFramer()
    whole = message()
    assert framer.feed(whole[:-1]) == []
    assert framer.pending == len(whole) - 1
    assert framer.feed(whole[-1:]) == [whole]
    assert framer.pending == 0


def test_a_body_that_looks_like_messages_stays_a_body() -> None:
    inner = message("inner") + b"\r\n\r\n"
    assert fed(message("outer", inner) + message("next")) == [message("outer", inner), message("next")]


def test_what_is_framed_parses() -> None:
    (data,) = fed(message())
    assert isinstance(data, bytes)
    parsed = parse(data)
    assert isinstance(parsed, Request)
    assert parsed.body == SDP


@pytest.mark.parametrize(
    "line",
    ["Content-Length: 4", "l: 4", "L:4", "content-LENGTH \t:\t 4 ", "Content-Length:\r\n 4", "Content-Length: 4\r\n ", "l : \r\n\t4"],
)
def test_content_length_in_every_legal_spelling(line: str) -> None:
    framed = fed(bare("Subject: l: 9", line, "X: y", body=b"abcdNEXT"))
    assert framed == [bare("Subject: l: 9", line, "X: y", body=b"abcd")]


@pytest.mark.parametrize(
    ("lines", "detail"),
    [
        ([], "missing Content-Length"),
        (["Subject: x\r\n l: 4"], "missing Content-Length"),  # a continuation line is no header
        (["X-Content-Length: 4"], "missing Content-Length"),
        (["Content-Length: -1"], "malformed Content-Length"),
        (["Content-Length: 4x"], "malformed Content-Length"),
        (["Content-Length: 4\r\n 4"], "malformed Content-Length"),
        (["Content-Length: 99999999999"], "malformed Content-Length"),
        (["Content-Length:"], "malformed Content-Length"),
        (["Content-Length: 4", "l: 5"], "more than one Content-Length"),
    ],
)
def test_a_head_that_leaves_the_length_open_ends_the_stream(lines: list[str], detail: str) -> None:
    framer = StreamFramer()
    (broken,) = framer.feed(bare(*lines, body=b"abcd"))
    assert isinstance(broken, Broken)
    assert (broken.error.detail, broken.error.status) == (detail, 400)
    assert broken.head == bare(*lines)
    assert framer.feed(message()) == []


def test_what_was_whole_before_the_break_is_still_delivered() -> None:
    framed = fed(message("good") + bare())
    assert framed[0] == message("good")
    assert isinstance(framed[1], Broken)


@pytest.mark.parametrize("noise", [b"\x16\x03\x01\x02\x00\x01\x00", b"\0\0\0\0", b" \r\n", b"\n\n", b"\rX", b"\xff", b"\r\n\x16"])
def test_what_cannot_begin_a_message_is_known_by_its_first_octets(noise: bytes) -> None:
    framed = fed(noise, list(range(len(noise))))
    assert isinstance(framed[-1], Broken)
    assert framed[-1].error.status is None


def test_a_stated_length_beyond_the_limit_is_refused_before_the_body_comes() -> None:
    head = bare("Content-Length: 65536")
    (broken,) = StreamFramer().feed(head)
    assert isinstance(broken, Broken)
    assert (broken.error.status, broken.head) == (413, head)


def test_the_largest_message_passes() -> None:
    head = bare("Content-Length: 65000")
    assert fed(head + b"x" * 65000) == [head + b"x" * 65000]


@pytest.mark.parametrize("lines", ["X: " + "y" * 40000, "X: y\r\n" * 10000])
def test_a_head_without_end_is_given_up_at_the_limit(lines: str) -> None:
    framer = StreamFramer()
    data = b"OPTIONS sip:a SIP/2.0\r\n" + lines.encode()
    came = [item for start in range(0, len(data), 1000) for item in framer.feed(data[start : start + 1000])]
    (broken,) = came
    assert isinstance(broken, Broken)
    assert broken.error.status == 413
    assert framer.pending == 0


def test_a_tail_of_folds_and_colons_costs_no_more_than_its_length() -> None:
    # Each of these makes a backtracking pattern try every split of the value.
    for filler in ("\r\nl:" * 8000, "\r\nl: " + "\r\n " * 8000, "\r\nl" + " " * 30000):
        framed = fed(b"OPTIONS sip:a SIP/2.0" + filler.encode() + b"\r\n\r\n")
        assert isinstance(framed[0], Broken)


@given(st.binary(max_size=300), st.lists(st.integers(min_value=0), max_size=10))
def test_any_octets_are_framed_alike_however_they_come(noise: bytes, cuts: list[int]) -> None:
    def shown(items: list[Framed]) -> list[object]:
        return [(item.error.detail, item.head) if isinstance(item, Broken) else item for item in items]

    assert shown(fed(noise, cuts)) == shown(fed(noise))
