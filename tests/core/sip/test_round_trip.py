"""What comes in can go out again unchanged, and our reading agrees with an independent parser's."""

from __future__ import annotations

import re
import string

import sipmessage
from hypothesis import assume, given
from hypothesis import strategies as st

from sidecar.sip.errors import MalformedMessage
from sidecar.sip.fields import name_addr, via
from sidecar.sip.message import Request, parse
from sidecar.sip.uri import SipUri
from tests.support.sip import parsed_request

TOKEN = st.text(string.ascii_letters + string.digits + "-.!%*_+`'~", min_size=1, max_size=12)
WORD = st.text(string.ascii_letters + string.digits, min_size=1, max_size=12)
OCTETS = st.binary(max_size=30).filter(lambda raw: not any(octet in raw for octet in (b"\r", b"\n", b"\0")))
FOLD = st.sampled_from([b"\r\n ", b"\r\n\t", b"\r\n  \t "])


@st.composite
def raw_values(draw: st.DrawFn) -> bytes:
    """Any header value: arbitrary octets, now and then folded, without outer white space."""
    value = draw(OCTETS)
    if draw(st.booleans()):
        value += draw(FOLD) + draw(OCTETS)
    return value.strip(b" \t\r\n")


@given(st.lists(st.tuples(TOKEN, raw_values()), max_size=8), st.binary(max_size=40))
def test_every_header_value_and_the_body_survive_byte_for_byte(extra: list[tuple[str, bytes]], body: bytes) -> None:
    single = {"from", "f", "to", "t", "call-id", "i", "cseq", "max-forwards", "content-length", "l", "via", "v"}
    extra = [(name, value) for name, value in extra if name.lower() not in single]
    lines = [b"Via: SIP/2.0/UDP h;branch=z9hG4bK1", b'f: "\xfc, x" <sip:a@b>;tag=1', b"TO : <sip:b@c>", b"i: 1@2", b"CSeq: 1 INFO"]
    lines += [name.encode() + b": " + value for name, value in extra]
    lines.append(b"Content-Length: %d" % len(body))
    message = parsed_request(b"INFO sip:b@c SIP/2.0\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + body)
    left = message.encode()
    expected = b"INFO sip:b@c SIP/2.0\r\n" + b"\r\n".join(lines).replace(b"TO : ", b"TO: ") + b"\r\n\r\n" + body
    assert left == expected
    again = parse(left)
    assert isinstance(again, Request)
    assert again.headers == message.headers


@st.composite
def uris(draw: st.DrawFn) -> str:
    user = draw(st.one_of(st.just(""), WORD.map(lambda word: word + "@"), st.tuples(WORD, WORD).map(lambda pair: f"{pair[0]}:{pair[1]}@")))
    host = draw(st.one_of(WORD.map(lambda word: f"a{word}.example"), st.sampled_from(["192.0.2.1", "[2001:db8::1]"])))
    port = draw(st.one_of(st.just(""), st.integers(1, 65535).map(lambda number: f":{number}")))
    params = "".join(
        f";{name}={value}" for name, value in draw(st.lists(st.tuples(st.sampled_from(["transport", "x", "y"]), WORD), max_size=2))
    )
    return f"{draw(st.sampled_from(['sip', 'sips']))}:{user}{host}{port}{params}"


@given(uris())
def test_uris_are_read_as_sipmessage_reads_them(text: str) -> None:
    try:
        theirs = sipmessage.URI.parse(text)
    except ValueError:
        assume(False)
    ours = SipUri.parse(text)
    assert (ours.scheme, ours.host_literal, ours.port) == (theirs.scheme, theirs.host, theirs.port)
    assert (ours.user or "") == (theirs.user or "")
    assert dict(ours.params) == dict(theirs.parameters)


@given(
    st.one_of(
        st.just(""),
        TOKEN.map(lambda t: t + " "),
        st.text(string.printable[:95], max_size=12).map(lambda t: '"' + t.replace("\\", "\\\\").replace('"', '\\"') + '" '),
    ),
    uris(),
    WORD,
)
def test_addresses_are_read_as_sipmessage_reads_them(display: str, uri: str, tag: str) -> None:
    text = f"{display}<{uri}>;tag={tag}"
    try:
        theirs = sipmessage.Address.parse(text)
    except ValueError:
        assume(False)
    ours = name_addr(text)
    # sipmessage takes a run of spaces within the quotes for one.
    assert re.sub(" +", " ", ours.name or "") == re.sub(" +", " ", theirs.name or "")
    assert ours.tag == theirs.parameters.get("tag")
    assert SipUri.parse(ours.uri).host_literal == theirs.uri.host


@given(st.sampled_from(["UDP", "TCP", "TLS"]), WORD, st.integers(1, 65535), WORD, st.booleans())
def test_vias_are_read_as_sipmessage_reads_them(transport: str, host: str, port: int, branch: str, rport: bool) -> None:
    text = f"SIP/2.0/{transport} a{host}.example:{port};branch=z9hG4bK{branch}" + (";rport" if rport else "")
    try:
        theirs = sipmessage.Via.parse(text)
    except ValueError:
        assume(False)
    ours = via(text)
    assert (ours.transport, ours.host, ours.port, ours.branch) == (
        theirs.transport,
        theirs.host,
        theirs.port,
        theirs.parameters.get("branch"),
    )
    assert str(ours) == text


@given(st.lists(st.tuples(TOKEN, st.text(string.printable[:95], max_size=20)), max_size=5), st.binary(max_size=20))
def test_messages_are_read_as_sipmessage_reads_them(extra: list[tuple[str, str]], body: bytes) -> None:
    head = (
        "MESSAGE sip:bob@biloxi.example SIP/2.0\r\nVia: SIP/2.0/UDP h.example:5060;branch=z9hG4bK1\r\nFrom: <sip:a@b.example>;tag=1\r\n"
        "To: <sip:b@c.example>\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\nMax-Forwards: 70\r\n"
    )
    lines = "".join(f"X-{name}: {value.strip()}\r\n" for name, value in extra)
    data = f"{head}{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body
    try:
        theirs = sipmessage.Message.parse(data)
    except ValueError:
        assume(False)
    ours = parse(data)
    assert isinstance(ours, Request)
    assert isinstance(theirs, sipmessage.Request)
    assert (ours.method, ours.uri, ours.body) == (theirs.method, str(theirs.uri), theirs.body)
    assert (ours.cseq.number, ours.cseq.method) == (theirs.cseq.sequence, theirs.cseq.method)
    assert ours.from_tag == theirs.from_address.parameters.get("tag")
    assert ours.call_id == theirs.call_id
    for name, _ in extra:
        assert ours.headers.all(f"X-{name}") == theirs.headers.getlist(f"X-{name}")


@given(TOKEN)
def test_what_we_call_malformed_is_malformed_to_sipmessage_too(junk: str) -> None:
    for text in (f"SIP/2.0/UDP {junk}:x;branch=1", f"SIP/2.0 {junk}", f"HTTP/1.1/UDP {junk}"):
        try:
            via(text)
        except MalformedMessage:
            try:
                sipmessage.Via.parse(text)
            except ValueError:
                continue
            raise AssertionError(text) from None
