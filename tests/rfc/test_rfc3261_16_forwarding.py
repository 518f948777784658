"""RFC 3261 section 16: what a proxy is asked and whoever stands in its place is, too. The list is in `INDEX-b2bua.md`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.b2bua import effects as e
from sidecar.b2bua.settings import Listener
from sidecar.clocks import Addr
from sidecar.identity.digest import Credentials
from sidecar.sip.flow import Flow
from sidecar.sip.message import Request, Response, response_to
from sidecar.sip.targets import Target
from tests.core.b2bua.harness import ANSWER, EDGE, OFFER, SDP_TYPE, SIDECAR, Bench, Party
from tests.support.sip import parsed_request

SECOND: Addr = ("192.0.2.21", 5070)
ELSEWHERE: Addr = ("192.0.2.77", 5060)
Make = Callable[..., Bench]


# -- 16.3, 16.4 ------------------------------------------------------------------------------------------------------------------------


def test_16_3_5_proxy_require_of_an_invite_is_refused_with_420_and_what_is_unsupported(bench: Bench) -> None:
    sent = bench.invite(headers=[("Proxy-Require", "privacy, x-own"), ("Proxy-Require", "x-more")])
    refused = bench.caller.response(420)
    assert refused.headers.all("Unsupported") == ["privacy, x-own, x-more"]
    bench.caller.ack(sent, refused)
    bench.edge.hears_nothing()


def test_16_3_5_proxy_require_of_what_ends_here_is_refused_beside_require(bench: Bench) -> None:
    lines = [("Via", bench.caller.via()), ("Max-Forwards", "70"), ("From", "<sip:a@x>;tag=1"), ("To", "<sip:b@y>"), ("Call-ID", "o")]
    asked = [("CSeq", "1 OPTIONS"), ("Require", "x-a"), ("Proxy-Require", "x-b")]
    bench.caller.send(Request("OPTIONS", "sip:192.0.2.1", [*lines, *asked]))
    assert bench.caller.response(420).headers.all("Unsupported") == ["x-a, x-b"]


@pytest.mark.parametrize("method", ["INVITE", "INFO", "UPDATE"])
def test_16_3_5_proxy_require_inside_a_call_is_refused_and_the_call_goes_on(bench: Bench, method: str) -> None:
    bench.answered()
    asked = bench.caller.ask(method, headers=[("Proxy-Require", "privacy")], contact="<sip:moved@192.0.2.10:5099>")
    refused = bench.caller.response(420)
    assert refused.headers.all("Unsupported") == ["privacy"]
    if method == "INVITE":
        bench.caller.ack(asked, refused)
    bench.edge.hears_nothing()
    bench.hang_up(bench.edge)


def test_16_3_5_proxy_require_of_a_bye_keeps_nobody_in_the_call(bench: Bench) -> None:
    bench.answered()
    assert "Proxy-Require" not in bench.hang_up(bench.caller, headers=[("Proxy-Require", "privacy")]).headers


def test_16_4_a_route_header_that_leads_here_ends_here(bench: Bench) -> None:
    sent = bench.invite(headers=[("Route", "<sip:192.0.2.1:5060;lr>"), ("Route", "<sip:192.0.2.99;lr>")])
    got = bench.edge.request("INVITE")
    assert "Route" not in got.headers
    bench.edge.reply(got, 486)
    bench.edge.request("ACK")
    bench.caller.ack(sent, bench.caller.response(486))


# -- 16.5, 16.6 ------------------------------------------------------------------------------------------------------------------------


def test_16_5_no_target_is_dialled_twice(make: Make) -> None:
    bench = make(route={"redirects": ("192.0.2.*",)})
    moved = Party(bench, ELSEWHERE, "moved")
    sent = bench.invite()
    contacts = "<sip:m@192.0.2.77>, <sip:m@192.0.2.77>;q=0.5, <sip:agent@192.0.2.20:5070>;q=0.1"
    bench.edge.reply(bench.edge.request("INVITE"), 302, headers=[("Contact", contacts)])
    bench.edge.request("ACK")
    moved.reply(moved.request("INVITE"), 480)
    moved.request("ACK")
    bench.caller.ack(sent, bench.caller.response(480))
    moved.hears_nothing()
    assert bench.edge.inbox == []


@pytest.mark.parametrize("who", ["caller", "edge"])
def test_16_6_2_what_a_request_uri_may_not_hold_is_left_out_of_it(bench: Bench, who: str) -> None:
    sent = bench.invite(contact="<sip:caller@192.0.2.10:5060;method=BYE;kept=1?X-Evil=1>")
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, body=ANSWER, contact="<sip:edge@192.0.2.20:5070;kept=1;method=BYE?Route=%3Csip:x%3E>")
    bench.caller.ack(sent, bench.caller.response(200))
    assert bench.edge.request("ACK").uri == "sip:edge@192.0.2.20:5070;kept=1"
    asks, answers = (bench.edge, bench.caller) if who == "caller" else (bench.caller, bench.edge)
    asks.ask("INFO")
    asked = answers.request("INFO")
    assert asked.uri == f"sip:{who}@{answers.addr[0]}:{answers.addr[1]};kept=1"
    answers.reply(asked, 200)
    asks.response(200)
    bench.hang_up(asks)


def test_16_6_2_an_outbound_route_carries_on_no_method_parameter(make: Make) -> None:
    bench = make(host="*", route={"direction": "outbound", "allow": ("198.51.100.9",)})
    sent = bench.invite(uri="sip:sim-1@198.51.100.9;method=REFER")
    bench.caller.ack(sent, bench.caller.response(400))
    bench.edge.hears_nothing()


def test_16_6_4_a_recorded_route_is_used_in_its_own_dialog_alone(bench: Bench) -> None:
    recorded = [("Record-Route", "<sip:192.0.2.20:5070;lr;mark=one>")]
    sent, got = bench.ringing()
    bench.edge.reply(got, 200, body=ANSWER, headers=recorded)
    bench.caller.ack(sent, bench.caller.response(200))
    assert bench.edge.request("ACK").headers.all("Route") == [value for _, value in recorded]
    first = bench.caller.dialog
    second_sent = bench.invite(call_id="two", from_tag="two")
    second = bench.edge.request("INVITE")
    assert "Route" not in second.headers
    bench.edge.reply(second, 200, tag="edge-2", body=ANSWER)
    bench.caller.ack(second_sent, bench.caller.response(200))
    assert "Route" not in bench.edge.request("ACK").headers
    assert "Route" not in bench.hang_up(bench.caller).headers
    bench.caller.dialog = first
    assert bench.hang_up(bench.caller).headers.all("Route") == [value for _, value in recorded]


def test_16_6_6_a_strict_router_gets_itself_in_the_request_uri_and_the_target_last(bench: Bench) -> None:
    sent, got = bench.ringing()
    recorded = [("Record-Route", "<sip:192.0.2.99;lr>"), ("Record-Route", "<sip:192.0.2.20:5070;method=INVITE;x=1?Subject=no>")]
    bench.edge.reply(got, 200, body=ANSWER, headers=recorded)
    bench.caller.ack(sent, bench.caller.response(200))
    for request in (bench.edge.request("ACK"), bench.hang_up(bench.caller)):
        assert request.uri == "sip:192.0.2.20:5070;x=1"
        assert request.headers.all("Route") == ["<sip:192.0.2.99;lr>", "<sip:edge@192.0.2.20:5070>"]


def test_16_6_6_a_sips_uri_that_was_dialled_goes_to_the_outbound_proxy_by_tls(make: Make) -> None:
    secure = ("192.0.2.1", 5061)
    listeners = (Listener(SIDECAR, SIDECAR), Listener(secure, secure, "tls"))
    route: dict[str, object] = {"direction": "outbound", "allow": ("198.51.100.9",)}
    bench = make(target="sip:192.0.2.30;lr", host="*", route=route, listeners=listeners)
    sent = bench.invite(uri="sips:sim-1@198.51.100.9")
    bench.run(0.1)
    (left,) = [effect for effect in bench.facts(e.SendSip) if effect.data.startswith(b"INVITE")]
    assert left.flow == Flow("tls", secure, ("192.0.2.30", 5061))
    assert parsed_request(left.data).headers.all("Route") == ["<sip:192.0.2.30;lr>"]
    bench.caller.cancel(sent)
    bench.caller.response(200)
    bench.caller.ack(sent, bench.caller.response(487))


@pytest.mark.parametrize(
    ("recorded", "hop"),
    [
        ("<sip:192.0.2.31;lr>", "192.0.2.31"),
        ("<sips:192.0.2.31;lr>", "192.0.2.31"),
        ("<sip:192.0.2.31;lr;transport=tcp>", "192.0.2.31"),
        ("<sip:192.0.2.31;lr;transport=udp>", "192.0.2.30"),  # no such thing: the way that messages went so far
    ],
)
def test_16_6_7_a_sips_request_uri_goes_by_tls_whatever_the_route_says(make: Make, recorded: str, hop: str) -> None:
    secure = ("192.0.2.1", 5061)
    bench = make(target="sips:agent@192.0.2.30", listeners=(Listener(SIDECAR, SIDECAR), Listener(secure, secure, "tls")))
    far = Flow("tls", secure, ("192.0.2.30", 5061))

    def left(method: str) -> tuple[Request, Flow]:
        bench.run(0.1)
        effect = [effect for effect in bench.facts(e.SendSip) if effect.data.startswith(method.encode())][-1]
        return parsed_request(effect.data), effect.flow

    def answers(request: Request, headers: list[tuple[str, str]], body: bytes = b"") -> None:
        bench.engine.receive(response_to(request, 200, to_tag="t", headers=headers, body=body).encode(), far, bench.clock.now)
        bench.pump()

    sent = bench.invite()
    invite, flow = left("INVITE")
    assert (flow.transport, flow.remote) == ("tls", far.remote)
    answers(invite, [("Contact", "<sips:agent@192.0.2.30>"), ("Record-Route", recorded), SDP_TYPE], ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    ack, by = left("ACK")
    assert (by.transport, by.remote, ack.headers.all("Route")) == ("tls", (hop, 5061), [recorded])
    bench.caller.ask("BYE")
    bench.caller.response(200)
    bye, by = left("BYE")
    assert (by.transport, by.remote) == ("tls", (hop, 5061))
    answers(bye, [])


def test_16_6_8_each_try_has_a_branch_of_its_own_and_the_vias_of_the_caller_stay_with_it(make: Make) -> None:
    targets = tuple(Target("udp", "edge.example", *addr) for addr in (EDGE, SECOND))
    bench = make(target="sip:agent@edge.example", names={"edge.example": targets})
    second = Party(bench, SECOND, "second")
    sent = bench.invite(headers=[("Via", "SIP/2.0/UDP 192.0.2.99;branch=z9hG4bK-before")])
    first = bench.edge.request("INVITE")
    bench.edge.reply(first, 503)
    bench.edge.request("ACK")
    got = second.request("INVITE")
    assert len(first.headers.values("Via")) == len(got.headers.values("Via")) == 1
    assert len({sent.via.branch, first.via.branch, got.via.branch}) == 3
    second.reply(got, 486)
    second.request("ACK")
    refused = bench.caller.response(486)
    assert [value.partition(";")[0] for value in refused.headers.values("Via")] == ["SIP/2.0/UDP 192.0.2.10:5060", "SIP/2.0/UDP 192.0.2.99"]
    bench.caller.ack(sent, refused)


# -- 16.7 ------------------------------------------------------------------------------------------------------------------------------


def trying(bench: Bench, party: Party) -> int:
    """How many 100 a party has heard."""
    return sum(isinstance(heard.message, Response) and heard.message.status == 100 for heard in party.all)


def test_16_7_5_a_100_goes_no_further_and_every_other_provisional_does_at_once(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 100)
    bench.run(0.1)
    assert trying(bench, bench.caller) == 1  # our own
    for status in (181, 182, 199):
        bench.edge.reply(got, status)
        bench.caller.response(status)
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    asked = bench.caller.ask("INVITE", body=OFFER)
    again = bench.edge.request("INVITE")
    bench.edge.reply(again, 100)
    bench.run(0.1)
    assert trying(bench, bench.caller) == 2
    bench.edge.reply(again, 200, body=ANSWER)
    bench.caller.ack(asked, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


def test_16_7_5_a_6xx_ends_the_search_whatever_redirects_are_left(make: Make) -> None:
    bench = make(route={"redirects": ("192.0.2.*",)})
    moved, second = Party(bench, ELSEWHERE, "moved"), Party(bench, SECOND, "second")
    sent = bench.invite()
    bench.edge.reply(bench.edge.request("INVITE"), 302, headers=[("Contact", "<sip:m@192.0.2.77>, <sip:s@192.0.2.21:5070>;q=0.1")])
    bench.edge.request("ACK")
    moved.reply(moved.request("INVITE"), 603)
    moved.request("ACK")
    bench.caller.ack(sent, bench.caller.response(603))
    second.hears_nothing()


def test_16_7_4_a_redirect_goes_back_without_the_targets_that_were_tried(make: Make) -> None:
    bench = make(route={"redirects": ("192.0.2.77",)})
    moved = Party(bench, ELSEWHERE, "moved")
    sent = bench.invite()
    bench.edge.reply(bench.edge.request("INVITE"), 302, headers=[("Contact", "<sip:m@192.0.2.77>;q=1.0")])
    bench.edge.request("ACK")
    contacts = '"A, B" <sip:m@192.0.2.77>;q=0.9, <sip:c@203.0.113.1>;q=0.2, <sip:agent@192.0.2.20:5070>, <mailto:m@example.com>'
    moved.reply(moved.request("INVITE"), 302, headers=[("Contact", contacts)])
    moved.request("ACK")
    final = bench.caller.response(302)
    assert final.headers.all("Contact") == ["<sip:c@203.0.113.1>;q=0.2", "<mailto:m@example.com>"]
    bench.caller.ack(sent, final)


def test_16_7_4_a_call_to_a_sips_target_is_not_redirected_to_a_sip_one(make: Make) -> None:
    secure = ("192.0.2.1", 5061)
    listeners = (Listener(SIDECAR, SIDECAR), Listener(secure, secure, "tls"))
    bench = make(target="sips:agent@192.0.2.30", listeners=listeners, route={"redirects": ("192.0.2.*",)})
    far = Flow("tls", secure, ("192.0.2.30", 5061))
    sent = bench.invite()
    bench.run(0.1)
    invite = parsed_request(next(effect.data for effect in bench.facts(e.SendSip) if effect.data.startswith(b"INVITE")))
    moved = [("Contact", "<sip:agent@192.0.2.20:5070>")]
    bench.engine.receive(response_to(invite, 302, to_tag="t", headers=moved).encode(), far, bench.clock.now)
    bench.pump()
    final = bench.caller.response(302)
    assert final.headers.all("Contact") == [value for _, value in moved]
    bench.caller.ack(sent, final)
    bench.edge.hears_nothing()


def test_16_7_6_a_redirect_that_is_not_followed_goes_back_as_it_came(bench: Bench) -> None:
    sent = bench.invite()
    contacts = "<sip:agent@192.0.2.20:5070;transport=tcp>;q=0.5, <sip:c@203.0.113.1>"
    bench.edge.reply(bench.edge.request("INVITE"), 300, headers=[("Contact", contacts)])
    bench.edge.request("ACK")
    final = bench.caller.response(300)
    assert final.headers.all("Contact") == [contacts]
    bench.caller.ack(sent, final)


def test_16_7_a_response_that_fits_no_transaction_reaches_nobody(bench: Bench) -> None:
    sent, got = bench.ringing()
    bench.edge.reply(got, 486)
    bench.edge.request("ACK")
    bench.caller.ack(sent, bench.caller.response(486))
    bench.run(70.0)
    bench.edge.reply(got, 180)
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.hears_nothing()
    assert bench.edge.inbox == []


# -- 16.8 to 16.10 ---------------------------------------------------------------------------------------------------------------------


def test_16_6_11_timer_c_is_longer_than_three_minutes(bench: Bench) -> None:
    sent, got = bench.ringing()
    bench.run(180.0)
    assert bench.edge.inbox == []
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.inbox.clear()  # 13.3.1.1: it was told each minute that it still rings
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)
    assert bench.fact(e.Ended).reason == "completed"


@pytest.mark.parametrize("challenged", [False, True])
def test_16_6_11_timer_c_watches_a_reinvite_too_and_begins_anew_with_each_provisional(make: Make, challenged: bool) -> None:
    bench = make(credentials=Credentials("user", "secret"))
    bench.answered()
    asked = bench.caller.ask("INVITE", body=OFFER)
    got = bench.edge.request("INVITE")
    if challenged:
        bench.edge.reply(got, 401, headers=[("WWW-Authenticate", 'Digest realm="x", nonce="n", qop="auth"')])
        bench.edge.request("ACK")
        got = bench.edge.request("INVITE")
    bench.edge.reply(got, 100)
    bench.run(181.0)
    bench.edge.reply(got, 183)
    bench.caller.response(183)
    bench.run(181.0)
    assert (bench.edge.inbox, bench.caller.inbox) == ([], [])
    bench.edge.reply(bench.edge.request("CANCEL", within=60.0), 200)
    bench.edge.reply(got, 487)
    bench.edge.request("ACK")
    bench.caller.ack(asked, bench.caller.response(487))
    bench.caller.ask("INVITE", body=OFFER)
    bench.edge.reply(bench.edge.request("INVITE"), 200, body=ANSWER)
    bench.caller.ack(bench.caller.asked, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


@pytest.mark.parametrize("who", ["caller", "edge"])
def test_16_8_a_reinvite_that_outlasts_its_cancel_is_answered_408(bench: Bench, who: str) -> None:
    bench.answered()
    asks, answers = (bench.caller, bench.edge) if who == "caller" else (bench.edge, bench.caller)
    asked = asks.ask("INVITE", body=OFFER)
    answers.reply(answers.request("INVITE"), 100)
    answers.reply(answers.request("CANCEL", within=300.0), 200)
    asks.ack(asked, asks.response(408, within=40.0))
    for party in (asks, answers):
        party.reply(party.request("BYE"), 200)
