"""Whole traces for tests of what is made of them: written by the recorder from the B2BUA's facts, at times that a test can name."""

from __future__ import annotations

from control.contract.call import BargeIn, Media, Percentiles, Speech, Turn
from sidecar.b2bua import effects as e
from sidecar.clocks import Mono, Wall
from sidecar.sip.flow import Flow
from sidecar.trace.recorder import Recorder
from sidecar.turns.measured import Measured

CALL = "4bf92f3577b34da6a3ce929d0e0e4736"
EPOCH = 1_772_366_400.0
"""Wall clock of the first fact: 2026-03-01T12:00:00Z."""
CALL_ID = "a84b4c76e66710@caller.example"
CALLER_CONTEXT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
AGENT_CONTEXT = "00-11111111111111112222222222222222-3333333333333333-00"

A = Flow("udp", ("192.0.2.10", 5060), ("192.0.2.1", 5062))
B = Flow("udp", ("192.0.2.10", 5060), ("192.0.2.20", 5070))
TOKEN = "corr-7f3a"

TURNS = [
    Turn(
        n=1,
        kind="response",
        caller_start_ms=1500,
        caller_end_ms=3000,
        agent_start_ms=3820,
        agent_end_ms=6000,
        response_latency_ms=820,
        uncertainty_ms=12,
    ),
    Turn(
        n=2,
        kind="overlap",
        caller_start_ms=7000,
        caller_end_ms=8000,
        agent_start_ms=7900,
        agent_end_ms=9000,
        response_latency_ms=-100,
        interrupted=True,
    ),
]
BARGE_INS = [
    BargeIn(kind="barge_in", caller_start_ms=8600, agent_stop_ms=9000, latency_ms=400),
    BargeIn(kind="failed", caller_start_ms=9200),
]


def request(method: str, cseq: int, *headers: str, body: str = "") -> bytes:
    """A request as it is on the wire."""
    return _message(f"{method} sip:agent@192.0.2.20 SIP/2.0", cseq, method, headers, body)


def response(status: int, method: str, cseq: int, *headers: str, body: str = "") -> bytes:
    """A response as it is on the wire."""
    return _message(f"SIP/2.0 {status} Whatever", cseq, method, headers, body)


def _message(start: str, cseq: int, method: str, headers: tuple[str, ...], body: str) -> bytes:
    fixed = (
        "Via: SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bK-1",
        "From: <sip:alice@caller.example>;tag=a1",
        "To: <sip:agent@edge.example>",
        f"Call-ID: {CALL_ID}",
        f"CSeq: {cseq} {method}",
    )
    return "\r\n".join((start, *fixed, *headers, f"Content-Length: {len(body)}", "", body)).encode()


class Trace:
    """Collects a trace's lines; every `at` is in seconds since the call's first fact."""

    def __init__(self, call: str = CALL) -> None:
        self.call = call
        self.lines: list[bytes] = []
        self.recorder = Recorder(call, "edge-1")
        self.step = 0.0
        """Seconds by which the wall clock was set back since the first fact."""

    def clocks(self, at: float) -> tuple[Mono, Wall]:
        """Both clocks `at` seconds into the call; the monotonic one began elsewhere."""
        return Mono(1000.0 + at), Wall(EPOCH + at - self.step)

    def fact(self, at: float, fact: e.Fact) -> None:
        """Record a fact of the B2BUA."""
        line = self.recorder.record(fact, *self.clocks(at))
        assert line is not None
        self.lines.append(line)

    def message(self, at: float, leg: e.Leg, direction: str, data: bytes, *, again: bool = False) -> None:
        """Record a message; `direction` is `in` or `out`."""
        flow = A if leg == "A" else B
        self.fact(at, e.Message(self.call, leg, "in" if direction == "in" else "out", flow, data, again))

    def started(self, *headers: str) -> None:
        """The caller's INVITE, with further headers."""
        started = e.Started(
            call=self.call,
            sip_call_id=CALL_ID,
            correlation_id=TOKEN,
            kind="simulation",
            direction="inbound",
            route="agent",
            platform="generic",
            from_="sip:alice@caller.example",
            to="sip:agent@edge.example",
            recipient=None,
            source=A.remote,
        )
        self.fact(0.0, started)
        self.message(0.0, "A", "in", request("INVITE", 1, *headers))

    def ended(self, at: float, status: int, by: str, reason: str, cause: str, timings: e.SetupTimings | None = None) -> None:
        """Signalling is over."""
        party = {"caller": "caller", "agent": "agent", "sidecar": "sidecar"}[by]
        self.fact(at, e.Ended(self.call, status, party, reason, cause, timings or e.SetupTimings()))  # type: ignore[arg-type]

    def closed(self, at: float) -> None:
        """The last line."""
        self.lines.append(self.recorder.closed(*self.clocks(at)))


def answered_call(*, agent_headers: tuple[str, ...] = (f"traceparent: {AGENT_CONTEXT}",)) -> Trace:
    """A simulated call: challenged, ringing, answered at 0.9 s, two turns and two barge-ins, ended by the caller at 12 s."""
    trace = Trace()
    trace.started(f"traceparent: {CALLER_CONTEXT}", f"X-Correlation-Id: {TOKEN}")
    trace.fact(0.01, e.Dialled(CALL, CALL_ID, "sip:agent@192.0.2.20:5070"))
    trace.message(0.01, "B", "out", request("INVITE", 1))
    trace.message(0.05, "B", "in", response(401, "INVITE", 1, 'WWW-Authenticate: Digest realm="edge", nonce="n"'))
    trace.fact(0.05, e.Challenged(CALL, "B", 401, "edge", "SHA-256", "answered", "answered with SHA-256"))
    trace.message(0.05, "B", "out", request("ACK", 1))
    trace.message(0.05, "B", "out", request("INVITE", 2, 'Authorization: Digest username="u", response="5e1f"'))
    trace.message(0.1, "B", "in", response(100, "INVITE", 2))
    trace.message(0.3, "B", "in", response(180, "INVITE", 2))
    trace.message(0.3, "A", "out", response(180, "INVITE", 1))
    trace.message(0.5, "B", "in", response(180, "INVITE", 2), again=True)
    trace.message(0.9, "B", "in", response(200, "INVITE", 2, *agent_headers))
    trace.fact(0.9, e.Answered(CALL))
    trace.message(0.9, "A", "out", response(200, "INVITE", 1))
    trace.message(0.94, "A", "in", request("ACK", 1))
    trace.ended(12.0, 200, "caller", "completed", "the caller hung up", e.SetupTimings(0.1, 0.3, 0.9, 0.04))
    trace.message(12.0, "A", "in", request("BYE", 2))
    trace.message(12.0, "B", "out", request("BYE", 3))
    trace.message(12.02, "B", "in", response(200, "BYE", 3))
    trace.message(12.03, "A", "out", response(200, "BYE", 2))
    speech = Speech(response_latency_ms=Percentiles(n=1, p50=820, p90=820, max=820))
    figures = Measured(TURNS, BARGE_INS, speech, Media(), greeting_ms=640.0, first_agent_rtp_ms=None)
    trace.lines.append(trace.recorder.measured(figures, *trace.clocks(12.5)))
    trace.closed(12.5)
    return trace
