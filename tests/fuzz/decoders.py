"""The decoders, each as a function of octets. Whatever it is given, it returns: what a decoder may raise is caught here, and nothing else.

A decoder of text gets it as its caller reads it from the wire.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache

from pydantic import ValidationError

from control.config import ControlConfig
from control.contract import settings
from control.contract.call import Call
from control.contract.facts import FACT
from control.contract.fleet import FROM_CONTROL, FROM_SIDECAR, ORDER
from control.contract.fold import fold
from control.ingest.spans import read_spans
from control.matching.claim import Unreadable, read_claim
from control.matching.splice import Link, compare, enrich
from sidecar.b2bua.effects import Message
from sidecar.b2bua.outcome import hung_up_by_operator
from sidecar.clocks import Mono, Wall
from sidecar.config import SidecarConfig
from sidecar.identity import auth_params
from sidecar.identity.digest import Credentials, DigestClient
from sidecar.identity.digest_server import DigestServer
from sidecar.media import rtcp, rtp
from sidecar.media.codec import STATIC, TELEPHONE_EVENT, Codec
from sidecar.media.decode import Pcm
from sidecar.media.relay import Relay
from sidecar.media.stream import Stream
from sidecar.net.dtls import Association, certificate, checked
from sidecar.sip import dtls, sdes, sdp
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.message import Request, Response, parse, response_to
from sidecar.sip.multipart import find_sdp
from sidecar.sip.reject import reject
from sidecar.sip.stream import Broken, StreamFramer
from sidecar.trace import hep
from tests.core.b2bua.harness import CALLER, EDGE, STRANGER, Bench
from tests.core.control.traces import complete
from tests.core.trace.hep_packet import chunks
from tests.support.sip import IN

PART = b"\xff\xfe\xfd"
"""Parts two packets of one input."""


def message(data: bytes) -> None:
    """A datagram: what is let through is usable, and what is not gets an answer that can be read."""
    try:
        read = parse(data)
    except MalformedMessage as error:
        if (sent := reject(data, error, IN)) is not None:
            assert sent.data.startswith(b"SIP/2.0 ")
        return
    if read is None:
        return
    assert parse(read.encode()) is not None
    _ = read.call_id, read.cseq, read.from_tag, read.to_tag, str(read.via), read.content_type
    with suppress(MalformedMessage):
        _ = read.contact
    if isinstance(read, Request):
        response_to(read, 200, to_tag="x").encode()


def stream(data: bytes) -> None:
    """What comes by TCP, cut in one place and in as many as there are octets: the same messages."""
    whole, pieces = StreamFramer(), StreamFramer()
    framed = whole.feed(data)
    again = [item for at in range(0, len(data), 7) for item in pieces.feed(data[at : at + 7])]
    # What came of a head that is too long depends on the cut, and is for a log.
    assert [type(item) if isinstance(item, Broken) else item for item in framed] == [
        type(item) if isinstance(item, Broken) else item for item in again
    ]
    for item in framed:
        if isinstance(item, bytes):
            message(item)


def conversation(data: bytes) -> None:
    """Datagrams to a sidecar in a call, by turns from the caller, the edge and a stranger. It goes on, and comes to rest."""
    bench = Bench()
    bench.answered()
    for party in (CALLER, EDGE, STRANGER):
        # A refusal repeats what was broken, so not everything that they get can be read.
        bench.wire.attach(party, lambda *_: None)
    for number, datagram in enumerate(data.split(PART)[:12]):
        bench.wire.send(datagram[:65000], (CALLER, EDGE, STRANGER)[number % 3], ("192.0.2.1", 5060), bench.clock.now)
        bench.run(0.3)
    for call in list(bench.engine.calls):
        bench.engine.hang_up(call, hung_up_by_operator("over"), bench.clock.now)
    bench.pump()
    bench.run(400.0)
    assert (bench.engine.layer.pending, len(bench.engine.calls)) == (0, 0)


def descriptions(data: bytes) -> None:
    """A body that says it is SDP, or holds some; what is rewritten can be read again."""
    for kind in ("application/sdp", 'multipart/mixed; boundary="b"'):
        part = find_sdp(kind, data)
        if part is not None:
            part.replace(b"v=0\r\n")
    try:
        read = sdp.parse(data)
    except sdp.UnusableSdp:
        return
    ports = {line.index: (20000 + 4 * line.index, 20001 + 4 * line.index) for line in read.media[:100]}
    with suppress(sdp.UnusableSdp):
        sdp.parse(read.rewrite("192.0.2.1", ports))
    for line in read.media:
        sdes.read(line.crypto)
        dtls.fingerprints(line.fingerprints)
    indexes = frozenset(range(0, len(read.media), 2))
    mine = dtls.without(data, indexes)
    with suppress(sdp.UnusableSdp):
        sdp.parse(dtls.rewrite(mine, dict.fromkeys(indexes, dtls.PROFILE), {index: [b"a=setup:active"] for index in indexes}))


CHECKED = dtls.Ice("ours", "a-password-of-22-signs", "them")


def checks(data: bytes) -> None:
    """Connectivity checks on a media port."""
    checked(data, ("192.0.2.7", 4000), CHECKED)


def handshake(data: bytes) -> None:
    """Datagrams of a DTLS handshake, at either end."""
    for client in (False, True):
        end = Association(certificate(), dtls.Dtls(dtls.fingerprints([certificate().fingerprint]), client))
        if client:
            end.start()
        for datagram in data.split(PART)[:8]:
            end.receive(datagram)
        assert end.keys is None or end.failed is None


def digest(data: bytes) -> None:
    """A challenge and its answer, as client and as server."""
    value = data.decode("utf-8", "surrogateescape").replace("\r", " ").replace("\n", " ").replace("\0", " ")
    auth_params.read(value)
    auth_params.read_info(value)
    headers = [
        ("Via", "SIP/2.0/UDP h;branch=z9hG4bK1"),
        ("From", "<sip:a@b>;tag=1"),
        ("To", "<sip:a@b>;tag=2"),
        ("Call-ID", "1"),
        ("CSeq", "1 INVITE"),
    ]
    answer = Response(407, "x", [*headers, ("Proxy-Authenticate", value)])
    DigestClient(Credentials("eve", "secret")).answer(answer, method="INVITE", uri="sip:a@b", body=b"", cnonce="c")
    asked = Request("INVITE", "sip:a@b", [*headers, ("Proxy-Authorization", value)])
    DigestServer("trunk", {"eve": "secret"}, b"0123456789abcdef").check(asked, Mono(1.0))


class _Sink:
    def audio(self, pcm: Pcm) -> None:
        """Heard."""

    def silence(self, samples: int) -> None:
        """Not sent."""

    def lost(self, samples: int) -> None:
        """Not arrived."""


def media(data: bytes) -> None:
    """RTP of both parties through the relay and the measurement's decoder."""
    relay, line = Relay(), Stream(_Sink())
    relay.negotiated("A", CALLER, None, CALLER[0])
    relay.negotiated("B", EDGE, None, EDGE[0])
    line.negotiated({**STATIC, 101: Codec(TELEPHONE_EVENT, 8000)})
    for number, packet in enumerate(data.split(PART)[:50]):
        arrival = Mono(0.02 * number)
        assert relay.receive("A", 0, packet, CALLER) == EDGE
        if not rtp.is_rtcp(packet):
            rtp.peek(packet)
            line.packet(packet, arrival)
            line.advance(arrival)
    line.finish()


