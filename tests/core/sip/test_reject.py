"""A request too broken for a transaction still gets an answer where one can be given."""

from __future__ import annotations

import pytest

from sidecar.sip.errors import MalformedMessage
from sidecar.sip.events import Send
from sidecar.sip.flow import Flow
from sidecar.sip.message import parse
from sidecar.sip.reject import reject
from tests.support.sip import IN, parsed_response

HEADERS = [
    "Via: SIP/2.0/UDP h:5080;branch=z9hG4bK1",
    "From: <sip:a@b>;tag=1",
    "To: <sip:b@c>",
    "Call-ID: 7",
    "CSeq: 1 INVITE",
    "Max-Forwards: 70",
    "X-Secret: keep",
]
GOOD = "\r\n".join(["INVITE sip:b@c SIP/2.0", *HEADERS, "", ""])


def answered(text: str | bytes, flow: Flow = IN) -> Send | None:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(MalformedMessage) as caught:
        parse(data)
    return reject(data, caught.value, flow)


def test_the_answer_repeats_what_8_2_6_names_and_says_what_was_wrong() -> None:
    sent = answered(GOOD.replace("CSeq: 1 INVITE", "CSeq: 1 BYE"))
    assert sent is not None
    response = parsed_response(sent.data)
    assert (response.status, response.reason) == (400, "Bad Request (CSeq method differs from the request's)")
    assert (response.call_id, response.from_tag, response.cseq.number) == ("7", "1", 1)
    assert response.via.received == "192.0.2.1"
    assert "X-Secret" not in response.headers
    assert sent.flow.remote == ("192.0.2.1", 5080)
    assert sent.tx is None


def test_the_to_tag_is_the_same_for_the_same_request() -> None:
    broken = GOOD.replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia")
    first, second = answered(broken), answered(broken)
    assert first is not None
    assert second is not None
    assert first.data == second.data
    assert parsed_response(first.data).to_tag
    assert parsed_response(first.data).status == 505


@pytest.mark.parametrize("header", ["From: <sip:a@b>;tag=1", "To: <sip:b@c>", "Call-ID: 7", "CSeq: 1 INVITE"])
def test_a_response_that_would_belong_to_nothing_is_not_sent(header: str) -> None:
    assert answered(GOOD.replace(f"{header}\r\n", "")) is None


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("Via: SIP/2.0/UDP h:5080;branch=z9hG4bK1\r\n", ""),
        GOOD.replace("Via: SIP/2.0/UDP h:5080", "Via: SIP/2.0 h"),
        GOOD.replace("INVITE sip", "ACK sip"),
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\r\n",
        "\x16\x03\x01\x02\r\n\r\n",
    ],
)
def test_what_cannot_or_may_not_be_answered_is_dropped(text: str) -> None:
    assert answered(text) is None


def test_a_huge_message_gets_a_small_answer() -> None:
    sent = answered(GOOD.replace("X-Secret: keep", "X-Big: " + "a" * 70000))
    assert sent is not None
    assert sent.data.startswith(b"SIP/2.0 413 ")
    assert len(sent.data) < 1000


def test_a_header_that_was_cut_off_by_the_limit_is_not_half_repeated() -> None:
    assert answered(GOOD.replace("Call-ID: 7", "X: " + "a" * 8030 + "\r\nCall-ID: " + "7" * 60000)) is None


def test_folded_headers_are_repeated_on_one_line() -> None:
    sent = answered(GOOD.replace("From: <sip:a@b>;tag=1", "From: <sip:a@b>\r\n ;tag=1").replace("SIP/2.0\r\nVia", "SIP/9.0\r\nVia"))
    assert sent is not None
    assert b"From: <sip:a@b> ;tag=1\r\n" in sent.data
