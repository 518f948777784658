"""The deadlines of a connection: what stalls or falls silent is ended, what works is left alone."""

from __future__ import annotations

from sidecar.clocks import Mono
from sidecar.sip.keepalive import Due, StreamTiming, StreamWatch

TIMING = StreamTiming(setup=5, first=32, rest=32, idle=3600, ping=(25, 30), pong=10)


def watch(*, pings: bool, established: bool = True) -> StreamWatch:
    made = StreamWatch(TIMING, pings=pings, draw=lambda: 0.0, now=Mono(0))
    if established:
        made.established(Mono(0))
    return made


def end(made: StreamWatch) -> tuple[float, Due]:
    """When and why the connection is closed if nothing more comes."""
    while True:
        at = made.next_deadline()
        due = made.due(at)
        if due is not None and due is not Due.PING:
            return float(at), due


def test_a_handshake_that_stalls_is_given_up() -> None:
    assert end(watch(pings=False, established=False)) == (5, Due.SETUP)
    assert end(watch(pings=True, established=False)) == (5, Due.SETUP)


def test_a_stranger_that_says_nothing_is_sent_away() -> None:
    assert end(watch(pings=False)) == (32, Due.FIRST)


def test_pings_alone_do_not_make_a_stranger_a_peer() -> None:
    made = watch(pings=False)
    for at in range(1, 30, 5):
        made.heard(Mono(at), message=False, pong=False, pending=False)
    assert end(made) == (32, Due.FIRST)


def test_a_message_drop_by_drop_must_be_whole_in_time() -> None:
    made = watch(pings=False)
    made.heard(Mono(10), message=True, pong=False, pending=True)
    for at in range(11, 42):
        made.heard(Mono(at), message=False, pong=False, pending=True)
    assert end(made) == (42, Due.REST)


def test_the_rest_of_one_message_and_the_start_of_the_next_begin_a_new_wait() -> None:
    made = watch(pings=False)
    made.heard(Mono(10), message=True, pong=False, pending=True)
    made.heard(Mono(40), message=True, pong=False, pending=True)
    assert end(made) == (72, Due.REST)


def test_a_peer_in_a_call_may_be_silent_for_long() -> None:
    made = watch(pings=False)
    made.heard(Mono(1), message=True, pong=False, pending=False)
    assert end(made) == (3601, Due.IDLE)


def test_what_we_send_keeps_a_connection_too() -> None:
    made = watch(pings=True)
    made.sent(Mono(100))
    assert end(made) == (3700, Due.IDLE)


def test_nothing_is_due_before_its_time() -> None:
    made = watch(pings=False)
    assert made.due(Mono(31.9)) is None
    assert made.due(Mono(32.0)) is Due.FIRST
