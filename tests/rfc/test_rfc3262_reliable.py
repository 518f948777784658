"""RFC 3262 (PRACK) where we are one end of it: towards a caller that insists, and towards an edge whose caller cannot."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.identity.digest import Credentials
from sidecar.sip.dialog import Dialog
from sidecar.sip.message import Request, Response, response_to
from sidecar.sip.targets import Target
from tests.core.b2bua.harness import ANSWER, EDGE, OFFER, Bench, Party
from tests.core.b2bua.types import Make

RELIABLE = [("Require", "100rel"), ("RSeq", "41")]


def insisting(bench: Bench) -> tuple[Request, Request]:
    """A caller that requires 100rel and an edge that has refused it: the INVITE as sent, and as the edge takes it."""
    sent = bench.invite(headers=[("Require", "100rel")])
    bench.edge.reply(bench.edge.request("INVITE"), 420, headers=[("Unsupported", "100rel")])
    bench.edge.request("ACK")
    return sent, bench.edge.request("INVITE")


def rseq(response: Response) -> int:
    """Its number; 0 without one."""
    return int(response.headers.get("RSeq") or "0")


def prack(bench: Bench, sent: Request, answer: Response, **more: object) -> None:
    """The caller acknowledges a provisional response in its dialog."""
    bench.caller.join(sent, answer)
    headers = [("RAck", f"{rseq(answer)} {sent.cseq}"), *more.pop("headers", ())]  # type: ignore[misc]
    bench.caller.ask("PRACK", headers=headers, **more)  # type: ignore[arg-type]


def finish(bench: Bench, sent: Request, got: Request, tag: str = "edge-1") -> None:
    """The edge answers, and the caller hangs up."""
    bench.edge.reply(got, 200, tag=tag, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


def test_rfc3262_3_a_caller_that_insists_without_an_offer_gets_the_edges_420(bench: Bench) -> None:
    """5: the first reliable response would have to offer, and only an edge that knows PRACK could be answered there."""
    sent = bench.invite(body=b"", headers=[("Require", "100rel")])
    bench.edge.reply(bench.edge.request("INVITE"), 420, headers=[("Unsupported", "100rel")])
    bench.edge.request("ACK")
    refused = bench.caller.response(420)
    assert refused.headers.get("Unsupported") == "100rel"
    bench.caller.ack(sent, refused)
    bench.edge.hears_nothing()


def test_rfc3262_5_an_edge_that_ignores_100rel_makes_no_reliable_response_without_an_offer(bench: Bench) -> None:
    sent = bench.invite(body=b"", headers=[("Require", "100rel")])
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180)
    bench.edge.reply(got, 183, body=ANSWER)
    bench.caller.hears_nothing()
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200), body=ANSWER)
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


@pytest.mark.parametrize("asked", [[("Require", "100rel")], [("Supported", "100rel")], []])
def test_rfc3262_3_a_response_without_a_tag_has_no_dialog_to_be_acknowledged_in(bench: Bench, asked: list[tuple[str, str]]) -> None:
    """Nobody could send its PRACK: it is told without a number, and not at all to who wants none without."""
    sent = bench.invite(headers=asked)
    got = bench.edge.request("INVITE")
    tagless = response_to(got, 180, headers=RELIABLE)
    assert tagless.to_tag is None
    bench.edge.send(tagless)
    if ("Require", "100rel") in asked:
        bench.caller.hears_nothing()
    else:
        heard = bench.caller.response(180)
        assert ("Require" in heard.headers, "RSeq" in heard.headers) == (False, False)
    bench.edge.hears_nothing()
    finish(bench, sent, got)


def test_rfc3262_3_the_numbers_rise_by_one_within_each_early_dialog(bench: Bench) -> None:
    sent, got = insisting(bench)
    heard: dict[str, list[int]] = {"fork-1": [], "fork-2": []}
    for fork in ("fork-1", "fork-2", "fork-1", "fork-2"):
        bench.edge.reply(got, 180, tag=fork)
        answer = bench.caller.response(180)
        heard[fork].append(rseq(answer))
        prack(bench, sent, answer)
        bench.caller.response(200)
    assert [second - first for first, second in heard.values()] == [1, 1]
    finish(bench, sent, got, "fork-2")


def test_rfc3262_3_a_prack_in_another_dialog_does_not_match(bench: Bench) -> None:
    sent, got = insisting(bench)
    bench.edge.reply(got, 180, tag="fork-1")
    prack(bench, sent, bench.caller.response(180))
    bench.caller.response(200)
    bench.edge.reply(got, 180, tag="fork-1")
    first = bench.caller.response(180)
    bench.edge.reply(got, 180, tag="fork-2")
    second = bench.caller.response(180)
    assert rseq(first) != rseq(second)
    bench.caller.join(sent, second)
    bench.caller.ask("PRACK", headers=[("RAck", f"{rseq(first)} {sent.cseq}")])
    bench.caller.response(481)
    for answer in (first, second):
        bench.caller.inbox.clear()  # what is repeated for want of its PRACK
        prack(bench, sent, answer)
        bench.caller.response(200)
    bench.caller.hears_nothing(2.0)
    finish(bench, sent, got, "fork-1")


def test_rfc3262_3_an_answer_waits_for_the_descriptions_of_its_own_dialog_alone(bench: Bench) -> None:
    """Two forks described their media and neither was acknowledged: both answers wait, and the one that is released is the call's."""
    sent, got = insisting(bench)
    progress = {}
    for fork in ("fork-1", "fork-2"):
        bench.edge.reply(got, 183, tag=fork, body=ANSWER)
        progress[fork] = bench.caller.response(183)
    dialogs = []
    for fork in ("fork-1", "fork-2"):
        bench.edge.reply(got, 200, tag=fork, body=ANSWER)
        dialogs.append(bench.edge.dialog)
    bench.run(0.2)
    assert bench.caller.inbox == []
    prack(bench, sent, progress["fork-1"])
    assert bench.caller.response(200).cseq.method == "PRACK"
    answer = bench.caller.response(200)
    assert answer.to_tag == progress["fork-1"].to_tag
    # RFC 3261 13.2.2.4: nobody takes the other.
    ack = bench.edge.request("ACK")
    assert ack.to_tag == "fork-2"
    bench.edge.reply(bench.edge.request("BYE"), 200)
    bench.caller.ack(sent, answer)
    bench.edge.request("ACK")
    bench.edge.dialog = dialogs[0]
    bench.hang_up(bench.caller)


