"""What comparable systems got wrong in the field, one test for each entry about SIP, named for it."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.identity.digest import Credentials
from sidecar.sip.message import Request, Response, parse
from tests.core.b2bua.harness import ANSWER, CALLER, GIVE_UP, OFFER, SDP_TYPE, Bench, Party, header_lines
from tests.core.b2bua.types import Make

ASK = [("Proxy-Authenticate", 'Digest realm="edge", nonce="n1", qop="auth"')]


def reinvited(asks: Party, answers: Party, offer: bytes, answer: bytes) -> tuple[Request, Response]:
    """A re-INVITE as it arrived, and its answer as it came back."""
    asks.ask("INVITE", body=offer)
    asked = asks.asked
    got = answers.request("INVITE")
    answers.reply(got, 200, body=answer)
    back = asks.response(200)
    asks.ack(asked, back)
    answers.request("ACK")
    return got, back


def test_a_hold_reinvite_is_not_answered_sendrecv(bench: Bench) -> None:
    bench.answered()
    got, back = reinvited(bench.caller, bench.edge, OFFER + b"a=sendonly\r\n", ANSWER + b"a=recvonly\r\n")
    assert (b"a=sendonly\r\n" in got.body, b"a=recvonly\r\n" in back.body, b"sendrecv" in got.body + back.body) == (True, True, False)
    bench.hang_up(bench.caller)


def test_a_call_with_refresher_uas_does_not_die_at_fifteen_minutes(bench: Bench) -> None:
    timed = [("Supported", "timer"), ("Session-Expires", "1800;refresher=uas"), ("Allow", "INVITE, UPDATE")]
    sent = bench.invite(headers=timed)
    bench.edge.reply(bench.edge.request("INVITE"), 200, body=ANSWER)
    answer = bench.caller.response(200)
    assert answer.headers.get("Session-Expires") == "1800;refresher=uas"
    bench.caller.ack(sent, answer)
    bench.edge.request("ACK")
    bench.caller.reply(bench.caller.request("UPDATE", within=901.0), 200, headers=[("Session-Expires", "1800;refresher=uac")])
    bench.hang_up(bench.caller)


@pytest.mark.parametrize("who", ["caller", "edge"])
def test_custom_headers_reach_the_other_side_on_invite_and_on_bye(bench: Bench, who: str) -> None:
    odd = [
        ("X-One", 'a;b="c,d" ,  e'),
        ("x-TWO", "%00 \u00e4 <>"),
        ("P-Asserted-Identity", '"A" <sip:a@b>, <tel:+1>'),
        ("User-to-User", "00;encoding=hex"),
    ]
    sent, got = bench.answered(headers=odd)
    assert [line for line in header_lines(got.encode()) if line.split(":")[0] in dict(odd)] == [f"{name}: {value}" for name, value in odd]
    bye = bench.hang_up(bench.caller if who == "caller" else bench.edge, headers=[*odd, ("Reason", 'Q.850;cause=16;text="x"')])
    assert [(name, value) for name, value in bye.headers.items() if name in dict(odd)] == odd
    assert bye.headers.get("Reason") == 'Q.850;cause=16;text="x"'
    assert sent.call_id == got.call_id


@pytest.mark.parametrize("hold", [b"a=sendonly\r\n", b"a=inactive\r\n", b""])
def test_a_call_on_hold_is_not_killed_for_want_of_rtp(bench: Bench, hold: bytes) -> None:
    """Ten minutes, in each form of hold, with the null address too: nothing in signalling waits for media."""
    bench.answered()
    offer = OFFER + hold if hold else OFFER.replace(b"c=IN IP4 192.0.2.10", b"c=IN IP4 0.0.0.0")
    reinvited(bench.caller, bench.edge, offer, ANSWER + b"a=inactive\r\n")
    bench.run(600.0)
    assert bench.facts(e.Ended) == []
    reinvited(bench.edge, bench.caller, ANSWER, OFFER)
    bench.hang_up(bench.edge)


def test_a_rejection_names_its_own_reason(make: Make) -> None:
    bench = make(route={"user": "agent"}, min_se=120)
    cases: list[tuple[dict[str, object], int, str, str]] = [
        ({"uri": "sip:nobody@192.0.2.1"}, 404, "no-route", "no route matches sip:nobody@192.0.2.1"),
        ({"forwards": "0"}, 483, "too-many-hops", "Max-Forwards of the INVITE is 0"),
        ({"headers": [("Supported", "timer"), ("Session-Expires", "100")]}, 422, "session-interval-too-small", "at least 120 s"),
    ]
    for number, (invite, status, reason, cause) in enumerate(cases):
        sent = bench.invite(call_id=f"call-{number}", **invite)  # type: ignore[arg-type]
        refused = bench.caller.response(status)
        bench.caller.ack(sent, refused)
        assert cause in (refused.headers.get("Warning") or "")
        assert bench.facts(e.Refused)[-1].reason == reason


def test_the_ack_of_a_relayed_407_does_no_harm_and_the_200_to_the_caller_is_repeated(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 407, headers=ASK)
    refused = bench.caller.response(407)
    bench.edge.request("ACK")
    bench.caller.ack(sent, refused)
    bench.caller.hears_nothing(5.0)
    bench.edge.hears_nothing()
    sent = bench.invite(number=18, call_id="again")
    bench.edge.reply(bench.edge.request("INVITE"), 200, body=ANSWER)
    answer = bench.caller.response(200)
    bench.caller.response(200, within=0.6)
    bench.caller.response(200, within=1.1)
    bench.caller.ack(sent, answer)
    bench.caller.hears_nothing(5.0)
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


def test_a_200_that_is_lost_six_times_neither_ends_the_call_nor_leaves_anything(bench: Bench) -> None:
    sent = bench.invite()
    bench.edge.reply(bench.edge.request("INVITE"), 200, body=ANSWER)
    bench.run(16.0)  # sent at 0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5: the caller gets only the seventh
    answers = [heard for heard in bench.caller.inbox if isinstance(heard.message, Response)]
    assert len(answers) == 7
    bench.caller.inbox.clear()
    last = answers[-1].message
    assert isinstance(last, Response)
    bench.caller.ack(sent, last)
    bench.edge.request("ACK")
    bench.caller.hears_nothing(GIVE_UP)
    bench.hang_up(bench.caller)
    assert bench.fact(e.Ended).reason == "completed"


def test_prack_of_our_own_goes_to_the_early_dialogs_contact(bench: Bench) -> None:
    moved = Party(bench, ("192.0.2.40", 5080), "early")
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 183, headers=[("Require", "100rel"), ("RSeq", "1")], contact="<sip:early@192.0.2.40:5080>")
    bench.caller.response(183)
    prack = moved.request("PRACK")
    assert (prack.uri, prack.to_tag) == ("sip:early@192.0.2.40:5080", "edge-1")
    moved.reply(prack, 200)
    bench.edge.reply(got, 486)
    bench.edge.request("ACK")
    bench.caller.ack(sent, bench.caller.response(486))


def test_in_dialog_requests_are_matched_by_tags_and_never_reflected(bench: Bench) -> None:
    bench.answered()
    bench.edge.ask("INFO", source=CALLER)  # the edge behind the caller's own address and port
    got = bench.caller.request("INFO")
    assert got.to_tag == "caller-tag"
    bench.caller.reply(got, 200)
    bench.run(0.1)
    bench.caller.inbox.clear()
    bench.edge.hears_nothing()
    bench.hang_up(bench.caller)


def test_a_route_set_is_not_overwritten_after_the_dialog_was_formed(bench: Bench) -> None:
    bench.answered()
    asked = bench.caller.ask("INVITE", body=OFFER, headers=[("Record-Route", "<sip:192.0.2.98;lr>")])
    bench.edge.reply(bench.edge.request("INVITE"), 200, body=ANSWER, headers=[("Record-Route", "<sip:192.0.2.99;lr>")])
    bench.caller.ack(asked, bench.caller.response(200))
    bench.edge.request("ACK")
    assert "Route" not in bench.hang_up(bench.edge).headers


@pytest.mark.parametrize("ping", [b"\r\n", b"\r\n\r\n", b"\0", b" \r\n"])
def test_a_keepalive_of_any_kind_is_no_message(bench: Bench, ping: bytes) -> None:
    bench.caller.send(ping)
    bench.caller.hears_nothing()
    assert (bench.engine.counts["keepalive"], bench.engine.counts["malformed"]) == (1, 0)


def test_an_empty_reinvite_does_not_end_the_call(bench: Bench) -> None:
    bench.answered()
    asked = bench.edge.ask("INVITE")
    got = bench.caller.request("INVITE")
    assert got.body == b""
    bench.caller.reply(got, 200, body=OFFER)
    bench.edge.ack(asked, bench.edge.response(200), body=ANSWER)
    assert b"m=audio 10000 " in bench.caller.request("ACK").body
    bench.hang_up(bench.caller)


def test_a_changed_connection_address_is_followed(bench: Bench) -> None:
    bench.answered()
    reinvited(bench.edge, bench.caller, ANSWER.replace(b"c=IN IP4 192.0.2.20", b"c=IN IP4 198.51.100.7"), OFFER)
    last = bench.facts(e.MediaDescribed)[-1]
    assert (last.leg, last.line.address) == ("B", "198.51.100.7")
    bench.hang_up(bench.caller)


def test_update_is_served(bench: Bench) -> None:
    bench.answered()
    bench.edge.ask("UPDATE", body=ANSWER + b"a=sendonly\r\n")
    update = bench.caller.request("UPDATE")
    assert b"a=sendonly\r\n" in update.body
    bench.caller.reply(update, 200, body=OFFER + b"a=recvonly\r\n")
    assert b"a=recvonly\r\n" in bench.edge.response(200).body
    bench.hang_up(bench.caller)


def test_a_reinvite_does_not_rearm_a_session_timer_that_nobody_asked_for(bench: Bench) -> None:
    bench.answered(headers=[("Supported", "timer")])
    got, back = reinvited(bench.caller, bench.edge, OFFER, ANSWER)
    assert "Session-Expires" not in got.headers
    assert "Session-Expires" not in back.headers
    bench.run(7200.0)
    assert bench.facts(e.Ended) == []
    bench.hang_up(bench.caller)


def test_a_carrier_that_sends_many_calls_at_once_is_not_taken_for_a_flood(make: Make) -> None:
    bench = make(ports=400)
    for number in range(100):
        bench.invite(call_id=f"burst-{number}", from_tag=f"t{number}")
    bench.run(0.05)
    got = [heard.message for heard in bench.edge.inbox]
    assert [type(message) for message in got] == [Request] * 100
    bench.edge.inbox.clear()
    for message in got:
        assert isinstance(message, Request)
        bench.edge.reply(message, 486)
    bench.run(0.05)
    assert len(bench.facts(e.Refused)) == 0
    bench.run(GIVE_UP + 1.0)
    bench.caller.inbox.clear()
    bench.edge.inbox.clear()


def test_a_ring_of_ninety_seconds_is_no_timeout(bench: Bench) -> None:
    sent, got = bench.ringing()
    bench.run(90.0)
    assert bench.facts(e.Ended) == []
    bench.caller.response(180)  # 13.3.1.1: each minute, for the proxies on the way
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


def test_an_invite_that_comes_again_after_our_200_starts_no_second_call(bench: Bench) -> None:
    sent = bench.invite()
    bench.edge.reply(bench.edge.request("INVITE"), 200, body=ANSWER)
    answer = bench.caller.response(200)
    bench.caller.send(sent)
    bench.caller.ack(sent, answer)
    bench.caller.send(sent)
    bench.edge.request("ACK")
    bench.edge.hears_nothing(1.0)
    assert len(bench.facts(e.Started)) == 1
    bench.hang_up(bench.caller)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe\xfd\xfc",
        b"INVITE sip:a@192.0.2.1 SIP/2.0\r\nFrom: <sip:\xff@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\r\n",
        b"SIP/2.0 200 OK\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\r\n",
    ],
)
def test_octets_that_are_no_utf8_and_messages_without_via_do_not_reach_further_than_the_door(bench: Bench, data: bytes) -> None:
    bench.caller.send(data)
    bench.run(0.1)
    assert bench.engine.counts["malformed"] == 1
    bench.caller.inbox.clear()
    bench.edge.hears_nothing()


def test_real_traffic_is_not_refused_for_its_looks(bench: Bench) -> None:
    """Folded headers, leading CRLF, underscores in names, `Subject : x`, headers in the Request-URI, another case, octets past the end."""
    lines = [
        "INVITE sip:agent@192.0.2.1?Subject=x SIP/2.0",
        "Via: SIP/2.0/UDP my_container:5060;Branch=z9hG4bKreal;rport,",
        " SIP/2.0/UDP 192.0.2.200:5060;branch=z9hG4bKother;received=::1",
        "Max-Forwards : 70",
        'f: "Smith, \\"Joe\\"" <sip:alice@caller.example>',
        "\t;tag=caller-tag",
        "t: <sip:agent@192.0.2.1>",
        "i: real-1",
        "CSEQ: 17   INVITE",
        "m: <sip:caller@192.0.2.10:5060>",
        'Proxy-Authorization: Digest username="a, b", realm="x, \\"y\\"", nonce="n", uri="sip:x,y", response="0"',
        "Subject : x",
        "X-Octets: \xff\xfe",
        "c: application/sdp",
        f"l: {len(OFFER)}",
    ]
    bench.caller.send(b"\r\n\r\n" + "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + OFFER + b"octets beyond the end")
    got = bench.edge.request("INVITE")
    assert got.headers.get("Subject") == "x"
    assert b"X-Octets: \xff\xfe\r\n" in got.encode()
    assert got.from_.uri == "sip:alice@caller.example"
    bench.edge.reply(got, 486)
    bench.edge.request("ACK")
    refused = bench.caller.response(486)
    assert len(refused.headers.values("Via")) == 2
    sent = parse(b"\r\n".join(line.encode("latin-1") for line in lines[:-2]) + b"\r\n\r\n")
    assert isinstance(sent, Request)
    ack = Request("ACK", sent.uri, [(n, v) for n, v in sent.headers.items() if n in ("Via", "f", "i", "Max-Forwards")])
    ack.headers.add("To", refused.headers.get("To") or "")
    ack.headers.add("CSeq", "17 ACK")
    bench.caller.send(ack)


def test_a_contact_star_and_an_unbracketed_received_are_no_end_of_the_world(bench: Bench) -> None:
    bench.answered()
    made = bench.caller.build("UPDATE", contact="*")
    bench.caller.send(made)
    bench.edge.reply(bench.edge.request("UPDATE"), 200)
    bench.caller.response(200)
    assert bench.hang_up(bench.edge).uri == "sip:caller@192.0.2.10:5060"


def test_unknown_lines_of_a_description_are_kept(bench: Bench) -> None:
    rich = (
        OFFER
        + b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20\r\na=label:1\r\na=maxptime:60\r\n"
        + b"a=X-nat:0\r\ni=a title\r\nk=clear:x\r\n"
    )
    sent = bench.invite(body=rich)
    got = bench.edge.request("INVITE")
    changed = [(a, b) for a, b in zip(rich.split(b"\r\n"), got.body.split(b"\r\n"), strict=True) if a != b]
    assert changed == [(b"c=IN IP4 192.0.2.10", b"c=IN IP4 192.0.2.1"), (b"m=audio 4000 RTP/AVP 0 101", b"m=audio 10002 RTP/AVP 0 101")]
    assert got.headers.all("Content-Type") == [SDP_TYPE[1]]
    bench.edge.reply(got, 486)
    bench.edge.request("ACK")
    bench.caller.ack(sent, bench.caller.response(486))


def test_credentials_given_to_one_hop_do_not_travel_to_another(make: Make) -> None:
    bench = make(credentials=Credentials("sidecar", "secret"))
    sent = bench.invite(headers=[("Authorization", 'Digest username="x"')])
    got = bench.edge.request("INVITE")
    assert "Authorization" not in got.headers
    bench.edge.reply(got, 486)
    bench.edge.request("ACK")
    bench.caller.ack(sent, bench.caller.response(486))
