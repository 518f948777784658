"""RFC 3261 section 17: transactions. The INVITE ones as RFC 6026 amends them."""

from __future__ import annotations

from sidecar.clocks import Mono
from sidecar.sip.events import RequestReceived, ResponseReceived, TxId
from sidecar.sip.flow import Flow
from sidecar.sip.message import Request, Response, response_to
from sidecar.sip.timing import Timing
from tests.support.sip import CALLER, IN, OUT, Log, answer, lone, of_type, parsed_request, received, request, sends, summary

TCP_OUT, TCP_IN = Flow("tcp", OUT.local, OUT.remote), Flow("tcp", IN.local, IN.remote)


def client(method: str = "INVITE", flow: Flow = OUT, timing: Timing | None = None) -> tuple[Log, TxId, Request]:
    log = lone(timing)
    tx = log.layer.request(request(method, headers=[("Route", "<sip:p;lr>")]), flow, CALLER, log.now)
    log.run(0.0)
    return log, tx, parsed_request(sends(log.outputs)[0].data)


def server(method: str = "INVITE", flow: Flow = IN) -> tuple[Log, TxId, Request]:
    log = lone()
    log.layer.receive(received(method), flow, log.now)
    log.run(0.0)
    event = of_type(log.outputs, RequestReceived)[0]
    return log, event.tx, event.request


def heard(log: Log, response: Response, flow: Flow = OUT) -> list[str]:
    log.layer.receive(response, flow, log.now)
    return summary(log.drain())


def asked(log: Log, message: Request, flow: Flow = IN) -> list[str]:
    log.layer.receive(message, flow, log.now)
    return summary(log.drain())


def told(log: Log, tx: TxId, invite: Request, status: int) -> list[str]:
    log.layer.respond(tx, response_to(invite, status, to_tag="b"), log.now)
    return summary(log.drain())


# -- 17.1.1.2 INVITE client ------------------------------------------------------------------------------------------------------------


def test_17_1_1_2_an_unanswered_invite_is_sent_seven_times_then_times_out() -> None:
    log, _, _ = client()
    log.run(60.0)
    assert log.times("INVITE") + log.times("INVITE again") == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert log.entries[-2:] == [(32.0, "TimedOut"), (32.0, "Terminated")]
    assert not log.times("ACK")


def test_17_1_1_2_the_intervals_double_whatever_t1_is() -> None:
    log, _, _ = client(timing=Timing(t1=0.2))
    log.run(60.0)
    assert log.times("INVITE again") == [0.2, 0.6, 1.4, 3.0, 6.2, 12.6]
    assert log.times("TimedOut") == [12.8]


def test_17_1_1_2_over_a_reliable_transport_it_is_sent_once() -> None:
    log, _, _ = client(flow=TCP_OUT)
    log.run(60.0)
    assert log.entries == [(0.0, "INVITE"), (32.0, "TimedOut"), (32.0, "Terminated")]


def test_17_1_1_2_a_provisional_response_stops_the_retransmissions_and_timer_b() -> None:
    log, _, invite = client()
    log.run(0.6)
    assert heard(log, answer(invite, 180)) == ["ResponseReceived"]
    log.run(600.0)
    assert log.times("INVITE again") == [0.5]
    assert not log.times("TimedOut")
    assert heard(log, answer(invite, 200)) == ["ResponseReceived"]


def test_17_1_1_2_every_further_provisional_response_is_passed_up() -> None:
    log, _, invite = client()
    assert [heard(log, answer(invite, status)) for status in (100, 180, 183)] == [["ResponseReceived"]] * 3


def test_17_1_1_2_a_non_2xx_final_is_passed_up_and_acknowledged_from_calling_and_proceeding() -> None:
    log, _, invite = client()
    assert heard(log, answer(invite, 486)) == ["ACK", "ResponseReceived"]
    log, _, invite = client()
    heard(log, answer(invite, 180))
    assert heard(log, answer(invite, 486)) == ["ACK", "ResponseReceived"]


def test_17_1_1_2_a_non_2xx_final_is_acknowledged_over_a_reliable_transport_too() -> None:
    log, _, invite = client(flow=TCP_OUT)
    assert heard(log, answer(invite, 486), TCP_OUT) == ["ACK", "ResponseReceived"]
    assert sends(log.outputs)[-1].flow == TCP_OUT


def test_17_1_1_2_a_repeated_final_is_acknowledged_again_but_not_passed_up() -> None:
    log, _, invite = client()
    heard(log, answer(invite, 486))
    log.run(10.0)
    assert heard(log, answer(invite, 486)) == ["Absorbed", "ACK again"]
    assert sends(log.outputs)[-1].data == sends(log.outputs)[-2].data


