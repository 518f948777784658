"""Every clause of RFC 4475 (torture) and RFC 5118 (IPv6) with messages of our own: what becomes of each at the sidecar's door.

A row says what the caller hears (a status; None: nothing) and whether the edge gets an INVITE. Nothing may raise, and nothing may be left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sidecar.identity.digest_server import DigestServer
from sidecar.sip.message import Request, Response, parse
from sidecar.sip.sdp import parse as parse_sdp
from tests.core.b2bua.harness import CALLER, OFFER, STRANGER, Bench, Party

Line = tuple[bytes, bytes]
START = b"INVITE sip:agent@192.0.2.1 SIP/2.0"
USUAL: tuple[Line, ...] = (
    (b"Via", b"SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKtorture;rport"),
    (b"Max-Forwards", b"70"),
    (b"From", b"<sip:alice@caller.example>;tag=caller-tag"),
    (b"To", b"<sip:agent@192.0.2.1>"),
    (b"Call-ID", b"torture"),
    (b"CSeq", b"17 INVITE"),
    (b"Contact", b"<sip:caller@192.0.2.10:5060>"),
)
MULTIPART = (
    b"--7a9cbec02ceef655\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: binary\r\n\r\nHello\r\n--7a9cbec02ceef655\r\n"
    b"Content-Type: application/octet-stream\r\n\r\n\x00\xff\x01\r\n\r\n--7a9cbec02ceef655--\r\n"
)
V6 = b"v=0\r\no=- 1 1 IN IP6 2001:db8::1\r\ns=-\r\nc=IN IP6 2001:db8::9:255\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0\r\n"
BOTH = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0\r\nc=IN IP4 192.0.2.9\r\n" + (
    b"m=audio 6050 RTP/AVP 0\r\nc=IN IP6 2001:db8::9\r\n"
)


def message(start: bytes = START, *, body: bytes = OFFER, raw: bool = False, drop: tuple[bytes, ...] = (), **changed: bytes) -> bytes:
    """The usual INVITE with other header lines. `changed`: names with `_` for `-`. `raw`: without Content-Length. `drop`: without these."""
    named = {name.replace("_", "-").encode().lower(): value for name, value in changed.items()}
    lines = [(name, named.pop(name.lower(), value)) for name, value in USUAL if name not in drop]
    lines += [(name.title(), value) for name, value in named.items()]
    if body and b"content-type" not in [name.lower() for name, _ in lines]:
        lines.append((b"Content-Type", b"application/sdp"))
    if not raw:
        lines.append((b"Content-Length", b"%d" % len(body)))
    return start + b"\r\n" + b"".join(name + b": " + value + b"\r\n" for name, value in lines) + b"\r\n" + body


TORTUOUS = b"\r\n".join(
    [
        b"INVITE sip:vivekg@192.0.2.1;unknownparam SIP/2.0",
        b"TO :",
        b" sip:vivekg@192.0.2.1 ;   unknown    = x",
        b'from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>',
        b"  ;",
        b"  tag = 98asjd8",
        b"MaX-fOrWaRdS: 0068",
        b"Call-ID: wsinv.ndaksdj@192.0.2.10",
        b"Content-Length   : %d" % len(OFFER),
        b"cseq: 0009",
        b"  INVITE",
        b"Via  : SIP  /   2.0",
        b" /UDP",
        b"    192.0.2.10;branch=z9hG4bK390skdjuw",
        b"s :",
        b"NewFangledHeader:   newfangled value",
        b" continued newfangled value",
        b"UnknownHeaderWithUnusualValue: ;;,,;;,;",
        b"Content-Type: application/sdp",
        b"Route:",
        b" <sip:services.example.com;lr;unknownwith=value;unknown-no-value>",
        b"v:  SIP  / 2.0  / TCP     spindle.example.com   ;",
        b"  branch  =   z9hG4bK9ikj8  ,",
        b" SIP  /    2.0   / UDP  192.168.255.111   ; branch=",
        b" z9hG4bK30239",
        b'm:"Quoted string \\"\\"" <sip:jdrosen@192.0.2.10:5060> ; newparam =',
        b"      newvalue ;",
        b"  secondparam ; q = 0.33",
        b"",
        OFFER,
    ]
)


@dataclass(frozen=True)
class Row:
    """One message and what becomes of it."""

    clause: str
    what: str
    data: bytes
    heard: int | None = None
    reaches: bool = False


def taken(clause: str, what: str, data: bytes) -> Row:
    """A message that is fine."""
    return Row(clause, what, data, None, True)


ROWS = [
    # 3.1.1: valid
    taken("4475-3.1.1.1", "folds, odd case, empty and unknown headers", TORTUOUS),
    taken(
        "4475-3.1.1.2",
        "every character that is allowed",
        message(
            b"INVITE sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@192.0.2.1 SIP/2.0",
            call_id=b"intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{",
            x_utf8=b"\xe5\xa4\xa7\xe5\x81\x9c\xe9\x9b\xbb",
        ),
    ),
    taken("4475-3.1.1.3", "escapes", message(b"INVITE sip:sips%3Auser%40example.com@192.0.2.1 SIP/2.0", to=b"sip:%75se%72@example.com")),
    taken("4475-3.1.1.4", "escaped nulls", message(b"INVITE sip:null-%00-null@192.0.2.1 SIP/2.0", to=b"sip:null-%00-null@example.com")),
    taken("4475-3.1.1.5", "% that is no escape", message(contact=b'"%Z%45" <sip:caller@192.0.2.10:5060>', x_any=b"%ZZ%4")),
    taken("4475-3.1.1.6", "no space before <", message(to=b'"caller"<sip:agent@192.0.2.1>', contact=b"caller<sip:caller@192.0.2.10:5060>")),
    taken("4475-3.1.1.7", "long values", message(call_id=b"longreq.one" + b"really" * 30 + b"longcallid", x_long=b"long" * 2000)),
    taken("4475-3.1.1.8", "octets behind the body", message() + b"SIP/2.0 200 OK and more"),
    taken("4475-3.1.1.9", "semicolons in the user part", message(b"INVITE sip:user;par=u%40example.net@192.0.2.1 SIP/2.0")),
    taken(
        "4475-3.1.1.10",
        "transports that are unknown",
        message(via=USUAL[0][1] + b",SIP/2.0/SCTP t2.example.com;branch=z9hG4bKb,SIP/2.0/UNKNOWN t4.example.com;branch=z9hG4bKc"),
    ),
    taken("4475-3.1.1.11", "a body of several parts", message(body=MULTIPART, content_type=b"multipart/mixed; boundary=7a9cbec02ceef655")),
    # 3.1.2: invalid
    Row("4475-3.1.2.1", "superfluous separators in Via", message(via=USUAL[0][1] + b";;;;,;,,"), 400),
    Row("4475-3.1.2.1", "superfluous separators in Contact", message(contact=b'"Joe" <sip:caller@192.0.2.10:5060>;;;;'), 400),
    taken("4475-3.1.2.1", "one separator at the end is passed over", message(contact=b"<sip:caller@192.0.2.10:5060>;expires=3600;")),
    Row("4475-3.1.2.2", "Content-Length beyond the datagram", message(raw=True, content_length=b"9999"), 400),
    Row("4475-3.1.2.3", "negative Content-Length", message(raw=True, content_length=b"-999"), 400),
    Row("4475-3.1.2.4", "an overlarge CSeq", message(cseq=b"36893488147419103232 INVITE"), 400),
    Row("4475-3.1.2.4", "an overlarge Max-Forwards", message(max_forwards=b"300"), 400),
    Row("4475-3.1.2.6", "an unterminated quoted string", message(to=b'"Mr. J. User <sip:agent@192.0.2.1>'), 400),
    Row("4475-3.1.2.7", "<> around the Request-URI", message(b"INVITE <sip:agent@192.0.2.1> SIP/2.0"), 400),
    Row("4475-3.1.2.8", "white space within the Request-URI", message(b"INVITE sip:agent@192.0.2.1; lr SIP/2.0"), 400),
    Row("4475-3.1.2.9", "several spaces in the request line", message(b"INVITE  sip:agent@192.0.2.1  SIP/2.0"), 400),
    Row("4475-3.1.2.10", "a space behind the request line", message(START + b"  "), 400),
    taken(
        "4475-3.1.2.11",
        "escaped headers in the Request-URI end here (on an outbound route: 400)",
        message(b"INVITE sip:agent@192.0.2.1?Route=%3Csip:example.com%3E SIP/2.0"),
    ),
    taken("4475-3.1.2.12", "a Date in another time zone is nothing to us", message(date=b"Fri, 01 Jan 2010 16:00:00 EST")),
    Row(
        "4475-3.1.2.13",
        "a Contact with headers and no <>",
        message(contact=b'sip:user@example.com?Route=%3Csip:sip.example.com%3E"\\'),
        400,
    ),
    taken("4475-3.1.2.14", "spaces within the brackets are passed over", message(to=b'"Watson, Thomas" < sip:t.watson@example.org >')),
    taken("4475-3.1.2.15", "characters that are no token in a display name", message(to=b"Bell, Alexander <sip:agent@192.0.2.1>")),
    Row("4475-3.1.2.16", "another version", message(b"INVITE sip:agent@192.0.2.1 SIP/7.0"), 505),
    Row("4475-3.1.2.17", "CSeq names another method", message(cseq=b"17 OPTIONS"), 400),
    Row("4475-3.1.2.18", "an unknown method, and CSeq another", message(b"NEWMETHOD sip:agent@192.0.2.1 SIP/2.0"), 400),
    # 3.2, 3.3
    taken("4475-3.2.1", "a branch of nothing but the cookie", message(via=b"SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK")),
    Row("4475-3.3.1", "no Call-ID, so no answer could be told from another", message(drop=(b"Call-ID",))),
    Row("4475-3.3.1", "no From, so no answer could be told from another", message(drop=(b"From",))),
    Row("4475-3.3.1", "no To, so no answer could be told from another", message(drop=(b"To",))),
    Row("4475-3.3.2", "an unknown scheme in the Request-URI", message(b"INVITE nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0"), 416),
    Row("4475-3.3.3", "a known scheme that is none of ours", message(b"INVITE soap.beep://192.0.2.103:3002 SIP/2.0"), 416),
    taken("4475-3.3.4", "unknown schemes in header fields", message(to=b"<isbn:2983792873>")),
    taken("4475-3.3.5", "Require is for the far end", message(require=b"nothingSupportsThis, nothingSupportsThisEither")),
    Row(
        "4475-3.3.5",
        "Proxy-Require is for whoever stands where a proxy would",
        message(require=b"nothingSupportsThis", proxy_require=b"noProxiesSupportThis, norDoAnyProxiesSupportThis"),
        420,
    ),
    Row(
        "4475-3.3.5",
        "Require of what ends here is for us",
        message(
            b"OPTIONS sip:agent@192.0.2.1 SIP/2.0", cseq=b"17 OPTIONS", body=b"", require=b"nothingSupportsThis, nothingSupportsThisEither"
        ),
        420,
    ),
    taken(
        "4475-3.3.6", "an unknown Content-Type is the edge's to refuse", message(body=b"<audio>", content_type=b"application/unknownformat")
    ),
    taken(
        "4475-3.3.7", "an unknown authorization scheme from whom we trust", message(authorization=b"NoOneKnowsThisScheme opaque-data=here")
    ),
    Row("4475-3.3.8", "two values where one must be", message(x=b"").replace(b"X: \r\n", b"Call-ID: second\r\n"), 400),
    Row("4475-3.3.9", "two Content-Lengths", message(x=b"").replace(b"X: \r\n", b"Content-Length: 1\r\n"), 400),
    Row("4475-3.3.11", "Max-Forwards of zero", message(max_forwards=b"0"), 483),
    Row(
        "4475-3.3.12",
        "REGISTER with parameters in Contact",
        message(b"REGISTER sip:192.0.2.1 SIP/2.0", cseq=b"1 REGISTER", contact=b"sip:a@b;unknown"),
        405,
    ),
    Row(
        "4475-3.3.14",
        "REGISTER with an escaped header",
        message(b"REGISTER sip:192.0.2.1 SIP/2.0", cseq=b"1 REGISTER", contact=b"<sip:a@b?Route=%3Csip:x%3E>"),
        405,
    ),
    Row(
        "4475-3.3.13",
        "REGISTER with parameters in the Contact's URI",
        message(b"REGISTER sip:192.0.2.1 SIP/2.0", cseq=b"1 REGISTER", contact=b"<sip:a@b;unknown>"),
        405,
    ),
    taken("4475-3.3.15", "an Accept that we could not serve is the edge's", message(accept=b"text/nobodyKnowsThis")),
    # 3.4: the syntax of RFC 2543
    taken(
        "4475-3.4.1",
        "no branch, no Max-Forwards, bare addresses",
        message(via=b"SIP/2.0/UDP 192.0.2.10:5060", to=b"sip:agent@192.0.2.1", drop=(b"Max-Forwards",)),
    ),
    # RFC 5118
    taken(
        "5118-4.1",
        "IPv6 references",
        message(
            b"INVITE sip:agent@[2001:db8::10] SIP/2.0",
            contact=b"<sip:caller@[2001:db8::9:1]>",
            via=b"SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bK87a",
        ),
    ),
    Row("5118-4.2", "an IPv6 address without brackets in the Request-URI", message(b"INVITE sip:2001:db8::10 SIP/2.0"), 400),
    taken("5118-4.3", "a port that may be part of the address", message(b"INVITE sip:agent@[2001:db8::10:5070] SIP/2.0")),
    taken("5118-4.4", "a port outside the brackets", message(b"INVITE sip:agent@[2001:db8::10]:5070 SIP/2.0")),
    taken(
        "5118-4.5",
        "received with brackets",
        message(via=USUAL[0][1] + b", SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKas3"),
    ),
    taken(
        "5118-4.5",
        "received without brackets",
        message(via=USUAL[0][1] + b", SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255;branch=z9hG4bKas4"),
    ),
    taken("5118-4.6", "IPv6 in the description", message(body=V6)),
    taken("5118-4.7", "both families in headers", message(record_route=b"<sip:192.0.2.10;lr>, <sip:[2001:db8::9]:5060;lr>")),
    taken("5118-4.8", "both families in the description", message(body=BOTH)),
    taken(
        "5118-4.9",
        "an IPv4-mapped address",
        message(b"INVITE sip:agent@[::ffff:192.0.2.10] SIP/2.0", contact=b'"T. A." <sip:caller@[::ffff:192.0.2.10]>'),
    ),
    taken(
        "5118-4.10", "one colon too many, as the grammar of RFC 3261 has it", message(b"INVITE sip:agent@[2001:db8:::192.0.2.1] SIP/2.0")
    ),
]


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A caller, a sidecar and an edge."""
    made = Bench(host=None)  # type: ignore[arg-type]
    yield made
    made.edge.inbox.clear()
    made.over()


