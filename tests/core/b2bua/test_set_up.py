"""The 200 and its ACK: repeated, lost, never sent, carrying the answer; many calls at once; names that must be looked up."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from tests.core.b2bua.harness import ANSWER, GIVE_UP, OFFER, Bench, word
from tests.core.b2bua.types import Make


def test_a_hundred_calls_at_once(make: Make) -> None:
    bench = make(ports=100)
    sent = {f"call-{n}": bench.invite(call_id=f"call-{n}") for n in range(100)}
    got = [bench.edge.request("INVITE") for _ in sent]
    assert [invite.call_id for invite in got] == list(sent)
    for invite in got:
        bench.edge.reply(invite, 200, body=ANSWER)
    dialogs = []
    for _ in got:
        answer = bench.caller.response(200)
        bench.caller.ack(sent[answer.call_id], answer)
        bench.edge.request("ACK")
        dialogs.append(bench.caller.dialog)
    for dialog in dialogs:
        bench.caller.dialog = dialog
        bench.hang_up(bench.caller)
    assert len({invite.via.branch for invite in got}) == len({invite.from_tag for invite in got}) == 100
    assert [ended.status for ended in bench.facts(e.Ended)] == [200] * 100


def test_ack_and_its_headers_cross_end_to_end(bench: Bench) -> None:
    sent, got = bench.ringing()
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200), headers=[("X-From-Caller", "yes, verbatim")])
    ack = bench.edge.request("ACK")
    assert (ack.uri, ack.cseq.number, ack.to_tag, ack.from_tag) == ("sip:edge@192.0.2.20:5070", 17, "edge-1", "stag-2")
    assert ack.headers.get("X-From-Caller") == "yes, verbatim"
    assert ack.via.branch != got.via.branch
    bench.hang_up(bench.caller)


def test_a_delayed_offer_crosses_in_200_and_ack(bench: Bench) -> None:
    sent = bench.invite(body=b"")
    got = bench.edge.request("INVITE")
    assert (got.body, got.content_type) == (b"", None)
    bench.edge.reply(got, 200, body=ANSWER)
    offer = bench.caller.response(200)
    assert b"c=IN IP4 192.0.2.1\r\n" in offer.body
    assert b"m=audio 10000 " in offer.body
    bench.caller.ack(sent, offer, body=OFFER)
    ack = bench.edge.request("ACK")
    assert ack.body == OFFER.replace(b"c=IN IP4 192.0.2.10", b"c=IN IP4 192.0.2.1").replace(b"m=audio 4000", b"m=audio 10002")
    assert [(fact.leg, fact.line.port) for fact in bench.facts(e.MediaDescribed)] == [("B", 6000), ("A", 4000)]
    bench.hang_up(bench.edge)


def test_a_delayed_answer_that_cannot_be_relayed_ends_the_call(bench: Bench) -> None:
    sent = bench.invite(body=b"")
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200), body=b"v=0\r\nm=audio nonsense\r\n")
    assert b"m=audio 0 RTP/AVP 0 101" in bench.edge.request("ACK").body
    for party in (bench.edge, bench.caller):
        party.reply(party.request("BYE"), 200)
    assert bench.fact(e.Ended).reason == "sdp-unusable"


def test_the_200_is_repeated_until_the_ack_comes_and_none_ends_early(bench: Bench) -> None:
    sent, got = bench.ringing()
    lost = iter(range(6))
    bench.wire.lose = lambda data, source, dest: (
        data.startswith(b"SIP/2.0 200") and dest == bench.caller.addr and next(lost, None) is not None
    )
    bench.edge.reply(got, 200, body=ANSWER)
    answer = bench.caller.response(200, within=20.0)
    # 13.3.1.4: T1, doubling to T2.
    left = [at for at, _, dest, data in bench.wire.sent if dest == bench.caller.addr and data.startswith(b"SIP/2.0 200")]
    assert [round(at - left[0], 3) for at in left] == [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5]
    bench.caller.ack(sent, answer)
    bench.edge.request("ACK")
    bench.caller.hears_nothing(40.0)
    bench.hang_up(bench.caller)


def test_an_answer_that_comes_again_is_acknowledged_again_with_the_same_octets(bench: Bench) -> None:
    sent, got = bench.ringing()
    answer = bench.edge.reply(got, 200, body=ANSWER)
    heard = bench.caller.response(200)
    bench.edge.send(answer)  # before the caller's ACK there is nothing to acknowledge with
    bench.edge.hears_nothing()
    bench.caller.ack(sent, heard)
    first = bench.edge.expect("ACK")
    for _ in range(3):
        bench.edge.send(answer)
        assert bench.edge.expect("ACK").data == first.data
    bench.caller.hears_nothing()
    bench.hang_up(bench.caller)


def test_a_repeated_ack_crosses_once(bench: Bench) -> None:
    sent, got = bench.ringing()
    bench.edge.reply(got, 200, body=ANSWER)
    ack = bench.caller.ack(sent, bench.caller.response(200))
    bench.caller.send(ack)
    bench.edge.request("ACK")
    bench.edge.hears_nothing()
    bench.hang_up(bench.caller)


def test_a_caller_that_never_acknowledges_gets_bye_and_so_does_the_edge(bench: Bench) -> None:
    _, got = bench.ringing()
    bench.edge.reply(got, 200, body=ANSWER)
    bench.run(GIVE_UP + 0.1)
    assert [word(heard.message) for heard in bench.edge.inbox] == ["ACK", "BYE"]
    assert [word(heard.message) for heard in bench.caller.inbox] == [200] * 11 + ["BYE"]
    for party in (bench.edge, bench.caller):
        bye = party.inbox[-1].message
        assert bye.headers.get("Reason") == 'SIP;cause=408;text="ack-missing"'
        party.reply(bye, 200)  # type: ignore[arg-type]
        party.inbox.clear()
    ended = bench.fact(e.Ended)
    assert (ended.status, ended.ended_by, ended.reason) == (200, "sidecar", "ack-missing")


def test_an_invite_that_comes_again_is_answered_by_what_was_said_last_and_dialled_once(bench: Bench) -> None:
    sent, got = bench.ringing()
    bench.caller.send(sent)
    bench.caller.response(180)
    bench.edge.reply(got, 200, body=ANSWER)
    heard = bench.caller.response(200)
    bench.caller.send(sent)  # RFC 6026: after our 200 it is no new call
    bench.caller.ack(sent, heard)
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)
    assert len(bench.facts(e.Dialled)) == 1


def test_a_name_is_looked_up_before_it_is_dialled(make: Make) -> None:
    bench = make(target="sip:edge.example:5070", names={"edge.example": "192.0.2.20"})
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    assert got.uri == "sip:agent@edge.example:5070"
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.edge)
    assert [effect.token for effect in bench.facts(e.Resolve)] == ["sip:edge.example:5070"]


def test_a_name_that_does_not_resolve_gives_503_and_says_so(make: Make) -> None:
    bench = make(target="sip:agent@gone.example", names={"gone.example": None})
    sent = bench.invite()
    refused = bench.caller.response(503)
    assert "gone.example cannot be reached: no such name" in (refused.headers.get("Warning") or "")
    assert refused.headers.get("Retry-After") == "5"
    bench.caller.ack(sent, refused)
    assert bench.fact(e.Ended).reason == "upstream-unreachable"


def test_calls_that_wait_for_one_name_ask_for_it_once(make: Make) -> None:
    bench = make(target="sip:agent@edge.example:5070")
    first, second = bench.invite(call_id="one"), bench.invite(call_id="two")
    bench.run(0.1)
    assert len(bench.facts(e.Resolve)) == 1
    bench.resolve("192.0.2.20")
    got = [bench.edge.request("INVITE") for _ in (first, second)]
    assert [invite.call_id for invite in got] == ["one", "two"]
    for sent, invite in zip((first, second), got, strict=True):
        bench.edge.reply(invite, 486)
        bench.caller.ack(sent, bench.caller.response(486))
        bench.edge.request("ACK")


def test_an_outbound_route_keeps_what_was_dialled_and_sends_it_to_the_routes_target(make: Make) -> None:
    dialled = "sip:sim-4711%20x@198.51.100.9;transport=udp"
    bench = make(host="*", route={"direction": "outbound", "allow": ("198.51.100.9",)})
    sent = bench.invite(uri=dialled)
    got = bench.edge.request("INVITE")
    assert (got.uri, got.headers.get("To")) == (dialled, f"<{dialled}>")
    assert bench.fact(e.Started).recipient == dialled
    bench.edge.reply(got, 486)
    bench.caller.ack(sent, bench.caller.response(486))


@pytest.mark.parametrize("broken", ["<sip:broken", "not an address", "<sip:a@b>;=x"])
def test_an_answer_with_an_unreadable_contact_or_record_route_costs_no_call(bench: Bench, broken: str) -> None:
    sent, got = bench.ringing()
    bench.edge.reply(got, 200, body=ANSWER, headers=[("Record-Route", broken)], contact=broken)
    bench.caller.ack(sent, bench.caller.response(200))
    ack = bench.edge.request("ACK")
    # Where the dialog was formed before: the 180's Contact.
    assert (ack.uri, ack.headers.get("Route")) == ("sip:edge@192.0.2.20:5070", None)
    bench.hang_up(bench.caller)
