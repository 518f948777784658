"""Session timers (RFC 4028): end to end where both know them, on one leg where only one does. The times are the RFC's own."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.identity.digest import Credentials
from sidecar.sip.message import Request
from tests.core.b2bua.harness import ANSWER, GIVE_UP, OFFER, Bench, Party, word
from tests.core.b2bua.types import Make

ALL = ("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE")
NO_UPDATE = ("Allow", "INVITE, ACK, BYE, CANCEL")
TIMER = ("Supported", "timer")


def up(bench: Bench, asked: list[tuple[str, str]], granted: list[tuple[str, str]]) -> tuple[Request, Request, list[str | None]]:
    """An answered call: the INVITE as sent and as it arrived, and Session-Expires and Require as the caller got them."""
    sent = bench.invite(headers=asked)
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, headers=granted, body=ANSWER)
    answer = bench.caller.response(200)
    bench.caller.ack(sent, answer)
    bench.edge.request("ACK")
    return sent, got, [answer.headers.get("Session-Expires"), answer.headers.get("Require")]


def ended(bench: Bench) -> tuple[str, str, str]:
    """How the call ended."""
    fact = bench.fact(e.Ended)
    return fact.ended_by, fact.reason, fact.cause


def both_leave(bench: Bench) -> None:
    """Each party gets a BYE that says why, and agrees."""
    for party in (bench.caller, bench.edge):
        bye = party.request("BYE", within=0.1)
        assert bye.headers.get("Reason") == 'SIP;cause=408;text="session-expired"'
        party.reply(bye, 200)


# -- both know it ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["caller", "edge"])
@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
def test_four_refreshes_cross_and_the_call_lives_on(bench: Bench, who: str, method: str) -> None:
    refresher = "uac" if who == "caller" else "uas"
    granted = f"1800;refresher={refresher}"
    _, _, heard = up(bench, [TIMER, ("Session-Expires", granted)], [("Require", "timer"), ("Session-Expires", granted)])
    assert heard == [granted, "timer"]
    asks, answers = (bench.caller, bench.edge) if who == "caller" else (bench.edge, bench.caller)
    for _ in range(4):
        bench.run(900.0)
        asks.ask(method, headers=[TIMER, ("Session-Expires", "1800;refresher=uac")], body=OFFER if method == "INVITE" else b"")
        asked = asks.asked
        refresh = answers.request(method)
        assert refresh.headers.get("Session-Expires") == "1800;refresher=uac"
        headers = [("Require", "timer"), ("Session-Expires", "1800;refresher=uac")]
        answers.reply(refresh, 200, headers=headers, body=ANSWER if method == "INVITE" else b"")
        heard_back = asks.response(200)
        assert heard_back.headers.get("Session-Expires") == "1800;refresher=uac"
        if method == "INVITE":
            asks.ack(asked, heard_back)
            answers.request("ACK")
    bench.run(1700.0)
    assert bench.engine.describe()["calls"] == 1
    bench.hang_up(bench.caller)
    assert ended(bench)[1] == "completed"


def test_a_refresh_agreed_while_a_reinvite_rings_is_made_though_that_is_refused(bench: Bench) -> None:
    up(bench, [TIMER, ALL, ("Session-Expires", "1800;refresher=uas")], [])
    for _ in range(2):
        refresh = bench.caller.request("UPDATE", within=901.0)
        asked = bench.caller.ask("INVITE", body=OFFER)
        got = bench.edge.request("INVITE")
        bench.edge.reply(got, 100)
        bench.caller.reply(refresh, 200, headers=[("Require", "timer"), ("Session-Expires", "1800;refresher=uac")])
        bench.run(1.0)
        bench.edge.reply(got, 488)
        bench.edge.request("ACK")
        bench.caller.ack(asked, bench.caller.response(488))
    bench.hang_up(bench.caller)


def test_a_session_that_nobody_refreshes_is_ended_a_little_before_it_is_over(bench: Bench) -> None:
    up(bench, [TIMER, ("Session-Expires", "1800")], [("Require", "timer"), ("Session-Expires", "1800;refresher=uac")])
    bench.run(1767.0)
    assert bench.facts(e.Ended) == []
    bench.run(1.1)  # 10: at most 32 s before the end
    both_leave(bench)
    assert ended(bench) == ("caller", "session-expired", "the session with the caller was not refreshed within 1800 s")


def test_a_refused_refresh_renews_nothing(bench: Bench) -> None:
    up(bench, [TIMER, ("Session-Expires", "90")], [("Require", "timer"), ("Session-Expires", "90;refresher=uac")])
    bench.run(45.0)
    bench.caller.ask("UPDATE", headers=[TIMER, ("Session-Expires", "90;refresher=uac")])
    bench.edge.reply(bench.edge.request("UPDATE"), 500)
    bench.caller.response(500)
    bench.run(15.2)
    both_leave(bench)


def test_a_timer_that_an_answer_does_not_mention_is_off(bench: Bench) -> None:
    """A re-INVITE without Session-Expires, answered without: nothing re-arms the timer against the parties' wish."""
    up(bench, [TIMER, ("Session-Expires", "90")], [("Require", "timer"), ("Session-Expires", "90;refresher=uac")])
    bench.run(30.0)
    bench.caller.ask("INVITE", body=OFFER)
    asked = bench.caller.asked
    got = bench.edge.request("INVITE")
    assert "Session-Expires" not in got.headers
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(asked, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.run(600.0)
    bench.hang_up(bench.caller)
    assert ended(bench)[1] == "completed"


# -- only the caller knows it ----------------------------------------------------------------------------------------------------------


def test_a_caller_that_wants_us_to_refresh_gets_updates_from_us_and_the_edge_hears_nothing(bench: Bench) -> None:
    """The carrier's `refresher=uas` on an edge that knows no timers: without an answer to it, calls die after fifteen minutes."""
    _, _, heard = up(bench, [TIMER, ALL, ("Session-Expires", "1800;refresher=uas")], [])
    assert heard == ["1800;refresher=uas", "timer"]
    for _ in range(4):
        bench.run(899.0)
        assert bench.caller.inbox == []
        update = bench.caller.request("UPDATE", within=1.5)
        assert (update.headers.get("Session-Expires"), update.headers.get("Supported"), update.body) == ("1800;refresher=uac", "timer", b"")
        bench.caller.reply(update, 200, headers=[("Session-Expires", "1800;refresher=uac")])
    bench.edge.hears_nothing()
    bench.hang_up(bench.caller)


def test_a_caller_without_update_gets_reinvites_with_the_description_that_it_has(bench: Bench) -> None:
    up(bench, [TIMER, NO_UPDATE, ("Session-Expires", "1800;refresher=uas")], [])
    told = len(bench.facts(e.MediaDescribed))
    first: bytes | None = None
    for _ in range(4):
        reinvite = bench.caller.request("INVITE", within=901.0)
        first = first or reinvite.body
        assert reinvite.body == first
        assert b"m=audio 10000 " in reinvite.body
        bench.caller.reply(reinvite, 200, headers=[("Session-Expires", "1800;refresher=uac")], body=OFFER)
        assert bench.caller.request("ACK").cseq.number == reinvite.cseq.number
    assert len(bench.facts(e.MediaDescribed)) == told
    # The ACK of the last was lost.
    bench.caller.reply(reinvite, 200, headers=[("Session-Expires", "1800;refresher=uac")], body=OFFER)
    bench.caller.request("ACK")
    bench.edge.hears_nothing()
    bench.hang_up(bench.edge)


def test_a_caller_that_refreshes_itself_is_answered_for_an_edge_without_update(bench: Bench) -> None:
    _, _, heard = up(bench, [TIMER, ("Session-Expires", "90")], [NO_UPDATE])
    assert heard == ["90;refresher=uac", "timer"]
    for _ in range(4):
        bench.run(45.0)
        bench.caller.ask("UPDATE", headers=[TIMER, ("Session-Expires", "90;refresher=uac")])
        assert bench.caller.response(200).headers.get("Session-Expires") == "90;refresher=uac"
    bench.edge.hears_nothing()
    bench.run(60.1 - 0.2)
    both_leave(bench)


def test_a_reinvite_of_the_caller_keeps_up_its_timer_though_the_edge_says_nothing_of_it(bench: Bench) -> None:
    up(bench, [TIMER, ("Session-Expires", "90")], [])
    for _ in range(4):
        bench.run(45.0)
        bench.caller.ask("INVITE", headers=[TIMER, ("Session-Expires", "90;refresher=uac")], body=OFFER)
        asked = bench.caller.asked
        bench.edge.reply(bench.edge.request("INVITE"), 200, body=ANSWER)
        answer = bench.caller.response(200)
        assert answer.headers.get("Session-Expires") == "90;refresher=uac"
        bench.caller.ack(asked, answer)
        bench.edge.request("ACK")
    bench.hang_up(bench.caller)


def test_an_interval_that_a_proxy_asks_for_is_ours_to_keep_where_the_caller_cannot(bench: Bench) -> None:
    _, _, heard = up(bench, [ALL, ("Session-Expires", "1800")], [])
    assert heard == ["1800;refresher=uas", None]
    bench.caller.reply(bench.caller.request("UPDATE", within=901.0), 200, headers=[("Session-Expires", "1800;refresher=uac")])
    bench.hang_up(bench.caller)


# -- only the edge knows it ------------------------------------------------------------------------------------------------------------


def test_an_edge_that_refreshes_itself_reaches_a_caller_that_knows_no_timer(bench: Bench) -> None:
    up(bench, [NO_UPDATE], [("Session-Expires", "90;refresher=uas")])
    for _ in range(4):
        bench.run(45.0)
        bench.edge.ask("UPDATE", headers=[TIMER, ("Session-Expires", "90;refresher=uac")])
        assert bench.edge.response(200).headers.get("Session-Expires") == "90;refresher=uac"
    bench.caller.hears_nothing()
    bench.hang_up(bench.caller)


# -- timers of our own -----------------------------------------------------------------------------------------------------------------


def test_we_ask_for_a_timer_where_the_configuration_wants_one(make: Make) -> None:
    bench = make(session_interval=600)
    _, got, heard = up(bench, [NO_UPDATE], [ALL, ("Require", "timer"), ("Session-Expires", "600;refresher=uac")])
    assert (got.headers.get("Session-Expires"), got.headers.all("Supported")) == ("600", ["timer"])
    assert heard == [None, None]  # the caller knows nothing of it
    for _ in range(4):
        update = bench.edge.request("UPDATE", within=301.0)
        bench.edge.reply(update, 200, headers=[("Session-Expires", "600;refresher=uac")])
    # A hold of the caller keeps our timer with the edge going.
    bench.run(200.0)
    bench.caller.ask("INVITE", body=OFFER)
    asked = bench.caller.asked
    got = bench.edge.request("INVITE")
    assert (got.headers.get("Session-Expires"), got.headers.get("Supported")) == ("600;refresher=uac", "timer")
    bench.edge.reply(got, 200, headers=[("Require", "timer"), ("Session-Expires", "600;refresher=uac")], body=ANSWER)
    answer = bench.caller.response(200)
    assert ("Session-Expires" in answer.headers, "Require" in answer.headers) == (False, False)
    bench.caller.ack(asked, answer)
    bench.edge.request("ACK")
    bench.run(299.0)
    assert bench.edge.inbox == []
    bench.edge.reply(bench.edge.request("UPDATE", within=2.0), 200, headers=[("Session-Expires", "600;refresher=uac")])
    bench.hang_up(bench.caller)


def test_our_interval_gives_way_to_the_edges_minimum(make: Make) -> None:
    bench = make(session_interval=600)
    sent = bench.invite()
    bench.edge.reply(bench.edge.request("INVITE"), 422, headers=[("Min-SE", "1200")])
    bench.edge.request("ACK")
    got = bench.edge.request("INVITE")
    assert (got.headers.all("Session-Expires"), got.headers.all("Min-SE"), got.headers.all("Supported")) == (["1200"], ["1200"], ["timer"])
    bench.edge.reply(got, 200, headers=[("Session-Expires", "1200;refresher=uas")], body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


# -- refusals --------------------------------------------------------------------------------------------------------------------------


def test_a_short_interval_is_refused_with_min_se_and_a_caller_that_cannot_know_is_taken(make: Make) -> None:
    bench = make(min_se=120)
    sent = bench.invite(headers=[TIMER, ("x", "119")])
    refused = bench.caller.response(422)
    assert refused.headers.get("Min-SE") == "120"
    bench.caller.ack(sent, refused)
    bench.edge.hears_nothing()
    assert bench.fact(e.Refused).reason == "session-interval-too-small"
    up(bench, [("Session-Expires", "119")], [])
    bench.caller.ask("UPDATE", headers=[TIMER, ("Session-Expires", "100")])
    assert bench.caller.response(422).headers.get("Min-SE") == "120"
    bench.edge.hears_nothing()
    bench.hang_up(bench.caller)


def ours(bench: Bench) -> Party:
    """A caller that leaves the refreshing to us, every 45 s."""
    up(bench, [TIMER, ALL, ("Session-Expires", "90;refresher=uas")], [])
    return bench.caller


def test_a_refresh_that_is_too_short_for_the_peer_is_made_again(bench: Bench) -> None:
    caller = ours(bench)
    caller.reply(caller.request("UPDATE", within=46.0), 422, headers=[("Min-SE", "300")])
    again = caller.request("UPDATE")
    assert (again.headers.get("Session-Expires"), again.headers.get("Min-SE")) == ("300;refresher=uac", "300")
    caller.reply(again, 200, headers=[("Session-Expires", "300;refresher=uac")])
    bench.run(149.0)
    assert caller.inbox == []
    later = caller.request("UPDATE", within=2.0)
    assert later.headers.get("Min-SE") == "300"
    caller.reply(later, 200, headers=[("Session-Expires", "300;refresher=uac")])
    bench.hang_up(caller)


def test_a_peer_that_serves_no_update_after_all_gets_a_reinvite(bench: Bench) -> None:
    caller = ours(bench)
    caller.reply(caller.request("UPDATE", within=46.0), 405)
    reinvite = caller.request("INVITE")
    caller.reply(reinvite, 200, headers=[("Session-Expires", "90;refresher=uac")], body=OFFER)
    caller.request("ACK")
    bench.hang_up(caller)


def test_a_glare_is_tried_again_after_the_time_of_rfc_3261(bench: Bench) -> None:
    caller = ours(bench)
    for _ in range(3):
        caller.reply(caller.request("UPDATE", within=46.0), 491)
        at = bench.clock.now
        caller.request("UPDATE", within=2.1)  # 14.1: 0–2 s, since the Call-ID is the caller's
        assert bench.clock.now - at <= 2.05
        caller.reply(_last(caller), 200, headers=[("Session-Expires", "90;refresher=uac")])
    bench.hang_up(caller)


def test_the_owner_of_the_call_id_waits_longer(make: Make) -> None:
    bench = make(session_interval=90)
    up(bench, [], [ALL, ("Session-Expires", "90;refresher=uac")])
    bench.edge.reply(bench.edge.request("UPDATE", within=46.0), 491)
    at = bench.clock.now
    update = bench.edge.request("UPDATE", within=4.1)
    assert 2.05 <= bench.clock.now - at <= 4.05
    bench.edge.reply(update, 200, headers=[("Session-Expires", "90;refresher=uac")])
    bench.hang_up(bench.caller)


def test_a_refresh_waits_for_a_reinvite_that_is_under_way_and_one_of_ours_makes_others_wait(bench: Bench) -> None:
    up(bench, [TIMER, NO_UPDATE, ("Session-Expires", "90;refresher=uas")], [])
    bench.run(44.0)
    bench.edge.ask("INVITE", body=ANSWER)
    asked = bench.edge.asked
    got = bench.caller.request("INVITE")
    bench.caller.reply(got, 100)
    bench.run(2.0)
    assert bench.caller.inbox == []
    bench.caller.reply(got, 488)
    bench.caller.request("ACK")
    bench.edge.ack(asked, bench.edge.response(488))
    ours = bench.caller.request("INVITE", within=10.5)
    for party in (bench.caller, bench.edge):
        party.ask("INVITE", body=OFFER)
        glared = party.asked
        party.ack(glared, party.response(491))
    bench.caller.reply(ours, 200, headers=[("Session-Expires", "90;refresher=uac")], body=OFFER)
    bench.caller.request("ACK")
    bench.hang_up(bench.edge)


def test_a_refresh_that_fails_for_now_is_tried_until_the_session_is_over(bench: Bench) -> None:
    caller = ours(bench)
    tries = 0
    while bench.run_while(lambda: not caller.inbox, 46.0) is None and word(caller.inbox[0].message) == "UPDATE":
        caller.reply(caller.request("UPDATE"), 500)
        tries += 1
    assert tries == 5  # at 45, 55, 65, 75 and 85 s
    both_leave(bench)
    assert ended(bench)[1] == "session-expired"


@pytest.mark.parametrize("status", [408, 481])
def test_a_peer_that_knows_nothing_of_the_call_any_more_ends_it(bench: Bench, status: int) -> None:
    caller = ours(bench)
    caller.reply(caller.request("UPDATE", within=46.0), status)
    for party in (caller, bench.edge):
        party.reply(party.request("BYE"), 200)
    assert ended(bench) == ("caller", "peer-gone", "the caller did not answer UPDATE")


def test_a_peer_that_does_not_answer_a_refresh_ends_the_call(bench: Bench) -> None:
    caller = ours(bench)
    bench.run(45.0 + GIVE_UP + 1.0)
    bench.edge.reply(bench.edge.request("BYE"), 200)
    assert ended(bench)[1] == "peer-gone"
    caller.inbox.clear()
    bench.run(GIVE_UP)
    caller.inbox.clear()


def test_a_refresh_answers_a_challenge(make: Make) -> None:
    bench = make(session_interval=90, credentials=Credentials("sidecar", "secret"))
    up(bench, [], [NO_UPDATE, ("Session-Expires", "90;refresher=uac")])
    first = bench.edge.request("INVITE", within=46.0)
    bench.edge.reply(first, 401, headers=[("WWW-Authenticate", 'Digest realm="edge", nonce="n1", qop="auth"')])
    bench.edge.request("ACK")
    again = bench.edge.request("INVITE")
    assert (again.body, again.cseq.number, "Authorization" in again.headers) == (first.body, first.cseq.number + 1, True)
    bench.edge.reply(again, 200, headers=[("Session-Expires", "90;refresher=uac")], body=ANSWER)
    assert bench.edge.request("ACK").cseq.number == again.cseq.number
    bench.hang_up(bench.caller)


def test_a_bye_while_our_refresh_is_under_way_ends_both(bench: Bench) -> None:
    up(bench, [TIMER, NO_UPDATE, ("Session-Expires", "90;refresher=uas")], [])
    ours = bench.caller.request("INVITE", within=46.0)
    bench.caller.reply(ours, 100)
    bench.run(0.1)
    bench.edge.ask("BYE")
    bench.edge.response(200)
    cancel, bye = bench.caller.request("CANCEL"), bench.caller.request("BYE")
    bench.caller.reply(cancel, 200)
    bench.caller.reply(bye, 200)
    bench.caller.reply(ours, 487)
    bench.caller.request("ACK")


def test_a_refresh_that_moves_the_callers_media_moves_it(bench: Bench) -> None:
    up(bench, [TIMER, NO_UPDATE, ("Session-Expires", "90;refresher=uas")], [])
    told = len(bench.facts(e.MediaDescribed))
    ours = bench.caller.request("INVITE", within=46.0)
    moved = OFFER.replace(b"audio 4000", b"audio 4444")
    bench.caller.reply(ours, 200, headers=[("Session-Expires", "90;refresher=uac")], body=moved)
    bench.caller.request("ACK")
    assert [(fact.leg, fact.line.port) for fact in bench.facts(e.MediaDescribed)[told:]] == [("A", 4444)]
    bench.edge.hears_nothing()
    bench.hang_up(bench.caller)


def _last(party: Party) -> Request:
    """The request that a party heard last."""
    message = party.all[-1].message
    assert isinstance(message, Request)
    return message
