"""RFC 3311 (UPDATE) where two legs are one more than its rules reckon with: what is open on the one is not known on the other."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.sip.message import Response
from tests.core.b2bua.harness import ANSWER, OFFER, Bench

WHO = pytest.mark.parametrize("who", ["caller", "edge"])
RELIABLE = [("Require", "100rel"), ("RSeq", "1")]


def test_rfc3311_5_1_the_contact_of_an_update_stands_in_the_2xx_to_the_invite_too(bench: Bench) -> None:
    sent = bench.invite(headers=[("Supported", "100rel")])
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 183, headers=RELIABLE, body=ANSWER)
    bench.caller.join(sent, bench.caller.response(183))
    bench.caller.ask("PRACK", headers=[("RAck", "1 17 INVITE")])
    bench.edge.reply(bench.edge.request("PRACK"), 200)
    bench.caller.response(200)
    said = []
    bench.caller.ask("UPDATE", body=OFFER)
    bench.edge.reply(bench.edge.request("UPDATE"), 200, body=ANSWER)
    said.append(bench.caller.response(200).headers.all("Contact"))
    bench.edge.join_as_callee(got, "edge-1")
    bench.edge.ask("UPDATE", body=ANSWER)
    update = bench.caller.request("UPDATE")
    said.append(update.headers.all("Contact"))
    bench.caller.reply(update, 200, body=OFFER)
    bench.edge.response(200)
    counts = bench.caller.dialog
    bench.edge.reply(got, 200)
    answer = bench.caller.response(200)
    assert said == [answer.headers.all("Contact")] * 2
    assert len(said[0]) == 1
    bench.caller.ack(sent, answer)
    bench.caller.dialog = counts
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


@WHO
@pytest.mark.parametrize("body", [True, False])
def test_rfc3311_5_2_a_second_update_before_the_first_is_answered_gets_500_and_retry_after(bench: Bench, who: str, body: bool) -> None:
    bench.answered()
    asks, answers, offer, answer = (
        (bench.caller, bench.edge, OFFER, ANSWER) if who == "caller" else (bench.edge, bench.caller, ANSWER, OFFER)
    )
    asks.ask("UPDATE", body=offer)
    got = answers.request("UPDATE")
    asks.ask("UPDATE", body=offer if body else b"")
    refused = asks.response(500)
    assert int(refused.headers.get("Retry-After") or "") in range(11)
    answers.hears_nothing()
    answers.reply(got, 200, body=answer)
    asks.response(200)
    # The first one is answered: the next crosses.
    asks.ask("UPDATE", body=offer)
    answers.reply(answers.request("UPDATE"), 200, body=answer)
    asks.response(200)
    bench.hang_up(bench.caller)


@WHO
def test_rfc3311_5_2_an_offer_while_one_of_ours_is_open_gets_491(bench: Bench, who: str) -> None:
    """The other party's offer has left for this one and is not answered. An UPDATE without an offer crosses all the same."""
    bench.answered()
    told = len(bench.facts(e.MediaDescribed))
    first, second = (bench.caller, bench.edge) if who == "caller" else (bench.edge, bench.caller)
    first.ask("UPDATE", body=OFFER if who == "caller" else ANSWER)
    got = second.request("UPDATE")
    second.ask("UPDATE", body=ANSWER if who == "caller" else OFFER)
    second.response(491)
    second.ask("UPDATE")
    first.reply(first.request("UPDATE"), 200)
    second.response(200)
    second.reply(got, 491)
    first.response(491)
    assert len(bench.facts(e.MediaDescribed)) == told
    bench.hang_up(bench.caller)


def test_rfc3311_5_2_an_offer_while_our_own_reinvite_is_open_gets_491(bench: Bench) -> None:
    """Nobody but us knows of the re-INVITE that refreshes the caller's session."""
    timer = [("Supported", "timer"), ("Allow", "INVITE, ACK, BYE"), ("Session-Expires", "90;refresher=uas")]
    bench.answered(headers=timer)
    ours = bench.caller.request("INVITE", within=46.0)
    bench.caller.ask("UPDATE", body=OFFER)
    bench.caller.response(491)
    bench.edge.hears_nothing()
    bench.caller.reply(ours, 200, headers=[("Session-Expires", "90;refresher=uac")], body=OFFER)
    bench.caller.request("ACK")
    bench.hang_up(bench.caller)


@pytest.mark.parametrize("status", [491, 500])
def test_rfc3311_5_2_an_offer_before_the_invites_is_answered_is_refused_by_who_has_it_before_it(bench: Bench, status: int) -> None:
    """491: the caller to an UPDATE of the edge, which has its offer. 500: the edge to one of the caller, with an offer still to answer."""
    sent, got = bench.ringing()
    asks, answers = (bench.edge, bench.caller) if status == 491 else (bench.caller, bench.edge)
    bench.edge.join_as_callee(got, "edge-1")
    ringing = bench.caller.all[-1].message
    assert isinstance(ringing, Response)
    bench.caller.join(sent, ringing)
    asks.ask("UPDATE", body=OFFER)
    answers.reply(answers.request("UPDATE"), status, headers=[("Retry-After", "7")] if status == 500 else [])
    assert asks.response(status).headers.get("Retry-After") == (None if status == 491 else "7")
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


def test_rfc3311_5_1_an_update_that_is_answered_here_names_its_contact(bench: Bench) -> None:
    sent = bench.invite(headers=[("Supported", "timer"), ("Session-Expires", "90")])
    bench.edge.reply(bench.edge.request("INVITE"), 200, headers=[("Allow", "INVITE, ACK, BYE")], body=ANSWER)
    answer = bench.caller.response(200)
    bench.caller.ack(sent, answer)
    bench.edge.request("ACK")
    bench.caller.ask("UPDATE", headers=[("Supported", "timer"), ("Session-Expires", "90;refresher=uac")])
    assert bench.caller.response(200).headers.all("Contact") == answer.headers.all("Contact")
    bench.edge.hears_nothing()
    bench.hang_up(bench.caller)


def test_rfc3311_5_2_the_updates_of_two_early_dialogs_are_none_of_each_others_business(bench: Bench) -> None:
    sent = bench.invite(headers=[("Supported", "100rel")])
    got = bench.edge.request("INVITE")
    asked = {}
    for fork in ("fork-1", "fork-2"):
        bench.edge.reply(got, 183, tag=fork, headers=RELIABLE, body=ANSWER)
        bench.caller.join(sent, bench.caller.response(183))
        bench.caller.ask("UPDATE", body=OFFER)
        asked[fork] = bench.edge.request("UPDATE")
        assert asked[fork].to_tag == fork
    for update in asked.values():
        bench.edge.reply(update, 200, body=ANSWER)
        bench.caller.response(200)
    bench.edge.reply(got, 486)
    bench.edge.request("ACK")
    bench.caller.ack(sent, bench.caller.response(486))
