"""RFC 3261 section 20: header fields, as they leave and as they are understood."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.identity.digest import Credentials
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.message import Request, parse
from tests.core.b2bua.harness import ANSWER, OFFER, Bench, faults, header_lines
from tests.support.sip import received

Make = Callable[..., Bench]
MESSAGE = (
    b"INVITE sip:b@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK-1\r\nMax-Forwards: 70\r\nFrom: <sip:a@x>;tag=1\r\n"
    b"To: <sip:b@y>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nContact: <sip:a@192.0.2.1>\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 2\r\n\r\nhi"
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Max-Forwards: 70\r\n", b""),
        (b"From: <sip:a@x>;tag=1", b"From: sip:a,b@x;tag=1"),
        (b"To: <sip:b@y>", b"To: sip:b@y?Subject=x"),
        (b"Contact: <sip:a@192.0.2.1>\r\n", b""),
        (b"Content-Type: text/plain\r\n", b""),
        (b"Content-Length: 2\r\n", b""),
        (b"branch=z9hG4bK-1", b"branch=1"),
        (b"INVITE", b"BYE"),
        (b"INVITE sip:b@192.0.2.2 SIP/2.0", b"SIP/2.0 420 Bad Extension"),
        (b"INVITE sip:b@192.0.2.2 SIP/2.0", b"SIP/2.0 405 Method Not Allowed"),
        (b"INVITE sip:b@192.0.2.2 SIP/2.0", b"SIP/2.0 407 Proxy Authentication Required"),
        (b"INVITE sip:b@192.0.2.2 SIP/2.0", b"SIP/2.0 415 Unsupported Media Type"),
    ],
)
def test_20_what_every_scenario_is_asked_at_its_end_is_what_the_tables_ask(before: bytes, after: bytes) -> None:
    assert faults(MESSAGE) == []
    assert faults(MESSAGE.replace(before, after)) != []


def test_20_a_call_with_everything_in_it_leaves_as_the_tables_ask(make: Make) -> None:
    bench = make(credentials=Credentials("user", "secret"))
    refused = bench.invite(uri="tel:+49301234567")
    bench.caller.ack(refused, bench.caller.response(416))
    gone = bench.invite(call_id="gone", from_tag="gone")
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180)
    bench.caller.response(180)
    bench.caller.cancel(gone, headers=[("Require", "x"), ("Contact", "<sip:a@192.0.2.10>")])
    bench.caller.response(200)
    bench.caller.ack(gone, bench.caller.response(487))
    bench.edge.reply(bench.edge.request("CANCEL"), 200)
    bench.edge.reply(got, 487)
    bench.edge.request("ACK")
    bench.answered(call_id="up", from_tag="up")
    for method in ("INVITE", "UPDATE", "REFER", "INFO"):
        asked = bench.caller.ask(method, headers=[("Refer-To", "<sip:c@x>")] if method == "REFER" else [])
        bench.edge.reply(bench.edge.request(method), 200, body=ANSWER if method == "INVITE" else b"")
        answer = bench.caller.response(200)
        if method == "INVITE":
            bench.caller.ack(asked, answer, body=OFFER)
            bench.edge.request("ACK")
    bench.hang_up(bench.edge)


@pytest.mark.parametrize("method", ["INFO", "BYE"])
def test_20_a_header_that_is_not_applicable_is_ignored_and_goes_no_further(bench: Bench, method: str) -> None:
    bench.answered()
    made = bench.caller.build(method)
    made.headers.add("Contact", "<sip:elsewhere@203.0.113.1>")
    bench.caller.send(made)
    got = bench.edge.request(method)
    assert "Contact" not in got.headers
    bench.edge.reply(got, 200, headers=[("Contact", "<sip:elsewhere@203.0.113.1>")])
    assert "Contact" not in bench.caller.response(200).headers
    if method == "INFO":
        assert bench.hang_up(bench.caller).uri == "sip:edge@192.0.2.20:5070"


@pytest.mark.parametrize("from_", ["<sip:a,b@x>", "<sip:a;b=c@x>", "<sip:a?b@x>", "sip:a@x"])
def test_20_10_20_20_an_address_leaves_in_angle_brackets(bench: Bench, from_: str) -> None:
    lines = [
        ("Via", bench.caller.via()),
        ("Max-Forwards", "70"),
        ("From", f"{from_};tag=t"),
        ("To", "<sip:agent@192.0.2.1>"),
        ("Call-ID", "brackets"),
        ("CSeq", "1 INVITE"),
        ("Contact", "<sip:caller@192.0.2.10:5060>"),
    ]
    sent = Request("INVITE", "sip:agent@192.0.2.1", lines)
    bench.caller.send(sent)
    got = bench.edge.request("INVITE")
    uri = from_.strip("<>")
    assert str(got.headers.get("From")).startswith(f"<{uri}>;tag=")
    assert got.headers.get("Contact") == f"<{uri.partition('@')[0]}@192.0.2.1:5060>"
    bench.edge.reply(got, 486)
    bench.edge.request("ACK")
    bench.caller.ack(sent, bench.caller.response(486))


def test_20_5_20_37_allow_lists_every_method_and_supported_every_option_that_is_served(bench: Bench) -> None:
    lines = [("Via", bench.caller.via()), ("Max-Forwards", "70"), ("From", "<sip:a@x>;tag=1"), ("To", "<sip:b@y>"), ("Call-ID", "o")]
    bench.caller.send(Request("OPTIONS", "sip:192.0.2.1", [*lines, ("CSeq", "1 OPTIONS")]))
    answer = bench.caller.response(200)
    served = {"INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "PRACK", "UPDATE", "INFO", "MESSAGE", "REFER", "NOTIFY", "SUBSCRIBE"}
    assert set(answer.headers.values("Allow")) == served
    assert set(answer.headers.values("Supported")) == {"100rel", "replaces", "timer"}


def test_20_7_20_28_credentials_for_two_realms_are_two_header_lines(make: Make) -> None:
    bench = make(credentials=Credentials("user", "secret"))
    sent = bench.invite()
    for realm in ("one", "two"):
        challenge = f'Digest realm="{realm}", nonce="n-{realm}", qop="auth"'
        bench.edge.reply(bench.edge.request("INVITE"), 407, headers=[("Proxy-Authenticate", challenge)])
        bench.edge.request("ACK")
    got = bench.edge.request("INVITE")
    lines = [line for line in header_lines(got.encode()) if line.startswith("Proxy-Authorization: ")]
    assert [line.count("realm=") for line in lines] == [1, 1]
    bench.edge.reply(got, 486)
    bench.edge.request("ACK")
    bench.caller.ack(sent, bench.caller.response(486))


def test_20_7_20_28_credentials_are_read_line_by_line_whatever_commas_they_hold() -> None:
    one, two = 'Digest username="a, b", realm="x"', 'Digest username="c", realm="y"'
    assert received("BYE", headers=[("Authorization", one), ("Authorization", two)]).headers.all("Authorization") == [one, two]


def test_20_12_codings_keep_their_order_and_the_body_its_octets(bench: Bench) -> None:
    bench.answered()
    coded = [("Content-Type", "application/x-own"), ("Content-Encoding", "gzip, deflate"), ("Content-Encoding", "x-third")]
    bench.caller.ask("INFO", headers=coded, body=b"\x1f\x8b\x00")
    got = bench.edge.request("INFO")
    assert (got.headers.all("Content-Encoding"), got.body) == (["gzip, deflate", "x-third"], b"\x1f\x8b\x00")
    bench.edge.reply(got, 200)
    assert "Content-Encoding" not in bench.caller.response(200).headers
    bench.hang_up(bench.caller)


def test_20_14_a_message_without_a_body_says_zero() -> None:
    assert b"\r\nContent-Length: 0\r\n" in received("BYE").encode()


@pytest.mark.parametrize(("number", "status"), [(2**32 - 1, None), (2**32, 400)])
def test_20_16_a_sequence_number_has_32_bits(number: int, status: int | None) -> None:
    data = received("BYE", to="<sip:b@y>;tag=b").encode().replace(b"CSeq: 1 ", b"CSeq: %d " % number)
    if status is None:
        message = parse(data)
        assert message is not None
        assert message.cseq.number == number
    else:
        with pytest.raises(MalformedMessage) as caught:
            parse(data)
        assert caught.value.status == status


def test_20_16_numbers_of_a_call_run_past_those_that_may_begin_one(make: Make) -> None:
    """8.1.1.5 has a dialog begin below 2**31, after a challenge too; what follows in it counts on from there."""
    bench = make(credentials=Credentials("user", "secret"))
    sent = bench.invite(number=2**31 - 1)
    bench.edge.reply(bench.edge.request("INVITE"), 407, headers=[("Proxy-Authenticate", 'Digest realm="x", nonce="n", qop="auth"')])
    bench.edge.request("ACK")
    got = bench.edge.request("INVITE")
    assert got.cseq.number < 2**31
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    assert bench.hang_up(bench.caller).cseq.number == got.cseq.number + 1
    assert bench.caller.asked.cseq.number == 2**31


def test_20_16_the_method_in_cseq_is_case_sensitive() -> None:
    with pytest.raises(MalformedMessage):
        parse(received("BYE").encode().replace(b"1 BYE", b"1 bye"))


def test_20_43_a_warning_is_for_people_and_crosses_as_it_was_written(bench: Bench) -> None:
    text = '399 edge.example "hang up, please"'
    sent, got = bench.ringing()
    bench.edge.reply(got, 200, body=ANSWER, headers=[("Warning", text)])
    answer = bench.caller.response(200)
    assert answer.headers.all("Warning") == [text]
    bench.caller.ack(sent, answer)
    bench.edge.request("ACK")
    bench.edge.hears_nothing()
    bench.hang_up(bench.caller)
