"""What RFCs ask of a call between two legs, where `tests/core/b2bua` does not show it already. The list of both is `INDEX-b2bua.md`."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from tests.core.b2bua.harness import ANSWER, OFFER, Bench


def test_rfc3261_8_2_2_3_an_unknown_required_option_is_the_edges_to_refuse(bench: Bench) -> None:
    sent = bench.invite(headers=[("Require", "x-nobody-knows"), ("Supported", "replaces, outbound, 100rel, path")])
    got = bench.edge.request("INVITE")
    assert (got.headers.all("Require"), got.headers.all("Supported")) == (["x-nobody-knows"], ["replaces, 100rel"])
    bench.edge.reply(got, 420, headers=[("Unsupported", "x-nobody-knows")])
    refused = bench.caller.response(420)
    assert refused.headers.all("Unsupported") == ["x-nobody-knows"]
    bench.caller.ack(sent, refused)


def test_rfc3261_8_2_3_what_the_edge_accepts_crosses_with_its_415(bench: Bench) -> None:
    sent = bench.invite(headers=[("Content-Type", "application/x-unheard")], body=b"?")
    got = bench.edge.request("INVITE")
    assert (got.body, got.content_type) == (b"?", "application/x-unheard")
    bench.edge.reply(got, 415, headers=[("Accept", "application/sdp"), ("Accept-Encoding", "identity")])
    refused = bench.caller.response(415)
    assert (refused.headers.get("Accept"), refused.headers.get("Accept-Encoding")) == ("application/sdp", "identity")
    bench.caller.ack(sent, refused)


def test_rfc3261_12_2_1_1_requests_of_a_dialog_count_up_by_one_and_keep_its_call_id_and_tags(bench: Bench) -> None:
    _, got = bench.answered()
    requests = [got]
    for method in ("INFO", "UPDATE", "OPTIONS", "MESSAGE"):
        bench.caller.ask(method)
        requests.append(bench.edge.request(method))
        bench.edge.reply(requests[-1], 200)
        bench.caller.response(200)
    requests.append(bench.hang_up(bench.caller))
    assert [request.cseq.number for request in requests] == list(range(17, 23))
    assert {request.call_id for request in requests} == {got.call_id}
    assert {request.from_tag for request in requests} == {got.from_tag}
    assert {request.to_tag for request in requests[1:]} == {"edge-1"}


def test_rfc3261_12_2_1_1_the_other_legs_numbers_do_not_show(bench: Bench) -> None:
    bench.answered()
    assert bench.caller.dialog is not None
    bench.caller.dialog.local_cseq = 4000
    bench.caller.ask("INFO")
    got = bench.edge.request("INFO")
    assert (bench.caller.asked.cseq.number, got.cseq.number) == (4001, 18)
    bench.edge.reply(got, 200)
    assert bench.caller.response(200).cseq.number == 4001
    bench.hang_up(bench.edge)


def test_rfc3261_13_2_2_4_media_of_an_early_dialog_that_fails_is_over_with_the_call(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 183, body=ANSWER)
    bench.caller.expect(183)
    bench.edge.reply(got, 486)
    bench.caller.ack(sent, bench.caller.response(486))
    bench.edge.request("ACK")
    kinds = [type(effect) for _, effect in bench.effects if isinstance(effect, e.MediaDescribed | e.Ended)]
    assert kinds == [e.MediaDescribed, e.MediaDescribed, e.Ended]


def test_rfc3311_5_1_an_offer_in_an_update_of_the_early_dialog_crosses_with_its_answer(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 183, body=ANSWER)
    bench.caller.join(sent, bench.caller.response(183))
    bench.caller.ask("UPDATE", body=OFFER.replace(b"audio 4000", b"audio 4444"))
    update = bench.edge.request("UPDATE")
    assert (update.contact is not None, b"m=audio 10002 " in update.body) == (True, True)
    assert [fact.line.port for fact in bench.facts(e.MediaDescribed)] == [4000, 6000]
    bench.edge.reply(update, 200, body=ANSWER)
    answer = bench.caller.response(200)
    assert (answer.contact is not None, b"m=audio 10000 " in answer.body) == (True, True)
    assert [fact.line.port for fact in bench.facts(e.MediaDescribed)] == [4000, 6000, 4444]
    bench.edge.reply(got, 200)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


@pytest.mark.parametrize("status", [491, 500, 504])
def test_rfc3311_5_2_an_update_that_is_refused_leaves_session_and_dialog_as_they_were(bench: Bench, status: int) -> None:
    bench.answered()
    told = len(bench.facts(e.MediaDescribed))
    bench.caller.ask("UPDATE", body=OFFER.replace(b"audio 4000", b"audio 4444"))
    bench.edge.reply(bench.edge.request("UPDATE"), status, headers=[("Retry-After", "3")])
    assert bench.caller.response(status).headers.get("Retry-After") == "3"
    assert len(bench.facts(e.MediaDescribed)) == told
    bench.hang_up(bench.caller)


def test_rfc3262_5_an_offer_in_a_reliable_answer_is_answered_in_its_prack(bench: Bench) -> None:
    sent = bench.invite(body=b"", headers=[("Require", "100rel")])
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 183, body=ANSWER, headers=[("Require", "100rel"), ("RSeq", "1")])
    heard = bench.caller.response(183)
    assert b"m=audio 10000 " in heard.body
    bench.caller.join(sent, heard)
    bench.caller.ask("PRACK", headers=[("RAck", "1 17 INVITE")], body=OFFER)
    prack = bench.edge.request("PRACK")
    assert b"m=audio 10002 " in prack.body
    bench.edge.reply(prack, 200)
    bench.caller.response(200)
    assert [(fact.leg, fact.line.port) for fact in bench.facts(e.MediaDescribed)] == [("B", 6000), ("A", 4000)]
    bench.edge.reply(got, 200)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


def test_rfc3262_4_a_prack_that_fits_nothing_is_the_edges_to_refuse(bench: Bench) -> None:
    sent = bench.invite(headers=[("Supported", "100rel")])
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180, headers=[("Require", "100rel"), ("RSeq", "1")])
    bench.caller.join(sent, bench.caller.response(180))
    for rack in ("9 99 INVITE", "nonsense"):
        bench.caller.ask("PRACK", headers=[("RAck", rack)])
        prack = bench.edge.request("PRACK")
        assert prack.headers.get("RAck") == rack
        bench.edge.reply(prack, 481)
        bench.caller.response(481)
    bench.edge.reply(got, 486)
    bench.caller.ack(sent, bench.caller.response(486))


def test_rfc3515_2_4_4_the_notifications_of_a_refer_cross_with_their_fragments_untouched(bench: Bench) -> None:
    bench.answered()
    bench.edge.ask("REFER", headers=[("Refer-To", "<sip:carol@192.0.2.30;method=INVITE>"), ("Referred-By", "<sip:agent@edge.example>")])
    refer = bench.caller.request("REFER")
    assert refer.headers.get("Refer-To") == "<sip:carol@192.0.2.30;method=INVITE>"
    assert refer.headers.get("Referred-By") == "<sip:agent@edge.example>"
    bench.caller.reply(refer, 202)
    bench.edge.response(202)
    for fragment, state in ((b"SIP/2.0 100 Trying\r\n", "active;expires=60"), (b"SIP/2.0 200 OK\r\n", "terminated;reason=noresource")):
        headers = [("Event", "refer"), ("Subscription-State", state), ("Content-Type", "message/sipfrag;version=2.0")]
        bench.caller.ask("NOTIFY", headers=headers, body=fragment)
        notify = bench.edge.request("NOTIFY")
        assert (notify.body, notify.headers.get("Subscription-State"), notify.headers.get("Event")) == (fragment, state, "refer")
        bench.edge.reply(notify, 200)
        bench.caller.response(200)
    bench.hang_up(bench.caller)


@pytest.mark.parametrize("who", ["caller", "edge"])
def test_rfc3326_2_reasons_of_several_protocols_cross_and_none_of_ours_joins_them(bench: Bench, who: str) -> None:
    bench.answered()
    reasons = [("Reason", 'SIP;cause=480;text="gone"'), ("Reason", "Q.850;cause=16, X;cause=1")]
    bye = bench.hang_up(bench.caller if who == "caller" else bench.edge, reasons)
    assert bye.headers.all("Reason") == [value for _, value in reasons]


def test_rfc4028_session_timers_are_agreed_and_refreshed_end_to_end(bench: Bench) -> None:
    sent = bench.invite(headers=[("Supported", "timer"), ("x", "120"), ("Min-SE", "90")])
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 422, headers=[("Min-SE", "1800")])
    refused = bench.caller.response(422)
    assert refused.headers.get("Min-SE") == "1800"
    bench.caller.ack(sent, refused)
    bench.edge.request("ACK")
    sent = bench.invite(headers=[("Supported", "timer"), ("Session-Expires", "1800"), ("Min-SE", "1800")], number=18, call_id="timed")
    got = bench.edge.request("INVITE")
    assert (got.headers.get("Session-Expires"), got.headers.get("Min-SE")) == ("1800", "1800")
    bench.edge.reply(got, 200, headers=[("Require", "timer"), ("Session-Expires", "1800;refresher=uas")], body=ANSWER)
    answer = bench.caller.response(200)
    assert (answer.headers.get("Require"), answer.headers.get("Session-Expires")) == ("timer", "1800;refresher=uas")
    bench.caller.ack(sent, answer)
    bench.edge.request("ACK")
    for _ in range(4):
        bench.run(900.0)
        bench.edge.ask("UPDATE", headers=[("Session-Expires", "1800;refresher=uac")])
        update = bench.caller.request("UPDATE")
        assert update.headers.get("Session-Expires") == "1800;refresher=uac"
        bench.caller.reply(update, 200, headers=[("Session-Expires", "1800;refresher=uac")])
        assert bench.edge.response(200).headers.get("Session-Expires") == "1800;refresher=uac"
    bench.hang_up(bench.caller)


def test_rfc6026_7_1_an_invite_that_comes_again_after_the_call_is_over_begins_no_second_one(bench: Bench) -> None:
    sent, _ = bench.answered()
    bench.hang_up(bench.caller)
    bench.run(1.0)
    bench.caller.send(sent)
    bench.caller.hears_nothing()
    bench.edge.hears_nothing()
    assert len(bench.facts(e.Started)) == 1
