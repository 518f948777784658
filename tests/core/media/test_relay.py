"""Symmetric latching with a source lock."""

from __future__ import annotations

import pytest

from sidecar.clocks import Addr
from sidecar.media.relay import RTCP, RTP, Component, Relay

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


@pytest.mark.parametrize("component", [RTP, RTCP])
def test_a_third_address_is_refused_before_and_after_the_lock_and_after_the_party_moved(component: Component) -> None:
    line = relay()
    at = CALLER if component == RTP else (CALLER[0], CALLER[1] + 1)
    strangers = (STRANGER, (STRANGER[0], at[1]), (AGENT[0], at[1]), ("192.0.2.2", at[1]))
    for stranger in strangers:  # nobody has sent yet: the first one to come is not believed for that
        assert line.receive("A", component, b"x", stranger) is None
    assert line.receive("A", component, b"x", at) is not None
    for stranger in (*strangers, (at[0], at[1] + 20)):  # another port of the party itself: it says so in SDP, or it is not the party
        assert line.receive("A", component, b"x", stranger) is None
    path = line.path("A", component)
    assert path is not None
    assert (path.source, path.final) == (at, True)
    moved = (at[0], at[1] + 20)
    line.negotiated("A", moved if component == RTP else CALLER, moved if component == RTCP else None, "192.0.2.1")
    for stranger in strangers:
        assert line.receive("A", component, b"x", stranger) is None
    assert line.receive("A", component, b"x", moved) is not None
    assert line.receive("A", component, b"x", at) is None
    assert line.refused == 3 * len(strangers) + 2


@pytest.mark.parametrize("told", [("media.example", 6000), ("198.51.100.9", 65535), ("198.51.100.9", 70000)])
def test_what_is_no_address_to_send_to_is_not_sent_to(told: Addr) -> None:
    """A name is not looked up for media, and no port lies above 65535: such a party is answered once it has sent."""
    line = Relay()
    line.negotiated("A", CALLER, None, "192.0.2.1")
    line.negotiated("B", told, None, "198.51.100.9")
    assert line.receive("A", RTCP, b"x", ("192.0.2.1", 4001)) is None
    assert line.path("A", RTCP) is None
    assert line.receive("B", RTCP, b"x", ("198.51.100.9", 6001)) == ("192.0.2.1", 4001)
    assert line.receive("A", RTCP, b"x", ("192.0.2.1", 4001)) == ("198.51.100.9", 6001)


def test_one_address_in_two_spellings_is_one_address() -> None:
    """RFC 5952: what SDP says may be written as anybody likes, what the kernel says is not."""
    line = Relay()
    line.negotiated("A", CALLER, None, "192.0.2.1")
    line.negotiated("B", ("2001:DB8:0:0::5", 6000), None, "2001:db8::77")
    assert line.receive("B", RTP, b"x", ("2001:db8::5", 6000)) == CALLER
    path = line.path("B", RTP)
    assert path is not None
    assert path.final
    line.negotiated("B", ("2001:db8::9", 6000), None, "2001:0DB8::77")
    assert line.receive("B", RTP, b"x", ("2001:db8::77", 6002)) == CALLER


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
