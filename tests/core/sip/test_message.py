"""Octets become messages, and the other way round (RFC 3261 7, 18.3)."""

from __future__ import annotations

import pytest

from sidecar.sip.errors import MalformedMessage
from sidecar.sip.message import MAX_HEADER_LINES, MAX_OCTETS, Request, Response, parse, reason_phrase, response_to
from tests.support.sip import parsed_request, parsed_response, received

HEADERS = (
    "Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776asdhds\r\n"
    "Max-Forwards: 70\r\n"
    "To: Bob <sip:bob@biloxi.com>\r\n"
    "From: Alice <sip:alice@atlanta.com>;tag=1928301774\r\n"
    "Call-ID: a84b4c76e66710@pc33.atlanta.com\r\n"
    "CSeq: 314159 INVITE\r\n"
)
START = "INVITE sip:bob@biloxi.com SIP/2.0\r\n"


def octets(start: str = START, headers: str = HEADERS, more: str = "", body: bytes = b"") -> bytes:
    return f"{start}{headers}{more}\r\n".encode("utf-8", "surrogateescape") + body


def refused(data: bytes) -> MalformedMessage:
    with pytest.raises(MalformedMessage) as caught:
        parse(data)
    return caught.value


def test_a_request_is_read() -> None:
    message = parsed_request(octets(body=b"v=0\r\n"))
    assert (message.method, message.uri, message.body) == ("INVITE", "sip:bob@biloxi.com", b"v=0\r\n")
    assert (message.call_id, message.cseq.number, message.cseq.method) == ("a84b4c76e66710@pc33.atlanta.com", 314159, "INVITE")
    assert (message.from_tag, message.to_tag, message.max_forwards) == ("1928301774", None, 70)
    assert (message.via.host, message.via.branch) == ("pc33.atlanta.com", "z9hG4bK776asdhds")
    assert message.to.name == "Bob"
    assert message.contact is None
    assert message.content_type is None


def test_a_response_is_read() -> None:
    message = parsed_response(
        octets("SIP/2.0 183 Session  Progress: ok\r\n", more="Contact: <sip:x@y>, <sip:z@y>\r\nc: Application/SDP;x=1\r\n")
    )
    assert (message.status, message.reason) == (183, "Session  Progress: ok")
    assert message.contact is not None
    assert message.contact.uri == "sip:x@y"
    assert message.content_type == "application/sdp"


def test_a_status_line_may_lack_the_reason() -> None:
    assert parsed_response(octets("SIP/2.0 200 \r\n")).reason == ""
    assert parsed_response(octets("SIP/2.0 200\r\n")).reason == ""


@pytest.mark.parametrize("data", [b"", b"\r\n", b"\r\n\r\n", b"\0\0\0\0", b" ", b"\n"])
def test_keepalives_are_no_messages(data: bytes) -> None:
    assert parse(data) is None


def test_leading_line_breaks_are_skipped() -> None:
    assert parsed_request(b"\r\n\r\n" + octets()).method == "INVITE"


# -- framing ---------------------------------------------------------------------------------------------------------------------------


def test_a_body_beyond_content_length_is_dropped() -> None:
    assert parsed_request(octets(more="Content-Length: 3\r\n", body=b"abcdef")).body == b"abc"
    assert parsed_request(octets(more="l: 0\r\n", body=b"abcdef")).body == b""


def test_a_body_short_of_content_length_is_malformed() -> None:
    assert refused(octets(more="Content-Length: 4\r\n", body=b"abc")).status == 400


def test_without_content_length_the_body_is_the_rest_of_the_datagram() -> None:
    assert parsed_request(octets(body=b"a\r\n\r\nb\0\xff")).body == b"a\r\n\r\nb\0\xff"


@pytest.mark.parametrize("length", ["-1", "1x", "", "1e1", "99999999999999999999", "٣", "+1"])
def test_content_length_must_be_a_number(length: str) -> None:
    assert refused(octets(more=f"Content-Length: {length}\r\n", body=b"abc")).status == 400


def test_a_message_without_the_empty_line_is_malformed() -> None:
    assert refused(octets()[:-2]).status == 400


# -- what real traffic looks like ------------------------------------------------------------------------------------------------------


def test_white_space_before_the_colon() -> None:
    message = parsed_request(octets(more="Subject : x\r\ns\t:y\r\n"))
    assert message.headers.all("subject") == ["x", "y"]