ELSEWHERE = {"4475-3.1.1.12", "4475-3.1.1.13", "4475-3.1.2.5", "4475-3.1.2.19", "4475-3.3.10"}
"""Responses: below."""


def test_every_clause_has_its_row() -> None:
    clauses = {f"4475-3.1.1.{n}" for n in range(1, 14)} | {f"4475-3.1.2.{n}" for n in range(1, 20)} | {"4475-3.2.1", "4475-3.4.1"}
    clauses |= {f"4475-3.3.{n}" for n in range(1, 16)} | {f"5118-4.{n}" for n in range(1, 11)}
    assert {row.clause for row in ROWS} | ELSEWHERE == clauses


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.clause} {row.what}")
def test_torture(bench: Bench, row: Row) -> None:
    answers: list[bytes] = []
    # What repeats a broken header cannot be read as a message, so the caller's end keeps octets.
    bench.wire.attach(CALLER, lambda data, _, __: answers.append(data))
    bench.caller.send(row.data)
    bench.run(0.1)
    heard = [int(data[8:11]) for data in answers if not data.startswith(b"SIP/2.0 100")]
    got = [item.message for item in bench.edge.inbox if isinstance(item.message, Request)]
    assert (heard, [request.method for request in got]) == ([] if row.heard is None else [row.heard], ["INVITE"] if row.reaches else [])
    assert got or bench.engine.describe()["calls"] == 0
    for request in got:
        again = parse(request.encode())
        assert isinstance(again, Request)
        bench.edge.reply(request, 486)
    bench.run(70.0)


