"""What is refused here, what is left to the far end to refuse, and what is not answered at all (RFC 3261 8.2, RFC 4320)."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.sip.message import Request
from tests.core.b2bua.harness import ANSWER, GIVE_UP, OFFER, Bench

GZIP = [("Content-Type", "application/sdp"), ("Content-Encoding", "gzip")]


def test_a_compressed_offer_gets_415_with_what_is_accepted(bench: Bench) -> None:
    sent = bench.invite(headers=GZIP, body=b"\x1f\x8b\x08 and more")
    refused = bench.caller.response(415)
    assert (refused.headers.get("Accept"), refused.headers.get("Accept-Encoding")) == ("application/sdp, multipart/mixed", "identity")
    bench.caller.ack(sent, refused)
    bench.edge.hears_nothing()
    ended = bench.fact(e.Ended)
    assert (ended.reason, ended.ended_by) == ("body-encoded", "sidecar")


def test_a_compressed_offer_inside_a_call_gets_415_and_the_call_goes_on(bench: Bench) -> None:
    bench.answered()
    bench.edge.ask("INVITE", headers=GZIP, body=b"\x1f\x8b\x08 and more")
    refused = bench.edge.response(415)
    assert refused.headers.get("Accept-Encoding") == "identity"
    bench.edge.ack(bench.edge.asked, refused)
    bench.hang_up(bench.caller)


def test_identity_is_no_coding_and_what_is_no_description_may_be_coded(bench: Bench) -> None:
    bench.answered()
    bench.caller.ask("INVITE", headers=[("Content-Type", "application/sdp"), ("Content-Encoding", "identity")], body=OFFER)
    asked = bench.caller.asked
    bench.edge.reply(bench.edge.request("INVITE"), 200, body=ANSWER)
    bench.caller.ack(asked, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.caller.ask("INFO", headers=[("Content-Type", "application/x-own"), ("Content-Encoding", "gzip")], body=b"\x1f\x8b\x00\xff")
    info = bench.edge.request("INFO")
    assert (info.body, info.headers.get("Content-Encoding")) == (b"\x1f\x8b\x00\xff", "gzip")
    bench.edge.reply(info, 415, headers=[("Accept-Encoding", "identity")])
    assert bench.caller.response(415).headers.get("Accept-Encoding") == "identity"
    bench.hang_up(bench.caller)


def test_an_option_that_a_request_for_us_requires_is_refused_with_420(bench: Bench) -> None:
    lines = [
        ("Via", bench.caller.via()),
        ("Max-Forwards", "70"),
        ("From", "<sip:a@x>;tag=1"),
        ("To", "<sip:b@y>"),
        ("Call-ID", "o"),
        ("CSeq", "1 OPTIONS"),
    ]
    bench.caller.send(Request("OPTIONS", "sip:192.0.2.1", [*lines, ("Require", "x-a, x-b")]))
    assert bench.caller.response(420).headers.get("Unsupported") == "x-a, x-b"


@pytest.mark.parametrize("who", ["caller", "edge"])
def test_no_provisional_answer_and_no_408_reaches_who_sent_no_invite(bench: Bench, who: str) -> None:
    bench.answered()
    asks, answers = (bench.caller, bench.edge) if who == "caller" else (bench.edge, bench.caller)
    asks.ask("INFO")
    info = answers.request("INFO")
    answers.reply(info, 183)
    asks.hears_nothing()
    answers.reply(info, 408)
    asks.hears_nothing(1.0)
    # It is forgotten, so its repetition is a new request and may be answered yet.
    asks.send(asks.asked)
    again = answers.request("INFO")
    answers.reply(again, 200)
    asks.response(200)
    bench.hang_up(bench.caller)


def test_a_request_that_nobody_answered_leaves_no_transaction_behind(bench: Bench) -> None:
    bench.answered()
    bench.edge.ask("MESSAGE")
    bench.caller.request("MESSAGE")
    bench.edge.reply(bench.edge.request("BYE", within=GIVE_UP + 0.5), 200)
    assert bench.edge.times(408) == []
    bench.run(GIVE_UP)
    bench.caller.inbox.clear()


def test_a_refused_reinvite_whose_early_answer_moved_the_media_moves_it_back(bench: Bench) -> None:
    """RFC 3261 14.1: a refused re-INVITE leaves the session as if it had never been asked for."""
    bench.answered()
    told = len(bench.facts(e.MediaDescribed))
    bench.caller.ask("INVITE", body=OFFER.replace(b"audio 4000", b"audio 4444"))
    asked = bench.caller.asked
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 183, body=ANSWER.replace(b"audio 6000", b"audio 6666"))
    bench.caller.response(183)
    bench.edge.reply(got, 488)
    bench.edge.request("ACK")
    bench.caller.ack(asked, bench.caller.response(488))
    moved = [(fact.leg, fact.line.port) for fact in bench.facts(e.MediaDescribed)[told:]]
    assert moved == [("A", 4444), ("B", 6666), ("A", 4000), ("B", 6000)]
    bench.hang_up(bench.caller)
