"""RFC 3581: symmetric response routing."""

from __future__ import annotations

from sidecar.b2bua.effects import SendSip
from sidecar.b2bua.settings import Listener
from sidecar.clocks import Mono
from sidecar.sip.events import RequestReceived, ResponseReceived
from sidecar.sip.flow import Flow
from sidecar.sip.layer import TransactionLayer
from tests.core.b2bua.harness import SIDECAR, Bench
from tests.support.ids import SeqIds
from tests.support.sip import CALLEE, CALLER, IN, OUT, answer, of_type, parsed_request, received, request, sends

NAT = Flow("udp", CALLEE, ("203.0.113.7", 41234))
NOW = Mono(0.0)


def taken(via: str, flow: Flow) -> tuple[RequestReceived, Flow]:
    layer = TransactionLayer(SeqIds())
    layer.receive(received(via=via), flow, NOW)
    outputs = layer.take()
    return of_type(outputs, RequestReceived)[0], sends(outputs)[0].flow


def test_3_a_client_adds_rport_without_a_value() -> None:
    layer = TransactionLayer(SeqIds())
    layer.request(request(), OUT, CALLER, NOW)
    via = parsed_request(sends(layer.take())[0].data).via
    assert (via.wants_rport, via.rport) == (True, None)


def test_4_rport_is_filled_with_the_source_port_and_received_with_the_source_address() -> None:
    via = taken("SIP/2.0/UDP 10.1.1.1:4540;rport;branch=z9hG4bK1", NAT)[0].request.headers.values("Via")
    assert via == ["SIP/2.0/UDP 10.1.1.1:4540;rport=41234;branch=z9hG4bK1;received=203.0.113.7"]


def test_4_received_is_added_even_when_it_equals_sent_by() -> None:
    assert taken("SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK1", IN)[0].request.via.received == CALLER[0]


def test_4_the_response_goes_back_to_where_the_request_came_from() -> None:
    assert taken("SIP/2.0/UDP 10.1.1.1:4540;rport;branch=z9hG4bK1", NAT)[1] == NAT


def test_4_an_rport_that_the_peer_made_up_is_overwritten() -> None:
    event, back = taken("SIP/2.0/UDP 10.1.1.1:4540;rport=53;branch=z9hG4bK1", NAT)
    assert event.request.via.rport == 41234
    assert back == NAT


def test_4_an_ipv6_source_stands_in_received_without_brackets() -> None:
    flow = Flow("udp", ("2001:db8::2", 5060), ("2001:db8::1", 41234))
    event, back = taken("SIP/2.0/UDP [2001:db8::9]:5060;rport;branch=z9hG4bK1", flow)
    assert event.request.headers.values("Via") == ["SIP/2.0/UDP [2001:db8::9]:5060;rport=41234;branch=z9hG4bK1;received=2001:db8::1"]
    assert back == flow


def test_3_a_response_is_taken_at_the_source_of_the_request_and_at_sent_by() -> None:
    for sent_by in (CALLER, (CALLER[0], 5099)):
        layer = TransactionLayer(SeqIds())
        layer.request(request(), OUT, sent_by, NOW)
        sent = parsed_request(sends(layer.take())[0].data)
        layer.receive(answer(sent, 180), Flow("udp", sent_by, OUT.remote), NOW)
        layer.receive(answer(sent, 200), OUT, NOW)
        assert [event.response.status for event in of_type(layer.take(), ResponseReceived)] == [180, 200]


def test_4_every_response_leaves_by_the_address_and_port_that_its_request_came_to() -> None:
    second, phone = ("192.0.2.1", 5080), ("192.0.2.10", 41234)
    bench = Bench(listeners=(Listener(SIDECAR, SIDECAR), Listener(second, second)))
    nobody = received(via="SIP/2.0/UDP 10.1.1.1:4540;rport;branch=z9hG4bK-nat", uri="sip:nobody@elsewhere.example")
    bench.engine.receive(nobody.encode(), Flow("udp", second, phone), bench.clock.now)
    bench.pump()
    bench.run(40.0)
    statuses = [effect.data[8:11] for effect in bench.facts(SendSip)]
    assert statuses[:2] == [b"100", b"404"]
    assert len(statuses) == 12  # the 404 is repeated until timer H
    assert {effect.flow for effect in bench.facts(SendSip)} == {Flow("udp", second, phone)}
    bench.over()
