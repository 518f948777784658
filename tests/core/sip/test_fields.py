"""Name-addr, Via and CSeq as real peers write them."""

from __future__ import annotations

import pytest

from sidecar.sip.errors import MalformedMessage
from sidecar.sip.fields import CSeq, NameAddr, Via, cseq, name_addr, parameters, quoted, via


@pytest.mark.parametrize(
    ("text", "display", "uri", "params"),
    [
        ("sip:a@b;tag=1", None, "sip:a@b", (("tag", "1"),)),
        ("<sip:a@b;lr>;tag=1", None, "sip:a@b;lr", (("tag", "1"),)),
        ("Alice Smith <sip:a@b> ; tag = 1 ; x", "Alice Smith", "sip:a@b", (("tag", "1"), ("x", None))),
        ('"A, <B>; \\"C\\"" <sip:a@b>', '"A, <B>; \\"C\\""', "sip:a@b", ()),
        ('"trailing \\\\" <sip:a@b>;tag=9', '"trailing \\\\"', "sip:a@b", (("tag", "9"),)),
        ('""<sip:a@b>', '""', "sip:a@b", ()),
        ("<sip:a@b?Subject=x>", None, "sip:a@b?Subject=x", ()),
        ("< sip:a@b >", None, "sip:a@b", ()),
        ('sip:a@b;x="<y>"', None, "sip:a@b", (("x", '"<y>"'),)),
        ('<sip:a@b>;reason="a;b,c=d"', None, "sip:a@b", (("reason", '"a;b,c=d"'),)),
        ("tel:+1555;tag=2", None, "tel:+1555", (("tag", "2"),)),
        ("Bell, Alexander <sip:a@b>", "Bell, Alexander", "sip:a@b", ()),
    ],
)
def test_name_addr_parts(text: str, display: str | None, uri: str, params: tuple[tuple[str, str | None], ...]) -> None:
    assert name_addr(text) == NameAddr(display, uri, params)


def test_contact_star() -> None:
    assert str(name_addr(" * ")) == "*"


def test_tag_is_found_in_any_case_and_replaced() -> None:
    address = name_addr("Bob <sip:b@c>;Tag=old;x=1")
    assert address.tag == "old"
    assert str(address.with_tag("new")) == "Bob <sip:b@c>;x=1;tag=new"
    assert str(address.with_tag(None)) == "Bob <sip:b@c>;x=1"
    assert name_addr("<sip:a@b>;tag=").tag is None


def test_display_name_for_a_reader_and_for_the_wire() -> None:
    assert name_addr('"J \\"R\\" \\\\" <sip:a@b>').name == 'J "R" \\'
    assert name_addr("Alice B <sip:a@b>").name == "Alice B"
    assert str(NameAddr("Dr. A, B", "sip:a@b")) == '"Dr. A, B" <sip:a@b>'
    assert str(NameAddr(None, "sip:a@b;lr")) == "<sip:a@b;lr>"
    assert quoted('a"b\\c') == '"a\\"b\\\\c"'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<>",
        "<sip:a@b",
        '"open <sip:a@b>',
        '"x" sip:a@b',
        '"x" y <sip:a@b>',
        "<sip:a@b> x",
        "nobody",
        "<sip:a b@c>",
        "<sip:>",
        "<sip:a@b>;a b=c",
        ":x",
    ],
)
def test_what_is_no_name_addr_is_refused(text: str) -> None:
    with pytest.raises(MalformedMessage):
        name_addr(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK1", Via("UDP", "pc33.atlanta.com", None, (("branch", "z9hG4bK1"),))),
        (
            "SIP / 2.0 / tcp   spindle.example.com ;\r\n branch  =   z9hG4bK9",
            Via("TCP", "spindle.example.com", None, (("branch", "z9hG4bK9"),)),
        ),
        (
            "SIP/2.0/UDP [2001:db8::9:1]:5060 ;received=2001:db8::9:255",
            Via("UDP", "2001:db8::9:1", 5060, (("received", "2001:db8::9:255"),)),
        ),
        ("SIP/2.0/UDP voice_agent_1 : 5070;rport", Via("UDP", "voice_agent_1", 5070, (("rport", None),))),
        ("sip/2.0/UNKNOWN t", Via("UNKNOWN", "t")),
    ],
)
def test_via_parts(text: str, expected: Via) -> None:
    assert via(text) == expected


def test_via_parameters_in_any_case_and_form() -> None:
    one = via("SIP/2.0/UDP h;Branch=z9hG4bKx;RPORT=5070;Received=[::1]")
    assert (one.branch, one.rport, one.received, one.wants_rport) == ("z9hG4bKx", 5070, "::1", True)
    other = via("SIP/2.0/UDP h;received=::1;rport")
    assert (other.branch, other.rport, other.received, other.wants_rport) == (None, None, "::1", True)
    assert via("SIP/2.0/UDP h;rport=x").rport is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SIP/2.0",
        "SIP/2.0/UDP",
        "SIP/2.0/UDP ",
        "SIP/2.0/ h",
        "SIP/3.0/UDP h",
        "HTTP/2.0/UDP h",
        "SIP/2.0/UDP h:x",
        "SIP/2.0/UDP [::1",
        "SIP/2.0/UDP h;a b",
        ";;,",
    ],
)
def test_what_is_no_via_is_refused(text: str) -> None:
    with pytest.raises(MalformedMessage):
        via(text)


def test_via_is_written_with_brackets_where_they_belong() -> None:
    assert str(via("SIP/2.0/udp  [::1]:5060 ; branch=z;rport")) == "SIP/2.0/UDP [::1]:5060;branch=z;rport"


def test_cseq() -> None:
    assert cseq(" 0009   INVITE ") == CSeq(9, "INVITE")
    assert cseq("4294967295 BYE") == CSeq(4294967295, "BYE")
    assert str(CSeq(2147483647, "BYE")) == "2147483647 BYE"


@pytest.mark.parametrize(
    "text", ["", "1", "INVITE", "x INVITE", "-1 INVITE", "4294967296 INVITE", "36893488147419103232 REGISTER", "1 IN VITE", "1 (", "٣ BYE"]
)
def test_what_is_no_cseq_is_refused(text: str) -> None:
    with pytest.raises(MalformedMessage):
        cseq(text)


def test_parameters_skip_empty_ones_and_refuse_nameless_ones() -> None:
    assert parameters(";a;;b=2;") == (("a", None), ("b", "2"))
    with pytest.raises(MalformedMessage):
        parameters("=x")
