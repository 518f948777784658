"""DTLS-SRTP that ends at the sidecar: what descriptions of either leg say of it (RFC 5763, RFC 8842, RFC 8839)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.b2bua import effects as e
from sidecar.sip.dtls import Dtls, Ice
from tests.core.b2bua.harness import ANSWER, FINGERPRINT, OFFER, SDP_TYPE, Bench

Make = Callable[..., Bench]
THEIRS = ":".join(["AB"] * 32)
SHOWN = (("sha-256", b"\xab" * 32),)
MUX = b"a=rtcp-mux\r\n"


def shaken(body: bytes, setup: str, *, ice: bool = True, proto: bytes = b"UDP/TLS/RTP/SAVPF") -> bytes:
    """A description of a WebRTC endpoint, its certificate told for the whole session."""
    told = f"a=fingerprint:SHA-256 {THEIRS.lower()}\r\na=fingerprint:sha-1 {THEIRS[:59]}\r\n".encode()
    body = body.replace(b"t=0 0\r\n", b"t=0 0\r\n" + told).replace(b"RTP/AVP", proto)
    body += f"a=setup:{setup}\r\n".encode() + MUX
    return body + (
        b"a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=candidate:1 1 udp 1 192.0.2.20 6000 typ host\r\n" if ice else b""
    )


def keys(bench: Bench, leg: str) -> object:
    return [fact for fact in bench.facts(e.MediaDescribed) if fact.leg == leg][-1].keys


def up(bench: Bench, offer: bytes, answer: bytes) -> tuple[list[str], list[str]]:
    """A call that is up: the lines of the offer as the agent got it, of the answer as the caller did."""
    sent = bench.invite(body=offer)
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, body=answer)
    heard = bench.caller.response(200)
    bench.caller.ack(sent, heard)
    bench.edge.request("ACK")
    return got.body.decode().splitlines(), heard.body.decode().splitlines()


def of(lines: list[str], *names: str) -> list[str]:
    return [line for line in lines if line.split(":")[0].removeprefix("a=") in names]


HANDSHAKE = ("fingerprint", "setup", "rtcp-mux", "ice-ufrag", "ice-pwd", "candidate", "end-of-candidates", "ice-lite", "rtcp", "tls-id")


def test_the_agent_is_offered_a_handshake_and_the_caller_hears_nothing_of_it(make: Make) -> None:
    bench = make(route={"srtp": "dtls"})
    offered, answered = up(bench, OFFER, shaken(ANSWER, "active"))
    first = next(number for number, line in enumerate(offered) if line.startswith("m="))
    assert "a=ice-lite" in offered[:first]
    port = offered[first].split()[1]
    assert offered[first] == f"m=audio {port} UDP/TLS/RTP/SAVPF 0 101"
    told = of(offered[first:], *HANDSHAKE)
    assert told[:3] == [f"a=fingerprint:{FINGERPRINT}", "a=setup:actpass", "a=rtcp-mux"]
    assert told[5:] == [f"a=candidate:1 1 udp 2130706431 192.0.2.1 {port} typ host", "a=end-of-candidates"]
    assert "a=x-unknown:kept as it is" in offered
    assert of(answered, *HANDSHAKE) == []
    assert next(line for line in answered if line.startswith("m=")).split()[2] == "RTP/AVP"
    ufrag, pwd = (line.split(":", 1)[1] for line in told[3:5])
    assert keys(bench, "B") == Dtls(SHOWN, client=False, ice=Ice(ufrag, pwd, "abcd"))
    assert keys(bench, "A") is None
    bench.hang_up(bench.caller)


@pytest.mark.parametrize(
    ("setup", "answers", "client"), [("actpass", "active", True), ("active", "passive", False), ("passive", "active", True)]
)
def test_a_caller_that_offers_a_handshake_gets_one_and_the_agent_gets_rtp(make: Make, setup: str, answers: str, client: bool) -> None:
    bench = make(route={"srtp": "plain"})
    offered, answered = up(bench, shaken(OFFER, setup, ice=False, proto=b"UDP/TLS/RTP/SAVP"), ANSWER)
    assert of(offered, *HANDSHAKE) == []
    assert next(line for line in offered if line.startswith("m=")).split()[2] == "RTP/AVP"
    assert next(line for line in answered if line.startswith("m=")).split()[2] == "UDP/TLS/RTP/SAVP"
    assert of(answered, *HANDSHAKE) == [f"a=fingerprint:{FINGERPRINT}", f"a=setup:{answers}", "a=rtcp-mux"], (
        "it does not check connectivity"
    )
    assert keys(bench, "A") == Dtls(SHOWN, client)
    assert keys(bench, "B") is None
    bench.hang_up(bench.edge)


def test_each_leg_has_a_handshake_of_its_own_that_outlives_a_new_offer(make: Make) -> None:
    bench = make(route={"srtp": "dtls"})
    up(bench, shaken(OFFER, "actpass"), shaken(ANSWER, "passive"))
    first = keys(bench, "A"), keys(bench, "B")
    assert [isinstance(each, Dtls) and each.client for each in first] == [True, True]
    bench.edge.ask("INVITE", headers=[SDP_TYPE], body=shaken(ANSWER, "actpass"))
    asked = bench.edge.asked
    got = bench.caller.request("INVITE")
    assert b"a=setup:actpass" in got.body
    bench.caller.reply(got, 200, body=shaken(OFFER, "passive"))
    heard = bench.edge.response(200)
    bench.edge.ack(asked, heard)
    bench.caller.request("ACK")
    assert b"a=setup:active" in heard.body, "as it was: who leaves the role open gets the one that there is"
    assert (keys(bench, "A"), keys(bench, "B")) == first
    bench.hang_up(bench.caller)


@pytest.mark.parametrize(
    "offer",
    [
        OFFER.replace(b"RTP/AVP", b"UDP/TLS/RTP/SAVPF"),
        shaken(OFFER, "actpass").replace(b"SHA-256", b"md5"),
        OFFER.replace(b"RTP/AVP", b"TCP/DTLS/RTP/SAVPF"),
    ],
)
def test_an_offer_without_a_certificate_that_proves_something_is_refused(make: Make, offer: bytes) -> None:
    bench = make(route={"srtp": "dtls"})
    sent = bench.invite(body=offer)
    refused = bench.caller.response(488)
    bench.caller.ack(sent, refused)
    assert bench.fact(e.Ended).status == 488


def test_where_keys_pass_by_a_handshake_does_too(make: Make) -> None:
    bench = make()
    offered, answered = up(bench, shaken(OFFER, "actpass"), shaken(ANSWER, "active"))
    assert f"a=fingerprint:SHA-256 {THEIRS.lower()}" in offered
    assert "a=setup:active" in answered
    assert keys(bench, "A") is keys(bench, "B") is None
    bench.hang_up(bench.caller)
