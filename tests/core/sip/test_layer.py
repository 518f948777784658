"""The transaction layer beyond the letter of the RFC: matching, order of outputs, deadlines, leaks."""

from __future__ import annotations

import pytest

from sidecar.clocks import Mono
from sidecar.sip.events import (
    Absorbed,
    AckReceived,
    AckTimedOut,
    CancelReceived,
    RequestReceived,
    ResponseReceived,
    Send,
    Stray,
    Terminated,
    TimedOut,
    TransportFailed,
)
from sidecar.sip.flow import Flow
from sidecar.sip.layer import TransactionLayer, TxId
from sidecar.sip.message import Request, Response, parse, response_to
from sidecar.sip.timing import Timing
from tests.support.ids import SeqIds
from tests.support.sip import CALLEE, CALLER, IN, OUT, answer, lone, of_type, received, request, sends, summary

ZERO = Mono(0.0)
IDLE: dict[str, dict[str, int]] = {"client_invite": {}, "client_other": {}, "server_invite": {}, "server_other": {}}


def layer() -> TransactionLayer:
    return TransactionLayer(SeqIds())


def invited(via: str | None = None) -> tuple[TransactionLayer, TxId, Request]:
    """A layer that has just taken an INVITE; its outputs are drained."""
    callee = layer()
    callee.receive(received() if via is None else received(via=via), IN, ZERO)
    event = of_type(callee.take(), RequestReceived)[0]
    return callee, event.tx, event.request


def calling(timing: Timing | None = None) -> tuple[TransactionLayer, TxId, Request]:
    """A layer that has just sent an INVITE."""
    caller = TransactionLayer(SeqIds(), timing or Timing())
    tx = caller.request(request(), OUT, CALLER, ZERO)
    sent = sends(caller.take())[0].message
    assert isinstance(sent, Request)
    return caller, tx, sent


# -- client ----------------------------------------------------------------------------------------------------------------------------


def test_a_request_leaves_under_our_via_and_the_users_own_object_is_untouched() -> None:
    caller = layer()
    mine = request("OPTIONS")
    tx = caller.request(mine, OUT, ("2001:db8::1", 5080), ZERO)
    assert "Via" not in mine.headers
    [send] = caller.take()
    assert isinstance(send, Send)
    assert (send.tx, send.flow, send.retransmission) == (tx, OUT, False)
    assert send.data.startswith(b"OPTIONS sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP [2001:db8::1]:5080;branch=z9hG4bK-1;rport\r\n")


def test_ack_and_cancel_have_verbs_of_their_own() -> None:
    for method in ("ACK", "CANCEL"):
        with pytest.raises(ValueError, match=method):
            layer().request(request(method), OUT, CALLER, ZERO)


def test_100_and_180_and_200_are_delivered_in_order() -> None:
    caller, tx, sent = calling()
    for status in (100, 180, 200):
        caller.receive(answer(sent, status), OUT, ZERO)
    outputs = caller.take()
    assert [(event.tx, event.response.status, event.retransmission) for event in of_type(outputs, ResponseReceived)] == [
        (tx, 100, False),
        (tx, 180, False),
        (tx, 200, False),
    ]
    assert len(outputs) == 3


def test_a_2xx_of_the_same_fork_is_a_retransmission_and_one_of_another_fork_is_not() -> None:
    caller, _, sent = calling()
    for tag in ("x", "x", "y", "x", "y"):
        caller.receive(answer(sent, 200, tag), OUT, ZERO)
    assert [event.retransmission for event in of_type(caller.take(), ResponseReceived)] == [False, True, False, True, True]


def test_a_response_that_is_not_ours_is_stray() -> None:
    caller, _, sent = calling()
    good = answer(sent, 200)
    other_branch, other_host, two_vias, other_method = (good.copy() for _ in range(4))
    other_branch.headers.set("Via", str(good.via).replace("z9hG4bK-1", "z9hG4bK-9"))
    other_host.headers.set("Via", str(good.via).replace(CALLER[0], "203.0.113.9"))
    two_vias.headers.add("Via", "SIP/2.0/UDP other;branch=z9hG4bKx")
    other_method.headers.set("CSeq", "1 BYE")
    for wrong in (other_branch, other_host, two_vias, other_method):
        caller.receive(wrong, OUT, ZERO)
        [event] = caller.take()
        assert isinstance(event, Stray)
    caller.receive(good, OUT, ZERO)
    assert summary(caller.take()) == ["ResponseReceived"]


def test_a_default_port_may_be_missing_in_the_via_that_comes_back() -> None:
    caller, _, sent = calling()
    response = answer(sent, 200)
    response.headers.set("Via", str(response.via).replace(":5060", ""))
    caller.receive(response, OUT, ZERO)
    assert summary(caller.take()) == ["ResponseReceived"]


