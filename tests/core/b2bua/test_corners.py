"""Corners where two legs disagree: what a refusal takes back, what each end may be left with, which of several bodies is the session's."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.identity.digest import Credentials
from sidecar.sip.flow import Flow
from sidecar.sip.message import Request
from sidecar.sip.targets import Target
from tests.core.b2bua.harness import ANSWER, OFFER, SIDECAR, Bench, Party
from tests.core.b2bua.types import Make

WHO = pytest.mark.parametrize("who", ["caller", "edge"])


def ends(bench: Bench, who: str) -> tuple[Party, Party]:
    """Who asks, and who answers."""
    return (bench.caller, bench.edge) if who == "caller" else (bench.edge, bench.caller)


def where_requests_go(bench: Bench, answers: Party) -> str:
    """The Request-URI of what the other party asks next."""
    answers.ask("INFO")
    bench.run(0.1)
    return [effect.data for effect in bench.facts(e.SendSip) if effect.data.startswith(b"INFO ")][-1].split()[1].decode()


@WHO
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_a_refused_refresh_does_not_move_the_target(bench: Bench, who: str, method: str) -> None:
    """RFC 6141 4.6: a re-INVITE or UPDATE that is refused changes nothing, its Contact included."""
    bench.answered()
    asks, answers = ends(bench, who)
    before = asks.contact().strip("<>")
    asks.ask(method, body=OFFER, contact=f"<sip:moved@{asks.addr[0]}:5099>")
    asked = asks.asked
    got = answers.request(method)
    answers.reply(got, 488)
    refused = asks.response(488)
    if method == "INVITE":
        answers.request("ACK")
        asks.ack(asked, refused)
    assert where_requests_go(bench, answers) == before
    answers.inbox.clear()
    asks.reply(asks.request("INFO"), 200)
    answers.response(200)
    bench.hang_up(bench.caller)


@WHO
def test_a_glare_does_not_move_the_targets(bench: Bench, who: str) -> None:
    bench.answered()
    asks, answers = ends(bench, who)
    before = answers.contact().strip("<>")
    asks.ask("INVITE", body=OFFER)
    asked = asks.asked
    got = answers.request("INVITE")
    answers.ask("INVITE", body=ANSWER, contact=f"<sip:moved@{answers.addr[0]}:5099>")
    answers.ack(answers.asked, answers.response(491))
    answers.reply(got, 200, body=ANSWER, contact=f"<{before}>")
    asks.ack(asked, asks.response(200))
    ack = answers.request("ACK")
    assert ack.uri == before
    bench.hang_up(bench.caller)


def test_an_early_session_is_not_taken_for_the_session(bench: Bench) -> None:
    """RFC 3959: the description under Content-Disposition early-session is another one; the session's gets our addresses."""
    early = OFFER.replace(b"4000", b"4444")
    body = b"--b\r\nContent-Type: application/sdp\r\nContent-Disposition: early-session\r\n\r\n" + early
    body += b"\r\n--b\r\nContent-Type: application/sdp\r\nContent-Disposition: session;handling=required\r\n\r\n" + OFFER + b"\r\n--b--\r\n"
    sent = bench.invite(headers=[("Content-Type", "multipart/mixed;boundary=b")], body=body)
    got = bench.edge.request("INVITE")
    first, second = got.body.split(b"\r\n--b\r\n")
    assert first.endswith(early)
    assert b"m=audio 10002 " in second
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


def test_reliable_answers_before_a_challenge_are_another_dialogs(make: Make) -> None:
    """RFC 3262 3: RSeq rises by one within a dialog. The challenged edge begins anew, so the caller gets another dialog."""
    bench = make(credentials=Credentials("u", "p"))
    sent = bench.invite(headers=[("Supported", "100rel")])
    got = bench.edge.request("INVITE")
    numbers = {}
    for tag, number in (("proxy", "7"), ("edge", "3")):
        bench.edge.reply(got, 183, tag=tag, headers=[("Require", "100rel"), ("RSeq", number)], body=ANSWER)
        heard = bench.caller.response(183)
        numbers[heard.to_tag] = heard.headers.get("RSeq")
        bench.caller.join(sent, heard)
        bench.caller.ask("PRACK", headers=[("RAck", f"{number} {sent.cseq}")])
        prack = bench.edge.request("PRACK")
        assert prack.headers.get("RAck") == f"{number} {got.cseq}"
        bench.edge.reply(prack, 200)
        bench.caller.response(200)
        if tag == "proxy":
            bench.edge.reply(got, 407, tag="x", headers=[("Proxy-Authenticate", 'Digest realm="r", nonce="n", qop="auth"')])
            bench.edge.request("ACK")
            got = bench.edge.request("INVITE")
    assert list(numbers.values()) == ["7", "3"]
    bench.edge.reply(got, 200, tag="edge")
    answer = bench.caller.response(200)
    assert answer.to_tag == list(numbers)[-1]
    bench.caller.ack(sent, answer)
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


