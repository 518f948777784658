"""RFC 5626 3.5.1 and 4.4.1: CRLF keepalives on a stream, each clause a test."""

from __future__ import annotations

from sidecar.clocks import Mono
from sidecar.sip.keepalive import Due, StreamTiming, StreamWatch
from sidecar.sip.stream import PING, PONG, Keepalive, StreamFramer
from tests.core.sip.test_stream import message

TIMING = StreamTiming()


def watch(*, pings: bool = True, drawn: float = 0.0) -> StreamWatch:
    made = StreamWatch(TIMING, pings=pings, draw=lambda: drawn, now=Mono(0.0))
    made.established(Mono(0.0))
    return made


def run(made: StreamWatch, until: float) -> list[tuple[float, Due]]:
    """What falls due, and when, until the connection would be closed."""
    seen: list[tuple[float, Due]] = []
    while (now := made.next_deadline()) <= until:
        due = made.due(now)
        assert due is not None
        seen.append((float(now), due))
        if due is not Due.PING:
            break
    return seen


def test_rfc5626_3_5_1_a_double_crlf_between_messages_is_a_ping_and_the_pong_is_one_crlf() -> None:
    assert (PING, PONG) == (b"\r\n\r\n", b"\r\n")
    assert StreamFramer().feed(PING) == [Keepalive.PING]


def test_rfc5626_3_5_1_a_ping_in_two_segments_is_one_ping() -> None:
    framer = StreamFramer()
    came = [framer.feed(octet) for octet in (b"\r", b"\n", b"\r", b"\n")]
    assert came == [[], [], [], [Keepalive.PING]]


def test_rfc5626_3_5_1_one_crlf_after_our_ping_is_its_pong() -> None:
    framer = StreamFramer()
    framer.expect_pong()
    assert framer.feed(PONG) == [Keepalive.PONG]


def test_rfc5626_3_5_1_pings_that_cross_are_each_answered_once() -> None:
    for came in ([PING, PONG], [PONG, PING], [b"\r", b"\n\r\n\r", b"\n"]):
        framer = StreamFramer()
        framer.expect_pong()
        seen = [item for data in came for item in framer.feed(data)]
        assert sorted(item.name for item in seen if isinstance(item, Keepalive)) == ["PING", "PONG"]


def test_rfc5626_3_5_1_one_crlf_before_a_message_is_ignored_and_makes_no_ping_of_the_next() -> None:
    framer = StreamFramer()
    assert framer.feed(PONG + message("one")) == [message("one")]
    assert framer.feed(PONG + message("two")) == [message("two")]


def test_rfc5626_4_4_1_the_client_pings_at_random_intervals_within_its_bounds() -> None:
    low, high = TIMING.ping
    assert 0.8 * high <= low < high
    assert run(watch(drawn=0.0), 60.0) == [(25.0, Due.PING), (50.0, Due.PING)]
    assert run(watch(drawn=0.5), 60.0) == [(27.5, Due.PING), (55.0, Due.PING)]


def test_rfc5626_4_4_1_the_server_of_a_connection_does_not_ping() -> None:
    assert run(watch(pings=False), 31.0) == []


def test_rfc5626_4_4_1_a_pong_that_does_not_come_within_10_s_fails_the_flow() -> None:
    made = watch()
    assert run(made, 25.0) == [(25.0, Due.PING)]
    made.heard(Mono(25.1), message=False, pong=True, pending=False)
    assert run(made, 100.0) == [(50.0, Due.PING), (60.0, Due.PONG)]


def test_rfc5626_4_4_1_a_pong_in_time_keeps_the_flow() -> None:
    made = watch()
    for at in (25.0, 50.0, 75.0):
        assert run(made, at) == [(at, Due.PING)]
        made.heard(Mono(at + 9.9), message=False, pong=True, pending=False)
    assert run(made, 99.0) == []


def test_rfc5626_4_4_1_a_peer_that_never_answered_a_ping_is_not_taken_for_dead() -> None:
    # It did not say that it supports keepalives; RFC 3261 7.5 lets it ignore the CRLFs.
    assert {due for _, due in run(watch(), 300.0)} == {Due.PING}