def test_4475_3_2_1_calls_with_the_cookie_alone_are_told_apart(bench: Bench) -> None:
    """As RFC 2543 has it: by the whole request. Else the second call would be taken for the first one again."""
    for number in (b"one", b"two"):
        bench.caller.send(message(via=b"SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK", call_id=number))
    invites = [bench.edge.request("INVITE") for _ in range(2)]
    assert [invite.call_id for invite in invites] == ["one", "two"]
    for invite in invites:
        bench.edge.reply(invite, 486)
    bench.run(70.0)


def test_4475_3_3_7_an_unknown_authorization_scheme_is_none_and_a_stranger_is_challenged() -> None:
    bench = Bench(digest=DigestServer("trunk", {"eve": "secret"}, b"0123456789abcdef"))
    stranger = Party(bench, STRANGER, "stranger")
    via = b"SIP/2.0/UDP 203.0.113.66:5060;branch=z9hG4bKx;rport"
    stranger.send(message(via=via, proxy_authorization=b"NoOneKnowsThisScheme opaque-data=here", x_room=b"r" * 300))
    stranger.response(407)


@pytest.mark.parametrize(
    ("start", "status", "reason"),
    [
        (b"SIP/2.0 200 = 2**3 * 5**2 \xd0\xbd\xd0\xbe \xd1\x81\xd1\x82\xd0\xbe", 200, "= 2**3 * 5**2 \u043d\u043e \u0441\u0442\u043e"),
        (b"SIP/2.0 100 ", 100, ""),
    ],
)
def test_4475_3_1_1_12_and_13_an_unusual_or_an_empty_reason_phrase_is_read_as_it_stands(start: bytes, status: int, reason: str) -> None:
    read = parse(message(start, body=b""))
    assert isinstance(read, Response)
    assert (read.status, read.reason) == (status, reason)


@pytest.mark.parametrize(
    "data",
    [
        message(b"SIP/2.0 503 Service Unavailable", cseq=b"9292394834772304023312 OPTIONS"),  # 3.1.2.5
        message(b"SIP/2.0 4294967301 better not break the receiver"),  # 3.1.2.19
        message(
            b"SIP/2.0 200 OK", via=b"SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923, SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1saber23"
        ),  # 3.3.10
    ],
)
def test_4475_responses_that_are_broken_or_not_for_us_are_dropped(bench: Bench, data: bytes) -> None:
    bench.edge.send(data)
    bench.run(0.1)
    assert bench.caller.inbox == bench.edge.inbox == []
    assert bench.engine.counts["malformed"] + bench.engine.counts["stray"] == 1


def test_5118_4_6_and_4_8_families_are_read_from_the_description() -> None:
    assert [line.address for line in parse_sdp(V6).media] == ["2001:db8::9:255"]
    assert [line.address for line in parse_sdp(BOTH).media] == ["192.0.2.9", "2001:db8::9"]