def test_17_1_1_2_completed_lasts_32_seconds_and_zero_over_a_reliable_transport() -> None:
    log, _, invite = client()
    heard(log, answer(invite, 486))
    log.run(100.0)
    assert log.times("Terminated") == [32.0]
    log, _, invite = client(flow=TCP_OUT)
    heard(log, answer(invite, 486), TCP_OUT)
    log.run(100.0)
    assert log.times("Terminated") == [0.0]


def test_17_1_1_2_a_2xx_is_passed_up_without_an_ack_of_the_transactions_own() -> None:
    log, _, invite = client()
    assert heard(log, answer(invite, 200)) == ["ResponseReceived"]


def test_17_1_1_3_the_ack_of_a_non_2xx_is_built_from_the_invite_and_the_responses_to() -> None:
    log, _, invite = client()
    heard(log, answer(invite, 486, "busy"))
    ack = parsed_request(sends(log.outputs)[-1].data)
    assert (ack.uri, ack.call_id, ack.cseq) == (invite.uri, invite.call_id, (invite.cseq.number, "ACK"))
    assert ack.headers.get("From") == invite.headers.get("From")
    assert ack.headers.get("To") == "Bob <sip:bob@biloxi.example>;tag=busy"
    assert ack.headers.values("Via") == invite.headers.values("Via")[:1]
    assert ack.headers.all("Route") == ["<sip:p;lr>"]


def test_17_1_1_3_the_ack_goes_where_the_invite_went() -> None:
    log, _, invite = client()
    heard(log, answer(invite, 486), Flow("udp", CALLER, ("203.0.113.5", 5099)))
    assert sends(log.outputs)[-1].flow == OUT


# -- 17.1.2.2 non-INVITE client --------------------------------------------------------------------------------------------------------


def test_17_1_2_2_an_unanswered_request_is_repeated_at_t1_doubling_to_t2_for_64_t1() -> None:
    log, _, _ = client("OPTIONS")
    log.run(60.0)
    assert log.times("OPTIONS again") == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert log.entries[-2:] == [(32.0, "TimedOut"), (32.0, "Terminated")]


def test_17_1_2_2_over_a_reliable_transport_it_is_sent_once() -> None:
    log, _, _ = client("OPTIONS", TCP_OUT)
    log.run(60.0)
    assert log.entries == [(0.0, "OPTIONS"), (32.0, "TimedOut"), (32.0, "Terminated")]


def test_17_1_2_2_after_a_provisional_response_it_is_repeated_at_t2_and_timer_f_runs_on() -> None:
    log, _, options = client("OPTIONS")
    log.run(0.1)
    assert heard(log, answer(options, 100)) == ["ResponseReceived"]
    log.run(60.0)
    assert log.times("OPTIONS again") == [0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5]
    assert log.times("TimedOut") == [32.0]


def test_17_1_2_2_the_final_response_is_passed_up_once_and_completed_lasts_t4() -> None:
    log, _, options = client("OPTIONS")
    assert heard(log, answer(options, 200)) == ["ResponseReceived"]
    assert heard(log, answer(options, 200)) == ["Absorbed"]
    log.run(60.0)
    assert log.times("Terminated") == [5.0]
    assert not log.times("OPTIONS again")


def test_17_1_2_2_a_final_response_ends_proceeding_as_it_ends_trying() -> None:
    log, _, options = client("OPTIONS")
    heard(log, answer(options, 100))
    assert heard(log, answer(options, 404)) == ["ResponseReceived"]
    assert heard(log, answer(options, 404)) == ["Absorbed"]
    log.run(60.0)
    assert log.times("Terminated") == [5.0]
    assert not log.times("OPTIONS again")


def test_17_1_2_2_timer_k_is_zero_over_a_reliable_transport() -> None:
    log, _, options = client("OPTIONS", TCP_OUT)
    heard(log, answer(options, 404), TCP_OUT)
    log.run(60.0)
    assert log.times("Terminated") == [0.0]


def test_17_1_3_a_response_matches_by_branch_and_cseq_method() -> None:
    log, tx, invite = client()
    log.layer.request(request("OPTIONS"), OUT, CALLER, log.now)
    log.drain()
    wrong_branch, wrong_method = answer(invite, 180), answer(invite, 180)
    wrong_branch.headers.set("Via", str(wrong_branch.via).replace("z9hG4bK-1", "z9hG4bK-77"))
    wrong_method.headers.set("CSeq", "1 OPTIONS")
    assert heard(log, wrong_branch) == heard(log, wrong_method) == ["Stray"]
    heard(log, answer(invite, 180))
    assert [event.tx for event in of_type(log.outputs, ResponseReceived)] == [tx]


