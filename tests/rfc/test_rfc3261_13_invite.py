"""RFC 3261 section 13: INVITE, as far as transactions and dialogs carry it."""

from __future__ import annotations

from sidecar.clocks import Mono
from sidecar.sip.dialog import Dialog, DialogState
from sidecar.sip.events import AckReceived, AckTimedOut, RequestReceived, ResponseReceived
from sidecar.sip.layer import TransactionLayer
from sidecar.sip.message import response_to
from tests.support.ids import SeqIds
from tests.support.sip import CALLER, IN, OUT, Log, answer, lone, of_type, parsed_request, received, request, sends, summary


def accepted() -> Log:
    log = lone()
    log.layer.receive(received(), IN, log.now)
    event = of_type(log.drain(), RequestReceived)[0]
    log.layer.respond(event.tx, response_to(event.request, 200, to_tag="b"), log.now)
    return log


def test_13_2_2_4_the_ack_of_a_2xx_has_the_invites_cseq_number_and_a_new_branch() -> None:
    layer = TransactionLayer(SeqIds())
    mine = request(cseq=9)
    layer.request(mine, OUT, CALLER, Mono(0.0))
    invite = parsed_request(sends(layer.take())[0].data)
    dialog = Dialog.uac(mine, answer(invite, 200, headers=[("Contact", "<sip:bob@192.0.2.2:5080>")]))
    ack = parsed_request(layer.send_ack(dialog.ack(9), OUT, CALLER, Mono(0.0)))
    assert (ack.uri, ack.cseq) == ("sip:bob@192.0.2.2:5080", (9, "ACK"))
    assert ack.via.branch != invite.via.branch


def test_13_2_2_4_the_ack_goes_out_again_for_every_2xx_that_comes_again() -> None:
    layer = TransactionLayer(SeqIds())
    layer.request(request(), OUT, CALLER, Mono(0.0))
    invite = parsed_request(sends(layer.take())[0].data)
    for _ in range(3):
        layer.receive(answer(invite, 200), OUT, Mono(0.0))
    assert [event.retransmission for event in of_type(layer.take(), ResponseReceived)] == [False, True, True]


def test_13_2_2_4_an_early_dialog_takes_its_route_set_anew_from_the_2xx() -> None:
    invite = received()
    early = Dialog.uac(invite, answer(invite, 180))
    final = answer(invite, 200)
    final.headers.add("Record-Route", "<sip:p1;lr>, <sip:p2;lr>")
    early.refresh(final)
    assert (early.state, early.route_set) == (DialogState.CONFIRMED, ("<sip:p2;lr>", "<sip:p1;lr>"))


def test_13_3_1_4_a_2xx_is_repeated_at_t1_doubling_to_t2() -> None:
    log = accepted()
    log.run(30.0)
    assert log.times("200 again") == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5]


def test_13_3_1_4_it_is_repeated_until_the_ack_came() -> None:
    log = accepted()
    log.run(2.0)
    log.layer.receive(received("ACK", to="<sip:b@c>;tag=b", via="SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK-ack"), IN, log.now)
    [_] = of_type(log.drain(), AckReceived)
    log.layer.acknowledge(of_type(log.outputs, RequestReceived)[0].tx, log.now)
    log.run(40.0)
    assert log.times("200 again") == [0.5, 1.5]
    assert not of_type(log.outputs, AckTimedOut)


def test_13_3_1_4_after_64_t1_without_ack_the_user_is_told_to_end_the_dialog() -> None:
    log = accepted()
    log.run(60.0)
    assert log.times("AckTimedOut") == [32.0]


def test_13_3_1_4_a_reliable_transport_changes_nothing_about_it() -> None:
    log = lone()
    flow = type(IN)("tcp", IN.local, IN.remote)
    log.layer.receive(received(via="SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK-t"), flow, log.now)
    event = of_type(log.drain(), RequestReceived)[0]
    log.layer.respond(event.tx, response_to(event.request, 200, to_tag="b"), log.now)
    log.run(4.0)
    assert summary(log.outputs).count("200 again") == 3
