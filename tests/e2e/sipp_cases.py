"""The cases of life inside a call, both ends of each: name → (caller, agent, the route's options, why the call ended, its status)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support.sipp_script import AUDIO, Agent, Caller, sdp

HOLD = AUDIO + "\na=sendonly"
HELD = AUDIO + "\na=recvonly"
DEAD = AUDIO + "\na=inactive"
FAX = "m=image [media_port] udptl t38\na=T38FaxVersion:0"
VIDEO = "m=video [media_port+2] RTP/AVP 96\na=rtpmap:96 H264/90000"
REFUSED_VIDEO = "m=video 0 RTP/AVP 96"
TIMER = {"Supported": "timer"}
UPDATES = {"Allow": "INVITE, ACK, CANCEL, BYE, UPDATE"}
NO_UPDATES = {"Allow": "INVITE, ACK, CANCEL, BYE"}
UAC90 = "90;refresher=uac"


@dataclass(frozen=True)
class Case:
    """Two scenarios that belong together."""

    caller: Callable[[Caller], Caller]
    agent: Callable[[Agent], Agent]
    route: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    reason: str = "completed"
    status: int = 200
    seconds: float = 0.0
    """What the case takes beside the ordinary."""
    needs_udp: bool = False
    """The caller's SIPp can play it on UDP alone."""


def _relayed(status: int, headers: dict[str, str], checks: dict[str, str], reason: str = "rejected") -> Case:
    return Case(
        lambda c: c.invite().hear(100, optional=True).hear(status, checks).ack_refusal(),
        lambda a: a.rings().says(status, headers).hear("ACK"),
        reason=reason,
        status=status,
    )


