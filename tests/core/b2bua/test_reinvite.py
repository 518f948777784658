"""Re-INVITE both ways (RFC 3261 section 14): hold, no description, refusal, glare, loss."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.sip.message import Request
from tests.core.b2bua.harness import ANSWER, GIVE_UP, OFFER, Bench, Party, word

WHO = pytest.mark.parametrize("who", ["caller", "edge"])


def parties(bench: Bench, who: str) -> tuple[Party, Party, bytes, bytes]:
    """Who asks and who answers, and what each says of its media."""
    if who == "caller":
        return bench.caller, bench.edge, OFFER, ANSWER
    return bench.edge, bench.caller, ANSWER, OFFER


def renegotiated(asks: Party, answers: Party, offer: bytes, answer: bytes) -> tuple[Request, bytes]:
    """A re-INVITE that works: as it arrived, and the answer as it came back."""
    asks.ask("INVITE", body=offer)
    sent = asks.asked
    got = answers.request("INVITE")
    answers.reply(got, 200, body=answer)
    heard = asks.response(200)
    asks.ack(sent, heard)
    answers.request("ACK")
    return got, heard.body


@WHO
@pytest.mark.parametrize(
    ("held", "answered"), [(b"a=sendonly", b"a=recvonly"), (b"a=inactive", b"a=inactive"), (b"a=sendonly", b"a=inactive")]
)
def test_hold_and_resume_cross_as_they_were_said(bench: Bench, who: str, held: bytes, answered: bytes) -> None:
    bench.answered()
    asks, answers, mine, theirs = parties(bench, who)
    got, back = renegotiated(asks, answers, mine + held + b"\r\n", theirs + answered + b"\r\n")
    assert got.body.endswith(held + b"\r\n")
    assert back.endswith(answered + b"\r\n")
    got, back = renegotiated(asks, answers, mine, theirs)
    assert held not in got.body
    assert answered not in back
    bench.hang_up(bench.caller)
    leg = "A" if who == "caller" else "B"
    assert [fact.line.held for fact in bench.facts(e.MediaDescribed) if fact.leg == leg] == [False, True, False]


def test_the_old_way_to_hold_stays_a_hold(bench: Bench) -> None:
    bench.answered()
    got, _ = renegotiated(bench.caller, bench.edge, OFFER.replace(b"c=IN IP4 192.0.2.10", b"c=IN IP4 0.0.0.0"), ANSWER)
    assert b"c=IN IP4 0.0.0.0\r\n" in got.body
    bench.hang_up(bench.edge)


@WHO
def test_a_changed_address_is_told_once_the_other_side_agrees(bench: Bench, who: str) -> None:
    bench.answered()
    asks, answers, mine, theirs = parties(bench, who)
    told = len(bench.facts(e.MediaDescribed))
    moved = mine.replace(b"c=IN IP4 192.0.2.", b"c=IN IP4 198.51.100.")
    asks.ask("INVITE", body=moved)
    sent = asks.asked
    got = answers.request("INVITE")
    assert b"c=IN IP4 192.0.2.1\r\n" in got.body
    assert len(bench.facts(e.MediaDescribed)) == told
    answers.reply(got, 200, body=theirs)
    asks.ack(sent, asks.response(200))
    answers.request("ACK")
    changed = bench.facts(e.MediaDescribed)[told:]
    assert [(fact.leg, fact.line.address[:11]) for fact in changed] == [("A" if who == "caller" else "B", "198.51.100.")]
    bench.hang_up(bench.caller)


@WHO
def test_a_refused_one_leaves_the_call_and_its_media_as_they_were(bench: Bench, who: str) -> None:
    bench.answered()
    asks, answers, mine, _ = parties(bench, who)
    told = len(bench.facts(e.MediaDescribed))
    asks.ask("INVITE", body=mine.replace(b"c=IN IP4 192.0.2.", b"c=IN IP4 198.51.100."))
    sent = asks.asked
    answers.reply(answers.request("INVITE"), 488, reason="Not that", headers=[("Warning", '304 x "no such media"')])
    refused = asks.response(488)
    assert (refused.reason, refused.headers.get("Warning")) == ("Not that", '304 x "no such media"')
    answers.request("ACK")
    asks.ack(sent, refused)
    assert len(bench.facts(e.MediaDescribed)) == told
    bench.run(1.0)
    answers.ask("INFO")
    asks.reply(asks.request("INFO"), 200)
    answers.response(200)
    bench.hang_up(answers)


@WHO
def test_one_without_a_description_crosses_without_and_the_answer_travels_in_its_ack(bench: Bench, who: str) -> None:
    bench.answered()
    asks, answers, mine, theirs = parties(bench, who)
    asks.ask("INVITE")
    sent = asks.asked
    got = answers.request("INVITE")
    assert (got.body, got.content_type) == (b"", None)
    answers.reply(got, 200, body=theirs)
    heard = asks.response(200)
    assert b"c=IN IP4 192.0.2.1\r\n" in heard.body
    asks.ack(sent, heard, body=mine)
    ack = answers.request("ACK")
    assert b"c=IN IP4 192.0.2.1\r\n" in ack.body
    assert ack.content_type == "application/sdp"
    bench.hang_up(bench.caller)


@WHO
def test_its_200_is_repeated_until_the_ack_and_the_ack_is_repeated_with_the_200(bench: Bench, who: str) -> None:
    bench.answered()
    asks, answers, mine, theirs = parties(bench, who)
    asks.ask("INVITE", body=mine)
    sent = asks.asked
    got = answers.request("INVITE")
    answer = answers.reply(got, 200, body=theirs)
    heard = asks.response(200)
    asks.response(200)  # 0.5 s later, the first one's ACK being lost
    asks.ack(sent, heard)
    first = answers.expect("ACK")
    answers.send(answer)
    assert answers.expect("ACK").data == first.data
    bench.run(1.0)
    asks.hears_nothing()
    bench.hang_up(bench.caller)


@WHO
def test_its_ack_never_comes_and_the_call_ends(bench: Bench, who: str) -> None:
    bench.answered()
    asks, answers, mine, theirs = parties(bench, who)
    asks.ask("INVITE", body=mine)
    answers.reply(answers.request("INVITE"), 200, body=theirs)
    bench.run(GIVE_UP + 0.1)
    assert [word(heard.message) for heard in answers.inbox] == ["ACK", "BYE"]
    for party in (asks, answers):
        party.reply(party.inbox[-1].message, 200)  # type: ignore[arg-type]
        party.inbox.clear()
    ended = bench.fact(e.Ended)
    side = "caller" if who == "caller" else "agent"
    assert (ended.reason, ended.cause) == ("ack-missing", f"the {side} never acknowledged the 200 OK")


def test_both_at_once_get_491(bench: Bench) -> None:
    bench.answered()
    bench.caller.ask("INVITE", body=OFFER)
    bench.edge.ask("INVITE", body=ANSWER)
    bench.run(0.05)
    # The caller's came first and crossed, so the edge, which has one of ours before it, is told to wait; the edge then refuses ours too.
    assert {word(heard.message) for heard in bench.edge.inbox} == {"INVITE", 491}
    for heard in list(bench.edge.inbox):
        if isinstance(heard.message, Request):
            bench.edge.reply(heard.message, 491)
        else:
            bench.edge.ack(bench.edge.asked, heard.message)
    bench.edge.inbox.clear()
    refused = bench.caller.response(491)
    bench.caller.ack(bench.caller.asked, refused)
    bench.edge.request("ACK")
    renegotiated(bench.edge, bench.caller, ANSWER, OFFER)
    bench.hang_up(bench.caller)


def test_a_second_one_before_the_first_is_answered_is_told_to_come_later(bench: Bench) -> None:
    bench.answered()
    bench.caller.ask("INVITE", body=OFFER)
    first = bench.caller.asked
    got = bench.edge.request("INVITE")
    bench.caller.ask("INVITE", body=OFFER)
    refused = bench.caller.response(500)
    assert int(refused.headers.get("Retry-After") or "") in range(11)
    bench.caller.ack(bench.caller.asked, refused)
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(first, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


def test_one_before_the_first_answer_of_the_call_is_refused_on_either_side(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180)
    bench.caller.join(sent, bench.caller.response(180))
    bench.caller.ask("INVITE", body=OFFER)
    bench.caller.ack(bench.caller.asked, bench.caller.response(500))
    bench.edge.join_as_callee(got, "edge-1")
    bench.edge.ask("INVITE", body=ANSWER)
    bench.edge.ack(bench.edge.asked, bench.edge.response(491))
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


def test_one_of_the_edge_before_the_callers_ack_is_told_to_wait(bench: Bench) -> None:
    sent, got = bench.ringing()
    bench.edge.reply(got, 200, body=ANSWER)
    answer = bench.caller.response(200)
    bench.edge.ask("INVITE", body=ANSWER)
    bench.edge.ack(bench.edge.asked, bench.edge.response(491))
    bench.caller.ack(sent, answer)
    bench.edge.request("ACK")
    bench.hang_up(bench.edge)


@WHO
def test_a_lost_one_ends_the_call(bench: Bench, who: str) -> None:
    bench.answered()
    asks, silent, mine, _ = parties(bench, who)
    asks.ask("INVITE", body=mine)
    refused = asks.response(408, within=GIVE_UP + 1.0)
    asks.ack(asks.asked, refused)
    asks.reply(asks.request("BYE"), 200)
    bench.run(GIVE_UP)
    assert bench.fact(e.Ended).reason == "peer-gone"
    silent.inbox.clear()


@WHO
def test_it_may_be_cancelled(bench: Bench, who: str) -> None:
    bench.answered()
    asks, answers, mine, _ = parties(bench, who)
    asks.ask("INVITE", body=mine)
    sent = asks.asked
    got = answers.request("INVITE")
    answers.reply(got, 180)
    asks.response(180)
    asks.cancel(sent, [("Reason", "SIP;cause=487")])
    asks.response(200)
    cancel = answers.request("CANCEL")
    assert (cancel.via.branch, cancel.headers.get("Reason")) == (got.via.branch, "SIP;cause=487")
    answers.reply(cancel, 200)
    answers.reply(got, 487)
    answers.request("ACK")
    asks.ack(sent, asks.response(487))
    bench.run(1.0)
    bench.hang_up(bench.caller)
    assert bench.fact(e.Ended).reason == "completed"


@WHO
def test_a_bye_while_it_is_under_way_ends_both(bench: Bench, who: str) -> None:
    bench.answered()
    asks, answers, mine, _ = parties(bench, who)
    asks.ask("INVITE", body=mine)
    got = answers.request("INVITE")
    answers.reply(got, 100)
    bench.run(0.1)
    reinvite = asks.asked
    asks.ask("BYE")
    asks.response(200)
    asks.ack(reinvite, asks.response(487))
    cancel, bye = answers.request("CANCEL"), answers.request("BYE")
    answers.reply(cancel, 200)
    answers.reply(bye, 200)
    answers.reply(got, 487)
    answers.request("ACK")


def test_an_answer_that_crosses_a_bye_is_acknowledged(bench: Bench) -> None:
    bench.answered()
    bench.caller.ask("INVITE", body=OFFER)
    reinvite = bench.caller.asked
    got = bench.edge.request("INVITE")
    bench.caller.ask("BYE")
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.response(200)
    bench.caller.ack(reinvite, bench.caller.response(487))
    bye = bench.edge.request("BYE")
    bench.edge.request("ACK")
    bench.edge.reply(bye, 200)


def test_an_answer_that_cannot_be_relayed_ends_the_call(bench: Bench) -> None:
    bench.answered()
    bench.caller.ask("INVITE", body=OFFER)
    bench.edge.reply(bench.edge.request("INVITE"), 200, body=b"v=0\r\nm=audio nonsense\r\n")
    bench.caller.ack(bench.caller.asked, bench.caller.response(488))
    bench.edge.request("ACK")
    for party in (bench.edge, bench.caller):
        party.reply(party.request("BYE"), 200)
    assert bench.fact(e.Ended).reason == "sdp-unusable"


def test_an_offer_that_cannot_be_relayed_is_refused_and_the_call_goes_on(bench: Bench) -> None:
    bench.answered()
    bench.caller.ask("INVITE", body=b"v=0\r\nm=audio nonsense\r\n")
    bench.caller.ack(bench.caller.asked, bench.caller.response(488))
    bench.edge.hears_nothing()
    bench.hang_up(bench.edge)


def test_a_new_m_line_gets_ports_of_its_own(bench: Bench) -> None:
    bench.answered()
    video = b"m=video 4002 RTP/AVP 96\r\n"
    got, _ = renegotiated(bench.caller, bench.edge, OFFER + video, ANSWER + b"m=video 6002 RTP/AVP 96\r\n")
    assert b"m=audio 10002 " in got.body
    assert b"m=video 10006 " in got.body
    assert [effect.m_line for effect in bench.facts(e.OpenMedia)] == [0, 1]
    bench.hang_up(bench.caller)


def test_a_call_may_be_held_for_ten_minutes(bench: Bench) -> None:
    bench.answered()
    renegotiated(bench.caller, bench.edge, OFFER + b"a=inactive\r\n", ANSWER + b"a=inactive\r\n")
    bench.run(600.0)
    assert bench.engine.describe()["calls"] == 1
    bench.hang_up(bench.caller)