def test_rfc3262_3_a_prack_after_a_refusal_is_still_ours_to_take(bench: Bench) -> None:
    sent, got = insisting(bench)
    bench.edge.reply(got, 180)
    ringing = bench.caller.response(180)
    bench.edge.reply(got, 486)
    bench.edge.request("ACK")
    refused = bench.caller.response(486)
    prack(bench, sent, ringing)
    assert bench.caller.response(200).cseq.method == "PRACK"
    bench.caller.ack(sent, refused)


def test_rfc3262_3_a_prack_after_the_answer_is_still_ours_to_take(bench: Bench) -> None:
    """The 200 did not wait for the PRACK of a ring without description; neither does the next ring leave after it."""
    sent, got = insisting(bench)
    bench.edge.reply(got, 180)
    ringing = bench.caller.response(180)
    bench.edge.reply(got, 180, reason="Ringing still")
    bench.edge.reply(got, 200, body=ANSWER)
    answer = bench.caller.response(200)
    prack(bench, sent, ringing)
    assert bench.caller.response(200).cseq.method == "PRACK"
    bench.edge.hears_nothing()
    bench.caller.inbox.clear()  # the 200, repeated for want of its ACK
    prack(bench, sent, ringing)
    refused = bench.edge.request("PRACK")
    bench.edge.reply(refused, 481)
    bench.caller.response(481)
    bench.caller.ack(sent, answer)
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