def control_packets(data: bytes) -> None:
    """RTCP."""
    for report in rtcp.reports(data):
        repr(report)


def capture(data: bytes) -> None:
    """A message on its way to a HEP server: the packet is one, whatever the message was."""
    with suppress(hep.TooLong):
        packet = hep.encode(Message("c", "A", "in", IN, data, False), "call-1", 2001, Wall(1.0), auth_key="key")
        assert chunks(packet)


def configuration(data: bytes) -> None:
    """Both halves' files: every fault is one line."""
    text = data.decode("utf-8", "replace")
    for model in (SidecarConfig, ControlConfig):
        said = ""
        try:
            values = settings.mapping("file.yaml", text)
            # What opens files is tried by the tests of the configuration.
            if "_file" not in text and "certificate" not in text:
                model(**values)
        except settings.SettingsError as error:
            said = str(error)
        except ValidationError as error:
            said = settings.explain("file.yaml", text, error)
        assert "\n" not in said


@lru_cache
def _call() -> Call:
    call = fold(FACT.validate_python(fact) for fact in complete("c" * 32, "SCL_1").facts)
    assert call is not None
    return call


def api(data: bytes) -> None:
    """What the API and the fleet's connection read: reports, facts, spans, orders."""
    with suppress(Unreadable):
        read_claim(data)
    pairs = compare(data, _call())
    spliced = enrich(data, _call(), repair=Link("sip_call_id", "SCL_1"), pairs=pairs)
    with suppress(ValueError, RecursionError):
        before = json.loads(data)
        assert not isinstance(before, dict) or isinstance(json.loads(spliced), dict)
    for adapter in (FACT, ORDER, FROM_SIDECAR, FROM_CONTROL):
        with suppress(ValidationError):
            adapter.validate_json(data)
    for kind in ("application/json", "application/x-protobuf"):
        with suppress(ValueError):
            read_spans(data, kind)


DECODERS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (
        message,
        stream,
        conversation,
        descriptions,
        checks,
        handshake,
        digest,
        media,
        control_packets,
        capture,
        configuration,
        api,
    )
}
