"""SIP URIs: parts, text, and equivalence by RFC 3261 19.1.4."""

from __future__ import annotations

import pytest

from sidecar.sip.errors import MalformedMessage
from sidecar.sip.uri import SipUri


@pytest.mark.parametrize(
    "text",
    [
        "sip:alice@atlanta.com",
        "sip:alice:secretword@atlanta.com;transport=tcp",
        "sips:alice@atlanta.com?subject=project%20x&priority=urgent",
        "sip:+1-212-555-1212:1234@gateway.com;user=phone",
        "sips:1212@gateway.com",
        "sip:atlanta.com;method=REGISTER?to=alice%40atlanta.com",
        "sip:alice;day=tuesday@atlanta.com",
        "sip:[2001:db8::10]:5070;lr",
        "sip:user@[2001:db8::1]",
        "sip:agent@voice_agent:5060",
        "sip:sim-01@sip.example.com;x=",
        "sip:192.0.2.1:65535",
    ],
)
def test_a_uri_is_written_as_it_was_read(text: str) -> None:
    assert str(SipUri.parse(text)) == text


def test_the_parts_of_a_uri() -> None:
    uri = SipUri.parse("SIP:alice;day=tue:pw@[2001:DB8::1]:5070;Transport=tcp;lr?Replaces=a%40b")
    assert (uri.scheme, uri.user, uri.password, uri.host, uri.host_literal, uri.port) == (
        "sip",
        "alice;day=tue",
        "pw",
        "2001:DB8::1",
        "[2001:DB8::1]",
        5070,
    )
    assert uri.param("transport") == "tcp"
    assert uri.param("LR") == ""
    assert uri.param("maddr") is None
    assert uri.headers == "Replaces=a%40b"


def test_with_user_replaces_the_user_part() -> None:
    assert str(SipUri.parse("sip:a:b@h:1;lr").with_user("c")) == "sip:c@h:1;lr"
    assert str(SipUri.parse("sip:h").with_user("c")) == "sip:c@h"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sip:",
        "sip:@host",
        "sip:a@",
        "sip:a@b@c",
        "sip:a@host:port",
        "sip:a@host:70000",
        "sip:a@host:",
        "sip:a@[::1",
        "sip:a@[host]",
        "sip:a@[::1]x",
        "sip:a b@c",
        "sip:a@b\r\nX: y",
        "sip:a@b;=x",
        "sip:a@b>",
        'sip:"a"@b',
        "sip:a@host:٣",
    ],
)
def test_what_is_no_uri_is_refused(text: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        SipUri.parse(text)
    assert caught.value.status == 400


@pytest.mark.parametrize("text", ["tel:+15551234567", "http://example.com/", "nobodyKnowsThisScheme:totallyopaquecontent"])
def test_another_scheme_is_416(text: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        SipUri.parse(text)
    assert caught.value.status == 416


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        ("sip:alice@atlanta.com?subject=project%20x&priority=urgent", "sip:alice@atlanta.com?priority=urgent&subject=project%20x"),
    ],
)
def test_equivalent_uris_of_19_1_4(one: str, other: str) -> None:
    assert SipUri.parse(one).equivalent(SipUri.parse(other))
    assert SipUri.parse(other).equivalent(SipUri.parse(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
        ("sip:a@b", "sips:a@b"),
        ("sip:a@b", "sip:a:@b"),
        ("sip:a@b;maddr=1.2.3.4", "sip:a@b"),
    ],
)
def test_uris_that_19_1_4_keeps_apart(one: str, other: str) -> None:
    assert not SipUri.parse(one).equivalent(SipUri.parse(other))
    assert not SipUri.parse(other).equivalent(SipUri.parse(one))
