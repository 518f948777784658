"""CANCEL (RFC 3261 section 9) in every state of the set-up."""

from __future__ import annotations

from sidecar.b2bua import effects as e
from sidecar.identity.digest import Credentials
from sidecar.sip.message import Request
from tests.core.b2bua.harness import ANSWER, GIVE_UP, Bench
from tests.core.b2bua.types import Make

REASON = ("Reason", 'SIP;cause=200;text="Call completed elsewhere"')


def cancelled(bench: Bench) -> None:
    """What the trace says of a cancelled call."""
    ended = bench.fact(e.Ended)
    assert (ended.status, ended.ended_by, ended.reason) == (487, "caller", "cancelled")
    assert bench.facts(e.Answered) == []


def give_up(bench: Bench, sent: Request, headers: list[tuple[str, str]] | None = None) -> None:
    """The caller cancels and is told 487 at once, whatever the edge does."""
    cancel = bench.caller.cancel(sent, headers or [])
    ok = bench.caller.response(200)
    assert ok.cseq == cancel.cseq
    final = bench.caller.response(487)
    assert final.cseq == sent.cseq
    assert ok.to_tag is not None
    bench.caller.ack(sent, final)


def test_before_the_edges_name_is_known_no_invite_leaves_at_all(make: Make) -> None:
    bench = make(target="sip:agent@edge.example:5070")
    sent = bench.invite()
    give_up(bench, sent)
    bench.run(1.0)
    bench.resolve("192.0.2.20")
    bench.edge.hears_nothing()
    cancelled(bench)
    assert bench.facts(e.Dialled) == []


def test_before_any_provisional_the_cancel_waits_for_one(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    give_up(bench, sent, [REASON])
    bench.edge.hears_nothing(0.3)
    bench.edge.reply(got, 100)
    cancel = bench.edge.request("CANCEL")
    assert (cancel.uri, cancel.via.branch, cancel.cseq.number) == (got.uri, got.via.branch, got.cseq.number)
    assert (cancel.headers.get("From"), cancel.headers.get("To")) == (got.headers.get("From"), got.headers.get("To"))
    assert cancel.headers.get("Reason") == REASON[1]
    bench.edge.reply(cancel, 200)
    bench.edge.reply(got, 487)
    bench.edge.request("ACK")
    cancelled(bench)


def test_while_it_rings(bench: Bench) -> None:
    sent, got = bench.ringing()
    give_up(bench, sent, [REASON, ("X-Why", "impatience"), ("Require", "nothing")])
    cancel = bench.edge.request("CANCEL")
    assert (cancel.headers.get("Reason"), cancel.headers.get("X-Why"), cancel.headers.get("Require")) == (REASON[1], "impatience", None)
    bench.edge.reply(cancel, 200)
    bench.edge.reply(got, 487)
    bench.edge.request("ACK")
    bench.run(0.1)
    cancelled(bench)
    assert bench.ladder() == [
        "A -> INVITE",
        "A <- 100",
        "B -> INVITE",
        "B <- 180",
        "A <- 180",
        "A -> CANCEL",
        "A <- 200",
        "A <- 487",
        "B -> CANCEL",
        "A -> ACK",
        "B <- 200",
        "B <- 487",
        "B -> ACK",
    ]


def test_behind_an_answer_that_is_on_its_way_it_has_no_effect(bench: Bench) -> None:
    sent, got = bench.ringing()
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.cancel(sent)  # reaches the sidecar just after the 200 has left it again (9.2)
    answer = bench.caller.response(200)
    assert answer.cseq == sent.cseq
    assert bench.caller.response(200).cseq.method == "CANCEL"
    bench.caller.ack(sent, answer)
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


def test_an_answer_that_crosses_our_cancel_is_acknowledged_and_ended(bench: Bench) -> None:
    sent, got = bench.ringing()
    give_up(bench, sent)
    answer = bench.edge.reply(got, 200, body=ANSWER)  # before the CANCEL gets there
    cancel = bench.edge.request("CANCEL")
    bench.edge.reply(cancel, 481)
    bench.edge.request("ACK")
    bye = bench.edge.request("BYE")
    bench.edge.send(answer)
    bench.edge.request("ACK")
    bench.edge.reply(bye, 200)
    bench.caller.hears_nothing()
    cancelled(bench)


def test_after_the_answer_it_has_no_effect(bench: Bench) -> None:
    sent, _ = bench.answered()
    bench.caller.cancel(sent)
    bench.caller.response(200)
    bench.edge.hears_nothing()
    bench.hang_up(bench.caller)
    assert bench.fact(e.Ended).reason == "completed"


def test_an_edge_that_answers_neither_cancel_nor_invite_is_given_up(bench: Bench) -> None:
    sent, _ = bench.ringing()
    give_up(bench, sent)
    bench.run(GIVE_UP - 0.1)
    assert bench.engine.describe()["calls"] == 1
    bench.run(0.3)
    assert bench.engine.describe()["calls"] == 0
    cancelled(bench)
    bench.edge.inbox.clear()


def test_a_cancelled_call_that_was_challenged_is_not_dialled_again(make: Make) -> None:
    bench = make(credentials=Credentials("sidecar", "secret"))
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    give_up(bench, sent)
    bench.edge.reply(got, 401, headers=[("WWW-Authenticate", 'Digest realm="edge", nonce="n1", qop="auth"')])
    bench.edge.request("ACK")
    bench.edge.hears_nothing()
    cancelled(bench)


def test_a_cancel_for_nothing_is_answered_481(bench: Bench) -> None:
    sent, got = bench.ringing()
    stranger = Request("CANCEL", sent.uri, sent.headers.copy())
    stranger.headers.set("Via", bench.caller.via())
    stranger.headers.set("CSeq", "17 CANCEL")
    bench.caller.send(stranger)
    bench.caller.response(481)
    bench.edge.hears_nothing()
    give_up(bench, sent)
    bench.edge.reply(bench.edge.request("CANCEL"), 200)
    bench.edge.reply(got, 487)
    bench.edge.request("ACK")
