"""RFC 3581: symmetric response routing."""

from __future__ import annotations

from sidecar.clocks import Mono
from sidecar.sip.events import RequestReceived
from sidecar.sip.flow import Flow
from sidecar.sip.layer import TransactionLayer
from tests.support.ids import SeqIds
from tests.support.sip import CALLEE, CALLER, IN, OUT, of_type, parsed_request, received, request, sends

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
