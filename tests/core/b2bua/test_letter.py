"""What the letter of RFC 3261 asks of two legs where it is easily passed over: expiry, offers that nobody answers, OPTIONS, sips."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.b2bua.settings import Listener
from sidecar.clocks import Addr
from sidecar.identity.digest import Credentials
from sidecar.sip.flow import Flow
from sidecar.sip.message import Request, Response, parse
from sidecar.sip.sdp import parse as parse_sdp
from tests.core.b2bua.harness import ANSWER, OFFER, SIDECAR, Bench
from tests.core.b2bua.types import Make

REFUSED = [("audio", 0)]


def refused_media(body: bytes) -> list[tuple[str, int]]:
    """Kind and port of each m-line."""
    return [(line.kind, line.port) for line in parse_sdp(body).media]


@pytest.mark.parametrize("rings", [True, False])
def test_13_3_1_an_invite_that_expires_is_cancelled_and_answered_487(bench: Bench, rings: bool) -> None:
    sent = bench.invite(headers=[("Expires", "20")])
    got = bench.edge.request("INVITE")
    assert got.headers.get("Expires") == "20"
    bench.edge.reply(got, 180 if rings else 100)
    if rings:
        bench.caller.response(180)
    bench.caller.hears_nothing(19.0)
    bench.caller.ack(sent, bench.caller.response(487, within=2.0))
    cancel = bench.edge.request("CANCEL")
    assert cancel.headers.get("Reason") == 'SIP;cause=487;text="expired"'
    bench.edge.reply(cancel, 200)
    bench.edge.reply(got, 487)
    bench.edge.request("ACK")
    ended = bench.fact(e.Ended)
    assert (ended.reason, ended.ended_by, ended.status) == ("expired", "caller", 487)


def test_13_3_1_an_answer_in_time_makes_the_expiry_mean_nothing(bench: Bench) -> None:
    bench.answered(headers=[("Expires", "20")])
    bench.run(60.0)
    bench.hang_up(bench.caller)


@pytest.mark.parametrize("stated", ["0", "-1", "soon", "99999999999", "20;x"])
def test_13_3_1_an_expiry_that_says_nothing_is_none(bench: Bench, stated: str) -> None:
    sent, got = bench.ringing(headers=[("Expires", stated)])
    bench.caller.hears_nothing(59.0)
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


def test_13_2_2_4_an_offer_of_a_fork_that_lost_is_answered_in_its_ack(bench: Bench) -> None:
    """The INVITE had no offer, so each 2xx has one. Nobody takes the second; its ACK must have an answer all the same."""
    sent = bench.invite(body=b"")
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, tag="first", body=ANSWER)
    first = bench.edge.dialog
    bench.caller.ack(sent, bench.caller.response(200), body=OFFER)
    assert refused_media(bench.edge.request("ACK").body) == [("audio", 10002)]
    bench.edge.reply(got, 200, tag="second", body=ANSWER)
    ack = bench.edge.request("ACK")
    assert (ack.to_tag, refused_media(ack.body), ack.content_type) == ("second", REFUSED, "application/sdp")
    bench.edge.reply(bench.edge.request("BYE"), 200)
    bench.edge.dialog = first
    bench.hang_up(bench.caller)


def test_13_2_2_4_an_offer_that_crosses_our_cancel_is_answered_in_its_ack(bench: Bench) -> None:
    sent, got = bench.ringing(body=b"")
    bench.caller.cancel(sent)
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.response(200)
    bench.caller.ack(sent, bench.caller.response(487))
    bench.edge.reply(bench.edge.request("CANCEL"), 481)
    assert refused_media(bench.edge.request("ACK").body) == REFUSED
    bench.edge.reply(bench.edge.request("BYE"), 200)


def test_13_2_2_4_an_offer_in_a_reinvite_whose_sender_says_bye_is_answered_in_its_ack(bench: Bench) -> None:
    bench.answered()
    bench.caller.ask("INVITE")
    asked = bench.caller.asked
    bench.edge.reply(bench.edge.request("INVITE"), 200, body=ANSWER)
    bench.caller.response(200)
    bench.caller.ask("BYE")
    bench.caller.response(200)
    assert refused_media(bench.edge.request("ACK").body) == REFUSED
    bench.edge.reply(bench.edge.request("BYE"), 200)
    assert asked.body == b""


def test_13_2_2_4_an_offer_whose_ack_never_comes_is_answered_by_us(bench: Bench) -> None:
    bench.invite(body=b"")
    bench.edge.reply(bench.edge.request("INVITE"), 200, body=ANSWER)
    bench.run(33.0)
    assert refused_media(bench.edge.request("ACK").body) == REFUSED
    bench.edge.reply(bench.edge.request("BYE"), 200)
    bench.caller.inbox.clear()
    bye = next(heard.message for heard in bench.caller.all if isinstance(heard.message, Request))
    bench.caller.reply(bye, 200)


def test_13_2_2_4_an_ack_of_ours_to_an_answer_has_no_description(bench: Bench) -> None:
    sent, got = bench.ringing()
    bench.caller.cancel(sent)
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.response(200)
    bench.caller.ack(sent, bench.caller.response(487))
    bench.edge.reply(bench.edge.request("CANCEL"), 481)
    ack = bench.edge.request("ACK")
    assert (ack.body, ack.content_type) == (b"", None)
    bench.edge.reply(bench.edge.request("BYE"), 200)


def test_8_2_2_3_the_ack_requires_nothing_that_its_invite_did_not(bench: Bench) -> None:
    """100rel is met on the caller's leg alone, since the edge refused it: its ACK must not ask for it either."""
    sent = bench.invite(headers=[("Require", "100rel"), ("Supported", "100rel")])
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 420, headers=[("Unsupported", "100rel")])
    bench.edge.request("ACK")
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200), headers=[("Require", "100rel"), ("X-Kept", "a,  b")])
    ack = bench.edge.request("ACK")
    assert ("Require" in ack.headers, ack.headers.get("X-Kept")) == (False, "a,  b")
    bench.hang_up(bench.caller)


