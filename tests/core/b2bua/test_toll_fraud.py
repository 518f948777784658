"""Nothing that a caller or an edge writes makes the sidecar dial anybody whom the configuration does not name."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.b2bua.routes import Route
from sidecar.sip.message import Request, parse
from sidecar.sip.uri import SipUri
from tests.core.b2bua.harness import CALLER, EDGE, SIDECAR, Bench
from tests.core.b2bua.types import Make
from tests.support.relay import Relay

EVIL = "sip:+900123456@203.0.113.99"
REDIRECT = f'<{EVIL}>;q=1.0, "x" <tel:+900123456>, <sip:x@192.0.2.20;maddr=203.0.113.99>'


def dialled(bench: Bench) -> set[tuple[str, str]]:
    """Where INVITEs that begin something went, and for whom."""
    sent = [(effect.flow.remote[0], parse(effect.data)) for effect in bench.facts(e.SendSip)]
    return {
        (host, message.uri) for host, message in sent if isinstance(message, Request) and message.method == "INVITE" and not message.to_tag
    }


def only_the_route(bench: Bench) -> None:
    """The route's target, and nobody else."""
    assert dialled(bench) <= {(EDGE[0], "sip:agent@192.0.2.20:5070")}
    assert all(effect.token.startswith("sip:agent@192.0.2.20") for effect in bench.facts(e.Resolve))


@pytest.mark.parametrize(
    "uri",
    [
        EVIL,
        "sip:agent@203.0.113.99",
        "tel:+900123456",
        "sips:+900123456@203.0.113.99",
        "sip:203.0.113.99",
        "sip:agent@192.0.2.1.evil.example",
    ],
)
def test_a_request_uri_that_no_route_names_is_not_dialled(bench: Bench, uri: str) -> None:
    bench.invite(uri=uri)
    bench.run(0.2)
    assert dialled(bench) == set()


@pytest.mark.parametrize(
    "uri",
    [
        "sip:+900123456@192.0.2.1",
        "sip:agent@192.0.2.1;maddr=203.0.113.99",
        "sip:agent@192.0.2.1:9999;transport=udp",
        "sip:agent%40203.0.113.99@192.0.2.1",
        "sip:agent@192.0.2.1?Route=%3Csip:203.0.113.99;lr%3E&To=%3Ctel:+900123456%3E",
    ],
)
def test_whatever_the_request_uri_adds_an_inbound_route_dials_its_target(bench: Bench, uri: str) -> None:
    bench.invite(uri=uri)
    bench.edge.request("INVITE")
    assert len(dialled(bench)) == 1
    only_the_route(bench)


@pytest.mark.parametrize(
    "header",
    [
        ("Route", "<sip:203.0.113.99;lr>"),
        ("Route", "<sip:192.0.2.1;lr>, <sip:203.0.113.99;lr>"),
        ("Record-Route", "<sip:203.0.113.99;lr>"),
        ("Path", "<sip:203.0.113.99;lr>"),
        ("Refer-To", f"<{EVIL}>"),
        ("Replaces", "someone@else;to-tag=1;from-tag=2"),
        ("Join", "someone@else;to-tag=1;from-tag=2"),
        ("P-Asserted-Identity", "<tel:+900123456>"),
        ("P-Preferred-Service", "urn:urn-7:3gpp-service"),
        ("Request-Disposition", "fork, redirect"),
        ("Alert-Info", "<http://169.254.169.254/latest>"),
        ("Call-Info", "<http://169.254.169.254/latest>;purpose=icon"),
        ("Accept-Contact", "*;audio"),
    ],
)
def test_no_header_of_an_invite_changes_where_it_goes(bench: Bench, header: tuple[str, str]) -> None:
    sent = bench.invite(headers=[header], contact=f"<{EVIL}>")
    got = bench.edge.request("INVITE")
    assert got.headers.all("Route") == got.headers.all("Record-Route") == []
    bench.edge.reply(got, 486)
    bench.edge.request("ACK")
    bench.caller.ack(sent, bench.caller.response(486))
    only_the_route(bench)
    assert {effect.flow.remote[0] for effect in bench.facts(e.SendSip)} == {CALLER[0], EDGE[0]}


