"""Calls for the page: the facts that a sidecar would send of them, with real-looking SIP, turns, speech and levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.core.control.traces import Trace, turn

OFFER = (
    "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n"
    "m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"
)
CALLER, US, AGENT = "192.0.2.10:5060", "198.51.100.5:5060", "203.0.113.7:5060"


class Story:
    """A call told in facts: messages of both legs, turns, and the end. Times in ms since the INVITE."""

    def __init__(
        self, call: str, sip_call_id: str, *, seconds_ago: float = 60.0, caller: str = "sip:+15550100@evaluator.example", **more: Any
    ) -> None:
        self.caller = caller
        started = datetime.now(UTC) - timedelta(seconds=seconds_ago)
        self.trace = Trace(call, sip_call_id, started=started, **({"from": caller, "to": "sip:booking@edge.example"} | more))
        self.call, self.sip_call_id = call, sip_call_id
        self.answered_ms = 0.0

    @property
    def facts(self) -> list[dict[str, Any]]:
        return self.trace.facts

    def request(
        self, ms: float, leg: str, direction: str, method: str, *, cseq: int = 1, body: str = "", extra: str = "", again: bool = False
    ) -> Story:
        host = "edge.example" if leg == "B" else "trunkside.example"
        text = self._text(f"{method} sip:booking@{host} SIP/2.0", leg, f"{cseq} {method}", body, extra)
        return self._message(ms, leg, direction, text, again)

    def answer(
        self, ms: float, leg: str, direction: str, status: str, method: str = "INVITE", *, cseq: int = 1, body: str = "", extra: str = ""
    ) -> Story:
        return self._message(ms, leg, direction, self._text(f"SIP/2.0 {status}", leg, f"{cseq} {method}", body, extra), False)

    def _text(self, start: str, leg: str, cseq: str, body: str, extra: str) -> str:
        kind = "Content-Type: application/sdp\r\n" if body else ""
        own, hops = (CALLER, 70) if leg == "A" else (US, 69)
        return (
            f"{start}\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{leg}{cseq.split()[0]};rport\r\nMax-Forwards: {hops}\r\n"
            f"From: <{self.caller}>;tag=from{leg}\r\nTo: <sip:booking@edge.example>\r\nCall-ID: {self.sip_call_id}\r\nCSeq: {cseq}\r\n"
            f"Contact: <sip:{own}>\r\n{extra}{kind}Content-Length: {len(body)}\r\n\r\n{body}"
        )

    def _message(self, ms: float, leg: str, direction: str, text: str, again: bool) -> Story:
        remote = CALLER if leg == "A" else AGENT
        self.trace.add(
            "sip_message", ms, leg=leg, direction=direction, transport="udp", local=US, remote=remote, text=text, retransmission=again
        )
        return self

    def set_up(self, *, challenged: bool = True, ring_ms: float = 900.0) -> Story:
        """INVITE, perhaps a digest challenge, ringing, answer, ACK on both legs."""
        token = "X-Correlation-Id: 5f0c1e2d3a4b59687766554433221100\r\n"
        ids = f"X-Sip-Call-Id: {self.sip_call_id}\r\nX-CID: {self.sip_call_id}\r\n"
        self.request(0.4, "A", "in", "INVITE", body=OFFER, extra=token).answer(0.7, "A", "out", "100 Trying")
        self.trace.add("hop_seen", 0.9, hop="received", evidence="Call-ID and X-Correlation-Id in the INVITE from 192.0.2.10")
        self.trace.add("leg_started", 1.2, call_id=self.sip_call_id, target="sip:booking@203.0.113.7:5060")
        self.trace.add("hop_seen", 1.3, hop="carried", evidence="Call-ID kept on leg B, X-Sip-Call-Id and X-CID added")
        self.request(1.4, "B", "out", "INVITE", body=OFFER, extra=token + ids)
        at, cseq = 3.0, 1
        if challenged:
            challenge = 'Proxy-Authenticate: Digest realm="agent-edge", nonce="f3ac90", algorithm=SHA-256, qop="auth"\r\n'
            self.request(501.6, "B", "out", "INVITE", body=OFFER, extra=token + ids, again=True)
            self.answer(512.2, "B", "in", "407 Proxy Authentication Required", extra=challenge).request(512.4, "B", "out", "ACK")
            self.trace.add(
                "authentication",
                512.9,
                leg="B",
                status=407,
                realm="agent-edge",
                algorithm="SHA-256",
                result="answered",
                detail="answered as trunkside",
            )
            digest = (
                'Proxy-Authorization: Digest username="trunkside", realm="agent-edge", nonce="f3ac90", '
                'uri="sip:booking@edge.example", response="redacted"\r\n'
            )
            at, cseq = 513.1, 2
            self.request(at, "B", "out", "INVITE", cseq=2, body=OFFER, extra=token + ids + digest)
        self.answer(at + 9, "B", "in", "100 Trying", cseq=cseq)
        self.answer(at + 80, "B", "in", "180 Ringing", cseq=cseq).answer(at + 80.6, "A", "out", "180 Ringing")
        self.answered_ms = at + ring_ms
        self.answer(self.answered_ms - 1, "B", "in", "200 OK", cseq=cseq, body=OFFER)
        self.trace.add("media_opened", self.answered_ms - 0.7, leg="B", codec="PCMU", local="198.51.100.5:30002", remote="203.0.113.7:4000")
        self.trace.add("media_opened", self.answered_ms - 0.5, leg="A", codec="PCMU", local="198.51.100.5:30000", remote="192.0.2.10:4000")
        self.trace.add("call_answered", self.answered_ms)
        self.answer(self.answered_ms, "A", "out", "200 OK", body=OFFER)
        return self.request(self.answered_ms + 4, "A", "in", "ACK").request(self.answered_ms + 4.6, "B", "out", "ACK", cseq=cseq)

    def live(self, turns: Sequence[dict[str, Any]]) -> Story:
        for each in turns:
            self.trace.add("turn_measured", self.answered_ms + each["agent_end_ms"], turn=each)
        return self

    def hang_up(self, call_ms: float, turns: Sequence[dict[str, Any]] = (), **measured: Any) -> Story:
        """BYE of the caller at `call_ms` of call time, then the figures."""
        at = self.answered_ms + call_ms
        self.request(at, "A", "in", "BYE", cseq=2).answer(at + 0.3, "A", "out", "200 OK", "BYE", cseq=2)
        self.request(at + 0.5, "B", "out", "BYE", cseq=3).answer(at + 6, "B", "in", "200 OK", "BYE", cseq=3)
        self._end(at + 0.4, 200, "caller", "completed", "the caller hung up", to_answer=self.answered_ms, auth=511.0)
        self.trace.add("call_measured", at + 90, **(figures(turns, call_ms) | measured))
        self.trace.add("call_closed", at + 91)
        return self

    def refuse(self, status: str, reason: str, cause: str, ms: float = 320.0) -> Story:
        """The edge says no."""
        self.request(0.4, "A", "in", "INVITE", body=OFFER).answer(0.7, "A", "out", "100 Trying")
        self.trace.add("hop_seen", 0.9, hop="received", evidence="Call-ID in the INVITE from 192.0.2.10")
        self.trace.add("leg_started", 1.2, call_id=self.sip_call_id, target="sip:booking@203.0.113.7:5060")
        self.request(1.4, "B", "out", "INVITE", body=OFFER).answer(ms, "B", "in", status).request(ms + 0.2, "B", "out", "ACK")
        self.answer(ms + 0.4, "A", "out", status).request(ms + 3, "A", "in", "ACK")
        self._end(ms + 0.5, int(status.split()[0]), "agent", reason, cause)
        self.trace.add("call_closed", ms + 5)
        return self

    def _end(self, ms: float, status: int, ended_by: str, reason: str, cause: str, **timings: float) -> None:
        self.trace.add("call_ended", ms, status=status, ended_by=ended_by, reason=reason, cause=cause, timings_ms=timings)


def conversation(
    latencies: Sequence[float], *, caller_ms: float = 2600.0, agent_ms: float = 3400.0, first_ms: float = 3200.0
) -> list[dict[str, Any]]:
    """Ordinary turns, one after another, with these response latencies."""
    found, at = [], first_ms
    for n, latency in enumerate(latencies, 1):
        found.append(turn(n, at, at + caller_ms, at + caller_ms + latency, at + caller_ms + latency + agent_ms))
        at += caller_ms + latency + agent_ms + 700
    return found


def figures(turns: Sequence[dict[str, Any]], call_ms: float) -> dict[str, Any]:
    """The final figures that go with these turns; the agent greets first."""
    caller = [(each["caller_start_ms"], each["caller_end_ms"]) for each in turns]
    agent = [(350.0, 2500.0), *((each["agent_start_ms"], each["agent_end_ms"]) for each in turns)] if call_ms > 2500 else []
    ordered = sorted(each["response_latency_ms"] for each in turns)
    percentiles: dict[str, Any] = {"n": len(ordered)}
    if ordered:
        percentiles |= {"p50": ordered[(len(ordered) - 1) // 2], "p90": ordered[math.ceil(0.9 * len(ordered)) - 1], "max": ordered[-1]}
    said = [sum(end - start for start, end in side) for side in (caller, agent)]
    speech = {
        "caller_ms": said[0],
        "agent_ms": said[1],
        "overlap_ms": 0,
        "silence_ms": max(0.0, call_ms - sum(said)),
        "talk_ratio": 0.55,
        "response_latency_ms": percentiles,
    }
    packets = int(call_ms / 20)
    stream = {"codec": "PCMU", "analysed": True, "packets": packets, "jitter_ms": 1.4, "mos_lq": 4.4, "ssrcs": ["1f2e3d4c"]}
    return {
        "turns": list(turns), "barge_ins": [], "speech": speech, "greeting_ms": 350.0,
        "media": {
            "caller": stream | {"lost": 3, "loss_pct": 0.4},
            "agent": stream | {"ssrcs": ["0a0b0c0d"]},
            "relay_delay": {"p50_us": 41.0, "p99_us": 160.0},
        },
        "tracks": {"caller": track(caller, call_ms, lost=[(call_ms * 0.4, call_ms * 0.4 + 60)]), "agent": track(agent, call_ms)},
    }  # fmt: skip


def track(segments: Sequence[tuple[float, float]], call_ms: float, *, lost: Sequence[tuple[float, float]] = ()) -> dict[str, Any]:
    """Speech with levels that rise and fall as syllables do."""
    step = max(50.0, call_ms / 2400)
    count = int(call_ms / step)
    levels, index = [], 0
    for i in range(count):
        at = i * step
        while index < len(segments) and segments[index][1] < at:
            index += 1
        spoken = index < len(segments) and segments[index][0] <= at
        levels.append(round(-17 - 9 * abs(math.sin(at / 130)) - 5 * abs(math.sin(at / 610))) if spoken else -66 + (i * 7) % 4)
    return {
        "segments": [list(each) for each in segments],
        "levels": {"from_ms": 0.0, "step_ms": step, "db": levels},
        "lost": [list(each) for each in lost],
        "jitter": [
            [min(call_ms, end), round(1.4 + 6 * abs(math.sin(end / 9000)) ** 8, 2)] for end in range(4000, int(call_ms) + 4000, 4000)
        ],
    }
