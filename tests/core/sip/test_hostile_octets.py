"""No octets whatever make the parser raise anything but MalformedMessage, and what it lets through is safe to use."""

from __future__ import annotations

from contextlib import suppress
from time import process_time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.sip.errors import MalformedMessage
from sidecar.sip.events import Send
from sidecar.sip.fields import cseq, name_addr, parameters, via
from sidecar.sip.headers import Headers, split_list
from sidecar.sip.layer import TransactionLayer
from sidecar.sip.message import MAX_OCTETS, Request, Response, parse, response_to
from sidecar.sip.reject import reject
from sidecar.sip.uri import SipUri
from tests.support.ids import SeqIds
from tests.support.sip import IN, OUT, received, request

GOOD = received(headers=[("Contact", '"x, y" <sip:a@b>'), ("Record-Route", "<sip:p;lr>")], body=b"v=0\r\n").encode()
FRAGMENTS = [
    *(b"INVITE ", b"ACK ", b"CANCEL ", b"sip:a@b", b" SIP/2.0\r\n", b"SIP/2.0 200 OK\r\n", b"SIP/2.0 180 \r\n"),
    *(b"Via: SIP/2.0/UDP h;branch=z9hG4bK1;rport\r\n", b"v: SIP/2.0/UDP [::1]:5060;received=::1\r\n", b"From: <sip:a@b>;tag=1\r\n"),
    *(b"To: <sip:a@b>\r\n", b"t: *\r\n", b"Call-ID: 1\r\n", b"CSeq: 1 INVITE\r\n", b"CSeq: 1 ACK\r\n", b"CSeq: 2 CANCEL\r\n"),
    *(b"Max-Forwards: 0\r\n", b"Contact: *\r\n", b"Route: <sip:r;lr>\r\n", b"Content-Length: 5\r\n", b"\r\n", b"\r\n\r\n"),
    *(bytes([octet]) for octet in b'\r\n\0"\\<>;,=: \t@[]\xff'),
    *(b"\xc3\xa9", b"%00"),
]

soup = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=6)), max_size=25).map(b"".join)


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A good message with a few octets replaced, taken out or put in."""
    data = bytearray(GOOD)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        until = min(len(data), at + draw(st.integers(0, 6)))
        data[at:until] = draw(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=3)))
    return bytes(data)


def use(message: Request | Response) -> None:
    """Everything that must not raise on a message that was let through."""
    _ = (
        message.call_id,
        message.cseq,
        message.from_tag,
        message.to_tag,
        message.via,
        message.content_type,
        str(message.from_),
        str(message.via),
    )
    assert parse(message.encode()) is not None
    Headers(message.headers.items())
    if isinstance(message, Request):
        _ = message.max_forwards
        response_to(message, 200, to_tag="x").encode()


@given(st.one_of(st.binary(max_size=300), soup, broken()))
@example(b"SIP/2.0 200 OK\r\n\r\n")
@example(b"A B SIP/2.0\r\nVia:\r\n\r\n")
def test_only_malformed_message_comes_out_and_what_passes_is_usable(data: bytes) -> None:
    try:
        message = parse(data)
    except MalformedMessage as error:
        sent = reject(data, error, IN)
        if sent is not None:
            start, *lines = sent.data.removesuffix(b"\r\n\r\n").split(b"\r\n")
            assert start.startswith(b"SIP/2.0 ")
            assert {line.partition(b":")[0] for line in lines} <= {b"Via", b"From", b"To", b"Call-ID", b"CSeq", b"Content-Length"}
            assert b"Via" in sent.data
        return
    if message is not None:
        use(message)


@given(st.lists(st.one_of(soup, broken()), max_size=4))
def test_the_layer_takes_whatever_was_let_through(datagrams: list[bytes]) -> None:
    layer = TransactionLayer(SeqIds())
    layer.request(request(), OUT, OUT.local, 0.0)  # type: ignore[arg-type]
    for now, data in enumerate(datagrams):
        with suppress(MalformedMessage):
            message = parse(data)
            if message is not None:
                layer.receive(message, IN, float(now))  # type: ignore[arg-type]
        layer.on_time(float(now))  # type: ignore[arg-type]
        for output in layer.take():
            assert not isinstance(output, Send) or output.data
    layer.on_time(1e6)  # type: ignore[arg-type]
    layer.describe()


TEXT = st.text(st.sampled_from('<>"\\;,=:@ \t*abc019[]%./SIPUDP?&\udcff\u00e9\0'), max_size=40)


@given(TEXT)
def test_field_parsers_raise_nothing_else(text: str) -> None:
    for parser in (name_addr, via, cseq, parameters, SipUri.parse):
        with suppress(MalformedMessage):
            str(parser(text))
    split_list(text)


@given(TEXT)
def test_a_uri_that_parses_is_written_so_that_it_parses_to_the_same(text: str) -> None:
    with suppress(MalformedMessage):
        uri = SipUri.parse(f"sip:{text}")
        assert SipUri.parse(str(uri)) == uri
        assert uri.equivalent(uri)


@given(TEXT)
def test_a_name_addr_that_parses_is_written_so_that_it_parses_to_the_same(text: str) -> None:
    with suppress(MalformedMessage):
        address = name_addr(text)
        again = name_addr(str(address))
        assert (again.uri, again.params) == (address.uri, address.params)


@pytest.mark.parametrize("filler", [b";", b",", b'"', b"\\", b"<", b" ", b"\r\n ", b";a=", b'<>,""', b"a.", b"%41"])
@pytest.mark.parametrize(
    "line", [b"From: %s\r\n", b"Via: SIP/2.0/UDP h%s\r\n", b"Contact: %s\r\n", b"CSeq: 1%s INVITE\r\n", b"X-%s: 1\r\n", b"X: %s\r\n"]
)
def test_no_input_costs_more_than_its_length(filler: bytes, line: bytes) -> None:
    long = line.replace(b"%s", filler * (60001 // len(filler)))
    start, *lines = received().encode().removesuffix(b"\r\n\r\n").split(b"\r\n")
    kept = [other for other in lines if not other.startswith(line.split(b":")[0] + b":")]
    data = b"\r\n".join([start, long.removesuffix(b"\r\n"), *kept]) + b"\r\n\r\n"
    assert len(data) < MAX_OCTETS
    began = process_time()
    with suppress(MalformedMessage):
        message = parse(data)
        assert message is not None
        with suppress(MalformedMessage):
            _ = message.contact
        message.headers.values("contact")
        message.encode()
    # Generous: quadratic behaviour on 60 000 octets takes many seconds.
    assert process_time() - began < 1.0
