"""Identifiers that an edge returns."""

from __future__ import annotations

import pytest

from sidecar.identity.learned import learned, replaced
from sidecar.sip.headers import Headers


@pytest.mark.parametrize(
    ("header", "value", "expected"),
    [
        ("X-Twilio-CallSid", "CA0123", [("twilio_call_sid", "CA0123")]),
        ("x-cid", " abc@host ", [("cid", "abc@host")]),
        ("X-Call-ID", "77", [("call_id", "77")]),
        ("X-Vendor-Call-Control-Id", "v3:abc", [("vendor_call_control_id", "v3:abc")]),
        ("X-CallUUID", "u-1", [("calluuid", "u-1")]),
        ("Session-ID", "ab30317f;remote=0000", [("session_id", "ab30317f")]),
        ("P-Charging-Vector", 'icid-value="1234bc;x";icid-generated-at=h', [("icid", "1234bc")]),
        ("P-Charging-Vector", "orig-ioi=a; icid-value=77ff ;term-ioi=b", [("icid", "77ff")]),
        ("P-Charging-Vector", "nothing", []),
        ("X-Correlation-Id", "secret", []),
        ("Call-ID", "c1", []),
        ("X-Call-ID", "two words", []),
        ("X-Call-ID", "", []),
        ("X-Call-ID", "x" * 257, []),
    ],
)
def test_ids_are_known_by_their_header(header: str, value: str, expected: list[tuple[str, str]]) -> None:
    assert list(learned(Headers([(header, value)]))) == expected


@pytest.mark.parametrize(
    ("header", "value", "expected"),
    [
        ("Replaces", "12adf2f34456gs5;to-tag=12345;from-tag=54321", ["12adf2f34456gs5"]),  # RFC 3891 section 6.1
        ("Refer-To", "<sip:b@c?Replaces=090459243588173445%3Bto-tag%3D7m%3Bfrom-tag%3D31>", ["090459243588173445"]),
        ("r", "<sip:b@c;method=INVITE?X=1&Replaces=a%40host%3Bfrom-tag%3D1>;x", ["a@host"]),
        ("Refer-To", "<sip:carol@192.0.2.30>", []),
        ("Refer-To", "<sip:carol@192.0.2.30?Replaces=>", []),
        ("Replaces", "two words;to-tag=1;from-tag=2", []),
        ("Replaces", "x" * 257, []),
        ("Replaces", ";to-tag=1", []),
    ],
)
def test_a_dialog_that_is_to_be_replaced_is_an_id(header: str, value: str, expected: list[str]) -> None:
    assert list(replaced(Headers([(header, value), (header, value)]))) == [("replaces", each) for each in expected]


def test_each_pair_comes_once() -> None:
    assert list(learned(Headers([("X-CID", "a"), ("x-cid", "a"), ("X-CID", "b")]))) == [("cid", "a"), ("cid", "b")]
