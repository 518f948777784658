"""RFC 3261 section 8: general user agent behaviour, as far as the SIP core does it."""

from __future__ import annotations

import pytest

from sidecar.clocks import Mono
from sidecar.net.random_ids import RandomIds
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.events import RequestReceived, ResponseReceived, Stray
from sidecar.sip.ids import MAGIC_COOKIE
from sidecar.sip.layer import TransactionLayer
from sidecar.sip.message import parse, response_to
from tests.support.ids import SeqIds
from tests.support.sip import CALLER, IN, OUT, answer, of_type, parsed_request, received, request, sends

NOW = Mono(0.0)


@pytest.mark.parametrize("name", ["Via", "From", "To", "Call-ID", "CSeq"])
def test_8_1_1_a_request_must_have_the_mandatory_headers(name: str) -> None:
    broken = received()
    broken.headers.remove(name)
    with pytest.raises(MalformedMessage) as caught:
        parse(broken.encode())
    assert caught.value.status == 400


def test_8_1_1_3_and_19_3_a_fresh_tag_is_unique_and_has_32_random_bits_or_more() -> None:
    tags = {RandomIds().tag() for _ in range(1000)}
    assert len(tags) == 1000
    assert all(len(tag) * 4 >= 32 for tag in tags)


def test_8_1_1_5_cseq_is_below_2_to_the_31_and_names_the_method() -> None:
    for bad in (f"{2**31} INVITE", "1 BYE"):
        broken = received()
        broken.headers.set("CSeq", bad)
        with pytest.raises(MalformedMessage):
            parse(broken.encode())


def test_8_1_1_7_every_request_has_a_via_with_2_0_and_a_branch() -> None:
    layer = TransactionLayer(SeqIds())
    layer.request(request(), OUT, CALLER, NOW)
    sent = parsed_request(sends(layer.take())[0].data)
    assert sent.headers.values("via")[0].startswith("SIP/2.0/UDP ")
    assert sent.via.branch is not None


def test_8_1_1_7_the_branch_begins_with_the_magic_cookie_and_is_unique() -> None:
    ids = RandomIds()
    branches = [ids.branch() for _ in range(1000)]
    assert len(set(branches)) == 1000
    assert all(branch.startswith(MAGIC_COOKIE) for branch in branches)


def test_8_1_1_7_each_request_has_a_new_branch_but_cancel_and_the_ack_of_a_non_2xx() -> None:
    layer = TransactionLayer(SeqIds())
    tx = layer.request(request(), OUT, CALLER, NOW)
    layer.request(request("OPTIONS", call_id="2"), OUT, CALLER, NOW)
    invite, options = sends(layer.take())
    layer.receive(answer(parsed_request(invite.data), 180), OUT, NOW)
    layer.cancel(tx, NOW)
    layer.receive(answer(parsed_request(invite.data), 487), OUT, NOW)
    cancel, ack = sends(layer.take())
    assert invite.message.via.branch != options.message.via.branch
    assert invite.message.via.branch == cancel.message.via.branch == ack.message.via.branch


def test_8_1_3_3_a_response_with_more_than_one_via_is_discarded() -> None:
    layer = TransactionLayer(SeqIds())
    layer.request(request(), OUT, CALLER, NOW)
    response = answer(parsed_request(sends(layer.take())[0].data), 200)
    response.headers.add("Via", "SIP/2.0/UDP other.example;branch=z9hG4bKx")
    layer.receive(response, OUT, NOW)
    outputs = layer.take()
    assert not of_type(outputs, ResponseReceived)
    assert of_type(outputs, Stray)


def test_8_2_2_2_a_merged_request_is_answered_482() -> None:
    layer = TransactionLayer(SeqIds())
    layer.receive(received(), IN, NOW)
    layer.take()
    layer.receive(received(via="SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK-fork"), IN, NOW)
    outputs = layer.take()
    assert [send.message.status for send in sends(outputs) if hasattr(send.message, "status")] == [482]
    assert not of_type(outputs, RequestReceived)


def test_8_2_6_1_a_100_copies_the_timestamp() -> None:
    assert response_to(received(headers=[("Timestamp", "54.2")]), 100).headers.get("Timestamp") == "54.2"


def test_8_2_6_2_from_call_id_cseq_and_vias_equal_the_requests() -> None:
    invite = received(via="SIP/2.0/UDP one;branch=z9hG4bK1, SIP/2.0/UDP two;branch=z9hG4bK2")
    invite.headers.add("Via", "SIP/2.0/UDP three;branch=z9hG4bK3")
    response = response_to(invite, 200, to_tag="b")
    for name in ("From", "Call-ID", "CSeq", "Via"):
        assert response.headers.all(name) == invite.headers.all(name)


def test_8_2_6_2_to_equals_the_requests_with_a_tag_added_only_where_there_is_none() -> None:
    assert response_to(received(to="B <sip:b@c>;x=y"), 200, to_tag="b").headers.get("To") == "B <sip:b@c>;x=y;tag=b"
    assert response_to(received(to="<sip:b@c>;tag=old"), 200, to_tag="b").headers.get("To") == "<sip:b@c>;tag=old"
