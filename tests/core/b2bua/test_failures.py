"""Calls that never come about: refused by the edge, by silence, by the transport, by the sidecar's own limits."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.sip.flow import Flow
from tests.core.b2bua.harness import ANSWER, EDGE, GIVE_UP, OFFER, SIDECAR, Bench
from tests.core.b2bua.types import Make

TOLD = [
    ("Retry-After", "18000;duration=3600"),
    ("Reason", 'Q.850;cause=17;text="User busy"'),
    ("Warning", "307 isi.example \"Session parameter 'foo' not understood\""),
    ("X-Anything", "of the edge"),
    ("Error-Info", "<sip:not-in-service-recording@edge.example>"),
]


@pytest.mark.parametrize(
    ("status", "phrase"),
    [(302, "Moved"), (404, "Never heard of"), (480, "Away"), (486, "Busy Here"), (503, "Full"), (600, "Busy Everywhere"), (603, "No")],
)
def test_a_refusal_crosses_with_its_phrase_and_its_reasons(bench: Bench, status: int, phrase: str) -> None:
    sent, got = bench.ringing()
    answer = bench.edge.reply(got, status, reason=phrase, headers=[*TOLD, ("Contact", "<sip:elsewhere@192.0.2.77>;q=0.7")])
    heard = bench.caller.response(status)
    assert heard.reason == phrase
    assert [(name, value) for name, value in heard.headers.items() if (name, value) in TOLD] == TOLD
    assert heard.headers.get("Contact") == ("<sip:elsewhere@192.0.2.77>;q=0.7" if status == 302 else None)
    assert heard.to_tag == "stag-1"
    bench.caller.ack(sent, heard)
    ack = bench.edge.request("ACK")
    assert ack.headers.get("To") == answer.headers.get("To")
    bench.run(0.1)
    ended = bench.fact(e.Ended)
    assert (ended.status, ended.ended_by, ended.reason) == (status, "agent", "rejected")
    assert ended.cause == f"192.0.2.20:5070 answered {status} {phrase}"
    assert bench.engine.describe()["calls"] == 0


def test_a_refusal_is_repeated_until_the_caller_acknowledges_and_the_trace_stays_open_for_it(bench: Bench) -> None:
    sent = bench.invite()
    bench.edge.reply(bench.edge.request("INVITE"), 486)
    bench.edge.request("ACK")
    final = bench.caller.response(486)
    bench.caller.response(486)
    assert bench.facts(e.Gone) == []
    bench.caller.ack(sent, final)
    bench.run(0.1)
    assert bench.ladder()[-1] == "A -> ACK"
    assert len(bench.facts(e.Gone)) == 1


def test_a_caller_that_never_acknowledges_a_refusal_leaves_nothing_behind(bench: Bench) -> None:
    bench.invite()
    bench.edge.reply(bench.edge.request("INVITE"), 486)
    bench.edge.request("ACK")
    bench.run(GIVE_UP + 1.0)
    assert len(bench.caller.inbox) == 11
    assert len(bench.facts(e.Gone)) == 1


def test_a_silent_edge_gets_seven_invites_and_the_caller_408(bench: Bench) -> None:
    sent = bench.invite()
    final = bench.caller.response(408, within=GIVE_UP + 1.0)
    assert bench.edge.times("INVITE") == [0.01, 0.51, 1.51, 3.51, 7.51, 15.51, 31.51]
    bench.caller.ack(sent, final)
    bench.edge.inbox.clear()
    ended = bench.fact(e.Ended)
    assert (ended.status, ended.ended_by, ended.reason, ended.cause) == (
        408,
        "sidecar",
        "upstream-silent",
        "192.0.2.20:5070 did not answer the INVITE",
    )


def test_a_refused_transport_gives_503(bench: Bench) -> None:
    sent = bench.invite()
    bench.edge.request("INVITE")
    bench.engine.transport_failed(Flow("udp", SIDECAR, EDGE), bench.clock.now)
    bench.pump()
    final = bench.caller.response(503)
    assert final.headers.get("Retry-After") == "5"
    bench.caller.ack(sent, final)
    assert bench.fact(e.Ended).reason == "upstream-unreachable"


def test_no_free_ports_give_503_without_dialling(make: Make) -> None:
    bench = make(ports=0)
    sent = bench.invite()
    final = bench.caller.response(503)
    assert "no RTP port pair is free" in (final.headers.get("Warning") or "")
    bench.caller.ack(sent, final)
    bench.edge.hears_nothing()
    assert bench.fact(e.Ended).reason == "no-media-ports"


def test_an_unusable_offer_gives_488_without_dialling(bench: Bench) -> None:
    sent = bench.invite(body=b"v=0\r\nm=audio nonsense\r\n")
    final = bench.caller.response(488)
    bench.caller.ack(sent, final)
    bench.edge.hears_nothing()
    assert bench.fact(e.Ended).reason == "sdp-unusable"


def test_an_unusable_answer_gives_488_and_ends_the_edges_half(bench: Bench) -> None:
    sent, got = bench.ringing()
    bench.edge.reply(got, 200, body=b"v=0\r\nm=audio nonsense\r\n")
    bench.caller.ack(sent, bench.caller.response(488))
    bench.edge.request("ACK")
    bench.edge.reply(bench.edge.request("BYE"), 200)
    assert bench.fact(e.Ended).status == 488


def test_an_unusable_description_in_a_ringing_does_not_cost_the_call(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 183, body=b"v=0\r\nm=audio nonsense\r\n")
    heard = bench.caller.response(183)
    assert (heard.body, heard.content_type) == (b"", None)
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


def test_an_answer_needs_ports_too_when_the_offer_was_delayed(make: Make) -> None:
    bench = make(ports=0)
    sent = bench.invite(body=b"")
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(503))
    bench.edge.request("ACK")
    bench.edge.reply(bench.edge.request("BYE"), 200)
    assert bench.fact(e.Ended).reason == "no-media-ports"


def test_every_m_line_gets_ports_and_a_refused_one_keeps_its_place(bench: Bench) -> None:
    video = b"m=video 4002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
    fax = b"m=image 0 udptl t38\r\n"
    sent = bench.invite(body=OFFER + video + fax)
    got = bench.edge.request("INVITE")
    assert got.body == (OFFER + video + fax).replace(b"c=IN IP4 192.0.2.10", b"c=IN IP4 192.0.2.1").replace(
        b"m=audio 4000", b"m=audio 10002"
    ).replace(b"m=video 4002", b"m=video 10006")
    bench.edge.reply(got, 200, body=ANSWER + b"m=video 0 RTP/AVP 96\r\n" + fax)
    answer = bench.caller.response(200)
    assert answer.body.endswith(b"m=video 0 RTP/AVP 96\r\n" + fax)
    bench.caller.ack(sent, answer)
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)
    assert [effect.m_line for effect in bench.facts(e.OpenMedia)] == [0, 1]


def test_a_multipart_body_crosses_whole_but_for_the_description_inside(bench: Bench) -> None:
    body = (
        b"--cut\r\nContent-Type: application/sdp\r\n\r\n"
        + OFFER
        + b"\r\n--cut\r\nContent-Type: application/resource-lists+xml\r\n\r\n<list/>\r\n--cut--\r\n"
    )
    sent = bench.invite(headers=[("Content-Type", 'multipart/mixed;boundary="cut"')], body=body)
    got = bench.edge.request("INVITE")
    assert got.headers.all("Content-Type") == ['multipart/mixed;boundary="cut"']
    assert got.body == body.replace(b"c=IN IP4 192.0.2.10", b"c=IN IP4 192.0.2.1").replace(b"m=audio 4000", b"m=audio 10002")
    bench.edge.reply(got, 486)
    bench.caller.ack(sent, bench.caller.response(486))
