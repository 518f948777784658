"""Requests inside a call: they cross both ways with their answers, to where the other party wants them."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.b2bua.call import MOST_LEARNED
from sidecar.identity.digest import Credentials
from sidecar.sip.flow import Flow
from sidecar.sip.message import Request
from tests.core.b2bua.harness import ANSWER, EDGE, GIVE_UP, OFFER, SIDECAR, Bench, Party
from tests.core.b2bua.types import Make

WHO = pytest.mark.parametrize("who", ["caller", "edge"])
CONTENT = {
    "INFO": [("Info-Package", "g.3gpp.mid-call"), ("Content-Type", "application/dtmf-relay")],
    "MESSAGE": [("Content-Type", "text/plain")],
    "UPDATE": [("Session-Expires", "1800;refresher=uac"), ("Content-Type", "application/x-none")],
    "REFER": [("Refer-To", "<sip:carol@192.0.2.30?Replaces=1%40x>"), ("Refer-Sub", "false"), ("Content-Type", "text/plain")],
    "NOTIFY": [("Event", "refer"), ("Subscription-State", "active;expires=60"), ("Content-Type", "message/sipfrag;version=2.0")],
    "OPTIONS": [("Accept", "application/sdp"), ("Content-Type", "text/plain")],
    "FROBNICATE": [("Content-Type", "text/plain")],
}


def parties(bench: Bench, who: str) -> tuple[Party, Party]:
    """Who asks and who answers."""
    return (bench.caller, bench.edge) if who == "caller" else (bench.edge, bench.caller)


@WHO
@pytest.mark.parametrize("method", CONTENT)
def test_a_request_and_its_answer_cross(bench: Bench, who: str, method: str) -> None:
    bench.answered()
    asks, answers = parties(bench, who)
    sent = asks.ask(method, headers=[("X-One", "1,  verbatim"), *CONTENT[method]], body=b"Signal=5\r\nDuration=160\r\n")
    got = answers.request(method)
    assert answers.dialog is not None
    assert [(n, v) for n, v in got.headers.items() if n in dict(CONTENT[method]) or n == "X-One"] == [
        ("X-One", "1,  verbatim"),
        *CONTENT[method],
    ]
    assert (got.body, got.headers.get("Max-Forwards")) == (sent.body, "69")
    assert (got.uri, got.to_tag) == (f"sip:{answers.name}@{answers.addr[0]}:{answers.addr[1]}", answers.dialog.local_tag)
    assert got.call_id == sent.call_id
    assert (got.contact is not None) == (method in ("UPDATE", "REFER", "NOTIFY"))
    answers.reply(got, 202, reason="I will", headers=[("X-Two", "too"), ("Content-Type", "text/plain")], body=b"done")
    heard = asks.response(202)
    assert (heard.reason, heard.headers.get("X-Two"), heard.body, heard.cseq) == ("I will", "too", b"done", sent.cseq)
    bench.hang_up(bench.caller)


@WHO
def test_the_dialog_that_a_transfer_replaces_is_an_id_of_the_call(bench: Bench, who: str) -> None:
    bench.answered(headers=[("Replaces", "older@192.0.2.10;to-tag=1;from-tag=2")])
    asks, answers = parties(bench, who)
    for _ in range(2):
        asks.ask("REFER", headers=[("Refer-To", "<sip:carol@192.0.2.30?Replaces=other%40192.0.2.20%3Bto-tag%3D7%3Bfrom-tag%3D3>")])
        answers.reply(answers.request("REFER"), 603)
        asks.response(603)
    assert [(told.name, told.value) for told in bench.facts(e.Learned)] == [
        ("replaces", "older@192.0.2.10"),
        ("replaces", "other@192.0.2.20"),
    ]
    bench.hang_up(bench.caller)


def test_a_peer_that_makes_up_ids_is_heard_only_so_often(bench: Bench) -> None:
    bench.answered()
    for number in range(MOST_LEARNED + 5):
        bench.edge.ask("INFO", headers=[("Replaces", f"made-up-{number}")])
        bench.caller.reply(bench.caller.request("INFO"), 200)
        bench.edge.response(200)
    assert len(bench.facts(e.Learned)) == MOST_LEARNED
    bench.hang_up(bench.caller)


@WHO
def test_a_refused_request_leaves_the_call_up(bench: Bench, who: str) -> None:
    bench.answered()
    asks, answers = parties(bench, who)
    asks.ask("REFER", headers=[("Refer-To", "<sip:carol@192.0.2.30>")])
    answers.reply(answers.request("REFER"), 603, headers=[("Reason", "SIP;cause=603")])
    assert asks.response(603).headers.get("Reason") == "SIP;cause=603"
    bench.hang_up(answers)
    assert bench.fact(e.Ended).reason == "completed"


def test_requests_of_both_sides_may_be_under_way_together(bench: Bench) -> None:
    bench.answered()
    bench.caller.ask("INFO")
    bench.edge.ask("INFO")
    bench.caller.ask("MESSAGE")
    at_edge = [bench.edge.request("INFO"), bench.edge.request("MESSAGE")]
    at_caller = bench.caller.request("INFO")
    assert at_edge[0].cseq.number < at_edge[1].cseq.number
    bench.edge.reply(at_edge[1], 200)
    assert bench.caller.response(200).cseq.method == "MESSAGE"
    bench.caller.reply(at_caller, 200)
    bench.edge.response(200)
    bench.edge.reply(at_edge[0], 200)
    assert bench.caller.response(200).cseq.method == "INFO"
    bench.hang_up(bench.caller)


def test_a_request_from_another_socket_is_matched_by_its_tags_and_goes_to_the_other_leg(bench: Bench) -> None:
    bench.answered()
    other_socket = Party(bench, ("192.0.2.20", 5999), "edge-again")
    # A platform that sends its in-dialog requests from another socket, or from the very address of the caller.
    sent = bench.edge.ask("INFO", source=other_socket.addr)
    got = bench.caller.request("INFO")
    bench.caller.reply(got, 200)
    assert other_socket.response(200).cseq == sent.cseq
    from_callers_socket = bench.edge.ask("INFO", source=bench.caller.addr)
    bench.caller.reply(bench.caller.request("INFO"), 200)
    assert bench.caller.response(200).cseq == from_callers_socket.cseq
    bench.edge.hears_nothing()
    bench.hang_up(bench.edge)


def test_an_edge_that_records_its_route_is_passed_through_by_every_request(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    recorded = [("Record-Route", "<sip:192.0.2.20:5070;lr>"), ("Record-Route", "<sip:192.0.2.21;lr>, <sip:192.0.2.22;lr>")]
    bench.edge.reply(got, 200, body=ANSWER, headers=recorded, contact="<sip:agent@10.0.0.7:5099>")
    hop = Party(bench, ("192.0.2.22", 5060), "hop")
    bench.caller.ack(sent, bench.caller.response(200))
    routes = ["<sip:192.0.2.22;lr>", "<sip:192.0.2.21;lr>", "<sip:192.0.2.20:5070;lr>"]
    ack = hop.request("ACK")
    assert (ack.uri, ack.headers.values("Route")) == ("sip:agent@10.0.0.7:5099", routes)
    bench.caller.ask("INFO")
    info = hop.request("INFO")
    assert (info.uri, info.headers.values("Route")) == ("sip:agent@10.0.0.7:5099", routes)
    hop.reply(info, 200)
    bench.caller.response(200)
    bench.caller.ask("BYE")
    bench.caller.response(200)
    bye = hop.request("BYE")
    assert bye.headers.values("Route") == routes
    hop.reply(bye, 200)


def test_the_callers_proxies_are_passed_through_by_every_request_of_the_edge(bench: Bench) -> None:
    proxy = Party(bench, ("192.0.2.11", 5060), "proxy")
    sent = bench.invite(headers=[("Record-Route", "<sip:192.0.2.11;lr>"), ("Record-Route", "<sip:192.0.2.10;lr>")])
    got = bench.edge.request("INVITE")
    assert "Record-Route" not in got.headers
    bench.edge.reply(got, 200, body=ANSWER)
    answer = bench.caller.response(200)
    assert answer.headers.all("Record-Route") == ["<sip:192.0.2.11;lr>", "<sip:192.0.2.10;lr>"]
    bench.caller.ack(sent, answer)
    bench.edge.request("ACK")
    bench.edge.ask("BYE")
    bench.edge.response(200)
    bye = proxy.request("BYE")
    assert (bye.uri, bye.headers.values("Route")) == ("sip:caller@192.0.2.10:5060", ["<sip:192.0.2.11;lr>", "<sip:192.0.2.10;lr>"])
    proxy.reply(bye, 200)


@WHO
def test_a_route_set_formed_once_is_not_changed_by_later_answers(bench: Bench, who: str) -> None:
    bench.answered()
    asks, answers = parties(bench, who)
    asks.ask("INVITE", body=OFFER)
    got = answers.request("INVITE")
    answers.reply(got, 200, body=ANSWER, headers=[("Record-Route", "<sip:192.0.2.99;lr>")])
    asks.ack(asks.asked, asks.response(200))
    assert "Route" not in answers.request("ACK").headers
    assert "Route" not in bench.hang_up(asks).headers


@WHO
def test_a_changed_contact_is_where_requests_go_from_then_on(bench: Bench, who: str) -> None:
    bench.answered()
    mover, other = parties(bench, who)
    moved = Party(bench, ("192.0.2.40", 5080), "moved")
    mover.ask("UPDATE", contact="<sip:new@192.0.2.40:5080>")
    got = other.request("UPDATE")
    assert got.contact is not None
    assert got.contact.uri.endswith("@192.0.2.1:5060")
    other.reply(got, 200)
    mover.response(200)
    other.ask("BYE")
    other.response(200)
    bye = moved.request("BYE")
    assert bye.uri == "sip:new@192.0.2.40:5080"
    moved.reply(bye, 200)


def test_an_answer_that_moves_the_target_is_followed(bench: Bench) -> None:
    bench.answered()
    moved = Party(bench, ("192.0.2.40", 5080), "moved")
    bench.caller.ask("INVITE", body=OFFER)
    bench.edge.reply(bench.edge.request("INVITE"), 200, body=ANSWER, contact="<sip:new@192.0.2.40:5080>")
    bench.caller.ack(bench.caller.asked, bench.caller.response(200))
    assert moved.request("ACK").uri == "sip:new@192.0.2.40:5080"
    bench.caller.ask("BYE")
    bench.caller.response(200)
    moved.reply(moved.request("BYE"), 200)


def test_a_request_with_an_older_number_is_refused(bench: Bench) -> None:
    bench.answered()
    bench.caller.ask("INFO")
    bench.edge.reply(bench.edge.request("INFO"), 200)
    bench.caller.response(200)
    assert bench.caller.dialog is not None
    bench.caller.dialog.local_cseq = 3
    bench.caller.ask("INFO")
    bench.caller.response(500)
    bench.edge.hears_nothing()
    bench.caller.dialog.local_cseq = 30
    bench.hang_up(bench.caller)


def test_a_request_with_an_unreadable_contact_crosses_and_leaves_the_target_where_it_was(bench: Bench) -> None:
    bench.answered()
    bench.caller.ask("UPDATE", contact="<sip:broken")
    bench.edge.reply(bench.edge.request("UPDATE"), 200)
    bench.caller.response(200)
    assert bench.hang_up(bench.edge).uri == "sip:caller@192.0.2.10:5060"


def test_max_forwards_ends_inside_a_call_too(bench: Bench) -> None:
    bench.answered()
    made = bench.caller.build("INFO")
    made.headers.set("Max-Forwards", "0")
    bench.caller.send(made)
    bench.caller.response(483)
    bench.edge.hears_nothing()
    bench.hang_up(bench.caller)


def test_an_unknown_dialog_is_answered_481(bench: Bench) -> None:
    bench.answered()
    for method in ("INFO", "BYE", "INVITE", "UPDATE"):
        made = bench.caller.build(method)
        made.headers.set("To", "<sip:agent@192.0.2.1>;tag=never-seen")
        bench.caller.send(made)
        refused = bench.caller.response(481)
        if method == "INVITE":
            bench.caller.ack(made, refused)
    bench.hang_up(bench.caller)
    bench.run(1.0)
    bench.caller.ask("INFO")  # the dialog is over
    bench.caller.response(481)


@WHO
def test_a_peer_that_does_not_answer_any_more_is_taken_for_gone(bench: Bench, who: str) -> None:
    bench.answered()
    asks, silent = parties(bench, who)
    asks.ask("INFO")
    # RFC 4320 4.2: no 408 for a request that is no INVITE; whoever asked has given up by itself.
    asks.reply(asks.request("BYE", within=GIVE_UP + 1.0), 200)
    assert asks.times(408) == []
    ended = bench.fact(e.Ended)
    gone = "agent" if who == "caller" else "caller"
    assert (ended.status, ended.ended_by, ended.reason, ended.cause) == (200, gone, "peer-gone", f"the {gone} did not answer INFO")
    bench.run(GIVE_UP)
    assert {type(heard.message) for heard in silent.inbox} == {Request}
    silent.inbox.clear()


def test_a_transport_that_refuses_a_request_of_a_call_ends_it(bench: Bench) -> None:
    bench.answered()
    bench.caller.ask("INFO")
    bench.edge.request("INFO")
    bench.engine.transport_failed(Flow("udp", SIDECAR, EDGE), bench.clock.now)
    bench.pump()
    bench.caller.response(503)
    bench.caller.reply(bench.caller.request("BYE"), 200)
    bench.edge.reply(bench.edge.request("BYE"), 200)
    assert bench.fact(e.Ended).reason == "peer-gone"


@WHO
def test_prack_names_the_invite_of_its_own_leg(bench: Bench, who: str) -> None:
    bench.answered()
    # The edge has spent numbers of its own, so the legs count differently.
    for _ in range(3):
        bench.edge.ask("INFO")
        bench.caller.reply(bench.caller.request("INFO"), 200)
        bench.edge.response(200)
    asks, answers = parties(bench, who)
    asks.ask("INVITE", body=OFFER)
    reinvite = asks.asked
    got = answers.request("INVITE")
    answers.reply(got, 183, headers=[("Require", "100rel"), ("RSeq", "7")])
    assert asks.response(183).headers.get("RSeq") == "7"
    asks.ask("PRACK", headers=[("RAck", f"7 {reinvite.cseq.number} INVITE")])
    prack = answers.request("PRACK")
    assert prack.headers.all("RAck") == [f"7 {got.cseq.number} INVITE"]
    answers.reply(prack, 200)
    asks.response(200)
    answers.reply(got, 200, body=ANSWER)
    asks.ack(reinvite, asks.response(200))
    answers.request("ACK")
    bench.hang_up(bench.caller)


def test_a_prack_in_the_set_up_counts_the_challenges_of_its_leg(make: Make) -> None:
    bench = make(credentials=Credentials("sidecar", "secret"))
    sent = bench.invite(headers=[("Supported", "100rel")])
    first = bench.edge.request("INVITE")
    bench.edge.reply(first, 407, headers=[("Proxy-Authenticate", 'Digest realm="edge", nonce="n1", qop="auth"')])
    bench.edge.request("ACK")
    got = bench.edge.request("INVITE")
    assert got.cseq.number == 18
    bench.edge.reply(got, 183, headers=[("Require", "100rel"), ("RSeq", "1")])
    bench.caller.join(sent, bench.caller.response(183))
    bench.caller.ask("PRACK", headers=[("RAck", "1 17 INVITE")])
    prack = bench.edge.request("PRACK")
    assert prack.headers.get("RAck") == "1 18 INVITE"
    bench.edge.reply(prack, 200)
    bench.caller.response(200)
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


def test_a_contact_with_a_name_is_looked_up_and_a_lost_name_falls_back_to_where_messages_went(make: Make) -> None:
    bench = make(names={"agent.example": "192.0.2.40", "lost.example": None})
    moved = Party(bench, ("192.0.2.40", 5060), "moved")
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, body=ANSWER, contact="<sip:a@agent.example>")
    bench.caller.ack(sent, bench.caller.response(200))
    moved.request("ACK")
    bench.edge.ask("UPDATE", contact="<sip:a@lost.example>")
    bench.caller.reply(bench.caller.request("UPDATE"), 200)
    bench.edge.response(200)
    bench.hang_up(bench.caller)


def test_a_call_that_waits_for_a_name_to_say_bye_is_not_gone_before_it_has(make: Make) -> None:
    bench = make(names={})
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, body=ANSWER, contact="<sip:a@agent.example:5070>")
    bench.caller.ack(sent, bench.caller.response(200))
    bench.run(0.1)
    bench.resolve("192.0.2.20")
    bench.edge.request("ACK")
    bench.edge.ask("INFO")
    bench.caller.reply(bench.caller.request("INFO"), 200)
    bench.edge.response(200)
    bench.caller.ask("INFO")
    bench.caller.ask("BYE")
    bench.caller.response(200)
    bench.run(5.0)
    assert bench.facts(e.Gone) == []
    bench.resolve("192.0.2.20")
    bench.caller.response(487)  # the INFO never left
    bench.edge.reply(bench.edge.request("BYE"), 200)