def test_transport_failure_ends_what_waits_on_that_remote_and_nothing_else() -> None:
    caller, tx, _ = calling()
    elsewhere = Flow("udp", CALLER, ("192.0.2.3", 5060))
    caller.request(request("OPTIONS", call_id="2"), elsewhere, CALLER, ZERO)
    options = caller.request(request("OPTIONS", call_id="3"), OUT, CALLER, ZERO)
    caller.take()
    caller.transport_failed(OUT, ZERO, "connection refused")
    assert caller.take() == [
        TransportFailed(tx, "connection refused"),
        Terminated(tx),
        TransportFailed(options, "connection refused"),
        Terminated(options),
    ]
    assert caller.describe()["client_other"] == {"trying": 1}


def test_transport_failure_after_the_final_response_is_no_news() -> None:
    caller, tx, sent = calling()
    caller.receive(answer(sent, 486), OUT, ZERO)
    caller.take()
    caller.transport_failed(OUT, ZERO)
    assert caller.take() == [Terminated(tx)]
    caller, _, sent = calling()
    caller.receive(answer(sent, 200), OUT, ZERO)
    caller.take()
    caller.transport_failed(OUT, ZERO)
    assert caller.take() == []


def test_transport_failure_while_it_rings_ends_nothing() -> None:  # 17.1.1.2, figure 5: none leads out of Proceeding
    caller, _, sent = calling()
    caller.receive(answer(sent, 180), OUT, ZERO)
    caller.take()
    caller.transport_failed(OUT, ZERO)
    assert caller.take() == []
    caller.receive(answer(sent, 200), OUT, ZERO)
    assert summary(caller.take()) == ["ResponseReceived"]


def test_an_ack_can_be_sent_again() -> None:
    caller = layer()
    data = caller.send_ack(request("ACK"), OUT, CALLER, ZERO)
    caller.resend(data, OUT)
    first, again = sends(caller.take())
    assert first.data == again.data == data
    assert (first.tx, first.retransmission, again.retransmission) == (None, False, True)


# -- server ----------------------------------------------------------------------------------------------------------------------------


def test_100_goes_out_before_the_user_hears_of_the_invite() -> None:
    callee = layer()
    callee.receive(received(), IN, ZERO)
    trying, event = callee.take()
    assert isinstance(trying, Send)
    assert isinstance(event, RequestReceived)
    assert trying.tx == event.tx
    assert isinstance(trying.message, Response)
    assert (trying.message.status, trying.message.to_tag) == (100, None)


def test_a_non_invite_gets_no_100() -> None:
    callee = layer()
    callee.receive(received("OPTIONS"), IN, ZERO)
    assert summary(callee.take()) == ["RequestReceived"]


def test_a_response_for_a_transaction_that_is_gone_is_discarded() -> None:
    callee, tx, invite = invited()
    callee.respond(TxId("s99"), response_to(invite, 200), ZERO)
    callee.respond(tx, response_to(invite, 486, to_tag="b"), ZERO)
    callee.take()
    callee.respond(tx, response_to(invite, 200, to_tag="b"), ZERO)
    assert callee.take() == []


def test_an_ack_that_reuses_the_branch_of_an_accepted_invite_reaches_the_user() -> None:
    callee, tx, invite = invited()
    callee.respond(tx, response_to(invite, 200, to_tag="b"), ZERO)
    callee.take()
    callee.receive(received("ACK", to="<sip:b@c>;tag=b"), IN, ZERO)
    [event] = callee.take()
    assert isinstance(event, AckReceived)
    callee.acknowledge(tx, ZERO)
    assert callee.next_deadline() == 32.0


def test_an_early_ack_is_absorbed() -> None:
    callee, tx, _ = invited()
    callee.receive(received("ACK"), IN, ZERO)
    [event] = callee.take()
    assert isinstance(event, Absorbed)
    assert event.tx == tx


def test_acknowledging_twice_or_too_late_is_harmless() -> None:
    callee, tx, invite = invited()
    callee.acknowledge(tx, ZERO)
    callee.respond(tx, response_to(invite, 200, to_tag="b"), ZERO)
    callee.acknowledge(tx, ZERO)
    callee.acknowledge(tx, ZERO)
    callee.on_time(Mono(40.0))
    callee.acknowledge(tx, Mono(40.0))
    assert summary(callee.take()) == ["200", "Terminated"]


def test_cancel_crossing_the_200_is_answered_and_changes_nothing() -> None:
    callee, tx, invite = invited()
    callee.respond(tx, response_to(invite, 200, to_tag="b"), ZERO)
    callee.take()
    callee.receive(received("CANCEL"), IN, ZERO)
    [send] = sends(callee.take())
    assert isinstance(send.message, Response)
    assert (send.message.status, send.message.to_tag) == (200, "b")


def test_cancel_repeated_is_told_once() -> None:
    callee, tx, _ = invited()
    callee.receive(received("CANCEL"), IN, ZERO)
    callee.receive(received("CANCEL"), IN, ZERO)
    outputs = callee.take()
    assert summary(outputs) == ["200", "CancelReceived", "Absorbed", "200 again"]
    assert of_type(outputs, CancelReceived)[0].tx == tx


