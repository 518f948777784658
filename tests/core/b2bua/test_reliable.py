"""Reliable provisional responses (RFC 3262) where only one of the two parties knows them."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.identity.digest import Credentials
from sidecar.sip.message import Request, Response
from tests.core.b2bua.harness import ANSWER, GIVE_UP, OFFER, Bench
from tests.core.b2bua.types import Make

RELIABLE = [("Require", "100rel"), ("RSeq", "41")]


def finish(bench: Bench, sent: Request, got: Request) -> None:
    """The edge answers, and the caller hangs up."""
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


def insisting(bench: Bench) -> tuple[Request, Request]:
    """A caller that requires 100rel, and an edge that does not know it: the INVITE as the edge takes it."""
    sent = bench.invite(headers=[("Require", "100rel, x-other"), ("Supported", "timer")])
    refused = bench.edge.request("INVITE")
    assert refused.headers.all("Require") == ["100rel, x-other"]
    bench.edge.reply(refused, 420, headers=[("Unsupported", "100rel")])
    bench.edge.request("ACK")
    got = bench.edge.request("INVITE")
    assert (got.headers.all("Require"), got.cseq.number, got.body) == (["x-other"], refused.cseq.number + 1, refused.body)
    bench.caller.hears_nothing(0.0)
    return sent, got


def prack(bench: Bench, sent: Request, answer: Response, body: bytes = b"") -> Request:
    """The caller acknowledges a provisional response."""
    bench.caller.join(sent, answer)
    return bench.caller.ask("PRACK", headers=[("RAck", f"{answer.headers.get('RSeq')} {sent.cseq}")], body=body)


def test_a_callers_prack_is_not_waited_for_when_it_knows_none_and_the_edge_gets_ours_at_the_early_dialogs_contact(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 183, headers=RELIABLE, body=ANSWER, contact="<sip:early@192.0.2.20:5070>")
    heard = bench.caller.response(183)
    assert (heard.headers.get("Require"), heard.headers.get("RSeq"), b"m=audio 10000 " in heard.body) == (None, None, True)
    ours = bench.edge.request("PRACK")
    assert (ours.uri, ours.to_tag) == ("sip:early@192.0.2.20:5070", "edge-1")
    assert (ours.headers.all("RAck"), ours.cseq.number) == (["41 17 INVITE"], 18)
    bench.edge.reply(ours, 200)
    # Repeated: its PRACK was acknowledged before. Out of order: not processed.
    bench.edge.reply(got, 183, headers=RELIABLE, body=ANSWER)
    bench.edge.reply(got, 180, headers=[("Require", "100rel"), ("RSeq", "43")])
    bench.edge.hears_nothing()
    bench.caller.hears_nothing()
    bench.edge.reply(got, 180, headers=[("Require", "100rel, x-kept"), ("RSeq", "42")])
    assert bench.caller.response(180).headers.all("Require") == ["x-kept"]
    bench.edge.reply(bench.edge.request("PRACK"), 200)
    finish(bench, sent, got)


def test_each_fork_counts_its_own_reliable_answers(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    for fork, number in (("fork-1", "7"), ("fork-2", "7"), ("fork-1", "8")):
        bench.edge.reply(got, 183, tag=fork, headers=[("Require", "100rel"), ("RSeq", number)])
        bench.caller.expect(183)
        ours = bench.edge.request("PRACK")
        assert (ours.to_tag, ours.headers.get("RAck")) == (fork, f"{number} 17 INVITE")
        bench.edge.reply(ours, 200)
    bench.edge.reply(got, 486)
    bench.caller.ack(sent, bench.caller.response(486))
    bench.edge.request("ACK")


def test_an_edge_that_insists_on_100rel_gets_it_from_us(bench: Bench) -> None:
    sent = bench.invite()
    refused = bench.edge.request("INVITE")
    bench.edge.reply(refused, 421, headers=[("Require", "100rel")])
    bench.edge.request("ACK")
    got = bench.edge.request("INVITE")
    assert (got.headers.all("Supported"), got.cseq.number) == (["100rel"], refused.cseq.number + 1)
    bench.edge.reply(got, 180, headers=RELIABLE)
    bench.caller.response(180)
    ours = bench.edge.request("PRACK")
    assert ours.headers.get("RAck") == f"41 {got.cseq.number} INVITE"
    bench.edge.reply(ours, 200)
    finish(bench, sent, got)


def test_an_edge_that_insists_on_what_an_invite_without_an_offer_cannot_have_refuses_it(bench: Bench) -> None:
    sent = bench.invite(body=b"")
    bench.edge.reply(bench.edge.request("INVITE"), 421, headers=[("Require", "100rel")])
    bench.edge.request("ACK")
    bench.caller.ack(sent, bench.caller.response(421))
    bench.edge.hears_nothing()


@pytest.mark.parametrize("status", [420, 421])
def test_what_is_not_ours_to_change_goes_back_to_the_caller(bench: Bench, status: int) -> None:
    sent = bench.invite(headers=[("Require", "x-strange")])
    bench.edge.reply(bench.edge.request("INVITE"), status, headers=[("Unsupported", "x-strange"), ("Require", "x-other")])
    bench.caller.ack(sent, bench.caller.response(status))
    bench.edge.request("ACK")
    bench.edge.hears_nothing()


def test_our_prack_answers_a_challenge(make: Make) -> None:
    bench = make(credentials=Credentials("sidecar", "secret"))
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180, headers=RELIABLE)
    bench.caller.response(180)
    first = bench.edge.request("PRACK")
    bench.edge.reply(first, 407, headers=[("Proxy-Authenticate", 'Digest realm="edge", nonce="n1", qop="auth"')])
    again = bench.edge.request("PRACK")
    assert (again.headers.get("RAck"), again.cseq.number) == ("41 17 INVITE", first.cseq.number + 1)
    assert "Proxy-Authorization" in again.headers
    bench.edge.reply(again, 200)
    finish(bench, sent, got)


def test_a_caller_that_insists_gets_reliable_answers_from_us_one_at_a_time(bench: Bench) -> None:
    sent, got = insisting(bench)
    bench.edge.reply(got, 180)
    bench.edge.reply(got, 183, body=ANSWER)
    ringing = bench.caller.response(180)
    number = int(ringing.headers.get("RSeq") or "")
    assert (ringing.headers.all("Require"), 0 < number < 2**31) == (["100rel"], True)
    start = bench.clock.now
    bench.run(3.6)
    # 3: repeated at T1, doubling each time; the second waits for the PRACK of the first.
    again = [round(heard.at - start, 2) for heard in bench.caller.inbox]
    assert again == [0.5, 1.5, 3.5]
    assert {heard.data for heard in bench.caller.inbox} == {ringing.encode()}
    bench.caller.inbox.clear()
    prack(bench, sent, ringing)
    assert bench.caller.response(200).cseq.method == "PRACK"
    progress = bench.caller.response(183)
    assert int(progress.headers.get("RSeq") or "") == number + 1
    prack(bench, sent, progress)
    bench.caller.response(200)
    bench.edge.hears_nothing()
    finish(bench, sent, got)


def test_a_prack_that_fits_nothing_gets_481_and_stops_nothing(bench: Bench) -> None:
    sent, got = insisting(bench)
    bench.edge.reply(got, 180)
    ringing = bench.caller.response(180)
    bench.caller.join(sent, ringing)
    for rack in ("9999999 17 INVITE", f"{ringing.headers.get('RSeq')} 99 INVITE", "nonsense"):
        bench.caller.ask("PRACK", headers=[("RAck", rack)])
        bench.caller.response(481)
    bench.caller.response(180, within=1.0)
    bench.caller.ask("PRACK", headers=[("RAck", f"{ringing.headers.get('RSeq')} {sent.cseq}")])
    bench.caller.response(200)
    bench.caller.hears_nothing(2.0)
    bench.edge.reply(got, 486)
    bench.edge.request("ACK")
    bench.caller.ack(sent, bench.caller.response(486))


def test_an_answer_waits_for_the_prack_of_a_description_but_not_for_that_of_a_ring(bench: Bench) -> None:
    sent, got = insisting(bench)
    bench.edge.reply(got, 183, body=ANSWER)
    progress = bench.caller.response(183)
    bench.edge.reply(got, 200, body=ANSWER)
    bench.run(0.2)
    assert bench.caller.inbox == []
    prack(bench, sent, progress)
    assert bench.caller.response(200).cseq.method == "PRACK"
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.edge)

    ring = bench.invite(headers=[("Require", "100rel")], call_id="second", number=1)
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180)
    bench.caller.response(180)
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(ring, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.edge)


def test_a_caller_that_never_acknowledges_gets_504_and_an_answer_that_waited_is_ended(bench: Bench) -> None:
    sent, got = insisting(bench)
    bench.edge.reply(got, 183, body=ANSWER)
    bench.caller.response(183)
    bench.edge.reply(got, 200, body=ANSWER)
    bench.run(GIVE_UP + 1.0)
    finals = [heard.message for heard in bench.caller.inbox if isinstance(heard.message, Response) and heard.message.status >= 200]
    assert {final.status for final in finals} == {504}
    bench.caller.inbox.clear()
    bench.caller.ack(sent, finals[0])
    bench.edge.request("ACK")
    bench.edge.reply(bench.edge.request("BYE"), 200)
    ended = bench.fact(e.Ended)
    assert (ended.status, ended.ended_by, ended.reason) == (504, "caller", "prack-missing")


def test_a_caller_that_cancels_while_the_answer_waits_leaves_no_call_at_the_edge(bench: Bench) -> None:
    sent, got = insisting(bench)
    bench.edge.reply(got, 183, body=ANSWER)
    bench.caller.response(183)
    bench.edge.reply(got, 200, body=ANSWER)
    bench.run(0.1)
    bench.caller.cancel(sent)
    bench.caller.response(200)
    bench.caller.ack(sent, bench.caller.response(487))
    bench.edge.request("ACK")
    bench.edge.reply(bench.edge.request("BYE"), 200)
    assert bench.fact(e.Ended).reason == "cancelled"


def test_an_offer_in_a_prack_that_ends_here_is_refused_and_the_call_goes_on(bench: Bench) -> None:
    sent, got = insisting(bench)
    bench.edge.reply(got, 183, body=ANSWER)
    prack(bench, sent, bench.caller.response(183), OFFER)
    assert bench.caller.response(488).cseq.method == "PRACK"
    finish(bench, sent, got)