@WHO
def test_a_bye_that_requires_something_leaves_nobody_in_the_call(bench: Bench, who: str) -> None:
    """It is answered here, so nobody may refuse it any more (8.2.2.3)."""
    bench.answered()
    asks, answers = ends(bench, who)
    asks.ask("BYE", headers=[("Require", "x-known-to-one-end"), ("X-Kept", "a,  b")])
    bye = answers.request("BYE")
    assert ("Require" in bye.headers, bye.headers.get("X-Kept")) == (False, "a,  b")
    answers.reply(bye, 200)
    asks.response(200)


def test_the_edge_hears_why_we_gave_it_up(bench: Bench) -> None:
    """RFC 3326: a CANCEL of our own says its cause."""
    sent, got = bench.ringing()
    bench.run(bench.engine.settings.ring_limit - 0.1)
    bench.caller.inbox.clear()
    refused = bench.caller.response(408)
    bench.caller.ack(sent, refused)
    cancel = bench.edge.request("CANCEL")
    assert cancel.headers.get("Reason") == 'SIP;cause=408;text="upstream-silent"'
    bench.edge.reply(cancel, 200)
    bench.edge.reply(got, 487)
    bench.edge.request("ACK")


def test_require_on_a_cancel_is_ignored_and_stays_here(bench: Bench) -> None:
    """8.2.2.3: it may not be refused, so it may not ask."""
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180)
    bench.caller.response(180)
    bench.caller.cancel(sent, [("Require", "x"), ("Reason", 'SIP;cause=200;text="Call completed elsewhere"')])
    bench.caller.response(200)
    cancel = bench.edge.request("CANCEL")
    assert "Require" not in cancel.headers
    assert cancel.headers.get("Reason") == 'SIP;cause=200;text="Call completed elsewhere"'
    bench.edge.reply(cancel, 200)
    bench.edge.reply(got, 487)
    bench.edge.request("ACK")
    bench.caller.ack(sent, bench.caller.response(487))


def test_options_at_its_last_hop_is_still_answered(bench: Bench) -> None:
    """11.2, 16.3: Max-Forwards 0 ends at whom it reaches, and we are that one."""
    lines = [
        ("Via", bench.caller.via()),
        ("Max-Forwards", "0"),
        ("From", "<sip:a@x>;tag=1"),
        ("To", "<sip:192.0.2.1>"),
        ("Call-ID", "o"),
        ("CSeq", "1 OPTIONS"),
    ]
    bench.caller.send(Request("OPTIONS", "sip:192.0.2.1", lines))
    heard = bench.caller.response(200)
    assert {"Allow", "Accept", "Accept-Encoding", "Accept-Language", "Supported"} <= {name for name, _ in heard.headers.items()}


def test_a_delayed_offer_that_is_challenged_still_gets_its_answer(make: Make) -> None:
    """A re-INVITE without a description, challenged with auth-int: its ACK has the answer and the INVITE's credentials (22.1)."""
    bench = make(credentials=Credentials("u", "p"))
    bench.answered()
    bench.caller.ask("INVITE")
    asked = bench.caller.asked
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 401, headers=[("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth-int"')])
    bench.edge.request("ACK")
    again = bench.edge.request("INVITE")
    assert again.cseq.number == got.cseq.number + 1
    bench.edge.reply(again, 200, body=ANSWER)
    bench.caller.ack(asked, bench.caller.response(200), body=OFFER)
    ack = bench.edge.request("ACK")
    assert ack.headers.get("Authorization") == again.headers.get("Authorization")
    assert b"m=audio 10002 " in ack.body
    bench.hang_up(bench.caller)


@WHO
@pytest.mark.parametrize("method", ["INFO", "BYE"])
def test_a_request_inside_a_call_goes_to_the_next_server_of_its_next_hop(make: Make, who: str, method: str) -> None:
    """RFC 3263 4.3 holds for every request: a Contact may be a name that several servers stand for."""
    second = ("192.0.2.99", 5070)
    bench = make(names={})
    asks, answers = ends(bench, who)
    bench.names["cluster.example"] = (Target("udp", "cluster.example", *answers.addr), Target("udp", "cluster.example", *second))
    other = Party(bench, second, "second")
    cluster = "<sip:here@cluster.example>"
    sent = bench.invite(contact=cluster if who == "edge" else "")
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, body=ANSWER, contact=cluster if who == "caller" else None)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    asks.ask(method)
    answers.request(method)
    bench.engine.transport_failed(Flow("udp", SIDECAR, answers.addr), bench.clock.now, "connection refused")
    bench.pump()
    heard = other.request(method)
    assert heard.uri == cluster.strip("<>")
    other.reply(heard, 200)
    asks.response(200)
    if method == "INFO":
        bench.caller.ask("BYE")
        bench.edge.reply(bench.edge.request("BYE"), 200)
        bench.caller.response(200)
