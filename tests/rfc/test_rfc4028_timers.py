"""RFC 4028 (session timers) where we are one end of a leg's session: the smallest interval, and what a refusal changes."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.identity.digest import Credentials
from sidecar.sip.message import Request, Response
from tests.core.b2bua.harness import ANSWER, OFFER, Bench
from tests.core.b2bua.types import Make

ALL = ("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE")
TIMER = ("Supported", "timer")


def up(bench: Bench, asked: list[tuple[str, str]], granted: list[tuple[str, str]]) -> tuple[Request, Response]:
    """An answered call: the INVITE as the edge got it, and the answer as the caller did."""
    sent = bench.invite(headers=asked)
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, headers=granted, body=ANSWER)
    answer = bench.caller.response(200)
    bench.caller.ack(sent, answer)
    bench.edge.request("ACK")
    return got, answer


def refreshed(bench: Bench, within: float) -> tuple[str | None, str | None]:
    """Our next refresh of the caller's session, granted as it was asked: its Session-Expires and Min-SE."""
    update = bench.caller.request("UPDATE", within=within)
    said = update.headers.get("Session-Expires")
    bench.caller.reply(update, 200, headers=[("Session-Expires", said or "")])
    return said, update.headers.get("Min-SE")


def test_rfc4028_7_4_the_min_se_of_the_peers_request_is_in_every_refresh(bench: Bench) -> None:
    _, answer = up(bench, [TIMER, ALL, ("Session-Expires", "300;refresher=uas"), ("Min-SE", "200")], [])
    # 5: in no response but 422.
    assert "Min-SE" not in answer.headers
    for _ in range(2):
        assert refreshed(bench, 151.0) == ("300;refresher=uac", "200")
    bench.hang_up(bench.caller)


def test_rfc4028_7_4_it_is_the_largest_of_all_that_the_dialog_has_seen(bench: Bench) -> None:
    up(bench, [TIMER, ALL, ("Session-Expires", "300;refresher=uas"), ("Min-SE", "200")], [])
    for stated in ("250", "100"):
        bench.caller.ask("UPDATE", headers=[TIMER, ("Session-Expires", "300;refresher=uas"), ("Min-SE", stated)])
        bench.edge.reply(bench.edge.request("UPDATE"), 200)
        bench.caller.response(200)
    assert refreshed(bench, 151.0) == ("300;refresher=uac", "250")
    bench.caller.reply(bench.caller.request("UPDATE", within=151.0), 422, headers=[("Min-SE", "400")])
    assert refreshed(bench, 1.0) == ("400;refresher=uac", "400")
    bench.caller.ask("UPDATE", headers=[TIMER, ("Session-Expires", "400;refresher=uas"), ("Min-SE", "300")])
    bench.edge.reply(bench.edge.request("UPDATE"), 200)
    bench.caller.response(200)
    assert refreshed(bench, 201.0) == ("400;refresher=uac", "400")
    bench.hang_up(bench.caller)


def test_rfc4028_7_4_a_422_to_a_request_that_carried_our_timer_counts_too(make: Make) -> None:
    bench = make(session_interval=600)
    got, _ = up(bench, [], [ALL, ("Session-Expires", "600;refresher=uac")])
    assert got.headers.all("Supported") == ["timer"]
    bench.caller.ask("INVITE", body=OFFER)
    asked = bench.caller.asked
    bench.edge.reply(bench.edge.request("INVITE"), 422, headers=[("Min-SE", "900")])
    bench.edge.request("ACK")
    got = bench.edge.request("INVITE")
    assert (got.headers.get("Session-Expires"), got.headers.all("Min-SE")) == ("900;refresher=uac", ["900"])
    bench.edge.reply(got, 200, headers=[("Session-Expires", "900;refresher=uac")], body=ANSWER)
    bench.caller.ack(asked, bench.caller.response(200))
    bench.edge.request("ACK")
    update = bench.edge.request("UPDATE", within=451.0)
    # 7.4: the options of the first request are those of all.
    assert (update.headers.get("Min-SE"), update.headers.all("Supported"), "Require" in update.headers) == ("900", ["timer"], False)
    bench.edge.reply(update, 200, headers=[("Session-Expires", "900;refresher=uac")])
    bench.hang_up(bench.caller)


def test_rfc4028_7_1_and_9_what_we_ask_for_is_not_below_the_callers_min_se(make: Make) -> None:
    bench = make(session_interval=600)
    got, answer = up(bench, [TIMER, ALL, ("Min-SE", "1800")], [])
    assert (got.headers.get("Session-Expires"), got.headers.get("Min-SE")) == ("1800", "1800")
    assert answer.headers.get("Session-Expires") == "1800;refresher=uas"
    bench.hang_up(bench.caller)


def test_rfc4028_5_no_min_se_of_ours_is_below_ninety_seconds(bench: Bench) -> None:
    up(bench, [TIMER, ALL, ("Session-Expires", "90;refresher=uas"), ("Min-SE", "60")], [])
    assert refreshed(bench, 46.0) == ("90;refresher=uac", "90")
    bench.hang_up(bench.caller)


def test_rfc4028_10_a_refused_refresh_does_not_prolong_the_session(bench: Bench) -> None:
    up(bench, [TIMER, ALL, ("Session-Expires", "90;refresher=uas")], [])
    bench.caller.reply(bench.caller.request("UPDATE", within=46.0), 422, headers=[("Min-SE", "1800")])
    again = bench.caller.request("UPDATE")
    assert again.headers.get("Session-Expires") == "1800;refresher=uac"
    bench.caller.reply(again, 500)
    for _ in range(4):
        bench.caller.reply(bench.caller.request("UPDATE", within=11.0), 500)
    for party in (bench.caller, bench.edge):
        party.reply(party.request("BYE", within=10.0), 200)
    assert bench.fact(e.Ended).reason == "session-expired"