def test_17_1_4_a_transport_error_is_told_and_ends_the_transaction() -> None:
    log, _, _ = client()
    log.layer.transport_failed(OUT, log.now)
    assert summary(log.drain()) == ["TransportFailed", "Terminated"]


def test_17_1_a_client_transaction_that_is_over_is_forgotten_in_that_instant() -> None:
    for method, status, lasts in (("INVITE", 486, 32.0), ("INVITE", 200, 32.0), ("OPTIONS", 200, 5.0)):
        log, _, sent = client(method)
        heard(log, answer(sent, status))
        log.run(lasts - 0.001)
        assert log.layer.pending == 1
        log.run(lasts)
        assert log.layer.pending == 0
        assert heard(log, answer(sent, status)) == ["Stray"]
    for method in ("INVITE", "OPTIONS"):
        log, _, sent = client(method)
        log.run(32.0)
        assert log.layer.pending == 0
        assert heard(log, answer(sent, 200)) == ["Stray"]


# -- 17.2.1 INVITE server --------------------------------------------------------------------------------------------------------------


def test_17_2_1_a_100_is_generated_at_once() -> None:
    log, _, _ = server()
    assert log.entries == [(0.0, "100"), (0.0, "RequestReceived")]


def test_17_2_1_every_provisional_response_of_the_user_is_sent() -> None:
    log, tx, invite = server()
    assert [told(log, tx, invite, status) for status in (180, 183, 180)] == [["180"], ["183"], ["180"]]
    log.run(600.0)
    assert not log.times("180 again")


def test_17_2_1_a_repeated_invite_gets_the_most_recent_provisional_again() -> None:
    log, tx, invite = server()
    assert asked(log, received()) == ["Absorbed", "100 again"]
    assert told(log, tx, invite, 180) == ["180"]
    assert asked(log, received()) == ["Absorbed", "180 again"]


def test_17_2_1_a_non_2xx_is_repeated_until_the_ack_and_the_ack_is_absorbed() -> None:
    log, tx, invite = server()
    assert told(log, tx, invite, 486) == ["486"]
    log.run(4.0)
    assert log.times("486 again") == [0.5, 1.5, 3.5]
    assert asked(log, received("ACK", to="Bob <sip:bob@biloxi.example>;tag=b")) == ["Absorbed"]
    log.run(100.0)
    assert log.times("486 again") == [0.5, 1.5, 3.5]


def test_17_2_1_without_an_ack_it_is_repeated_up_to_t2_apart_until_timer_h_tells_the_user() -> None:
    log, tx, invite = server()
    told(log, tx, invite, 486)
    log.run(100.0)
    assert log.times("486 again") == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert log.entries[-2:] == [(32.0, "TimedOut"), (32.0, "Terminated")]


def test_17_2_1_over_a_reliable_transport_a_non_2xx_is_sent_once_and_timer_h_still_runs() -> None:
    log, tx, invite = server(flow=TCP_IN)
    told(log, tx, invite, 486)
    log.run(100.0)
    assert not log.times("486 again")
    assert log.times("TimedOut") == [32.0]


def test_17_2_1_a_repeated_invite_gets_the_final_response_again() -> None:
    log, tx, invite = server()
    told(log, tx, invite, 486)
    assert asked(log, received()) == ["Absorbed", "486 again"]


def test_17_2_1_confirmed_absorbs_acks_for_t4_and_not_at_all_over_a_reliable_transport() -> None:
    log, tx, invite = server()
    told(log, tx, invite, 486)
    asked(log, received("ACK"))
    assert asked(log, received("ACK")) == ["Absorbed"]
    assert asked(log, received()) == ["Absorbed"]
    log.run(100.0)
    assert log.times("Terminated") == [5.0]
    log, tx, invite = server(flow=TCP_IN)
    told(log, tx, invite, 486)
    asked(log, received("ACK"), TCP_IN)
    log.run(100.0)
    assert log.times("Terminated") == [0.0]


def test_17_2_1_another_final_response_is_discarded_once_completed() -> None:
    log, tx, invite = server()
    told(log, tx, invite, 486)
    assert told(log, tx, invite, 200) == told(log, tx, invite, 180) == []


# -- 17.2.2 non-INVITE server ----------------------------------------------------------------------------------------------------------


def test_17_2_2_a_repeated_request_is_absorbed_until_there_is_a_response_and_then_gets_it_again() -> None:
    log, tx, options = server("OPTIONS")
    assert asked(log, received("OPTIONS")) == ["Absorbed"]
    told(log, tx, options, 100)
    assert asked(log, received("OPTIONS")) == ["Absorbed", "100 again"]
    told(log, tx, options, 200)
    assert asked(log, received("OPTIONS")) == ["Absorbed", "200 again"]


