"""RFC 3261 section 18: what the core does of the transport's duties."""

from __future__ import annotations

import pytest

from sidecar.clocks import Mono
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.events import Absorbed, RequestReceived
from sidecar.sip.flow import Flow
from sidecar.sip.layer import TransactionLayer
from sidecar.sip.message import parse
from tests.core.b2bua.harness import ANSWER, OFFER, Bench
from tests.support.ids import SeqIds
from tests.support.sip import CALLEE, CALLER, IN, OUT, answer, of_type, parsed_request, received, request, sends, summary

NOW = Mono(0.0)


def taken(via: str, flow: Flow = IN) -> tuple[RequestReceived, Flow]:
    layer = TransactionLayer(SeqIds())
    layer.receive(received(via=via), flow, NOW)
    outputs = layer.take()
    return of_type(outputs, RequestReceived)[0], sends(outputs)[0].flow


def test_18_1_1_the_via_names_transport_and_sent_by() -> None:
    layer = TransactionLayer(SeqIds())
    layer.request(request(), OUT, ("sidecar.example", 5070), NOW)
    assert sends(layer.take())[0].data.split(b"\r\n")[1].startswith(b"Via: SIP/2.0/UDP sidecar.example:5070;")


def test_18_1_1_an_ack_too_long_for_a_datagram_goes_by_tcp_and_by_udp_when_its_2xx_comes_again() -> None:
    bench = Bench()
    sent = bench.invite(body=b"")
    got = bench.edge.request("INVITE")
    answered = bench.edge.reply(got, 200, body=OFFER)
    long = ANSWER + b"".join(b"a=x-%d:%s\r\n" % (n, b"y" * 60) for n in range(20))
    bench.caller.ack(sent, bench.caller.response(200), body=long)
    first = bench.edge.request("ACK")
    assert (len(first.body) > 1300, first.via.transport) == (True, "TCP")
    for _ in range(2):
        bench.edge.send(answered)
        again = bench.edge.request("ACK")
        assert (again.via.transport, again.body, again.cseq) == ("UDP", first.body, first.cseq)
    bench.hang_up(bench.caller)
    bench.over()


def test_18_1_1_a_response_is_taken_by_whatever_connection_it_comes() -> None:
    layer = TransactionLayer(SeqIds())
    layer.request(request(), Flow("tcp", CALLER, CALLEE), CALLER, NOW)
    response = answer(parsed_request(sends(layer.take())[0].data), 180)
    layer.receive(response, Flow("tcp", CALLER, (CALLEE[0], 40000)), NOW)
    assert summary(layer.take()) == ["ResponseReceived"]


def test_18_1_2_a_response_whose_via_names_somebody_else_is_discarded() -> None:
    layer = TransactionLayer(SeqIds())
    layer.request(request(), OUT, CALLER, NOW)
    response = answer(parsed_request(sends(layer.take())[0].data), 200)
    response.headers.set("Via", str(response.via).replace(CALLER[0], "203.0.113.1"))
    layer.receive(response, OUT, NOW)
    assert summary(layer.take()) == ["Stray"]


def test_18_2_1_received_is_added_when_sent_by_is_a_name_or_another_address() -> None:
    assert taken("SIP/2.0/UDP phone.example:5060;branch=z9hG4bK1")[0].request.via.received == CALLER[0]
    assert taken("SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1")[0].request.via.received == CALLER[0]
    assert taken("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1")[0].request.via.received is None


def test_18_2_1_only_the_top_via_is_touched() -> None:
    event, _ = taken("SIP/2.0/UDP a.example;branch=z9hG4bK1, SIP/2.0/UDP b.example;branch=z9hG4bK2")
    assert event.request.headers.values("Via") == [
        "SIP/2.0/UDP a.example;branch=z9hG4bK1;received=192.0.2.1",
        "SIP/2.0/UDP b.example;branch=z9hG4bK2",
    ]


def test_18_2_1_a_received_that_the_peer_made_up_is_replaced() -> None:
    event, _ = taken("SIP/2.0/UDP a.example;branch=z9hG4bK1;received=203.0.113.66")
    assert event.request.headers.values("Via") == ["SIP/2.0/UDP a.example;branch=z9hG4bK1;received=192.0.2.1"]
    event, _ = taken("SIP/2.0/UDP 192.0.2.1;received=203.0.113.66;branch=z9hG4bK1")
    assert event.request.via.received is None


def test_18_2_2_a_response_goes_to_the_source_address_and_the_port_of_sent_by() -> None:
    far = Flow("udp", CALLEE, (CALLER[0], 40000))
    assert taken("SIP/2.0/UDP phone.example:5090;branch=z9hG4bK1", far)[1].remote == (CALLER[0], 5090)
    assert taken("SIP/2.0/UDP phone.example;branch=z9hG4bK1", far)[1].remote == (CALLER[0], 5060)


def test_18_2_2_without_received_it_goes_to_the_address_and_port_of_sent_by() -> None:
    far = Flow("udp", CALLEE, (CALLER[0], 40000))
    assert taken("SIP/2.0/UDP 192.0.2.1:5090;branch=z9hG4bK1", far)[1].remote == (CALLER[0], 5090)
    assert taken("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", far)[1].remote == (CALLER[0], 5060)


def test_18_2_2_over_a_reliable_transport_it_goes_back_on_the_connection() -> None:
    flow = Flow("tcp", CALLEE, (CALLER[0], 40000))
    assert taken("SIP/2.0/TCP phone.example:5090;branch=z9hG4bK1", flow)[1] == flow


def test_18_2_2_maddr_does_not_redirect_responses() -> None:
    assert taken("SIP/2.0/UDP 192.0.2.1:5060;maddr=203.0.113.5;branch=z9hG4bK1")[1] == IN


def test_18_3_octets_beyond_content_length_are_discarded() -> None:
    assert parsed_request(received("MESSAGE", body=b"hello").encode() + b"padding").body == b"hello"


def test_18_3_a_body_short_of_content_length_is_an_error() -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse(received("MESSAGE", body=b"hello").encode()[:-1])
    assert caught.value.status == 400
    response = answer(received("MESSAGE"), 200, body=b"hello")
    with pytest.raises(MalformedMessage) as caught:
        parse(response.encode()[:-1])
    assert caught.value.status is None


def test_18_3_without_content_length_the_body_reaches_to_the_end_of_the_datagram() -> None:
    data = received("MESSAGE").encode().replace(b"Content-Length: 0\r\n", b"") + b"hello"
    assert parsed_request(data).body == b"hello"


def test_18_4_a_transport_error_reaches_the_transaction() -> None:
    layer = TransactionLayer(SeqIds())
    layer.request(request(), OUT, CALLER, NOW)
    layer.take()
    layer.transport_failed(OUT, NOW)
    assert summary(layer.take()) == ["TransportFailed", "Terminated"]


def test_18_2_1_a_retransmission_is_recognised_after_the_via_was_stamped() -> None:
    layer = TransactionLayer(SeqIds())
    for _ in range(2):
        layer.receive(received(via="SIP/2.0/UDP phone.example;branch=z9hG4bK1;rport"), IN, NOW)
    assert len(of_type(layer.take(), Absorbed)) == 1
