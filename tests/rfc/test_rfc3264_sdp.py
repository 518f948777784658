"""RFC 3264 (offer and answer): what a relay must leave as the two ends agreed it, and the answer that we make ourselves."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.sip.sdp import UnusableSdp, parse, refusal
from tests.core.b2bua.harness import ANSWER, OFFER, Bench

HEAD = b"v=0\r\no=alice 2890844526 2890844527 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"


def relayed(*media: bytes, ports: dict[int, tuple[int, int]] | None = None, head: bytes = HEAD) -> bytes:
    body = head + b"".join(line + b"\r\n" for line in media)
    sdp = parse(body)
    given = {m.index: (30000 + 2 * m.index, 30001 + 2 * m.index) for m in sdp.media if m.port} if ports is None else ports
    return sdp.rewrite("10.0.0.1", given)


def media_of(body: bytes) -> list[bytes]:
    return [line for line in body.split(b"\r\n") if line.startswith(b"m=")]


def test_rfc3264_5_an_offer_may_have_no_media_at_all() -> None:
    assert parse(HEAD).media == ()
    assert relayed() == HEAD.replace(b"c=IN IP4 192.0.2.1", b"c=IN IP4 10.0.0.1")


def test_rfc3264_6_number_and_order_of_media_lines_are_those_of_the_offer() -> None:
    out = relayed(b"m=video 4002 RTP/AVP 31", b"m=audio 0 RTP/AVP 0", b"m=image 4004 udptl t38", b"m=audio 4000 RTP/AVP 8")
    assert media_of(out) == [b"m=video 30000 RTP/AVP 31", b"m=audio 0 RTP/AVP 0", b"m=image 30004 udptl t38", b"m=audio 30006 RTP/AVP 8"]


def test_rfc3264_6_a_refused_medium_has_port_zero_and_stays_in_place() -> None:
    out = relayed(b"m=audio 4000 RTP/AVP 0", b"m=video 4002 RTP/AVP 31", b"a=label:v", ports={0: (30000, 30001)})
    assert media_of(out) == [b"m=audio 30000 RTP/AVP 0", b"m=video 0 RTP/AVP 31"]
    assert out.endswith(b"a=label:v\r\n")


def test_rfc3264_5_1_port_zero_is_never_given_a_port() -> None:
    assert media_of(relayed(b"m=audio 0 RTP/AVP 0", ports={0: (30000, 30001)})) == [b"m=audio 0 RTP/AVP 0"]


def test_rfc3264_5_1_a_medium_without_direction_is_sendrecv() -> None:
    assert parse(HEAD + b"m=audio 4000 RTP/AVP 0\r\n").media[0].direction == "sendrecv"


@pytest.mark.parametrize("direction", [b"sendrecv", b"sendonly", b"recvonly", b"inactive"])
def test_rfc3264_6_1_the_direction_crosses_as_it_was_stated(direction: bytes) -> None:
    out = relayed(b"m=audio 4000 RTP/AVP 0", b"a=" + direction)
    assert out.endswith(b"a=" + direction + b"\r\n")
    assert parse(out).media[0].held == (direction in (b"sendonly", b"inactive"))


def test_rfc3264_6_1_payload_types_and_their_order_are_kept() -> None:
    out = relayed(b"m=audio 4000 RTP/AVP 101 9 0 8", b"a=rtpmap:101 telephone-event/8000", b"a=fmtp:101 0-15")
    assert out.endswith(b"m=audio 30000 RTP/AVP 101 9 0 8\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n")


def test_rfc3264_8_the_origin_line_is_the_writers_own() -> None:
    assert relayed(b"m=audio 4000 RTP/AVP 0").split(b"\r\n")[1] == HEAD.split(b"\r\n")[1]


@pytest.mark.parametrize("connection", [b"IN IP4 0.0.0.0", b"IN IP6 ::", b"IN IP6 hold.invalid"])
def test_rfc3264_8_4_the_null_address_stays_and_means_hold(connection: bytes) -> None:
    out = relayed(b"m=audio 4000 RTP/AVP 0", b"c=" + connection)
    assert out.endswith(b"m=audio 30000 RTP/AVP 0\r\nc=" + connection + b"\r\n")
    (audio,) = parse(out).media
    assert (audio.held, audio.null_address, audio.remote) == (True, True, None)


def test_rfc3264_8_4_a_null_address_for_the_session_holds_only_the_media_under_it() -> None:
    head = HEAD.replace(b"c=IN IP4 192.0.2.1", b"c=IN IP4 0.0.0.0")
    out = relayed(b"m=audio 4000 RTP/AVP 0", b"m=audio 4002 RTP/AVP 0", b"c=IN IP4 192.0.2.1", head=head)
    assert [m.address for m in parse(out).media] == ["0.0.0.0", "10.0.0.1"]


@pytest.mark.parametrize("address", ["IN IP4 224.2.1.1/127", "IN IP4 239.1.2.3", "IN IP6 ff15::101", "IN IP6 FF1E::5/3"])
def test_rfc3264_6_1_and_6_2_a_multicast_stream_is_not_answered_with_an_address_of_ours(address: str) -> None:
    with pytest.raises(UnusableSdp, match="unicast"):
        parse(HEAD + f"m=audio 4000 RTP/AVP 0\r\nc={address}\r\n".encode())


def test_rfc3264_6_the_answer_that_refuses_has_the_offers_times_and_lines_and_an_origin_of_its_own() -> None:
    times = b"t=2873397496 2873404696\r\nr=7d 1h 0 25h\r\nt=2873500000 0\r\n"
    offer = parse(
        HEAD.replace(b"t=0 0\r\n", times) + b"m=audio 4000 RTP/AVP 0 8\r\na=sendonly\r\nm=video 0 RTP/AVP 31\r\nm=image 4004 udptl t38\r\n"
    )
    answer = refusal(offer, "192.0.2.1")
    read = parse(answer)
    assert times in answer
    assert b"t=0 0" not in answer
    assert [(line.kind, line.port, line.proto, line.formats) for line in read.media] == [
        (line.kind, 0, line.proto, line.formats) for line in offer.media
    ]
    assert read.origin
    assert read.origin != offer.origin
    assert b"t=0 0\r\n" in refusal(parse(b"v=0\r\n"), "192.0.2.1")  # RFC 8866 5: one there must be


@pytest.mark.parametrize("who", ["caller", "edge"])
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_rfc3264_8_2_nothing_is_sent_any_more_to_a_stream_that_was_removed(bench: Bench, who: str, method: str) -> None:
    """Port 0 where there was one before, in offer and answer: neither party is sent media of that line from then on."""
    video = b"m=video 4002 RTP/AVP 96\r\n"
    sent = bench.invite(body=OFFER + video)
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, body=ANSWER + video)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    told = len(bench.facts(e.MediaDescribed))
    asks, answers = (bench.caller, bench.edge) if who == "caller" else (bench.edge, bench.caller)
    mine, theirs = (OFFER, ANSWER) if who == "caller" else (ANSWER, OFFER)
    gone = video.replace(b"4002", b"0")
    asked = asks.ask(method, body=mine + gone)
    update = answers.request(method)
    assert media_of(update.body)[1] == b"m=video 0 RTP/AVP 96"
    answers.reply(update, 200, body=theirs + gone)
    answer = asks.response(200)
    assert media_of(answer.body)[1] == b"m=video 0 RTP/AVP 96"
    if method == "INVITE":
        asks.ack(asked, answer)
        answers.request("ACK")
    changed = bench.facts(e.MediaDescribed)[told:]
    assert sorted((fact.leg, fact.line.index, fact.line.remote) for fact in changed) == [("A", 1, None), ("B", 1, None)]
    bench.hang_up(bench.caller)


def test_rfc3264_6_a_stream_that_was_refused_from_the_start_is_told_to_nobody(bench: Bench) -> None:
    sent = bench.invite(body=OFFER + b"m=video 4002 RTP/AVP 96\r\nm=text 0 RTP/AVP 98\r\n")
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, body=ANSWER + b"m=video 0 RTP/AVP 96\r\nm=text 0 RTP/AVP 98\r\n")
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    assert [(fact.leg, fact.line.index) for fact in bench.facts(e.MediaDescribed)] == [("A", 0), ("A", 1), ("B", 0)]
    bench.hang_up(bench.caller)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
@pytest.mark.parametrize("port", [b"0", b"6600"])
def test_rfc3264_4_and_9_what_a_refusal_says_of_capabilities_is_no_answer(bench: Bench, method: str, port: bytes) -> None:
    """A 488 may describe what would be acceptable (RFC 3261 21.4.26); the session is the one before the offer."""
    bench.answered()
    told = len(bench.facts(e.MediaDescribed))
    asked = bench.caller.ask(method, body=OFFER.replace(b"4000", b"4400"))
    bench.edge.reply(bench.edge.request(method), 488, body=ANSWER.replace(b"6000", port))
    refused = bench.caller.response(488)
    assert refused.content_type == "application/sdp"
    if method == "INVITE":
        bench.edge.request("ACK")
        bench.caller.ack(asked, refused)
    assert len(bench.facts(e.MediaDescribed)) == told
    bench.hang_up(bench.caller)


@pytest.mark.parametrize("who", ["caller", "edge"])
def test_rfc3264_8_3_1_the_port_of_a_stream_stays_ours_so_that_old_and_new_are_the_same(bench: Bench, who: str) -> None:
    """Whatever the parties change, each keeps sending to the port that it was told first."""
    bench.answered()
    asks, answers = (bench.caller, bench.edge) if who == "caller" else (bench.edge, bench.caller)
    mine, theirs = (OFFER, ANSWER) if who == "caller" else (ANSWER, OFFER)
    at_asker, at_other = (b"10000", b"10002") if who == "caller" else (b"10002", b"10000")
    for body in (mine.replace(b"000 RTP/AVP 0 101", b"444 RTP/AVP 8 101"), mine.replace(b"m=audio", b"m=image")):
        asks.ask("UPDATE", body=body)
        got = answers.request("UPDATE")
        answers.reply(got, 200, body=theirs)
        answer = asks.response(200)
        assert [media_of(said)[0].split()[1] for said in (got.body, answer.body)] == [at_other, at_asker]
    bench.hang_up(bench.caller)
