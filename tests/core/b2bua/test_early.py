"""Provisional answers: with and without a description, from one edge or several, and what becomes of those that lose."""

from __future__ import annotations

from sidecar.b2bua import effects as e
from sidecar.sip.message import Request, Response
from sidecar.sip.targets import Target
from tests.core.b2bua.harness import ANSWER, EDGE, Bench, Party
from tests.core.b2bua.types import Make


def cancelled(bench: Bench, sent: Request, got: Request) -> None:
    """End a call that rings."""
    bench.caller.cancel(sent)
    bench.caller.response(200)
    bench.caller.ack(sent, bench.caller.response(487))
    bench.edge.reply(bench.edge.request("CANCEL"), 200)
    bench.edge.reply(got, 487)
    bench.edge.request("ACK")


def answered_by(bench: Bench, sent: Request, got: Request, tag: str, body: bytes = ANSWER) -> Response:
    """One fork answers and the caller takes it."""
    bench.edge.reply(got, 200, tag=tag, body=body)
    answer = bench.caller.response(200)
    bench.caller.ack(sent, answer)
    bench.edge.request("ACK")
    return answer


def test_ringing_crosses_without_a_body(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180, reason="It rings", headers=[("Alert-Info", "<http://www.example.com/ring.wav>")])
    heard = bench.caller.response(180)
    assert (heard.reason, heard.body, heard.headers.get("Alert-Info")) == ("It rings", b"", "<http://www.example.com/ring.wav>")
    assert heard.to_tag == "stag-1"
    cancelled(bench, sent, got)


def test_early_media_is_relayed_and_described(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 183, body=ANSWER)
    heard = bench.caller.response(183)
    assert b"c=IN IP4 192.0.2.1\r\n" in heard.body
    assert b"m=audio 10000 " in heard.body
    assert [fact.leg for fact in bench.facts(e.MediaDescribed)] == ["A", "B"]
    cancelled(bench, sent, got)


