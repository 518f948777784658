"""A call that simply works: what crosses from leg to leg, what is replaced, what the trace is told."""

from __future__ import annotations

from sidecar.b2bua import effects as e
from sidecar.sip.message import Request
from tests.core.b2bua.harness import ANSWER, CALLER, EDGE, OFFER, Bench, header_lines

CUSTOM = [
    ("X-Correlation-Id", "0123456789abcdef0123456789abcdef"),
    ("X-Anything", '  spaces,commas ;and="quotes"  '.strip()),
    ("User-Agent", "an evaluator/1.0 (test)"),
    ("Supported", "timer, 100rel"),
    ("P-Asserted-Identity", '"Ålice" <sip:alice@caller.example>'),
    ("s", "compact subject"),
]


def test_a_call_from_invite_to_bye_as_the_trace_shows_it(bench: Bench) -> None:
    bench.answered()
    bench.run(5.0)
    bench.hang_up(bench.caller)
    bench.run(1.0)
    assert bench.ladder() == [
        "A -> INVITE",
        "A <- 100",
        "B -> INVITE",
        "B <- 180",
        "A <- 180",
        "B <- 200",
        "A <- 200",
        "A -> ACK",
        "B -> ACK",
        "A -> BYE",
        "A <- 200",
        "B -> BYE",
        "B <- 200",
    ]
    told = [type(effect).__name__ for _, effect in bench.effects if not isinstance(effect, e.Message | e.SendSip)]
    assert told == [
        "Started",
        "HopProven",
        "OpenMedia",
        "MediaDescribed",
        "Dialled",
        "HopProven",
        "MediaDescribed",
        "Answered",
        "Ended",
        "Gone",
    ]
    ended = bench.fact(e.Ended)
    assert (ended.status, ended.ended_by, ended.reason) == (200, "caller", "completed")
    started = bench.fact(e.Started)
    assert (started.sip_call_id, started.kind, started.route, started.source) == ("abc@192.0.2.10", "production", "agent", CALLER)


def test_the_invite_is_replaced_only_where_a_leg_demands_it(bench: Bench) -> None:
    sent = bench.invite(headers=[*CUSTOM, ("Record-Route", "<sip:192.0.2.10;lr>"), ("Route", "<sip:192.0.2.1;lr>")])
    got = bench.edge.expect("INVITE")
    assert isinstance(got.message, Request)
    assert got.message.uri == "sip:agent@192.0.2.20:5070"
    assert list(header_lines(got.data)) == [
        "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK-s1;rport",
        "Max-Forwards: 69",
        'From: Alice <sip:alice@caller.example>;x="1";tag=stag-2',
        "To: <sip:agent@192.0.2.1>",
        "Call-ID: abc@192.0.2.10",
        "CSeq: 17 INVITE",
        "Contact: <sip:alice@192.0.2.1:5060>",
        *[f"{name}: {value}" for name, value in CUSTOM],
        "Content-Type: application/sdp",
        "X-Sip-Call-Id: abc@192.0.2.10",
        "X-CID: abc@192.0.2.10",
        f"Content-Length: {len(got.message.body)}",
    ]
    bench.caller.cancel(sent)
    bench.caller.expect(200)
    bench.caller.ack(sent, bench.caller.response(487))
    bench.edge.reply(got.message, 486)
    bench.edge.request("ACK")


def test_a_description_differs_only_in_address_and_port(bench: Bench) -> None:
    sent, got = bench.ringing()
    assert got.body == OFFER.replace(b"c=IN IP4 192.0.2.10", b"c=IN IP4 192.0.2.1").replace(b"m=audio 4000", b"m=audio 10002")
    bench.edge.reply(got, 200, body=ANSWER)
    answer = bench.caller.response(200)
    assert answer.body == ANSWER.replace(b"c=IN IP4 192.0.2.20", b"c=IN IP4 192.0.2.1").replace(b"m=audio 6000", b"m=audio 10000")
    bench.caller.ack(sent, answer)
    bench.edge.request("ACK")
    bench.hang_up(bench.edge)
    described = [(fact.leg, fact.line.address, fact.line.port, fact.signalling_host) for fact in bench.facts(e.MediaDescribed)]
    assert described == [("A", "192.0.2.10", 4000, CALLER[0]), ("B", "192.0.2.20", 6000, EDGE[0])]


def test_what_the_edge_says_reaches_the_caller_as_it_was_written(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    said = [("X-Anything", "as it is"), ("Server", "an agent"), ("Allow", "INVITE,  ACK"), ("X-Call-Sid", "CA123")]
    bench.edge.reply(got, 200, reason="Fine with me", headers=said, body=ANSWER)
    heard = bench.caller.expect(200)
    lines = list(header_lines(heard.data))
    assert heard.data.startswith(b"SIP/2.0 200 Fine with me\r\n")
    assert lines[:5] == [
        "Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-caller-1;rport=5060;received=192.0.2.10",
        'From: Alice <sip:alice@caller.example>;tag=caller-tag;x="1"',
        "To: <sip:agent@192.0.2.1>;tag=stag-1",
        "Call-ID: abc@192.0.2.10",
        "CSeq: 17 INVITE",
    ]
    assert lines[5:-2] == ["Contact: <sip:agent@192.0.2.1:5060>", *[f"{name}: {value}" for name, value in said]]
    bench.caller.ack(sent, heard.message)  # type: ignore[arg-type]
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)
    learned = bench.fact(e.Learned)
    assert (learned.name, learned.value) == ("call_sid", "CA123")


def test_trying_is_sent_in_the_instant_the_invite_arrives(bench: Bench) -> None:
    sent = bench.invite()
    bench.edge.reply(bench.edge.request("INVITE"), 486)
    bench.caller.ack(sent, bench.caller.response(486))
    assert [round(at, 3) for at in bench.caller.times(100)] == [0.01]


def test_times_of_the_set_up_are_measured_from_the_callers_invite(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.run(0.1)
    bench.edge.reply(got, 183)
    bench.caller.expect(183)
    bench.run(0.5)
    bench.edge.reply(got, 180)
    bench.caller.expect(180)
    bench.run(2.0)
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.edge)
    timings = bench.fact(e.Ended).timings
    assert [round(value or 0, 3) for value in (timings.to_100, timings.to_ringing, timings.to_answer)] == [0.12, 0.64, 2.66]
    assert timings.auth is None
