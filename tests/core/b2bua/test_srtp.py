"""SRTP that ends at the sidecar: profiles and keys of either leg's descriptions (RFC 4568)."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

import pytest

from sidecar.b2bua import effects as e
from sidecar.sip import sdes
from tests.core.b2bua.harness import ANSWER, OFFER, SDP_TYPE, Bench

Make = Callable[..., Bench]
SUITE = "AES_CM_128_HMAC_SHA1_80"
CALLERS, AGENTS = bytes(range(30)), bytes(range(50, 80))


def keyed(body: bytes, key: bytes, tag: int = 1, suite: str = SUITE) -> bytes:
    return body.replace(b"RTP/AVP", b"RTP/SAVP") + f"a=crypto:{tag} {suite} inline:{base64.b64encode(key).decode()}\r\n".encode()


def lines(body: bytes) -> list[tuple[int, str, bytes]]:
    found = re.findall(rb"a=crypto:(\d+) (\S+) inline:(\S+)\r\n", body)
    return [(int(tag), suite.decode(), base64.b64decode(key)) for tag, suite, key in found]


def keys(bench: Bench, leg: str) -> sdes.Keys | None:
    return [fact for fact in bench.facts(e.MediaDescribed) if fact.leg == leg][-1].keys


def up(bench: Bench, offer: bytes, answer: bytes) -> tuple[bytes, bytes]:
    """A call that is up: the offer as the agent got it, the answer as the caller did."""
    sent = bench.invite(body=offer)
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, body=answer)
    heard = bench.caller.response(200)
    bench.caller.ack(sent, heard)
    bench.edge.request("ACK")
    return got.body, heard.body


def test_keys_pass_by_where_the_route_says_nothing(make: Make) -> None:
    bench = make()
    offered, answered = up(bench, keyed(OFFER, CALLERS), keyed(ANSWER, AGENTS))
    assert lines(offered) == [(1, SUITE, CALLERS)]
    assert lines(answered) == [(1, SUITE, AGENTS)]
    assert keys(bench, "A") is keys(bench, "B") is None
    bench.hang_up(bench.caller)


def test_srtp_of_the_caller_ends_and_the_agent_gets_rtp(make: Make) -> None:
    bench = make(route={"srtp": "plain"})
    offered, answered = up(bench, keyed(OFFER, CALLERS, tag=4), ANSWER)
    assert b"RTP/AVP" in offered
    assert lines(offered) == []
    assert b"RTP/SAVP" in answered
    [(tag, suite, ours)] = lines(answered)
    assert (tag, suite) == (4, SUITE)
    assert ours != CALLERS
    assert keys(bench, "A") == sdes.Keys(SUITE, CALLERS, ours)
    assert keys(bench, "B") is None
    bench.hang_up(bench.caller)


def test_rtp_of_the_caller_becomes_srtp_for_the_agent(make: Make) -> None:
    bench = make(route={"srtp": "srtp"})
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    told = lines(got.body)
    assert b"RTP/SAVP" in got.body
    assert [suite for _, suite, _ in told] == list(sdes.SUITES)
    tag, suite, ours = told[2]
    bench.edge.reply(got, 200, body=keyed(ANSWER, AGENTS, tag, suite))
    heard = bench.caller.response(200)
    bench.caller.ack(sent, heard)
    bench.edge.request("ACK")
    assert b"RTP/AVP" in heard.body
    assert lines(heard.body) == []
    assert keys(bench, "B") == sdes.Keys(suite, AGENTS, ours)
    assert keys(bench, "A") is None
    bench.hang_up(bench.edge)


def test_both_legs_have_keys_of_their_own_and_keep_them(make: Make) -> None:
    bench = make(route={"srtp": "srtp"})
    offered, answered = up(bench, keyed(OFFER, CALLERS), keyed(ANSWER, AGENTS, 3))
    first = keys(bench, "A"), keys(bench, "B")
    assert None not in first
    assert CALLERS not in {key for _, _, key in lines(offered)}
    assert AGENTS not in {key for _, _, key in lines(answered)}
    bench.edge.ask("INVITE", headers=[SDP_TYPE], body=keyed(ANSWER, AGENTS, 7))  # the agent offers anew
    asked = bench.edge.asked
    got = bench.caller.request("INVITE")
    assert b"RTP/SAVP" in got.body
    assert len(lines(got.body)) == len(sdes.SUITES)
    bench.caller.reply(got, 200, body=keyed(OFFER, CALLERS, 3))
    heard = bench.edge.response(200)
    bench.edge.ack(asked, heard)
    bench.caller.request("ACK")
    [(tag, suite, _)] = lines(heard.body)
    assert (tag, suite) == (7, SUITE)
    assert (keys(bench, "A"), keys(bench, "B")) == first
    bench.hang_up(bench.caller)


@pytest.mark.parametrize(
    "offer",
    [
        OFFER.replace(b"RTP/AVP", b"RTP/SAVP"),
        keyed(OFFER, CALLERS, suite="F8_128_HMAC_SHA1_80"),
        OFFER.replace(b"RTP/AVP", b"UDP/TLS/RTP/SAVP"),
    ],
)
def test_an_offer_without_a_key_that_we_can_use_is_refused(make: Make, offer: bytes) -> None:
    bench = make(route={"srtp": "plain"})
    sent = bench.invite(body=offer)
    refused = bench.caller.response(488)
    bench.caller.ack(sent, refused)
    assert bench.fact(e.Ended).status == 488