def test_17_2_2_every_provisional_response_is_sent_and_the_last_one_again() -> None:
    log, tx, options = server("OPTIONS")
    assert [told(log, tx, options, status) for status in (100, 183)] == [["100"], ["183"]]
    assert asked(log, received("OPTIONS")) == ["Absorbed", "183 again"]
    assert told(log, tx, options, 404) == ["404"]


def test_17_2_2_another_final_response_is_discarded_once_completed() -> None:
    log, tx, options = server("OPTIONS")
    told(log, tx, options, 200)
    assert told(log, tx, options, 404) == []


def test_17_2_2_completed_lasts_64_t1_and_zero_over_a_reliable_transport() -> None:
    log, tx, options = server("OPTIONS")
    told(log, tx, options, 200)
    log.run(100.0)
    assert log.times("Terminated") == [32.0]
    log, tx, options = server("OPTIONS", TCP_IN)
    told(log, tx, options, 200)
    log.run(100.0)
    assert log.times("Terminated") == [0.0]


def test_17_2_a_server_transaction_that_is_over_is_forgotten_in_that_instant() -> None:
    for method, lasts in (("INVITE", 5.0), ("OPTIONS", 32.0)):
        log, tx, asking = server(method)
        told(log, tx, asking, 486)
        if method == "INVITE":
            asked(log, received("ACK"))
        log.run(lasts - 0.001)
        assert log.layer.pending == 1
        log.run(lasts)
        assert log.layer.pending == 0
        assert asked(log, received(method))[-1] == "RequestReceived"


# -- 17.2.3 matching -------------------------------------------------------------------------------------------------------------------


def test_17_2_3_branch_sent_by_and_method_must_all_match() -> None:
    log, _, _ = server("OPTIONS")
    for differs in (
        received("OPTIONS", via="SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK-peer-2;rport", call_id="2"),
        received("OPTIONS", via="SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK-peer-1;rport", call_id="3"),
        received("OPTIONS", via="SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bK-peer-1;rport", call_id="4"),
        received("INFO", call_id="5"),
    ):
        assert asked(log, differs)[-1] == "RequestReceived"
    assert asked(log, received("OPTIONS")) == ["Absorbed"]


def test_17_2_3_the_ack_of_a_non_2xx_matches_the_invite() -> None:
    log, tx, invite = server()
    told(log, tx, invite, 486)
    log.layer.receive(received("ACK"), IN, Mono(0.0))
    assert summary(log.drain()) == ["Absorbed"]


def test_17_2_3_without_the_cookie_uri_tags_call_id_cseq_and_via_must_match() -> None:
    old = "SIP/2.0/UDP 192.0.2.1:5060;branch=7"
    log = lone()
    assert asked(log, received(via=old)) == ["100", "RequestReceived"]
    assert asked(log, received(via=old)) == ["Absorbed", "100 again"]
    for differs in (
        received(via=old, uri="sip:else@192.0.2.2", cseq=9),
        received(via=old, to="<sip:b@c>;tag=t"),
        received(via=old, from_="<sip:a@b>;tag=f"),
        received(via=old, call_id="2"),
        received(via=old, cseq=2),
        received(via="SIP/2.0/UDP 192.0.2.1:5060;branch=8", cseq=3),
    ):
        assert asked(log, differs)[-1] == "RequestReceived"


def test_17_2_3_without_the_cookie_an_ack_matches_by_the_to_tag_of_the_response() -> None:
    old = "SIP/2.0/UDP 192.0.2.1:5060;branch=7"
    log = lone()
    asked(log, received(via=old))
    event = of_type(log.outputs, RequestReceived)[0]
    told(log, event.tx, event.request, 486)
    assert asked(log, received("ACK", via=old, to="<sip:b@c>;tag=another")) == ["AckReceived"]
    assert asked(log, received("ACK", via=old, to="<sip:b@c>;tag=b")) == ["Absorbed"]
    assert asked(log, received("ACK", via=old, to="<sip:b@c>;tag=b")) == ["Absorbed"]
    log.run(100.0)
    assert not log.times("486 again")


def test_17_2_4_a_transport_error_leaves_a_server_transaction_as_it_is() -> None:
    """As RFC 6026 8.8 amends it, so that repeated requests are still known."""
    for method in ("INVITE", "OPTIONS"):
        for status in (180, 486):
            log, tx, asking = server(method)
            told(log, tx, asking, status)
            log.layer.transport_failed(IN, log.now)
            assert summary(log.drain()) == []
            assert asked(log, received(method)) == ["Absorbed", f"{status} again"]
