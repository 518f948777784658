"""The way of a request inside a dialog: the connection that is there, or a new one to the peer's Contact (RFC 5626, RFC 5923)."""

from __future__ import annotations

import pytest

from sidecar.b2bua.settings import Listener
from sidecar.b2bua.ways import Ways, flow_within
from sidecar.clocks import Addr
from sidecar.sip.dialog import Dialog
from sidecar.sip.fields import name_addr
from sidecar.sip.flow import Flow
from sidecar.sip.targets import Target

OURS: Addr = ("192.0.2.1", 5060)
PEER: Addr = ("192.0.2.9", 40123)
"""A port that the peer called from; it listens elsewhere."""
WAYS = Ways((Listener(OURS, OURS), Listener(OURS, OURS, "tcp"), Listener(("192.0.2.1", 5061), OURS, "tls")), 1300)


def way(known: Flow, contact: str, target: Target | None, *, is_agent: bool = False, routes: tuple[str, ...] = ()) -> Flow:
    us, them = name_addr("<sip:us@192.0.2.1>;tag=1"), name_addr("<sip:them@192.0.2.9>;tag=2")
    dialog = Dialog("1", us, them, remote_target=contact, route_set=routes)
    return flow_within(WAYS, known, dialog, () if target is None else (target,), is_agent=is_agent)


def told(flow: Flow) -> tuple[Flow, str, Addr | None]:
    """A flow with the fields that do not count when flows are compared."""
    return flow, flow.peer, flow.anew


TCP, TLS, UDP = Flow("tcp", OURS, PEER), Flow("tls", ("192.0.2.1", 5061), PEER), Flow("udp", OURS, PEER)


@pytest.mark.parametrize(
    ("known", "contact", "target", "is_agent", "expected"),
    [
        # The same host by the same transport: its connection, and where it listens once that is gone.
        (TCP, "sip:a@192.0.2.9:5070;transport=tcp", Target("tcp", "192.0.2.9", "192.0.2.9", 5070), False, ("192.0.2.9", 5070)),
        (TLS, "sips:a@192.0.2.9:5071", Target("tls", "192.0.2.9", "192.0.2.9", 5071), False, ("192.0.2.9", 5071)),
        # A Contact that says nothing of the transport does not mean that the connection is to be left.
        (TCP, "sip:a@192.0.2.9:5070", Target("udp", "192.0.2.9", "192.0.2.9", 5070), False, ("192.0.2.9", 5070)),
        # A phone behind a NAT, whose private address leads nowhere.
        (TCP, "sip:a@10.0.0.7:5060;transport=tcp", Target("tcp", "10.0.0.7", "10.0.0.7", 5060), True, ("10.0.0.7", 5060)),
    ],
)
def test_the_connection_that_is_there_is_used(known: Flow, contact: str, target: Target, is_agent: bool, expected: Addr) -> None:
    assert told(way(known, contact, target, is_agent=is_agent)) == (known, target.host, expected)


@pytest.mark.parametrize(
    ("known", "contact", "target", "expected"),
    [
        # The peer is a proxy that did not record its route.
        (TCP, "sip:a@192.0.2.50;transport=tcp", Target("tcp", "192.0.2.50", "192.0.2.50", 5060), Flow("tcp", OURS, ("192.0.2.50", 5060))),
        # It wants another transport.
        (TCP, "sip:a@192.0.2.9;transport=udp", Target("udp", "192.0.2.9", "192.0.2.9", 5060), Flow("udp", OURS, ("192.0.2.9", 5060))),
        (UDP, "sip:a@192.0.2.9:5070", Target("udp", "192.0.2.9", "192.0.2.9", 5070), Flow("udp", OURS, ("192.0.2.9", 5070))),
    ],
)
def test_another_next_hop_is_gone_to(known: Flow, contact: str, target: Target, expected: Flow) -> None:
    assert told(way(known, contact, target)) == (expected, target.host, None)


def test_a_recorded_route_wins_over_the_connection_of_a_user_agent() -> None:
    target = Target("tcp", "192.0.2.60", "192.0.2.60", 5060)
    found = way(TCP, "sip:a@10.0.0.7", target, is_agent=True, routes=("<sip:192.0.2.60;transport=tcp;lr>",))
    assert found == Flow("tcp", OURS, ("192.0.2.60", 5060))


def test_a_udp_phone_behind_a_nat_is_reached_at_its_source() -> None:
    assert way(UDP, "sip:a@10.0.0.7", Target("udp", "10.0.0.7", "10.0.0.7", 5060), is_agent=True) == UDP


def test_what_does_not_resolve_goes_where_messages_went_so_far() -> None:
    assert way(TCP, "sip:a@gone.example", None) == TCP


def test_a_client_without_a_listener_of_the_transport_is_reached_by_another() -> None:
    ways = Ways((Listener(OURS, OURS),), 1300)
    flow = ways.flow_to(Target("tcp", "edge.example", *PEER))
    assert flow is not None
    assert (told(flow), ways.listener(flow).transport) == ((Flow("tcp", OURS, PEER), "edge.example", None), "udp")
