"""RFC 3515 (REFER) between two legs, where the numbers of one mean nothing on the other."""

from __future__ import annotations

import pytest

from sidecar.identity.digest import Credentials
from sidecar.sip.message import Request
from tests.core.b2bua.harness import ANSWER, Bench, Party
from tests.core.b2bua.types import Make

WHO = pytest.mark.parametrize("who", ["caller", "edge"])
TARGET = ("Refer-To", "<sip:carol@192.0.2.30>")
SIPFRAG = ("Content-Type", "message/sipfrag;version=2.0")
ACTIVE = ("Subscription-State", "active;expires=60")
LAST = ("Subscription-State", "terminated;reason=noresource")


def answered(bench: Bench, number: int = 17) -> None:
    """A call whose legs count differently: the edge's ring was acknowledged by us, and the caller's session refreshed."""
    timer = [("Supported", "timer"), ("Allow", "INVITE, ACK, BYE, UPDATE"), ("Session-Expires", "600;refresher=uas")]
    sent = bench.invite(headers=timer, number=number)
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180, headers=[("Require", "100rel"), ("RSeq", "1")])
    bench.caller.response(180)
    bench.edge.reply(bench.edge.request("PRACK"), 200)
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.caller.reply(bench.caller.request("UPDATE", within=301.0), 200)


def sides(bench: Bench, who: str) -> tuple[Party, Party]:
    """Who asks for a transfer, and who is to call."""
    return (bench.caller, bench.edge) if who == "caller" else (bench.edge, bench.caller)


def referred(asks: Party, answers: Party) -> tuple[Request, Request]:
    """A REFER that was taken: as it was sent, and as it arrived."""
    sent = asks.ask("REFER", headers=[TARGET])
    got = answers.request("REFER")
    answers.reply(got, 202)
    asks.response(202)
    return sent, got


def notified(asks: Party, answers: Party, event: str, state: tuple[str, str]) -> str | None:
    """A notification that crosses: its Event as it arrived."""
    answers.ask("NOTIFY", headers=[("Event", event), state, SIPFRAG], body=b"SIP/2.0 100 Trying\r\n")
    got = asks.request("NOTIFY")
    asks.reply(got, 200)
    answers.response(200)
    return got.headers.get("Event")


@WHO
def test_rfc3515_2_4_6_the_id_of_a_notification_is_the_number_that_its_refer_was_sent_with(bench: Bench, who: str) -> None:
    answered(bench)
    asks, answers = sides(bench, who)
    (first, at_first), (second, at_second) = referred(asks, answers), referred(asks, answers)
    assert first.cseq.number != at_first.cseq.number
    for sent, got, state in ((second, at_second, ACTIVE), (first, at_first, LAST), (second, at_second, LAST)):
        assert notified(asks, answers, f"refer;id={got.cseq.number}", state) == f"refer;id={sent.cseq.number}"
    bench.hang_up(bench.caller)


@WHO
def test_rfc3515_2_4_6_a_subscribe_that_refreshes_or_ends_it_names_the_refer_that_its_recipient_got(bench: Bench, who: str) -> None:
    answered(bench)
    asks, answers = sides(bench, who)
    sent, got = referred(asks, answers)
    asks.ask("SUBSCRIBE", headers=[("Event", f"refer ; x=y;ID={sent.cseq.number};z"), ("Expires", "0")])
    subscribe = answers.request("SUBSCRIBE")
    assert subscribe.headers.get("Event") == f"refer ; x=y;ID={got.cseq.number};z"
    answers.reply(subscribe, 200)
    asks.response(200)
    notified(asks, answers, f"refer;id={got.cseq.number}", LAST)
    bench.hang_up(bench.caller)


def test_rfc3515_2_4_6_transfers_of_both_parties_with_one_number_are_not_mixed_up(bench: Bench) -> None:
    answered(bench, number=1)
    asked, _ = referred(bench.caller, bench.edge)
    theirs, got = referred(bench.edge, bench.caller)
    assert asked.cseq.number == got.cseq.number == 2
    assert notified(bench.edge, bench.caller, "refer;id=2", LAST) == f"refer;id={theirs.cseq.number}"
    bench.caller.ask("SUBSCRIBE", headers=[("Event", "refer;id=2"), ("Expires", "0")])
    subscribe = bench.edge.request("SUBSCRIBE")
    assert subscribe.headers.get("Event") == "refer;id=3"
    bench.edge.reply(subscribe, 200)
    bench.caller.response(200)
    assert notified(bench.caller, bench.edge, "refer;id=3", LAST) == "refer;id=2"
    bench.hang_up(bench.caller)


@pytest.mark.parametrize("event", ["refer", "refer;id=4711", "refer;id=x", "dialog;id={number}", "refer;ids={number}"])
def test_rfc3515_2_4_6_an_id_of_no_refer_crosses_as_it_came(bench: Bench, event: str) -> None:
    answered(bench)
    _, got = referred(bench.caller, bench.edge)
    event = event.format(number=got.cseq.number)
    assert notified(bench.caller, bench.edge, event, LAST) == event
    bench.hang_up(bench.caller)


def test_rfc3515_2_4_6_a_refer_that_was_challenged_is_known_by_its_last_number(make: Make) -> None:
    bench = make(credentials=Credentials("sidecar", "secret"))
    bench.answered()
    sent = bench.caller.ask("REFER", headers=[TARGET])
    bench.edge.reply(bench.edge.request("REFER"), 407, headers=[("Proxy-Authenticate", 'Digest realm="edge", nonce="n", qop="auth"')])
    got = bench.edge.request("REFER")
    assert got.cseq.number == sent.cseq.number + 1
    bench.edge.reply(got, 202)
    bench.caller.response(202)
    assert notified(bench.caller, bench.edge, f"refer;id={got.cseq.number}", LAST) == f"refer;id={sent.cseq.number}"
    bench.hang_up(bench.caller)


@WHO
def test_rfc3515_2_4_4_a_notification_may_come_before_the_answer_to_its_refer(bench: Bench, who: str) -> None:
    answered(bench)
    asks, answers = sides(bench, who)
    sent = asks.ask("REFER", headers=[TARGET])
    got = answers.request("REFER")
    assert notified(asks, answers, f"refer;id={got.cseq.number}", LAST) == f"refer;id={sent.cseq.number}"
    answers.reply(got, 202)
    asks.response(202)
    bench.hang_up(bench.caller)


@WHO
@pytest.mark.parametrize("targets", [[], [TARGET, TARGET], [("Refer-To", "<sip:a@192.0.2.30>, <sip:b@192.0.2.30>")]])
def test_rfc3515_2_4_2_a_refer_with_none_or_several_refer_to_gets_400(bench: Bench, who: str, targets: list[tuple[str, str]]) -> None:
    bench.answered()
    asks, answers = sides(bench, who)
    asks.ask("REFER", headers=targets)
    asks.response(400)
    answers.hears_nothing()
    bench.hang_up(bench.caller)


@WHO
def test_rfc3515_2_a_refer_has_one_contact_which_is_ours(bench: Bench, who: str) -> None:
    bench.answered()
    asks, answers = sides(bench, who)
    _, got = referred(asks, answers)
    (contact,) = got.headers.all("Contact")
    assert "@192.0.2.1:5060" in contact
    notified(asks, answers, "refer", LAST)
    bench.hang_up(bench.caller)
