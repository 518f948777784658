"""RFC 3261 section 9: CANCEL."""

from __future__ import annotations

from sidecar.clocks import Mono
from sidecar.sip.events import CancelReceived, ResponseReceived, TimedOut, TxId
from sidecar.sip.layer import TransactionLayer
from sidecar.sip.message import Request, Response, response_to
from tests.support.ids import SeqIds
from tests.support.sip import CALLER, IN, OUT, Log, answer, lone, of_type, parsed_request, received, request, sends, summary

NOW = Mono(0.0)
ROUTED = [("Route", "<sip:p1;lr>"), ("Route", "<sip:p2;lr>"), ("Require", "x"), ("Proxy-Require", "y"), ("Authorization", "Digest z")]


def dialled() -> tuple[Log, TxId, Request]:
    log = lone()
    tx = log.layer.request(request(headers=ROUTED, body=b"v=0"), OUT, CALLER, log.now)
    return log, tx, parsed_request(sends(log.drain())[0].data)


def cancelled() -> tuple[Log, TxId, Request, Request]:
    log, tx, invite = dialled()
    log.layer.receive(answer(invite, 180), OUT, log.now)
    log.layer.cancel(tx, log.now, [("Reason", "SIP;cause=200")])
    return log, tx, invite, parsed_request(sends(log.drain())[-1].data)


def test_9_1_uri_call_id_to_from_and_cseq_number_equal_the_invites() -> None:
    _, _, invite, cancel = cancelled()
    assert (cancel.method, cancel.uri) == ("CANCEL", invite.uri)
    for name in ("Call-ID", "To", "From"):
        assert cancel.headers.all(name) == invite.headers.all(name)
    assert cancel.cseq == (invite.cseq.number, "CANCEL")


def test_9_1_one_via_equal_to_the_invites_top_via() -> None:
    _, _, invite, cancel = cancelled()
    assert cancel.headers.values("Via") == invite.headers.values("Via")[:1]


def test_9_1_route_is_the_invites() -> None:
    _, _, invite, cancel = cancelled()
    assert cancel.headers.all("Route") == invite.headers.all("Route") == ["<sip:p1;lr>", "<sip:p2;lr>"]


def test_9_1_no_require_no_proxy_require_no_body() -> None:
    _, _, _, cancel = cancelled()
    assert "Require" not in cancel.headers
    assert "Proxy-Require" not in cancel.headers
    assert cancel.body == b""
    assert cancel.headers.get("Reason") == "SIP;cause=200"


def test_9_1_nothing_is_sent_before_a_provisional_response() -> None:
    log, tx, invite = dialled()
    log.layer.cancel(tx, log.now)
    assert log.drain() == []
    log.layer.receive(answer(invite, 100), OUT, log.now)
    assert summary(log.drain()) == ["ResponseReceived", "CANCEL"]


def test_9_1_nothing_is_sent_after_a_final_response() -> None:
    log, tx, invite = dialled()
    log.layer.receive(answer(invite, 200), OUT, log.now)
    log.layer.cancel(tx, log.now)
    assert summary(log.drain()) == ["ResponseReceived"]
    log, tx, invite = dialled()
    log.layer.cancel(tx, log.now)
    log.layer.receive(answer(invite, 486), OUT, log.now)
    assert summary(log.drain()) == ["ACK", "ResponseReceived"]


def test_9_1_without_a_final_response_in_64_t1_the_invite_counts_as_cancelled() -> None:
    log, tx, _, cancel = cancelled()
    log.layer.receive(answer(cancel, 200), OUT, log.now)
    log.run(100.0)
    assert (32.0, "TimedOut") in log.entries
    assert of_type(log.outputs, TimedOut) == [TimedOut(tx)]


def test_9_1_cancel_is_a_transaction_of_its_own_and_is_repeated_until_answered() -> None:
    log, _, _, cancel = cancelled()
    log.run(4.0)
    assert log.times("CANCEL again") == [0.5, 1.5, 3.5]
    log.layer.receive(answer(cancel, 200), OUT, log.now)
    log.run(20.0)
    assert len(log.times("CANCEL again")) == 3


def test_9_1_a_487_still_ends_the_invite() -> None:
    log, tx, invite, _ = cancelled()
    log.layer.receive(answer(invite, 487), OUT, log.now)
    outputs = log.drain()
    assert [(event.tx, event.response.status) for event in of_type(outputs, ResponseReceived)] == [(tx, 487)]


def taken() -> tuple[TransactionLayer, TxId, Request]:
    layer = TransactionLayer(SeqIds())
    layer.receive(received(), IN, NOW)
    event = layer.take()[1]
    return layer, event.tx, event.request  # type: ignore[union-attr, return-value]


def test_9_2_a_cancel_that_matches_nothing_is_answered_481() -> None:
    layer = TransactionLayer(SeqIds())
    layer.receive(received("CANCEL"), IN, NOW)
    outputs = layer.take()
    assert summary(outputs) == ["481"]
    assert not of_type(outputs, CancelReceived)


def test_9_2_a_cancel_that_matches_is_answered_200_and_told() -> None:
    layer, tx, _ = taken()
    layer.receive(received("CANCEL"), IN, NOW)
    outputs = layer.take()
    assert summary(outputs) == ["200", "CancelReceived"]
    assert of_type(outputs, CancelReceived)[0].tx == tx


def test_9_2_the_200_to_cancel_has_the_to_tag_of_the_invites_responses() -> None:
    layer, tx, invite = taken()
    layer.respond(tx, response_to(invite, 180, to_tag="mine"), NOW)
    layer.take()
    layer.receive(received("CANCEL"), IN, NOW)
    [send] = sends(layer.take())
    assert send.message.to_tag == "mine"


def test_9_2_after_a_final_response_cancel_has_no_effect() -> None:
    layer, tx, invite = taken()
    layer.respond(tx, response_to(invite, 200, to_tag="mine"), NOW)
    layer.take()
    layer.receive(received("CANCEL"), IN, NOW)
    outputs = layer.take()
    assert summary(outputs) == ["200"]
    assert isinstance(sends(outputs)[0].message, Response)