@pytest.mark.parametrize(
    ("uri", "forwards", "status"),
    [
        ("sip:192.0.2.1", "70", 200),
        ("sip:agent@192.0.2.1", "70", 200),
        ("sip:agent@elsewhere.example", "70", 404),
        ("sip:agent@elsewhere.example", "0", 200),
        ("tel:+15551234", "70", 416),
    ],
)
def test_11_2_options_gets_what_an_invite_would(bench: Bench, uri: str, forwards: str, status: int) -> None:
    lines = [("Via", bench.caller.via()), ("Max-Forwards", forwards), ("From", "<sip:a@x>;tag=1"), ("To", f"<{uri}>"), ("Call-ID", "o")]
    bench.caller.send(Request("OPTIONS", uri, [*lines, ("CSeq", "1 OPTIONS")]))
    assert bench.caller.response(status).headers.get("Allow")


SECURE: Addr = ("192.0.2.1", 5061)
TLS = Flow("tls", SECURE, ("192.0.2.10", 40000))


@pytest.mark.parametrize(
    ("uri", "contact", "recorded", "scheme"),
    [
        ("sips:agent@192.0.2.1", "<sip:a@192.0.2.10;transport=tls>", "", "sips"),
        ("sip:agent@192.0.2.1", "<sips:a@192.0.2.10>", "", "sips"),
        ("sip:agent@192.0.2.1", "<sip:a@192.0.2.10;transport=tls>", "<sips:proxy@192.0.2.10;lr>", "sips"),
        ("sip:agent@192.0.2.1", "<sips:a@192.0.2.10>", "<sip:proxy@192.0.2.10;transport=tls;lr>", "sip"),
        ("sip:agent@192.0.2.1", "<sip:a@192.0.2.10;transport=tls>", "", "sip"),
    ],
)
def test_12_1_1_whoever_is_reached_by_sips_gets_a_sips_contact(make: Make, uri: str, contact: str, recorded: str, scheme: str) -> None:
    bench = make(listeners=(Listener(SIDECAR, SIDECAR), Listener(SECURE, SECURE, "tls")))
    lines = [
        ("Via", "SIP/2.0/TLS 192.0.2.10:5061;branch=z9hG4bK-1"),
        *([("Record-Route", recorded)] if recorded else []),
        ("Max-Forwards", "70"),
        ("From", "<sip:a@x>;tag=1"),
        ("To", "<sip:agent@192.0.2.1>"),
        ("Call-ID", "s"),
        ("CSeq", "1 INVITE"),
        ("Contact", contact),
        ("Content-Type", "application/sdp"),
    ]
    bench.engine.receive(Request("INVITE", uri, lines, OFFER).encode(), TLS, bench.clock.now)
    bench.pump()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180)
    bench.run(0.1)
    ringing = [parse(effect.data) for effect in bench.facts(e.SendSip) if effect.flow == TLS][-1]
    assert isinstance(ringing, Response)
    assert (ringing.headers.get("Contact") or "").startswith(f"<{scheme}:agent@192.0.2.1:5061")
    bench.edge.reply(got, 486)
    bench.edge.request("ACK")


def test_22_3_credentials_are_kept_within_a_call_and_not_across_calls(make: Make) -> None:
    bench = make(credentials=Credentials("u", "p"))
    for number, call_id in enumerate(("one", "two")):
        sent = bench.invite(call_id=call_id, from_tag=call_id)
        got = bench.edge.request("INVITE")
        assert "Proxy-Authorization" not in got.headers
        bench.edge.reply(got, 407, headers=[("Proxy-Authenticate", f'Digest realm="r", nonce="n{number}", qop="auth"')])
        bench.edge.request("ACK")
        got = bench.edge.request("INVITE")
        assert f'nonce="n{number}"' in (got.headers.get("Proxy-Authorization") or "")
        bench.edge.reply(got, 200, body=ANSWER)
        bench.caller.ack(sent, bench.caller.response(200))
        assert "Proxy-Authorization" in bench.edge.request("ACK").headers
        assert "Proxy-Authorization" in bench.hang_up(bench.caller).headers
