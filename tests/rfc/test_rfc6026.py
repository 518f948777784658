"""RFC 6026: correct transaction handling for 2xx responses to INVITE."""

from __future__ import annotations

from sidecar.sip.events import Absorbed, AckReceived, RequestReceived, ResponseReceived
from sidecar.sip.flow import Flow
from sidecar.sip.message import Request, response_to
from tests.support.sip import CALLER, IN, OUT, Log, answer, lone, of_type, parsed_request, received, request, sends, summary


def accepted() -> Log:
    log = lone()
    log.layer.receive(received(), IN, log.now)
    event = of_type(log.drain(), RequestReceived)[0]
    log.layer.respond(event.tx, response_to(event.request, 200, to_tag="b"), log.now)
    log.drain()
    log.layer.acknowledge(event.tx, log.now)
    return log


def test_7_1_an_invite_repeated_after_our_2xx_is_absorbed_without_a_response() -> None:
    log = accepted()
    log.run(20.0)
    log.layer.receive(received(), IN, log.now)
    outputs = log.drain()
    assert [type(output) for output in outputs] == [Absorbed]


def test_7_1_and_8_11_accepted_lasts_for_timer_l_on_every_transport() -> None:
    log = accepted()
    log.run(100.0)
    assert log.times("Terminated") == [32.0]
    log = lone()
    flow = Flow("tcp", IN.local, IN.remote)
    log.layer.receive(received(via="SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK-t"), flow, log.now)
    event = of_type(log.drain(), RequestReceived)[0]
    log.layer.respond(event.tx, response_to(event.request, 200, to_tag="b"), log.now)
    log.run(100.0)
    assert log.times("Terminated") == [32.0]


def test_7_1_an_ack_in_accepted_is_passed_up() -> None:
    log = accepted()
    log.layer.receive(received("ACK"), IN, log.now)
    assert [type(output) for output in log.drain()] == [AckReceived]


def test_7_1_a_2xx_of_the_user_in_accepted_is_sent() -> None:
    log = accepted()
    event = of_type(log.outputs, RequestReceived)[0]
    log.layer.respond(event.tx, response_to(event.request, 200, to_tag="b"), log.now)
    assert summary(log.drain()) == ["200"]


def test_7_1_a_non_2xx_of_the_user_in_accepted_is_discarded() -> None:
    log = accepted()
    event = of_type(log.outputs, RequestReceived)[0]
    log.layer.respond(event.tx, response_to(event.request, 486, to_tag="b"), log.now)
    assert log.drain() == []


def test_6_an_ack_without_the_cookie_is_passed_up_in_accepted() -> None:
    old = "SIP/2.0/UDP 192.0.2.1:5060;branch=7"
    log = lone()
    log.layer.receive(received(via=old), IN, log.now)
    event = of_type(log.drain(), RequestReceived)[0]
    log.layer.respond(event.tx, response_to(event.request, 200, to_tag="b"), log.now)
    log.drain()
    log.layer.receive(received("ACK", via=old, to="Bob <sip:bob@biloxi.example>;tag=b"), IN, log.now)
    assert [type(output) for output in log.drain()] == [AckReceived]
    log.layer.receive(received(via=old), IN, log.now)
    assert [type(output) for output in log.drain()] == [Absorbed]


def test_7_1_a_repeated_invite_calls_forth_no_2xx_and_after_the_ack_nothing_does() -> None:
    log = accepted()
    log.layer.receive(received(), IN, log.now)
    log.run(100.0)
    assert not log.times("200 again")


def test_7_1_8_8_a_transport_error_leaves_the_server_transaction_where_it_is() -> None:
    log = accepted()
    log.layer.transport_failed(IN, log.now)
    assert log.drain() == []
    log.layer.receive(received(), IN, log.now)
    assert [type(output) for output in log.drain()] == [Absorbed]
    log.run(100.0)
    assert log.times("Terminated") == [32.0]


def test_7_1_what_is_over_is_forgotten_in_that_instant() -> None:
    log = accepted()
    log.run(31.999)
    assert log.layer.pending == 1
    log.run(32.0)
    assert log.layer.pending == 0
    log.layer.receive(received(), IN, log.now)
    assert summary(log.drain())[-1] == "RequestReceived"


def dialled() -> tuple[Log, Request]:
    log = lone()
    log.layer.request(request(), OUT, CALLER, log.now)
    return log, parsed_request(sends(log.drain())[0].data)


def test_7_2_and_8_4_every_2xx_in_accepted_is_passed_up() -> None:
    log, invite = dialled()
    for tag in ("x", "x", "y"):
        log.layer.receive(answer(invite, 200, tag), OUT, log.now)
    assert [(event.response.to_tag, event.retransmission) for event in of_type(log.drain(), ResponseReceived)] == [
        ("x", False),
        ("x", True),
        ("y", False),
    ]


def test_7_2_no_2xx_is_acknowledged_by_the_transaction_after_a_ring_either() -> None:
    log, invite = dialled()
    for status in (180, 200, 200):
        log.layer.receive(answer(invite, status), OUT, log.now)
    assert summary(log.drain()) == ["ResponseReceived"] * 3
    log.run(100.0)
    assert log.times("Terminated") == [32.0]


def test_7_2_and_8_11_accepted_lasts_for_timer_m() -> None:
    log, invite = dialled()
    log.layer.receive(answer(invite, 200), OUT, log.now)
    log.run(100.0)
    assert log.times("Terminated") == [32.0]
    log.layer.receive(answer(invite, 200), OUT, log.now)
    assert summary(log.drain()) == ["Stray"]


def test_7_2_8_9_a_response_that_matches_no_transaction_is_not_acted_on() -> None:
    log = lone()
    log.layer.receive(answer(received(), 200), OUT, log.now)
    assert summary(log.drain()) == ["Stray"]


def test_8_4_a_provisional_or_refusal_after_the_2xx_is_not_passed_up() -> None:
    log, invite = dialled()
    log.layer.receive(answer(invite, 200), OUT, log.now)
    log.drain()
    for status in (180, 486):
        log.layer.receive(answer(invite, status), OUT, log.now)
    assert [type(output) for output in log.drain()] == [Absorbed, Absorbed]