def test_rfc3262_3_a_prack_that_matches_gets_2xx_whatever_else_it_holds(bench: Bench) -> None:
    sent, got = insisting(bench)
    bench.edge.reply(got, 180)
    prack(bench, sent, bench.caller.response(180), headers=[("Content-Type", "text/plain")], body=b"no offer")
    assert bench.caller.response(200).cseq.method == "PRACK"
    finish(bench, sent, got)


def test_rfc3262_4_a_100_that_asks_for_a_prack_gets_none(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 100, headers=RELIABLE)
    bench.edge.hears_nothing()
    bench.caller.hears_nothing()
    bench.edge.reply(got, 180, headers=RELIABLE)
    bench.caller.response(180)
    ours = bench.edge.request("PRACK")
    # 4: no request but INVITE requires 100rel.
    assert (ours.headers.get("RAck"), "Require" in ours.headers) == (f"41 {got.cseq}", False)
    bench.edge.reply(ours, 200)
    finish(bench, sent, got)


def test_rfc3262_4_the_number_is_kept_for_one_invite_only(make: Make) -> None:
    """An edge that rings, asks for credentials and rings again under the same tag begins anew, and gets a PRACK for both."""
    bench = make(credentials=Credentials("sidecar", "secret"))
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180, headers=RELIABLE)
    bench.caller.response(180)
    bench.edge.reply(bench.edge.request("PRACK"), 200)
    bench.edge.reply(got, 401, headers=[("WWW-Authenticate", 'Digest realm="edge", nonce="n1", qop="auth"')])
    bench.edge.request("ACK")
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180, headers=RELIABLE)
    bench.caller.response(180)
    ours = bench.edge.request("PRACK")
    assert ours.headers.get("RAck") == f"41 {got.cseq}"
    bench.edge.reply(ours, 200)
    finish(bench, sent, got)


@pytest.mark.parametrize("number", ["9" * 5000, "0", "4294967296", "-1", "x"])
def test_rfc3262_7_1_a_number_that_is_none_makes_no_reliable_response(bench: Bench, number: str) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180, headers=[("Require", "100rel"), ("RSeq", number)])
    heard = bench.caller.response(180)
    assert ("Require" in heard.headers, "RSeq" in heard.headers) == (False, False)
    bench.edge.hears_nothing()
    finish(bench, sent, got)


@pytest.mark.parametrize("knows", [True, False])
def test_rfc3262_4_what_is_behind_a_gap_or_comes_again_moves_no_media(bench: Bench, knows: bool) -> None:
    """Whether the PRACKs are the caller's or ours. What the edge repeats for want of a caller's PRACK goes on to the caller."""

    def progress(number: int, port: bytes) -> None:
        headers = [("Require", "100rel"), ("RSeq", str(number))]
        bench.edge.reply(got, 183, headers=headers, body=ANSWER.replace(b"6000", port))

    def acknowledged(number: int) -> None:
        heard = bench.caller.response(183)
        if knows:
            assert rseq(heard) == number
            bench.caller.join(sent, heard)
            counts.append(bench.caller.dialog)
            bench.caller.dialog = counts[0]
            bench.caller.ask("PRACK", headers=[("RAck", f"{number} 17 INVITE")])
        ours = bench.edge.request("PRACK")
        assert ours.headers.get("RAck") == f"{number} {got.cseq}"
        bench.edge.reply(ours, 200)
        if knows:
            bench.caller.response(200)

    counts: list[Dialog | None] = []
    sent = bench.invite(headers=[("Supported", "100rel")] if knows else [])
    got = bench.edge.request("INVITE")
    progress(41, b"6100")
    acknowledged(41)
    progress(43, b"6300")
    bench.edge.hears_nothing()
    bench.caller.hears_nothing()
    progress(42, b"6200")
    acknowledged(42)
    progress(41, b"6100")
    bench.edge.hears_nothing()
    assert [rseq(heard.message) for heard in bench.caller.inbox if isinstance(heard.message, Response)] == ([41] if knows else [])
    bench.caller.inbox.clear()
    assert [fact.line.port for fact in bench.facts(e.MediaDescribed) if fact.leg == "B"] == [6100, 6200]
    bench.edge.reply(got, 200)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.edge)