def test_values_keep_every_octet_but_outer_white_space() -> None:
    data = octets(more="X-Raw: \t caf\udce9 \u00fc\u00a0  x;;,\x01 \r\nX-Empty:\r\n")
    message = parsed_request(data)
    assert message.headers.get("x-raw") == "caf\udce9 \u00fc\u00a0  x;;,\x01"
    assert message.headers.get("x-empty") == ""
    assert b"X-Raw: caf\xe9 \xc3\xbc\xc2\xa0  x;;,\x01\r\n" in message.encode()


def test_compact_and_folded_mandatory_headers() -> None:
    data = (
        b"OPTIONS sip:a@b SIP/2.0\r\nv:  SIP  / 2.0  / TCP   spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,\r\n"
        b" SIP  /    2.0   / UDP  192.168.255.111   ; branch=\r\n z9hG4bK30239\r\n"
        b"TO :\r\n sip:vivekg@example.com ;   tag    = 1918181833n\r\n"
        b'f  : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>\r\n  ;\r\n  tag = 98asjd8\r\ni: 98\r\ncseq: 0009\r\n  OPTIONS\r\n\r\n'
    )
    message = parsed_request(data)
    assert (message.via.transport, message.via.branch) == ("TCP", "z9hG4bK9ikj8")
    assert len(message.headers.values("via")) == 2
    assert (message.to_tag, message.from_tag) == ("1918181833n", "98asjd8")
    assert message.from_.name == 'J Rosenberg \\"'
    assert message.cseq.number == 9


def test_a_method_nobody_knows_and_a_uri_scheme_nobody_knows_are_no_errors_of_framing() -> None:
    method = "!interesting-Method0123456789_*+`.%indeed'~"
    data = octets(f"{method} tel:+1 SIP/2.0\r\n").replace(b"314159 INVITE", f"1 {method}".encode())
    assert parsed_request(data).method == method


def test_the_accessors_follow_a_change_of_the_headers() -> None:
    message = parsed_request(octets())
    assert message.to_tag is None
    message.headers.set("t", "<sip:bob@biloxi.com>;tag=b")
    message.headers.prepend("Via", "SIP/2.0/UDP proxy;branch=z9hG4bKp")
    message.headers.set("CSeq", "2 INVITE")
    assert (message.to_tag, message.via.host, message.cseq.number) == ("b", "proxy", 2)
    copy = message.copy()
    copy.headers.remove("From")
    assert message.from_tag == "1928301774"
    with pytest.raises(MalformedMessage):
        _ = copy.from_


# -- what is refused -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Via", "From", "To", "Call-ID", "CSeq"])
def test_each_mandatory_header_is_missed(name: str) -> None:
    lines = [line for line in HEADERS.split("\r\n") if not line.startswith(f"{name}:")]
    error = refused(octets(headers="\r\n".join(lines)))
    assert error.status == 400
    assert name.lower() in error.detail.lower()


@pytest.mark.parametrize("line", ["From: <sip:x@y>;tag=2", "t: <sip:x@y>", "i: other", "CSeq: 2 INVITE", "Max-Forwards: 5"])
def test_a_second_single_header_is_refused(line: str) -> None:
    assert refused(octets(more=line + "\r\n")).status == 400


def test_two_content_lengths_are_refused_even_when_they_agree() -> None:
    assert refused(octets(more="Content-Length: 0\r\nl: 0\r\n")).status == 400


@pytest.mark.parametrize("start", ["SIP/7.0", "SIP/2.1", "sip/3.0"])
def test_another_version_is_505(start: str) -> None:
    assert refused(octets(f"INVITE sip:b@c {start}\r\n")).status == 505


@pytest.mark.parametrize(
    "start",
    [
        "INVITE sip:b@c\r\n",
        "INVITE  sip:b@c SIP/2.0\r\n",
        "INVITE sip:b@c; lr SIP/2.0\r\n",
        "INVITE <sip:b@c> SIP/2.0\r\n",
        "INVITE sip:b@c SIP/2.0 \r\n",
        " INVITE sip:b@c SIP/2.0\r\n",
        "INV(ITE sip:b@c SIP/2.0\r\n",
        "GET / HTTP/1.1\r\n",
        "\xff\xfe\r\n",
    ],
)
def test_a_bad_request_line_is_400(start: str) -> None:
    assert refused(octets(start)).status == 400


