"""Server-sent events, however they are cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from control.client.sse import Event, Parser

STREAM = (
    ": hello\nretry: 2000\nid: 7\n\nid: 8\nevent: call\ndata: {\ndata: é}\n\r\n\revent:gap\r\ndata\r\n\r\nid: 9\0\ndata: x\n\n".encode()
)
EVENTS = [Event("call", "{\né}", "8"), Event("gap", "", "8"), Event("message", "x", "8")]


def test_events_have_their_lines_joined_and_the_last_id() -> None:
    parser = Parser()
    assert parser.feed(STREAM) == EVENTS
    assert (parser.last_id, parser.retry_ms) == ("8", 2000)  # an id with NUL is none


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_where_the_stream_is_cut_changes_nothing(cuts: list[int]) -> None:
    parser, places = Parser(), [0, *sorted(cuts), len(STREAM)]
    found = [event for a, b in pairwise(places) for event in parser.feed(STREAM[a:b])]
    assert found == EVENTS


def test_an_id_alone_resumes_but_is_no_event() -> None:
    parser = Parser()
    assert parser.feed(b"id: 12\n\n") == []
    assert parser.last_id == "12"