@pytest.mark.parametrize("status", [300, 301, 302, 305, 380])
def test_a_redirect_elsewhere_goes_back_to_the_caller(make: Make, status: int) -> None:
    for allowed in ((), ("192.0.2.20",)):
        bench = make(route={"redirects": allowed})
        sent = bench.invite()
        bench.edge.reply(bench.edge.request("INVITE"), status, headers=[("Contact", REDIRECT)])
        bench.edge.request("ACK")
        bench.caller.ack(sent, bench.caller.response(status))
        only_the_route(bench)


@pytest.mark.parametrize("refer", ["relay", "refuse"])
def test_a_refer_is_the_other_partys_to_judge_and_dials_nobody_here(make: Make, refer: str) -> None:
    bench = make(route={"refer": refer})
    bench.answered()
    before = dialled(bench)
    for target in (f"<{EVIL}>", "<tel:+900123456>", f"<{EVIL}?Replaces=a%3Bto-tag%3D1%3Bfrom-tag%3D2>"):
        bench.caller.ask("REFER", headers=[("Refer-To", target), ("Referred-By", f"<{EVIL}>")])
        if refer == "refuse":
            bench.caller.response(403)
        else:
            bench.edge.reply(bench.edge.request("REFER"), 202)
            bench.caller.response(202)
    bench.run(5.0)
    assert dialled(bench) == before
    only_the_route(bench)
    bench.hang_up(bench.caller)


def test_a_reinvite_for_another_address_dials_nobody(bench: Bench) -> None:
    bench.answered()
    bench.caller.ask("UPDATE", contact=f"<{EVIL}>")  # a new remote target: of this dialog, and of nothing else
    bench.edge.reply(bench.edge.request("UPDATE"), 200, contact=f"<{EVIL};x>")
    bench.caller.response(200)
    bench.caller.ask("BYE")
    bench.caller.response(200)
    bench.run(5.0)
    only_the_route(bench)


def test_registrations_and_messages_dial_nobody(bench: Bench) -> None:
    for method in ("REGISTER", "MESSAGE", "SUBSCRIBE", "PUBLISH", "REFER", "OPTIONS"):
        headers = [
            *(("Via", bench.caller.via()), ("From", "<sip:a@b>;tag=1"), ("To", f"<{EVIL}>"), ("Call-ID", method), ("CSeq", f"1 {method}")),
            *(("Contact", f"<{EVIL}>"), ("Refer-To", f"<{EVIL}>"), ("Route", f"<{EVIL};lr>"), ("Max-Forwards", "70")),
        ]
        bench.caller.send(Request(method, EVIL, headers))
    bench.run(40.0)
    assert {effect.flow.remote for effect in bench.facts(e.SendSip)} == {CALLER}
    assert bench.facts(e.Resolve) == []


@pytest.mark.parametrize(
    "uri",
    [
        EVIL,
        "tel:+900123456",
        "sip:x@sip.usetuner.ai;maddr=203.0.113.99",
        "sip:x@sip.usetuner.ai?Route=%3Csip:203.0.113.99%3E",
        "sip:x@sip.usetuner.ai@203.0.113.99",
        "sip:x@203.0.113.99#sip.usetuner.ai",
        "sip:x@[::ffff:203.0.113.99]",
    ],
)
def test_an_outbound_route_dials_its_list_alone(uri: str) -> None:
    allow = ("sip.usetuner.ai",)
    relay = Relay(Route("out", SipUri.parse("sip:192.0.2.20"), direction="outbound", allow=allow))
    left = relay.offer(uri, call_id="fraud")
    assert [message for message in left if isinstance(message, Request)] == []
    assert relay.of(e.Resolve) == []


def test_the_edges_contact_is_dialled_by_nothing_but_its_own_dialog(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    answer = bench.edge.reply(got, 200, contact=f"<{EVIL}>", headers=[("Record-Route", "<sip:203.0.113.98;lr>")])
    final = bench.caller.response(200)
    assert "203.0.113" not in (final.headers.get("Contact") or "") + (final.headers.get("Record-Route") or "")
    bench.caller.ack(sent, final)
    bench.caller.ask("BYE")
    bench.caller.response(200)
    bench.run(1.0)
    assert answer.status == 200
    beyond = [parse(effect.data) for effect in bench.facts(e.SendSip) if effect.flow.remote[0] not in (CALLER[0], EDGE[0], SIDECAR[0])]
    assert all(isinstance(message, Request) and message.method in ("ACK", "BYE") and message.to_tag for message in beyond)
    only_the_route(bench)