def test_rfc3262_4_the_same_holds_within_a_reinvite(bench: Bench) -> None:
    bench.answered()
    told = len(bench.facts(e.MediaDescribed))
    asked = bench.caller.ask("INVITE", headers=[("Supported", "100rel")], body=OFFER)
    got = bench.edge.request("INVITE")
    for number, port in ((7, b"6100"), (9, b"6300"), (8, b"6200"), (7, b"6100")):
        headers = [("Require", "100rel"), ("RSeq", str(number))]
        bench.edge.reply(got, 183, headers=headers, body=ANSWER.replace(b"6000", port))
        if number == 9:
            bench.caller.hears_nothing()
        else:
            assert rseq(bench.caller.response(183)) == number
    assert [fact.line.port for fact in bench.facts(e.MediaDescribed)[told:]] == [6100, 6200]
    bench.edge.reply(got, 200)
    bench.caller.ack(asked, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


def test_rfc3262_4_a_reinvite_that_is_sent_again_counts_anew(make: Make) -> None:
    bench = make(credentials=Credentials("sidecar", "secret"))
    bench.answered()
    asked = bench.caller.ask("INVITE", headers=[("Supported", "100rel")], body=OFFER)
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 183, headers=RELIABLE, body=ANSWER.replace(b"6000", b"6100"))
    bench.caller.response(183)
    bench.edge.reply(got, 401, headers=[("WWW-Authenticate", 'Digest realm="edge", nonce="n1", qop="auth"')])
    bench.edge.request("ACK")
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 183, headers=RELIABLE, body=ANSWER.replace(b"6000", b"6200"))
    bench.caller.response(183)
    assert bench.facts(e.MediaDescribed)[-1].line.port == 6200
    bench.edge.reply(got, 200)
    bench.caller.ack(asked, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


@pytest.mark.parametrize(("asked", "refuses"), [("Require", True), ("Require", False), ("Supported", False), ("", False)])
def test_rfc3262_3_and_4_the_next_target_begins_anew(make: Make, asked: str, refuses: bool) -> None:
    """The first target numbers its responses and fails; the second, under the same tag, knows no PRACK, or numbers its own."""
    targets = tuple(Target("udp", "edge.example", *addr) for addr in (EDGE, ("192.0.2.21", 5070)))
    bench = make(target="sip:agent@edge.example", names={"edge.example": targets})
    second = Party(bench, ("192.0.2.21", 5070), "second")
    sent = bench.invite(headers=[(asked, "100rel")] if asked else [])
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180, headers=RELIABLE, tag="tag")
    first = bench.caller.response(180)
    if not asked:
        bench.edge.reply(bench.edge.request("PRACK"), 200)
    bench.edge.reply(got, 503)
    bench.edge.request("ACK")
    got = second.request("INVITE")
    if refuses:
        second.reply(got, 420, headers=[("Unsupported", "100rel")])
        second.request("ACK")
        got = second.request("INVITE")
    if asked == "Require":
        second.reply(got, 180, tag="tag")
    else:
        second.reply(got, 180, headers=RELIABLE, tag="tag", contact="<sip:second@192.0.2.21:5070>")
    ringing = bench.caller.response(180)
    assert (rseq(ringing) > 0, ringing.to_tag != first.to_tag) == (bool(asked), True)
    if asked == "Require":
        prack(bench, sent, ringing)
        assert bench.caller.response(200).cseq.method == "PRACK"
    elif not asked:
        second.reply(second.request("PRACK"), 200)
    second.reply(got, 486)
    second.request("ACK")
    bench.caller.ack(sent, bench.caller.response(486))