CASES: dict[str, Case] = {
    # RFC 3261 14, RFC 3264 8.4
    "hold-and-resume-by-the-caller": Case(
        lambda c: (
            c.up()
            .ask("INVITE", body=sdp(HOLD, version=2))
            .hear(100, optional=True)
            .hear(200, {"body": "a=recvonly"})
            .ack()
            .ask("INVITE", body=sdp(version=3))
            .hear(100, optional=True)
            .hear(200)
            .ack()
            .hang_up()
        ),
        lambda a: (
            a.up()
            .hear("INVITE", {"body": "a=sendonly"})
            .answer(200, body=sdp(HELD, version=2))
            .hear("ACK")
            .hear("INVITE")
            .answer(200, body=sdp(version=3))
            .hear("ACK")
            .hung_up_on()
        ),
    ),
    "hold-by-the-agent-inactive": Case(
        lambda c: c.up().hear("INVITE", {"body": "a=inactive"}).answer(200, body=sdp(DEAD, version=2)).hear("ACK").hung_up_on(),
        lambda a: (
            a.up()
            .pause(100)
            .ask("INVITE", body=sdp(DEAD, version=2))
            .hear(100, optional=True)
            .hear(200, {"body": "a=inactive"})
            .ack()
            .hang_up()
        ),
    ),
    "hold-with-the-null-address": Case(
        lambda c: c.up().ask("INVITE", body=sdp(version=2, address="0.0.0.0")).hear(100, optional=True).hear(200).ack().hang_up(),
        lambda a: a.up().hear("INVITE", {"body": "c=IN IP4 0[.]0[.]0[.]0"}).answer(200, body=sdp(DEAD, version=2)).hear("ACK").hung_up_on(),
    ),
    "reinvite-refused": Case(
        lambda c: (
            c.up()
            .ask("INVITE", body=sdp(version=2))
            .hear(100, optional=True)
            .hear(488, {"Warning": "304"})
            .ack_refusal()
            .ask("INFO")
            .hear(200)
            .hang_up()
        ),
        lambda a: a.up().hear("INVITE").answer(488, {"Warning": '304 x "no"'}).hear("ACK").hear("INFO").answer(200).hung_up_on(),
    ),
    "reinvite-without-an-offer": Case(
        lambda c: c.up().hear("INVITE").answer(200, body=sdp(version=2)).hear("ACK", {"body": "m=audio"}).hung_up_on(),
        lambda a: a.up().pause(100).ask("INVITE").hear(100, optional=True).hear(200, {"body": "m=audio"}).ack(sdp(version=2)).hang_up(),
    ),
    "delayed-offer": Case(
        lambda c: c.invite(body="").hear(100, optional=True).hear(200, {"body": "m=audio"}).ack(sdp()).hang_up(),
        lambda a: a.rings().says(200, body=sdp()).hear("ACK", {"body": "m=audio"}).hung_up_on(),
    ),
    "update-with-an-offer": Case(
        lambda c: c.up(UPDATES).ask("UPDATE", body=sdp(HOLD, version=2)).hear(200, {"body": "a=recvonly"}).hang_up(),
        lambda a: a.up(UPDATES).hear("UPDATE", {"body": "a=sendonly"}).answer(200, body=sdp(HELD, version=2)).hung_up_on(),
    ),
    "fax-takes-over": Case(
        lambda c: (
            c.up().hear("INVITE", {"body": "m=image [0-9]+ udptl t38"}).answer(200, body=sdp(FAX, version=2)).hear("ACK").hung_up_on()
        ),
        lambda a: (
            a.up()
            .pause(100)
            .ask("INVITE", body=sdp(FAX, version=2))
            .hear(100, optional=True)
            .hear(200, {"body": "m=image"})
            .ack()
            .hang_up()
        ),
    ),
    "video-refused-in-its-place": Case(
        lambda c: c.invite(body=sdp(AUDIO, VIDEO)).hear(100, optional=True).hear(200, {"body": "m=video 0 RTP/AVP 96"}).ack().hang_up(),
        lambda a: a.rings({"body": "m=video [1-9]"}).says(200, body=sdp(AUDIO, REFUSED_VIDEO)).hear("ACK").hung_up_on(),
    ),
    # RFC 3262
    "prack-end-to-end": Case(
        lambda c: c.invite({"Supported": "100rel"}).hear(100, optional=True).prack().hear(200).ack().hang_up(),
        lambda a: (
            a.rings({"Supported": "100rel"})
            .says(183, {"Require": "100rel", "RSeq": "7"}, sdp())
            .hear("PRACK", {"RAck": "7 [0-9]+ INVITE"})
            .answer(200)
            .late(200, sdp())
            .hear("ACK")
            .hung_up_on()
        ),
    ),
    "offer-in-a-prack": Case(
        lambda c: c.invite({"Supported": "100rel"}).hear(100, optional=True).prack(sdp(HOLD, version=2)).hear(200).ack().hang_up(),
        lambda a: (
            a.rings({"Supported": "100rel"})
            .says(183, {"Require": "100rel", "RSeq": "7"}, sdp())
            .hear("PRACK", {"body": "a=sendonly"})
            .answer(200, body=sdp(HELD, version=2))
            .late(200)
            .hear("ACK")
            .hung_up_on()
        ),
    ),
    "update-before-the-answer": Case(
        lambda c: (
            c.invite({"Supported": "100rel", **UPDATES})
            .hear(100, optional=True)
            .prack()
            .ask("UPDATE", body=sdp(HOLD, version=2))
            .hear_to("UPDATE", 200)
            .hear(200)
            .ack()
            .hang_up()
        ),
        lambda a: (
            a.rings()
            .says(183, {"Require": "100rel", "RSeq": "7"}, sdp())
            .hear("PRACK")
            .answer(200)
            .hear("UPDATE", {"body": "a=sendonly"})
            .answer(200, body=sdp(HELD, version=2))
            .late(200)
            .hear("ACK")
            .hung_up_on()
        ),
    ),
    "prack-by-the-sidecar": Case(
        lambda c: c.invite().hear(100, optional=True).hear(183, absent="RSeq").hear(200).ack().hang_up(),
        lambda a: (
            a.rings(absent="Supported")
            .says(421, {"Require": "100rel"})
            .hear("ACK")
            .rings({"Supported": "100rel"})
            .says(183, {"Require": "100rel", "RSeq": "7"}, sdp())
            .hear("PRACK", {"RAck": "7 2 INVITE"})
            .answer(200)
            .late(200, sdp())
            .hear("ACK")
            .hung_up_on()
        ),
    ),
    "reliable-answers-of-the-sidecar": Case(
        lambda c: c.invite({"Require": "100rel"}).hear(100, optional=True).prack().hear(200).ack().hang_up(),
        lambda a: (
            a.rings({"Require": "100rel"})
            .says(420, {"Unsupported": "100rel"})
            .hear("ACK")
            .rings(absent="Require")
            .says(183, body=sdp())
            .says(200, body=sdp())
            .hear("ACK")
            .hung_up_on()
        ),
    ),
    # RFC 4028
    "timer-end-to-end": Case(
        lambda c: (
            c.up({**TIMER, "Session-Expires": UAC90}, {"Session-Expires": UAC90})
            .ask("UPDATE", {**TIMER, "Session-Expires": UAC90})
            .hear(200, {"Session-Expires": UAC90})
            .hang_up()
        ),
        lambda a: (
            a.up({"Require": "timer", "Session-Expires": UAC90}, {"Session-Expires": UAC90})
            .hear("UPDATE", {"Session-Expires": UAC90})
            .answer(200, {"Session-Expires": UAC90})
            .hung_up_on()
        ),
    ),
    "timer-between-the-caller-and-the-sidecar": Case(
        lambda c: (
            c.up({**TIMER, "Session-Expires": "90"}, {"Session-Expires": UAC90, "Require": "timer"})
            .ask("UPDATE", {**TIMER, "Session-Expires": UAC90})
            .hear(200, {"Session-Expires": UAC90})
            .hang_up()
        ),
        lambda a: a.up(NO_UPDATES).hung_up_on(),
    ),
    "refreshed-by-the-sidecar": Case(
        lambda c: (
            c.up({**TIMER, **UPDATES, "Session-Expires": "90;refresher=uas"}, {"Session-Expires": "90;refresher=uas"})
            .hear("UPDATE", {"Session-Expires": UAC90})
            .answer(200, {"Session-Expires": UAC90})
            .hang_up()
        ),
        lambda a: a.up().hung_up_on(),
        seconds=46,
    ),
    "interval-too-small": Case(
        lambda c: (
            c.invite({**TIMER, "Session-Expires": "30"}).hear(100, optional=True).hear(422, {"Min-SE": "90"}).ack_refusal().up().hang_up()
        ),
        lambda a: a.up().hung_up_on(),
    ),
    # RFC 3515
    "refer-and-its-notifications": Case(
        lambda c: (
            c.up()
            .ask("REFER", {"Refer-To": "<sip:carol@192.0.2.30>", "Refer-Sub": "true"})
            .hear(202, {"Refer-Sub": "true"})
            .hear("NOTIFY", {"Event": "refer", "body": "SIP/2.0 200 OK"})
            .answer(200)
            .hang_up()
        ),
        lambda a: (
            a.up()
            .hear("REFER", {"Refer-To": "<sip:carol@192.0.2.30>"})
            .answer(202, {"Refer-Sub": "true"})
            .ask(
                "NOTIFY",
                {"Event": "refer", "Subscription-State": "terminated;reason=noresource", "Content-Type": "message/sipfrag;version=2.0"},
                "SIP/2.0 200 OK",
            )
            .hear(200)
            .hung_up_on()
        ),
    ),
    "refer-refused-by-the-route": Case(
        lambda c: c.up().ask("REFER", {"Refer-To": "<sip:carol@192.0.2.30>"}).hear(403).hang_up(),
        lambda a: a.up().hung_up_on(),
        route={"refer": "refuse"},
    ),
    # 8.2, 9, 12, 13, 15
    "info-and-message-both-ways": Case(
        lambda c: (
            c.up()
            .ask("INFO", {"Content-Type": "application/dtmf-relay", "X-Kept": "a,  b"}, "Signal=5")
            .hear(200)
            .hear("MESSAGE", {"X-Back": '"q";x'})
            .answer(200)
            .hang_up()
        ),
        lambda a: (
            a.up()
            .hear("INFO", {"X-Kept": "a,  b", "body": "Signal=5"})
            .answer(200)
            .ask("MESSAGE", {"X-Back": '"q";x', "Content-Type": "text/plain"}, "hello")
            .hear(200)
            .hung_up_on()
        ),
    ),
    "an-unknown-method-is-the-agents-to-refuse": Case(
        lambda c: c.up().ask("SUBSCRIBE", {"Event": "x"}).hear(489, {"Allow-Events": "refer"}).hang_up(),
        lambda a: a.up().hear("SUBSCRIBE").answer(489, {"Allow-Events": "refer"}).hung_up_on(),
    ),
    "a-second-answer-of-a-fork-is-ended": Case(
        lambda c: c.invite().hear(100, optional=True).hear(180).hear(180).hear(200).ack().pause(300).hang_up(),
        lambda a: (
            a.rings()
            .says(180, tag="x")
            .says(180)
            .says(200, body=sdp())
            .hear("ACK")
            .late(200, sdp(), tag="x", again=False)
            .hear("ACK")
            .hung_up_on()
            .hung_up_on()
        ),
    ),
    "busy-with-a-reason": _relayed(
        486, {"Reason": "Q.850;cause=17", "Retry-After": "60"}, {"Reason": "Q.850;cause=17", "Retry-After": "60"}
    ),
    "moved-elsewhere": _relayed(302, {"Contact": "<sip:carol@192.0.2.30>"}, {"Contact": "<sip:carol@192.0.2.30>"}),
    "unsupported-media": _relayed(415, {"Accept": "application/sdp"}, {"Accept": "application/sdp"}),
    # RFC 3261 22, RFC 8760
    "bye-and-info-are-challenged": Case(
        lambda c: c.up().ask("INFO").hear(200).hang_up(),
        lambda a: (
            a.up()
            .hear("INFO")
            .answer(401, {"WWW-Authenticate": 'Digest realm="edge", nonce="n1", algorithm=MD5, qop="auth"'})
            .hear("INFO", {"Authorization": 'Digest .*nonce="n1".*nc=00000001'})
            .answer(200, {"Authentication-Info": 'nextnonce="n2"'})
            .hear("BYE", {"Authorization": 'nonce="n2".*nc=00000001'})
            .answer(407, {"Proxy-Authenticate": 'Digest realm="proxy", nonce="p1", algorithm=SHA-256, qop="auth"'})
            .hear("BYE", {"Proxy-Authorization": "algorithm=SHA-256", "Authorization": "nc=00000002"})
            .answer(200)
        ),
        route={"username": "trunkside", "password": "s3cret"},
    ),
    "a-proxy-and-the-agent-ask-in-one-chain": Case(
        lambda c: c.up().hang_up(),
        lambda a: (
            a.rings()
            .says(407, {"Proxy-Authenticate": 'Digest realm="proxy", nonce="p1", algorithm=SHA-256, qop="auth"'})
            .hear("ACK")
            .rings({"Proxy-Authorization": 'realm="proxy"', "CSeq": "2 INVITE"})
            .says(401, {"WWW-Authenticate": 'Digest realm="edge", nonce="n1", algorithm=MD5-sess, qop="auth-int"'})
            .hear("ACK")
            .up(
                checks={
                    "Proxy-Authorization": "nc=00000002",
                    "message": "[^-]Authorization: .*qop=auth-int, nc=00000001",
                    "CSeq": "3 INVITE",
                }
            )
            .hear("BYE", {"Proxy-Authorization": "nc=00000003", "message": "[^-]Authorization: .*qop=auth-int, nc=00000002"})
            .answer(200)
        ),
        route={"username": "trunkside", "password": "s3cret"},
    ),
    "a-200-that-is-lost-six-times": Case(
        # SIPp passes over a message that comes again, though only on UDP: those of the first 15.6 s count as lost.
        lambda c: c.invite().hear(100, optional=True).hear(200).pause(15_600).ack().hang_up(),
        lambda a: a.rings().says(200, body=sdp()).hear("ACK").hung_up_on(),
        seconds=16,
        needs_udp=True,
    ),
}
