"""Symmetric latching with a source lock."""

from __future__ import annotations

from sidecar.media.relay import RTCP, RTP, Relay

CALLER, AGENT = ("192.0.2.1", 4000), ("198.51.100.9", 6000)
STRANGER = ("203.0.113.66", 4000)


def relay() -> Relay:
    made = Relay()
    made.negotiated("A", CALLER, None, "192.0.2.1")
    made.negotiated("B", AGENT, None, "198.51.100.9")
    return made


def test_packets_cross_to_the_other_leg() -> None:
    line = relay()
    assert line.receive("A", RTP, b"x", CALLER) == AGENT
    assert line.receive("B", RTP, b"x", AGENT) == CALLER


def test_rtcp_has_the_port_after_rtp_unless_named() -> None:
    line = relay()
    assert line.receive("A", RTCP, b"x", ("192.0.2.1", 4001)) == ("198.51.100.9", 6001)
    line.negotiated("B", AGENT, ("198.51.100.9", 7000), "198.51.100.9")
    assert line.receive("A", RTCP, b"x", ("192.0.2.1", 4001)) == ("198.51.100.9", 7000)


def test_a_third_address_never_reaches_the_peer() -> None:
    line = relay()
    assert line.receive("A", RTP, b"x", STRANGER) is None
    assert line.receive("A", RTP, b"x", CALLER) == AGENT
    assert line.receive("A", RTP, b"x", STRANGER) is None
    assert line.receive("B", RTP, b"x", AGENT) == CALLER  # nor does it draw media to itself
    assert line.refused == 2


def test_a_party_behind_nat_is_answered_where_it_is() -> None:
    line = relay()
    line.negotiated("A", ("10.0.0.5", 4000), None, "192.0.2.1")
    seen = ("192.0.2.1", 61000)
    assert line.receive("A", RTP, b"x", seen) == AGENT
    assert line.receive("B", RTP, b"x", AGENT) == seen


def test_first_accepted_source_is_locked() -> None:
    line = relay()
    line.negotiated("A", ("10.0.0.5", 4000), None, "192.0.2.1")
    assert line.receive("A", RTP, b"x", ("192.0.2.1", 61000)) == AGENT
    assert line.receive("A", RTP, b"x", ("192.0.2.1", 61002)) is None
    assert line.receive("B", RTP, b"x", AGENT) == ("192.0.2.1", 61000)


def test_a_stale_stream_of_the_same_host_does_not_shut_the_party_out() -> None:
    line = relay()
    assert line.receive("B", RTP, b"old call", ("198.51.100.9", 6444)) == CALLER
    assert line.receive("B", RTP, b"x", AGENT) == CALLER
    assert line.receive("B", RTP, b"old call", ("198.51.100.9", 6444)) is None
    assert line.receive("A", RTP, b"x", CALLER) == AGENT


def test_a_session_refresh_keeps_the_lock_and_a_new_address_opens_it() -> None:
    line = relay()
    line.negotiated("A", ("10.0.0.5", 4000), None, "192.0.2.1")
    seen = ("192.0.2.1", 61000)
    line.receive("A", RTP, b"x", seen)
    line.negotiated("A", ("10.0.0.5", 4000), None, "192.0.2.1")
    assert line.receive("B", RTP, b"x", AGENT) == seen
    line.negotiated("A", ("10.0.0.5", 4010), None, "192.0.2.1")
    assert line.receive("B", RTP, b"x", AGENT) == ("10.0.0.5", 4010)
    assert line.receive("A", RTP, b"x", ("192.0.2.1", 61010)) == AGENT
    assert line.receive("B", RTP, b"x", AGENT) == ("192.0.2.1", 61010)


def test_nothing_goes_to_a_party_that_wants_no_media() -> None:
    line = relay()
    for nowhere in (None, ("0.0.0.0", 4000), ("192.0.2.1", 0)):
        line.negotiated("A", nowhere, None, "192.0.2.1")
        assert line.receive("B", RTP, b"x", AGENT) is None
    assert line.refused == 0
    assert line.describe()["A"]["rtp"]["undeliverable"] == 3  # type: ignore[index]
    line.negotiated("A", CALLER, None, "192.0.2.1")
    assert line.receive("B", RTP, b"x", AGENT) == CALLER


def test_nothing_is_accepted_before_the_party_has_spoken_of_media() -> None:
    line = Relay()
    assert line.receive("A", RTP, b"x", CALLER) is None
    assert line.refused == 1