def test_cancel_of_another_method_is_answered_200_without_an_effect() -> None:
    callee = layer()
    callee.receive(received("OPTIONS"), IN, ZERO)
    callee.take()
    callee.receive(received("CANCEL"), IN, ZERO)
    assert summary(callee.take()) == ["200"]


def test_a_merged_request_is_refused_while_the_first_is_worked_on_and_only_then() -> None:
    callee, tx, invite = invited()
    callee.receive(received(via="SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK-other;rport"), IN, ZERO)
    assert summary(callee.take()) == ["482"]
    callee.respond(tx, response_to(invite, 486, to_tag="b"), ZERO)
    callee.take()
    callee.receive(received(via="SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK-third;rport"), IN, ZERO)
    assert summary(callee.take()) == ["100", "RequestReceived"]


def test_a_peer_of_rfc_2543_is_matched_by_the_whole_request() -> None:
    old = "SIP/2.0/UDP 192.0.2.1:5060;branch=1"
    callee, tx, invite = invited(old)
    callee.receive(received(via=old), IN, ZERO)
    assert summary(callee.take()) == ["Absorbed", "100 again"]
    callee.respond(tx, response_to(invite, 486, to_tag="b"), ZERO)
    callee.take()
    callee.receive(received("ACK", via=old, to="<sip:bob@biloxi.example>;tag=other"), IN, ZERO)
    assert summary(callee.take()) == ["AckReceived"]
    callee.receive(received("ACK", via=old, to="<sip:bob@biloxi.example>;tag=b"), IN, ZERO)
    assert summary(callee.take()) == ["Absorbed"]
    callee.receive(received(via=old, call_id="2"), IN, ZERO)
    assert summary(callee.take()) == ["100", "RequestReceived"]


# -- time ------------------------------------------------------------------------------------------------------------------------------


def test_next_deadline_is_exact_after_a_timer_was_cleared() -> None:
    caller, _, sent = calling()
    assert caller.next_deadline() == 0.5
    caller.receive(answer(sent, 180), OUT, Mono(0.1))
    assert caller.next_deadline() is None
    caller.receive(answer(sent, 200), OUT, Mono(0.2))
    assert caller.next_deadline() == pytest.approx(32.2)


def test_a_stalled_loop_causes_one_retransmission_not_a_burst() -> None:
    caller, _, _ = calling()
    caller.on_time(Mono(10.0))
    assert summary(caller.take()) == ["INVITE again"]
    assert caller.next_deadline() == 11.0


def test_a_2xx_that_nobody_acknowledges_is_reported_once_and_then_forgotten() -> None:
    log = lone()
    log.layer.receive(received(), IN, log.now)
    tx = of_type(log.drain(), RequestReceived)[0].tx
    log.layer.respond(tx, response_to(received(), 200, to_tag="b"), log.now)
    log.run(100.0)
    assert log.outputs[-2:] == [AckTimedOut(tx), Terminated(tx)]
    assert log.entries[-1][0] == 32.0
    assert log.layer.describe() == IDLE


def test_a_whole_call_leaves_nothing_behind() -> None:
    caller, callee = TransactionLayer(SeqIds("c")), TransactionLayer(SeqIds("s"))

    def carry(source: TransactionLayer, dest: TransactionLayer, flow: Flow, now: float) -> list[object]:
        outputs = source.take()
        for send in sends(outputs):
            message = parse(send.data)
            assert message is not None
            dest.receive(message, flow, Mono(now))
        return [output for output in outputs if not isinstance(output, Send)]

    caller.request(request(), OUT, CALLER, ZERO)
    caller.request(request("OPTIONS", call_id="2"), OUT, CALLER, ZERO)
    carry(caller, callee, IN, 0.0)
    for event in of_type(carry(callee, caller, OUT, 0.0), RequestReceived):
        status = 486 if event.request.method == "INVITE" else 200
        callee.respond(event.tx, response_to(event.request, status, to_tag="b"), ZERO)
    carry(callee, caller, OUT, 0.1)
    carry(caller, callee, IN, 0.2)
    for now in (1.0, 5.0, 10.0, 40.0):
        caller.on_time(Mono(now))
        callee.on_time(Mono(now))
    assert caller.describe() == callee.describe() == IDLE
    assert caller.next_deadline() is None
    assert callee.next_deadline() is None
    told = [event for event in caller.take() + callee.take() if isinstance(event, TimedOut | AckTimedOut)]
    assert told == []


def test_describe_counts_by_machine_and_state() -> None:
    caller, _, _ = calling()
    caller.receive(received("OPTIONS"), Flow("udp", CALLER, CALLEE), ZERO)
    assert caller.describe() == IDLE | {"client_invite": {"calling": 1}, "server_other": {"trying": 1}}