@pytest.mark.parametrize("interval", ["91", "86400", "4294967295"])
def test_rfc4028_4_any_interval_above_ninety_seconds_is_handled(bench: Bench, interval: str) -> None:
    _, answer = up(bench, [TIMER, ALL, ("Session-Expires", f"{interval};refresher=uas")], [])
    assert answer.headers.get("Session-Expires") == f"{interval};refresher=uas"
    bench.hang_up(bench.caller)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_rfc4028_7_3_a_422_to_a_timer_that_we_added_is_not_the_callers(make: Make, method: str) -> None:
    """The caller knows no timers and asked for none: its request is made again with the larger interval."""
    bench = make(session_interval=600)
    up(bench, [], [ALL, ("Session-Expires", "600;refresher=uac")])
    asked = bench.caller.ask(method, body=OFFER)
    first = bench.edge.request(method)
    bench.edge.reply(first, 422, headers=[("Min-SE", "900")])
    if method == "INVITE":
        bench.edge.request("ACK")
    again = bench.edge.request(method)
    assert (again.headers.all("Session-Expires"), again.headers.all("Min-SE")) == (["900;refresher=uac"], ["900"])
    assert (again.cseq.number, again.body, again.call_id) == (first.cseq.number + 1, first.body, first.call_id)
    bench.edge.reply(again, 200, headers=[("Session-Expires", "900;refresher=uac")], body=ANSWER)
    answer = bench.caller.response(200)
    assert "Session-Expires" not in answer.headers
    if method == "INVITE":
        bench.caller.ack(asked, answer)
        bench.edge.request("ACK")
    bench.hang_up(bench.caller)


def test_rfc4028_7_3_it_is_made_again_with_credentials_of_its_own(make: Make) -> None:
    bench = make(session_interval=600, credentials=Credentials("sidecar", "secret"))
    sent = bench.invite()
    challenge = [("WWW-Authenticate", 'Digest realm="edge", nonce="n1", qop="auth"')]
    bench.edge.reply(bench.edge.request("INVITE"), 401, headers=challenge)
    bench.edge.request("ACK")
    bench.edge.reply(bench.edge.request("INVITE"), 200, headers=[ALL, ("Session-Expires", "600;refresher=uac")], body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.caller.ask("UPDATE")
    first = bench.edge.request("UPDATE")
    bench.edge.reply(first, 422, headers=[("Min-SE", "900")])
    again = bench.edge.request("UPDATE")
    counts = [[value.rpartition("nc=")[2] for value in request.headers.all("Authorization")] for request in (first, again)]
    assert counts == [["00000002"], ["00000003"]]
    bench.edge.reply(again, 200, headers=[("Session-Expires", "900;refresher=uac")])
    bench.caller.response(200)
    bench.hang_up(bench.caller)


@pytest.mark.parametrize("stated", ["600", "x"])
def test_rfc4028_7_3_a_422_that_asks_for_nothing_more_goes_back(make: Make, stated: str) -> None:
    bench = make(session_interval=600)
    up(bench, [], [ALL, ("Session-Expires", "600;refresher=uac")])
    bench.caller.ask("UPDATE", body=OFFER)
    bench.edge.reply(bench.edge.request("UPDATE"), 422, headers=[("Min-SE", stated)])
    bench.caller.response(422)
    bench.edge.hears_nothing()
    bench.hang_up(bench.caller)


def test_rfc4028_7_3_a_422_to_the_callers_own_timer_is_the_callers(bench: Bench) -> None:
    up(bench, [TIMER, ("Session-Expires", "600")], [("Require", "timer"), ("Session-Expires", "600;refresher=uac")])
    bench.caller.ask("UPDATE", headers=[TIMER, ("Session-Expires", "600;refresher=uac")])
    bench.edge.reply(bench.edge.request("UPDATE"), 422, headers=[("Min-SE", "900")])
    assert bench.caller.response(422).headers.get("Min-SE") == "900"
    bench.edge.hears_nothing()
    bench.hang_up(bench.caller)


def test_rfc4028_7_4_a_refresh_asks_for_no_less_than_ninety_seconds(bench: Bench) -> None:
    up(bench, [], [ALL, ("Session-Expires", "40;refresher=uac")])
    update = bench.edge.request("UPDATE", within=21.0)
    assert (update.headers.get("Session-Expires"), update.headers.get("Min-SE")) == ("90;refresher=uac", None)
    bench.edge.reply(update, 200, headers=[("Session-Expires", "90;refresher=uac")])
    bench.hang_up(bench.caller)


@pytest.mark.parametrize("refresher", ["uac", "uas"])
def test_rfc4028_4_an_interval_of_nothing_ends_no_session(bench: Bench, refresher: str) -> None:
    """Below the least that there may be; some say so to have no timer."""
    up(bench, [], [ALL, ("Session-Expires", f"0;refresher={refresher}")])
    bench.run(600.0)
    bench.hang_up(bench.caller)
    assert bench.fact(e.Ended).reason == "completed"


def test_rfc4028_4_nor_does_one_that_a_refresh_is_granted(bench: Bench) -> None:
    up(bench, [TIMER, ALL, ("Session-Expires", "300;refresher=uas")], [])
    bench.caller.reply(bench.caller.request("UPDATE", within=151.0), 200, headers=[("Session-Expires", "0;refresher=uac")])
    bench.run(600.0)
    bench.hang_up(bench.caller)
    assert bench.fact(e.Ended).reason == "completed"
