"""BYE from either side, at every awkward moment (RFC 3261 section 15)."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.b2bua import outcome as o
from tests.core.b2bua.harness import ANSWER, GIVE_UP, Bench, word

SAID = [("Reason", 'Q.850;cause=16;text="Normal call clearing"'), ("X-Disposition", "as,  it;is"), ("User-Agent", "a phone")]


@pytest.mark.parametrize("who", ["caller", "agent"])
def test_headers_cross_on_bye(bench: Bench, who: str) -> None:
    bench.answered()
    party, other = (bench.caller, bench.edge) if who == "caller" else (bench.edge, bench.caller)
    party.ask("BYE", headers=[*SAID, ("Authorization", "Digest secret"), ("Content-Type", "text/plain")], body=b"a last word")
    party.response(200)
    got = other.request("BYE")
    assert [(name, value) for name, value in got.headers.items() if (name, value) in SAID] == SAID
    assert (got.body, got.content_type, got.headers.get("Authorization")) == (b"a last word", "text/plain", None)
    other.reply(got, 200)
    bench.run(0.1)
    ended = bench.fact(e.Ended)
    assert (ended.status, ended.ended_by, ended.reason, ended.cause) == (200, who, "completed", f"the {who} hung up")


def test_bye_crossing_bye(bench: Bench) -> None:
    bench.answered()
    bench.caller.ask("BYE")
    bench.edge.ask("BYE")
    bench.run(0.05)
    for party in (bench.caller, bench.edge):
        assert [word(heard.message) for heard in party.inbox] in ([200], [200, "BYE"], ["BYE", 200])
        for heard in party.inbox:
            if word(heard.message) == "BYE":
                party.reply(heard.message, 200)  # type: ignore[arg-type]
        party.inbox.clear()
    bench.run(0.1)
    assert len(bench.facts(e.Gone)) == 1


def test_bye_from_the_edge_before_the_callers_ack_waits_with_the_callers_half(bench: Bench) -> None:
    sent, got = bench.ringing()
    lost = iter([True])
    bench.wire.lose = lambda data, source, dest: data.startswith(b"SIP/2.0 200") and dest == bench.caller.addr and next(lost, False)
    bench.edge.reply(got, 200, body=ANSWER)
    bench.run(0.1)
    bench.edge.ask("BYE", headers=SAID)
    bench.edge.response(200)
    bench.edge.request("ACK")  # 13.2.2.4: its 200 is acknowledged all the same
    answer = bench.caller.response(200)
    # 15: no BYE towards a caller that has not acknowledged.
    bench.caller.hears_nothing(0.3)
    bench.caller.ack(sent, answer)
    bye = bench.caller.request("BYE")
    assert bye.headers.get("Reason") == SAID[0][1]
    bench.caller.reply(bye, 200)
    bench.edge.hears_nothing()
    assert bench.fact(e.Ended).ended_by == "agent"


def test_bye_from_the_edge_and_an_ack_that_never_comes(bench: Bench) -> None:
    _, got = bench.ringing()
    bench.edge.reply(got, 200, body=ANSWER)
    bench.run(0.1)
    bench.edge.ask("BYE")
    bench.run(GIVE_UP + 0.1)
    assert word(bench.caller.inbox[-1].message) == "BYE"
    bench.caller.reply(bench.caller.inbox[-1].message, 200)  # type: ignore[arg-type]
    bench.caller.inbox.clear()
    assert [word(heard.message) for heard in bench.edge.inbox] == [200, "ACK"]


def test_bye_from_the_caller_before_its_ack_gives_the_edge_both(bench: Bench) -> None:
    sent, got = bench.ringing()
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.join(sent, bench.caller.response(200))
    bench.caller.ask("BYE")
    bench.caller.response(200)
    bench.edge.request("ACK")
    bench.edge.reply(bench.edge.request("BYE"), 200)
    bench.caller.hears_nothing(5.0)  # the 200 is not repeated: a caller that says BYE has it
    assert bench.fact(e.Ended).ended_by == "caller"


def test_an_early_bye_of_the_caller_is_as_good_as_cancel(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180)
    bench.caller.join(sent, bench.caller.response(180))
    bench.caller.ask("BYE", headers=SAID)
    bench.caller.response(200)
    bench.caller.ack(sent, bench.caller.response(487))
    cancel = bench.edge.request("CANCEL")
    assert cancel.headers.get("Reason") == SAID[0][1]
    bench.edge.reply(cancel, 200)
    bench.edge.reply(got, 487)
    bench.edge.request("ACK")
    assert bench.fact(e.Ended).reason == "cancelled"


def test_an_early_bye_ends_one_fork_and_leaves_the_others_ringing(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180, tag="fork-1")
    bench.caller.join(sent, bench.caller.response(180))
    bench.edge.reply(got, 180, tag="fork-2")
    bench.caller.response(180)
    bench.caller.ask("BYE")
    bench.caller.response(200)
    bye = bench.edge.request("BYE")
    assert bye.to_tag == "fork-1"
    bench.edge.reply(bye, 200)
    bench.edge.reply(got, 200, tag="fork-1", body=ANSWER)  # it answers nevertheless
    bench.edge.request("ACK")
    bench.edge.reply(bench.edge.request("BYE"), 200)
    bench.edge.reply(got, 200, tag="fork-2", body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    assert bench.edge.request("ACK").to_tag == "fork-2"
    bench.hang_up(bench.caller)


def test_an_early_bye_of_the_edge_refuses_the_call(bench: Bench) -> None:
    sent, got = bench.ringing()
    bench.edge.join_as_callee(got, "edge-1")
    bench.edge.ask("BYE")
    bench.edge.response(200)
    bench.caller.ack(sent, bench.caller.response(480))
    bench.edge.reply(bench.edge.request("CANCEL"), 200)
    bench.edge.reply(got, 487)
    bench.edge.request("ACK")
    ended = bench.fact(e.Ended)
    assert (ended.ended_by, ended.reason) == ("agent", "rejected")


def test_a_bye_that_nobody_answers_ends_the_call_all_the_same(bench: Bench) -> None:
    bench.answered()
    bench.caller.ask("BYE")
    bench.caller.response(200)
    bench.run(GIVE_UP + 0.1)
    assert len(bench.facts(e.Gone)) == 1
    assert {word(heard.message) for heard in bench.edge.inbox} == {"BYE"}


def test_a_repeated_bye_is_answered_again_and_crosses_once(bench: Bench) -> None:
    bench.answered()
    bye = bench.caller.ask("BYE")
    bench.caller.response(200)
    bench.edge.reply(bench.edge.request("BYE"), 200)
    bench.run(0.1)
    bench.caller.send(bye)
    bench.caller.response(200)
    bench.edge.hears_nothing()


def test_a_bye_with_a_request_under_way_gives_it_487(bench: Bench) -> None:
    bench.answered()
    bench.edge.ask("INFO")
    bench.caller.request("INFO")  # never answered
    bench.caller.ask("BYE")
    bench.caller.response(200)
    assert bench.edge.response(487).cseq.method == "INFO"
    bench.edge.reply(bench.edge.request("BYE"), 200)
    bench.run(GIVE_UP)
    bench.caller.inbox.clear()


def test_the_sidecar_may_end_an_answered_call(bench: Bench) -> None:
    bench.answered()
    call = bench.fact(e.Started).call
    assert bench.engine.hang_up(call, o.overrun("the deadline came"), bench.clock.now)
    bench.pump()
    for party in (bench.caller, bench.edge):
        bye = party.request("BYE")
        assert bye.headers.get("Reason") == 'SIP;cause=503;text="drained"'
        party.reply(bye, 200)
    ended = bench.fact(e.Ended)
    assert (ended.status, ended.ended_by, ended.reason, ended.cause) == (200, "sidecar", "drained", "the deadline came")
    bench.run(0.1)
    assert not bench.engine.hang_up(call, o.overrun("again"), bench.clock.now)


def test_the_sidecar_may_end_a_call_that_rings(bench: Bench) -> None:
    sent, got = bench.ringing()
    assert bench.engine.hang_up(bench.fact(e.Started).call, o.hung_up_by_operator("an operator said so"), bench.clock.now)
    bench.pump()
    final = bench.caller.response(480)
    assert "an operator said so" in (final.headers.get("Warning") or "")
    bench.caller.ack(sent, final)
    bench.edge.reply(bench.edge.request("CANCEL"), 200)
    bench.edge.reply(got, 487)
    bench.edge.request("ACK")
    assert bench.fact(e.Ended).status == 480


def test_the_sidecar_ends_a_call_whose_ack_is_missing_without_bye_to_the_caller_before_it(bench: Bench) -> None:
    sent, got = bench.ringing()
    bench.edge.reply(got, 200, body=ANSWER)
    answer = bench.caller.response(200)
    bench.engine.hang_up(bench.fact(e.Started).call, o.overrun("the deadline came"), bench.clock.now)
    bench.pump()
    bench.edge.request("ACK")
    bench.edge.reply(bench.edge.request("BYE"), 200)
    bench.caller.hears_nothing(0.3)
    bench.caller.ack(sent, answer)
    bench.caller.reply(bench.caller.request("BYE"), 200)