def test_a_provisional_without_to_tag_forms_no_dialog_and_still_crosses(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    answer = bench.edge.reply(got, 180)
    answer.headers.set("To", got.headers.get("To") or "")
    bench.caller.response(180)
    bench.edge.send(answer)
    assert bench.caller.response(180).to_tag == "stag-1"
    assert answered_by(bench, sent, got, "edge-1").to_tag == "stag-1"
    bench.hang_up(bench.caller)


def test_each_early_dialog_of_a_forking_edge_has_a_tag_of_its_own_towards_the_caller(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    tags = []
    for fork in ("fork-1", "fork-2", "fork-1", "fork-3", "fork-2"):
        bench.edge.reply(got, 180, tag=fork)
        tags.append(bench.caller.response(180).to_tag)
    assert tags[0] == tags[2]
    assert tags[1] == tags[4]
    assert len(set(tags)) == 3
    assert answered_by(bench, sent, got, "fork-2").to_tag == tags[1]
    bench.hang_up(bench.edge)


def test_media_follows_the_early_dialog_that_answers_also_without_a_description_in_its_200(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    for fork, port in (("fork-1", b"6100"), ("fork-2", b"6200")):
        bench.edge.reply(got, 183, tag=fork, body=ANSWER.replace(b"6000", port))
        bench.caller.expect(183)
    assert [fact.line.port for fact in bench.facts(e.MediaDescribed)] == [4000, 6100, 6200]
    answered_by(bench, sent, got, "fork-1", body=b"")
    assert [fact.line.port for fact in bench.facts(e.MediaDescribed)] == [4000, 6100, 6200, 6100]
    bench.hang_up(bench.caller)


def test_the_second_answer_of_a_forking_edge_is_acknowledged_and_ended(bench: Bench) -> None:
    _, got = bench.answered()
    second = bench.edge.reply(got, 200, tag="fork-2", body=ANSWER, contact="<sip:second@192.0.2.20:5070>")
    ack, bye = bench.edge.request("ACK"), bench.edge.request("BYE")
    assert (ack.uri, ack.to_tag, ack.cseq.number) == ("sip:second@192.0.2.20:5070", "fork-2", got.cseq.number)
    assert (bye.uri, bye.to_tag) == ("sip:second@192.0.2.20:5070", "fork-2")
    bench.edge.reply(bye, 200)
    bench.edge.send(second)
    assert bench.edge.request("ACK").encode() == ack.encode()
    assert bench.caller.inbox == []
    bench.edge.reply(got, 200, body=ANSWER)  # the first fork again: its ACK was lost
    assert bench.edge.request("ACK").to_tag == "edge-1"
    bench.hang_up(bench.caller)


def test_a_second_answer_after_the_call_is_gone_is_still_acknowledged_and_ended(bench: Bench) -> None:
    _, got = bench.answered()
    bench.hang_up(bench.caller)
    bench.run(1.0)
    assert bench.engine.describe()["calls"] == 0
    bench.edge.reply(got, 200, tag="fork-2", body=ANSWER)
    bench.edge.request("ACK")
    bench.edge.reply(bench.edge.request("BYE"), 200)


def test_a_request_inside_one_early_dialog_goes_to_the_contact_of_that_one(bench: Bench) -> None:
    sent = bench.invite(headers=[("Supported", "100rel")])
    got = bench.edge.request("INVITE")
    reliable = [("Require", "100rel"), ("RSeq", "41")]
    bench.edge.reply(got, 183, tag="fork-1", headers=reliable, contact="<sip:one@192.0.2.20:5070>")
    bench.caller.expect(183)
    bench.edge.reply(got, 183, tag="fork-2", headers=reliable, contact="<sip:two@192.0.2.20:5070>")
    heard = bench.caller.response(183)
    assert (heard.headers.get("Require"), heard.headers.get("RSeq")) == ("100rel", "41")
    bench.caller.join(sent, heard)
    prack = bench.caller.ask("PRACK", headers=[("RAck", "41 17 INVITE")])
    came = bench.edge.request("PRACK")
    assert (came.uri, came.to_tag) == ("sip:two@192.0.2.20:5070", "fork-2")
    bench.edge.reply(came, 200)
    assert bench.caller.response(200).cseq == prack.cseq
    answered_by(bench, sent, got, "fork-2")
    bench.hang_up(bench.caller)


def test_requests_of_a_fork_that_lost_do_not_touch_the_call(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180, tag="fork-1")
    bench.caller.expect(180)
    bench.edge.reply(got, 180, tag="fork-2")
    bench.caller.expect(180)
    answered_by(bench, sent, got, "fork-2")
    winner = bench.edge.dialog
    bench.edge.join_as_callee(got, "fork-1")
    bench.edge.ask("INFO")
    bench.edge.response(481)
    bench.edge.ask("BYE")
    bench.edge.response(200)
    bench.caller.hears_nothing()
    bench.edge.dialog = winner
    bench.hang_up(bench.caller)
    assert bench.fact(e.Ended).ended_by == "caller"


def rings_again(bench: Bench, seconds: float, *, times: int) -> None:
    """The caller hears the same 180 each minute, and nothing else (13.3.1.1)."""
    first = bench.caller.all[-1].data
    bench.run(seconds)
    assert [heard.data for heard in bench.caller.inbox] == [first] * times
    bench.caller.inbox.clear()


def test_a_phone_may_ring_for_ninety_seconds(bench: Bench) -> None:
    sent, got = bench.ringing()
    rings_again(bench, 90.0, times=1)
    answered_by(bench, sent, got, "edge-1")
    bench.hang_up(bench.caller)
    assert round(bench.fact(e.Ended).timings.to_answer or 0, 2) == 90.04


def test_each_provisional_answer_lets_it_ring_for_another_limit(bench: Bench) -> None:
    sent, got = bench.ringing()
    for _ in range(3):
        rings_again(bench, 150.0, times=2)
        bench.edge.reply(got, 180)
        bench.caller.expect(180)
    answered_by(bench, sent, got, "edge-1")
    bench.hang_up(bench.caller)


def test_a_ring_without_end_is_cancelled_and_told_as_408(bench: Bench) -> None:
    sent, got = bench.ringing()
    rings_again(bench, 199.0, times=3)
    final = bench.caller.response(408, within=2.0)
    assert "rang for 200 s" in (final.headers.get("Warning") or "")
    bench.caller.ack(sent, final)
    bench.edge.reply(bench.edge.request("CANCEL"), 200)
    bench.edge.reply(got, 487)
    bench.edge.request("ACK")
    ended = bench.fact(e.Ended)
    assert (ended.status, ended.ended_by, ended.reason) == (408, "sidecar", "upstream-silent")


def test_early_dialogs_that_offer_different_media_get_their_ports_each_once(bench: Bench) -> None:
    sent = bench.invite(body=b"")
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 183, tag="fork-1", body=ANSWER)
    assert b"m=audio 10000 " in bench.caller.response(183).body
    bench.edge.reply(got, 183, tag="fork-2", body=ANSWER + b"m=video 6002 RTP/AVP 96\r\n")
    second = bench.caller.response(183).body
    assert b"m=audio 10000 " in second
    assert b"m=video 10004 " in second
    bench.caller.hears_nothing()
    assert [effect.m_line for effect in bench.facts(e.OpenMedia)] == [0, 1]
    cancelled(bench, sent, got)


def test_an_edge_that_says_only_trying_is_given_up_after_the_same_limit(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 100)
    bench.caller.hears_nothing(199.0)
    bench.caller.ack(sent, bench.caller.response(408, within=2.0))
    bench.edge.reply(bench.edge.request("CANCEL"), 200)
    bench.edge.reply(got, 487)
    bench.edge.request("ACK")


def test_what_is_numbered_is_not_said_again(bench: Bench) -> None:
    """RFC 3262 3: the edge repeats it itself for want of a PRACK, and the caller would take another one for it."""
    sent = bench.invite(headers=[("Supported", "100rel")])
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180, headers=[("Require", "100rel"), ("RSeq", "5")])
    bench.caller.response(180)
    bench.caller.hears_nothing(90.0)
    bench.edge.reply(got, 486)
    bench.edge.request("ACK")
    bench.caller.ack(sent, bench.caller.response(486))


def test_the_ring_of_a_target_that_failed_is_not_repeated(make: Make) -> None:
    targets = tuple(Target("udp", "edge.example", *addr) for addr in (EDGE, ("192.0.2.21", 5070)))
    bench = make(target="sip:agent@edge.example", names={"edge.example": targets})
    second = Party(bench, ("192.0.2.21", 5070), "second")
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180)
    bench.caller.response(180)
    bench.edge.reply(got, 503)
    bench.edge.request("ACK")
    got = second.request("INVITE")
    second.reply(got, 100)
    bench.caller.hears_nothing(90.0)
    second.reply(got, 486)
    second.request("ACK")
    bench.caller.ack(sent, bench.caller.response(486))
