"""Offers and answers wherever they may stand (RFC 3264, 3262, 3311, 6337), and media of every kind."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.sip.message import Request, Response
from tests.core.b2bua.harness import ANSWER, OFFER, Bench

HEAD = b"v=0\r\no=caller 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n"
KEY = b"WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
AUDIO = b"m=audio 4000 RTP/AVP 0\r\n"
RELIABLE = [("Require", "100rel"), ("RSeq", "1")]


def answered_with(bench: Bench, offer: bytes, answer: bytes) -> tuple[bytes, bytes]:
    """A call with these descriptions: both as the other side got them."""
    sent = bench.invite(body=offer)
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, body=answer)
    back = bench.caller.response(200)
    bench.caller.ack(sent, back)
    bench.edge.request("ACK")
    return got.body, back.body


def ports(body: bytes) -> list[int]:
    """The ports of the m-lines."""
    return [int(line.split()[1].split(b"/")[0]) for line in body.split(b"\r\n") if line.startswith(b"m=")]


def lines_but_places(body: bytes) -> list[bytes]:
    """A description without what a relay may change."""
    return [line for line in body.split(b"\r\n") if not line.startswith((b"c=", b"m=", b"a=rtcp:"))]


def test_refused_lines_keep_their_place_with_port_0_in_offer_and_answer(bench: Bench) -> None:
    offer = HEAD + AUDIO + b"m=video 4002 RTP/AVP 96\r\nm=audio 0 RTP/AVP 8\r\nm=application 4006 TCP/BFCP *\r\n"
    answer = offer.replace(b"4002", b"0").replace(b"4006", b"0").replace(b"4000", b"6000")
    at_edge, at_caller = answered_with(bench, offer, answer)
    assert ports(at_edge) == [10002, 10006, 0, 10010]
    assert ports(at_caller) == [10000, 0, 0, 0]
    assert [(fact.leg, fact.line.index) for fact in bench.facts(e.MediaDescribed)] == [("A", 0), ("A", 1), ("A", 3), ("B", 0)]
    bench.hang_up(bench.caller)


@pytest.mark.parametrize(
    "line",
    [
        b"m=image 4002 udptl t38\r\na=T38FaxVersion:0\r\na=T38MaxBitRate:14400\r\na=T38FaxRateManagement:transferredTCF\r\n",
        b"m=video 4002 RTP/AVPF 96\r\nb=AS:512\r\na=rtpmap:96 H264/90000\r\na=rtcp-fb:96 nack pli\r\na=fmtp:96 profile-level-id=42e01f\r\n",
        b"m=text 4002 RTP/AVP 98\r\na=rtpmap:98 t140/1000\r\n",
        b"m=audio 4002/2 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20\r\n",
        b"m=application 4002 UDP/DTLS/SCTP webrtc-datachannel\r\na=sctp-port:5000\r\n",
    ],
)
def test_media_of_other_kinds_is_relayed_line_for_line(bench: Bench, line: bytes) -> None:
    offer = HEAD + AUDIO + line
    at_edge, at_caller = answered_with(bench, offer, offer.replace(b"4000", b"6000").replace(b"4002", b"6002"))
    assert ports(at_edge) == [10002, 10006]
    assert ports(at_caller) == [10000, 10004]
    assert lines_but_places(at_edge) == lines_but_places(offer)
    assert [place.split()[2:] for place in at_edge.split(b"\r\n") if place.startswith(b"m=")][1] == line.split(b"\r\n")[0].split()[2:]
    bench.hang_up(bench.edge)


def test_a_fax_takes_the_place_of_the_audio_in_a_reinvite(bench: Bench) -> None:
    bench.answered()
    fax = HEAD + b"m=image 4008 udptl t38\r\na=T38FaxVersion:0\r\n"
    asked = bench.edge.ask("INVITE", body=fax)
    got = bench.caller.request("INVITE")
    assert b"m=image 10000 udptl t38\r\n" in got.body
    bench.caller.reply(got, 200, body=fax.replace(b"4008", b"5008"))
    answer = bench.edge.response(200)
    assert b"m=image 10002 udptl t38\r\n" in answer.body
    bench.edge.ack(asked, answer)
    bench.caller.request("ACK")
    assert [(fact.leg, fact.line.kind, fact.line.port) for fact in bench.facts(e.MediaDescribed)[-2:]] == [
        ("B", "image", 4008),
        ("A", "image", 5008),
    ]
    bench.hang_up(bench.caller)


def test_avp_and_savp_twins_keep_their_order_and_the_one_that_was_taken(bench: Bench) -> None:
    offer = HEAD + b"m=audio 4000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY + b"\r\nm=audio 4002 RTP/AVP 0\r\n"
    answer = HEAD + b"m=audio 0 RTP/SAVP 0\r\nm=audio 6002 RTP/AVP 0\r\n"
    at_edge, at_caller = answered_with(bench, offer, answer)
    assert (ports(at_edge), ports(at_caller)) == ([10002, 10006], [0, 10004])
    bench.hang_up(bench.caller)


def test_rtcp_on_the_port_of_rtp_and_rtcp_elsewhere_are_said_as_they_were_meant(bench: Bench) -> None:
    offer = HEAD + AUDIO + b"a=rtcp-mux\r\na=rtcp:4000\r\nm=audio 4010 RTP/AVP 0\r\na=rtcp:4055 IN IP4 192.0.2.77\r\n"
    at_edge, _ = answered_with(bench, offer, offer)
    assert b"a=rtcp-mux\r\na=rtcp:10002\r\n" in at_edge
    assert b"m=audio 10006 RTP/AVP 0\r\na=rtcp:10007 IN IP4 192.0.2.1\r\n" in at_edge
    told = [fact.line for fact in bench.facts(e.MediaDescribed) if fact.leg == "A"]
    assert [line.rtcp for line in told] == [("192.0.2.10", 4000), ("192.0.2.77", 4055)]
    bench.hang_up(bench.caller)


def test_a_180_with_a_description_after_a_183_with_another(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    for status, port in ((183, b"6100"), (180, b"6200")):
        bench.edge.reply(got, status, body=ANSWER.replace(b"6000", port))
        assert b"m=audio 10000 " in bench.caller.response(status).body
    bench.edge.reply(got, 200, body=ANSWER.replace(b"6000", b"6300"))
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    assert [fact.line.port for fact in bench.facts(e.MediaDescribed) if fact.leg == "B"] == [6100, 6200, 6300]
    bench.hang_up(bench.caller)


def test_an_offer_in_a_prack_crosses_and_is_answered_in_its_200(bench: Bench) -> None:
    sent = bench.invite(headers=[("Supported", "100rel")])
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 183, headers=RELIABLE, body=ANSWER)
    bench.caller.join(sent, bench.caller.response(183))
    bench.caller.ask("PRACK", headers=[("RAck", "1 17 INVITE")], body=OFFER.replace(b"4000", b"4400"))
    prack = bench.edge.request("PRACK")
    assert ports(prack.body) == [10002]
    bench.edge.reply(prack, 200, body=ANSWER.replace(b"6000", b"6600"))
    assert ports(bench.caller.response(200).body) == [10000]
    assert [(fact.leg, fact.line.port) for fact in bench.facts(e.MediaDescribed)] == [("A", 4000), ("B", 6000), ("A", 4400), ("B", 6600)]
    bench.edge.reply(got, 200)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)


def test_forks_with_different_media_leave_that_of_the_one_that_answers(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    for fork, port in (("f1", b"6100"), ("f2", b"6200"), ("f3", b"6300")):
        bench.edge.reply(got, 183, tag=fork, body=ANSWER.replace(b"6000", port))
        bench.caller.expect(183)
    bench.edge.reply(got, 200, tag="f2", body=ANSWER.replace(b"6000", b"6200"))
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    assert bench.facts(e.MediaDescribed)[-1].line.port == 6200
    bench.hang_up(bench.caller)


@pytest.mark.parametrize("who", ["caller", "edge"])
@pytest.mark.parametrize("held", [b"a=sendonly\r\n", b"a=inactive\r\n", b"a=recvonly\r\n"])
def test_update_holds_and_resumes_in_an_early_or_confirmed_dialog(bench: Bench, who: str, held: bytes) -> None:
    bench.answered()
    asks, answers, mine, theirs = (
        (bench.caller, bench.edge, OFFER, ANSWER) if who == "caller" else (bench.edge, bench.caller, ANSWER, OFFER)
    )
    for words in (held, b"a=sendrecv\r\n"):
        asks.ask("UPDATE", body=mine + words)
        update = answers.request("UPDATE")
        assert update.body.endswith(words)
        answers.reply(update, 200, body=theirs + words)
        assert asks.response(200).body.endswith(words)
    bench.hang_up(bench.caller)


def test_updates_that_cross_each_other_are_refused_on_both_legs(bench: Bench) -> None:
    """RFC 3311 5.2: the edge has our offer before its own is taken, and so have we; nothing changes, and the caller hears of one alone."""
    bench.answered()
    told = len(bench.facts(e.MediaDescribed))
    bench.caller.ask("UPDATE", body=OFFER.replace(b"4000", b"4400"))
    bench.edge.ask("UPDATE", body=ANSWER.replace(b"6000", b"6600"))
    at_edge = bench.edge.request("UPDATE")
    bench.edge.response(491)
    bench.edge.reply(at_edge, 491)
    bench.caller.response(491)
    assert len(bench.facts(e.MediaDescribed)) == told
    bench.hang_up(bench.edge)


def test_a_body_of_several_parts_keeps_every_octet_but_the_descriptions_places(bench: Bench) -> None:
    parts = (
        b"preamble\r\n--b1\r\nContent-Type: application/isup;version=x\r\n\r\n\x00\x01\xff\r\n--b1\r\nContent-Type: application/sdp\r\n"
        b"Content-ID: <s@x>\r\n\r\n" + OFFER + b"\r\n--b1--\r\nepilogue"
    )
    sent = bench.invite(headers=[("Content-Type", 'multipart/mixed;boundary="b1"'), ("MIME-Version", "1.0")], body=parts)
    got = bench.edge.request("INVITE")
    assert got.body == parts.replace(b"c=IN IP4 192.0.2.10", b"c=IN IP4 192.0.2.1").replace(b"audio 4000", b"audio 10002")
    assert (got.headers.get("MIME-Version"), got.headers.get("Content-Type")) == ("1.0", 'multipart/mixed;boundary="b1"')
    bench.edge.reply(got, 486)
    bench.edge.request("ACK")
    bench.caller.ack(sent, bench.caller.response(486))


@pytest.mark.parametrize("who", ["caller", "edge"])
def test_a_delayed_offer_that_the_other_side_refuses_leaves_the_call_as_it_was(bench: Bench, who: str) -> None:
    bench.answered()
    told = len(bench.facts(e.MediaDescribed))
    asks, answers = (bench.caller, bench.edge) if who == "caller" else (bench.edge, bench.caller)
    asked = asks.ask("INVITE")
    answers.reply(answers.request("INVITE"), 488)
    answers.request("ACK")
    asks.ack(asked, asks.response(488))
    assert len(bench.facts(e.MediaDescribed)) == told
    bench.hang_up(answers)


def test_a_glare_ends_in_two_491_and_each_side_may_try_again_after_its_own_time(bench: Bench) -> None:
    """RFC 3261 14.1 and 14.2: the wait is the parties' own; what matters here is that both are told and a later one crosses."""
    bench.answered()
    first = bench.caller.ask("INVITE", body=OFFER)
    second = bench.edge.ask("INVITE", body=ANSWER)
    bench.run(0.05)
    crossed = [heard.message for heard in bench.edge.inbox if isinstance(heard.message, Request)]
    told = [heard.message for heard in bench.edge.inbox if isinstance(heard.message, Response)]
    bench.edge.inbox.clear()
    bench.edge.ack(second, told[0])
    bench.edge.reply(crossed[0], 491)
    bench.edge.request("ACK")
    bench.caller.ack(first, bench.caller.response(491))
    for wait, party, other, offer, answer in (
        (2.0, bench.edge, bench.caller, ANSWER, OFFER),
        (2.1, bench.caller, bench.edge, OFFER, ANSWER),
    ):
        bench.run(wait)
        again = party.ask("INVITE", body=offer)
        other.reply(other.request("INVITE"), 200, body=answer)
        party.ack(again, party.response(200))
        other.request("ACK")
    bench.hang_up(bench.caller)
