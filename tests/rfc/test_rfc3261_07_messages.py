"""RFC 3261 section 7: what a message looks like."""

from __future__ import annotations

import pytest

from sidecar.sip.errors import MalformedMessage
from sidecar.sip.message import parse
from tests.support.sip import parsed_request, received

GOOD = received("OPTIONS").encode()


def test_7_1_sip_version_is_case_insensitive_and_sent_in_upper_case() -> None:
    assert parsed_request(GOOD.replace(b" SIP/2.0\r\n", b" sip/2.0\r\n", 1)).encode().startswith(b"OPTIONS sip:bob@192.0.2.2 SIP/2.0\r\n")


def test_7_1_another_version_is_not_taken_for_2_0() -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse(GOOD.replace(b" SIP/2.0\r\n", b" SIP/2.1\r\n", 1))
    assert caught.value.status == 505


def test_7_3_1_header_names_are_case_insensitive() -> None:
    message = parsed_request(GOOD.replace(b"Call-ID", b"cAlL-iD"))
    assert message.call_id == "call-1"


def test_7_3_1_order_within_one_header_name_is_preserved() -> None:
    message = parsed_request(
        received("OPTIONS", headers=[("Route", "<sip:1;lr>"), ("X", "-"), ("Route", "<sip:2;lr>, <sip:3;lr>")]).encode()
    )
    assert message.headers.values("Route") == ["<sip:1;lr>", "<sip:2;lr>", "<sip:3;lr>"]


def test_7_3_1_a_folded_header_is_one_header() -> None:
    message = parsed_request(GOOD.replace(b"Max-Forwards: 70", b"Max-Forwards: 70\r\nSubject: one\r\n two\r\n\tthree"))
    assert message.headers.get("Subject") == "one two three"


def test_7_3_3_compact_forms_are_understood() -> None:
    data = GOOD
    for name, short in ((b"Via", b"v"), (b"From", b"f"), (b"To", b"t"), (b"Call-ID", b"i")):
        data = data.replace(b"\r\n" + name + b":", b"\r\n" + short + b":")
    message = parsed_request(data)
    assert (message.call_id, message.from_tag, message.via.branch) == ("call-1", "a1", "z9hG4bK-peer-1")


def test_7_5_line_breaks_before_the_start_line_are_ignored() -> None:
    assert parsed_request(b"\r\n\r\n\r\n" + GOOD).method == "OPTIONS"