@pytest.mark.parametrize(
    "start",
    ["SIP/2.0 99 x\r\n", "SIP/2.0 4294967301 better\r\n", "SIP/2.0 700 x\r\n", "SIP/2.0 abc x\r\n", "SIP/3.0 200 OK\r\n", "SIP/2.0\r\n"],
)
def test_a_bad_response_is_dropped(start: str) -> None:
    assert refused(octets(start)).status is None


def test_the_method_of_cseq_must_be_the_requests() -> None:
    assert refused(octets("OPTIONS sip:b@c SIP/2.0\r\n")).status == 400


@pytest.mark.parametrize(
    "line",
    ["no colon", "Supported", ": x", "Bad Name: x", "X: a\nb", "X: a\rb", "X: a\0b", "Max-Forwards: 256", "Via", "Via: x", "Ünï: x"],
)
def test_a_bad_header_line_is_400(line: str) -> None:
    headers = HEADERS.replace("Max-Forwards: 70\r\n", "") if line.startswith("Max") else HEADERS
    headers = f"{line}\r\n{headers}"
    assert refused(octets(headers=headers)).status == 400


def test_a_continuation_line_without_a_header_is_400() -> None:
    assert refused(octets(headers=" x\r\n" + HEADERS)).status == 400


def test_size_limits() -> None:
    assert refused(octets(body=b"x" * MAX_OCTETS)).status == 413
    room = MAX_HEADER_LINES - HEADERS.count("\r\n")
    assert len(parsed_request(octets(more="X: y\r\n" * room)).headers) == MAX_HEADER_LINES
    assert refused(octets(more="X: y\r\n" * (room + 1))).status == 400


# -- what is written -------------------------------------------------------------------------------------------------------------------


def test_content_length_is_always_right() -> None:
    request = Request("INFO", "sip:a@b", [("X", "y")], b"12345")
    assert request.encode() == b"INFO sip:a@b SIP/2.0\r\nX: y\r\nContent-Length: 5\r\n\r\n12345"
    request = Request("INFO", "sip:a@b", [("l", "9"), ("X", "y"), ("Content-Length", "8")], b"")
    assert request.encode() == b"INFO sip:a@b SIP/2.0\r\nl: 0\r\nX: y\r\n\r\n"


def test_a_line_break_cannot_reach_the_start_line() -> None:
    with pytest.raises(ValueError, match="line break"):
        Request("INFO", "sip:a@b SIP/2.0\r\nX: y", []).encode()
    with pytest.raises(ValueError, match="line break"):
        Response(200, "OK\r\nX: y", []).encode()


def test_response_to_copies_what_8_2_6_names_and_nothing_else() -> None:
    routes = "Record-Route: <sip:p1;lr>\r\nRecord-Route: <sip:p2;lr>\r\n"
    invite = parsed_request(octets(more=f"Via: SIP/2.0/UDP second;branch=2\r\n{routes}Timestamp: 54\r\nSubject: x\r\n"))
    response = response_to(invite, 180, to_tag="b", headers=[("Contact", "<sip:b>")])
    assert [name for name, _ in response.headers] == [
        "Via",
        "To",
        "From",
        "Call-ID",
        "CSeq",
        "Via",
        "Record-Route",
        "Record-Route",
        "Contact",
    ]
    assert response.headers.get("To") == "Bob <sip:bob@biloxi.com>;tag=b"
    assert response.reason == "Ringing"
    assert response_to(invite, 100).headers.get("Timestamp") == "54"
    assert response_to(invite, 100).to_tag is None
    assert "Record-Route" not in response_to(invite, 486, to_tag="b").headers
    assert "Record-Route" not in response_to(received("BYE", headers=[("Record-Route", "<sip:p>")]), 200).headers


def test_response_to_leaves_a_to_tag_alone() -> None:
    bye = received("BYE", to="<sip:b@c>;tag=old")
    assert response_to(bye, 200, to_tag="new").to_tag == "old"


def test_response_with_a_body() -> None:
    response = response_to(received(), 200, "Fine", to_tag="b", body=b"v=0", content_type="application/sdp")
    assert response.encode().startswith(b"SIP/2.0 200 Fine\r\n")
    assert response.encode().endswith(b"Content-Type: application/sdp\r\nContent-Length: 3\r\n\r\nv=0")


@pytest.mark.parametrize(("status", "phrase"), [(200, "OK"), (487, "Request Terminated"), (299, "OK"), (699, "Decline"), (799, "Unknown")])
def test_reason_phrases(status: int, phrase: str) -> None:
    assert reason_phrase(status) == phrase
