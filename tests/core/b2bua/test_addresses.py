"""Which of our addresses each side is told, where they are not on the same side of a NAT."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network

import pytest

from sidecar.b2bua.settings import Listener
from sidecar.config import Sip
from sidecar.sip import sdp
from sidecar.sip.message import Request, Response
from tests.core.b2bua.harness import ANSWER, EDGE, SIDECAR, Bench

PUBLIC = ("203.0.113.7", 5060)


def told(message: Request | Response) -> tuple[str, str]:
    """The Contact of a message, and the media address of its description."""
    described = sdp.parse(message.body).media[0]
    return message.headers.get("Contact") or "", described.address


@pytest.fixture
def behind_nat(make: Callable[..., Bench]) -> Bench:
    """The caller outside a NAT, the edge inside."""
    inside = ((ip_network(f"{EDGE[0]}/32"), SIDECAR),)
    return make(listeners=(Listener(SIDECAR, PUBLIC, inside=inside),))


def test_each_side_is_told_the_address_that_it_can_reach(behind_nat: Bench) -> None:
    behind_nat.invite()
    invite = behind_nat.edge.request("INVITE")
    contact, media = told(invite)
    assert f"@{SIDECAR[0]}:{SIDECAR[1]}>" in contact
    assert media == SIDECAR[0]
    assert f"{SIDECAR[0]}:{SIDECAR[1]};" in (invite.headers.get("Via") or "")


def test_the_caller_is_told_the_address_outside(behind_nat: Bench) -> None:
    behind_nat.answered()
    answer = next(heard.message for heard in behind_nat.caller.all if isinstance(heard.message, Response) and heard.message.status == 200)
    contact, media = told(answer)
    assert contact.endswith(f"{PUBLIC[0]}:{PUBLIC[1]}>")
    assert media == PUBLIC[0]
    behind_nat.hang_up(behind_nat.caller)


@pytest.mark.parametrize(
    ("sip", "local", "peer", "expected"),
    [
        (Sip(listen=["udp://10.0.0.5:5060"]), ("10.0.0.5", 5060), "198.51.100.9", ("10.0.0.5", 5060)),
        (Sip(listen=["udp://10.0.0.5:5060"], advertise="203.0.113.7"), ("10.0.0.5", 5060), "198.51.100.9", ("203.0.113.7", 5060)),
        (Sip(listen=["udp://0.0.0.0:15060"], advertise="10.1.2.3", advertise_port=5060), ("0.0.0.0", 15060), "9.9.9.9", ("10.1.2.3", 5060)),
        (
            Sip(listen=["udp://0.0.0.0:15060"], advertise="10.1.2.3", advertise_port=5060),
            ("0.0.0.0", 15060),
            "10.1.2.3",
            ("10.1.2.3", 15060),
        ),
        (Sip(listen=["udp://0.0.0.0:15060"], advertise="10.1.2.3"), ("0.0.0.0", 15060), "127.0.0.1", ("127.0.0.1", 15060)),
        (Sip(listen=["udp://[::]:5060"], advertise="2001:db8::7"), ("::", 5060), "::1", ("::1", 5060)),
        (Sip(listen=["udp://[::]:5060"], advertise="2001:db8::7"), ("::", 5060), "2001:db8::9", ("2001:db8::7", 5060)),
        (
            Sip(listen=["udp://0.0.0.0:5060"], advertise="203.0.113.7", inside={"networks": ["10.0.0.0/8"], "advertise": "10.0.0.5"}),
            ("0.0.0.0", 5060),
            "10.7.7.7",
            ("10.0.0.5", 5060),
        ),
    ],
)
def test_the_configuration_says_who_is_told_what(sip: Sip, local: tuple[str, int], peer: str, expected: tuple[str, int]) -> None:
    inside = tuple((ip_network(network), addr) for network, addr in sip.shown_inside(local))
    assert Listener(local, sip.shown(local), inside=inside).towards(peer) == expected


@pytest.mark.parametrize("contact", ["10.9.9.9", "192.168.1.20", "100.64.0.9"])
def test_a_contact_behind_the_edges_nat_is_not_dialled(bench: Bench, contact: str) -> None:
    """RFC 3261 12.2.1.1 would send ACK and BYE to the Contact; a private one leads nowhere when the edge itself is not private."""
    sent = bench.invite()
    bench.edge.reply(bench.edge.request("INVITE"), 200, body=ANSWER, contact=f"<sip:agent@{contact}:5070>")
    bench.caller.ack(sent, bench.caller.response(200))
    assert bench.edge.request("ACK").uri == f"sip:agent@{contact}:5070", "the Request-URI stays the edge's own"
    bench.hang_up(bench.caller)
