"""A finished call as a tree of spans, the form in which tracing systems show where the time went. Pure.

```
call                        INVITE arriving … last signalling
├── INVITE                  the caller's transaction, ACK included (RFC 3261 section 17)
│   ├── authentication      a challenged request leaving … the edge's challenge dealt with; one for each challenge
│   ├── ringing             the agent's first 18x … its final response
│   └── answer              the agent's 2xx … the caller's ACK
├── turn 1, turn 2, …       the caller's speech beginning … the agent's ending
│   └── response            the silence that the caller heard; only where it was one
├── barge-in                the caller beginning … the agent stopping
├── CANCEL                  the request … its last response
└── BYE                     the request … its last response
```
The trace id is the call's id, so a call is found by it. A `traceparent` (W3C Trace Context) in the caller's INVITE therefore names another
trace and becomes a link of the root span, never its parent; so does the first one that the agent's leg sends, unless it is in this trace.
Times are the wall clock of the first fact plus monotonic time, so a stepped clock bends no span.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from control.contract import facts as f
from control.contract.call import BargeIn, Call, Turn
from control.contract.fold import fold
from sidecar.clocks import Wall
from sidecar.identity import trace_context
from sidecar.identity.trace_context import TraceContext
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.message import Request, Response, parse

Value = str | bool | int | float | tuple[str, ...]
Status = Literal["unset", "error"]

NORMAL_ENDS = frozenset({"completed", "cancelled", "hung-up", "drained"})
"""Reasons of `sidecar.b2bua.outcome` that are no failure of the call."""


@dataclass(frozen=True, slots=True)
class Link:
    """A span of another trace that belongs to the same call: what the caller or the agent told in its `traceparent`."""

    context: TraceContext
    party: Literal["caller", "agent"]


@dataclass(frozen=True, slots=True)
class Span:
    """One stretch of a call. `parent` is the place of the parent in the tree's list; None for the root."""

    name: str
    start: Wall
    end: Wall
    parent: int | None
    attributes: Mapping[str, Value] = field(default_factory=dict)
    status: Status = "unset"
    detail: str = ""
    """What went wrong, for status `error`."""
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True)
class SpanTree:
    """The spans of one call, parents before their children. Span n has the id `trace_context.span_id(trace_id, n)`."""

    trace_id: str
    spans: tuple[Span, ...]


def read(lines: Iterable[bytes]) -> list[f.Fact]:
    """The facts of a trace's lines. Raises ValueError (`pydantic.ValidationError`) for a line that is no fact."""
    return [f.FACT.validate_json(line) for line in lines]


def tree(trace: Sequence[f.Fact]) -> SpanTree | None:
    """The spans of a call whose trace is complete; None while its `call_started` is missing. ValueError for an id that is no trace id."""
    call = fold(trace)
    started = next((fact for fact in trace if isinstance(fact, f.CallStarted)), None)
    if call is None or started is None:
        return None
    trace_id = trace_context.ours(call.id).trace_id
    return SpanTree(trace_id, tuple(_Builder(trace_id, call, started, trace).build()))


@dataclass(frozen=True, slots=True)
class _Sip:
    """A message of the trace with what is asked of it here. `at` is milliseconds since the first fact."""

    at: float
    leg: f.Leg
    direction: Literal["in", "out"]
    message: Request | Response

    @property
    def method(self) -> str:
        """Of the request itself, or of the request that a response answers."""
        return self.message.method if isinstance(self.message, Request) else self.message.cseq.method

    @property
    def status(self) -> int:
        """Of a response; 0 for a request."""
        return self.message.status if isinstance(self.message, Response) else 0


class _Builder:
    """Collects one call's spans. Times inside are milliseconds since the first fact."""

    def __init__(self, trace_id: str, call: Call, started: f.CallStarted, trace: Sequence[f.Fact]) -> None:
        self._trace_id, self._call, self._trace = trace_id, call, trace
        self._epoch = started.at.timestamp() - started.elapsed_ms / 1000
        self._begin = started.elapsed_ms
        self._messages = _messages(trace)
        self._answered = next((fact.elapsed_ms for fact in trace if isinstance(fact, f.CallAnswered)), None)
        ends = [fact.elapsed_ms for fact in trace if isinstance(fact, f.CallEnded | f.CallInterrupted)]
        self._over = ends[0] if ends else trace[-1].elapsed_ms
        self._spans: list[Span] = []

    def build(self) -> list[Span]:
        """All spans, the root first. The root ends with the last of its children."""
        root = self._add("call", self._begin, self._over, None, _call_attributes(self._call), links=self._links())
        self._set_up(root)
        if self._answered is not None:
            for turn in self._call.turns:
                self._turn(root, turn, self._answered)
            for barge_in in self._call.barge_ins:
                self._barge_in(root, barge_in, self._answered)
        for method in ("CANCEL", "BYE"):
            self._farewell(root, method)
        reason, cause = self._call.reason, self._call.cause
        failed = reason is not None and reason not in NORMAL_ENDS
        whole = max(span.end for span in self._spans)
        self._spans[root] = replace(
            self._spans[root], end=whole, status="error" if failed else "unset", detail=(cause or reason or "") if failed else ""
        )
        return self._spans

    # -- signalling --------------------------------------------------------------------------------------------------------------------

    def _set_up(self, root: int) -> None:
        success = self._first(lambda m: m.leg == "B" and m.direction == "in" and m.method == "INVITE" and 200 <= m.status < 300)
        refusal = self._first(lambda m: m.leg == "A" and m.direction == "out" and m.method == "INVITE" and m.status >= 300)
        ack = self._first(lambda m: m.leg == "A" and m.direction == "in" and m.method == "ACK")
        if self._answered is not None:
            end = ack.at if ack is not None else self._over
        else:
            end = refusal.at if refusal is not None else self._over
        status = self._call.status
        failed = status is not None and status >= 300 and self._call.reason not in NORMAL_ENDS
        attributes = _present({"sip.method": "INVITE", "sip.status_code": status, **_timings(self._call)})
        invite = self._add("INVITE", self._begin, end, root, attributes, error=(self._call.cause or "") if failed else None)
        for fact in self._trace:
            if isinstance(fact, f.Authentication):
                in_set_up = self._answered is None or fact.elapsed_ms <= self._answered
                self._authentication(invite if in_set_up else root, fact)
        ringing = self._first(lambda m: m.leg == "B" and m.direction == "in" and m.method == "INVITE" and 180 <= m.status < 190)
        if ringing is not None:
            until = next((at for at in (success.at if success else None, self._answered) if at is not None), end)
            self._add("ringing", ringing.at, until, invite, {"sip.status_code": ringing.status})
        if self._answered is not None:
            since = success.at if success is not None else self._answered
            missing = None if ack is not None else "the caller did not acknowledge the answer"
            self._add("answer", since, end, invite, _present({"sip.status_code": status}), error=missing)

    def _authentication(self, parent: int, fact: f.Authentication) -> None:
        """From the challenged request leaving to what was decided on its challenge."""
        until = fact.elapsed_ms
        challenge = self._last(lambda m: m.leg == fact.leg and m.direction == "in" and m.status == fact.status and m.at <= until)
        since = until
        if challenge is not None:
            cseq = challenge.message.cseq
            asked = self._first(
                lambda m: m.leg == fact.leg and m.direction == "out" and isinstance(m.message, Request) and m.message.cseq == cseq
            )
            since = (asked or challenge).at
        attributes: dict[str, Value] = {
            "trunkside.leg": fact.leg,
            "sip.status_code": fact.status,
            "trunkside.auth.realm": fact.realm,
            "trunkside.auth.algorithm": fact.algorithm,
            "trunkside.auth.result": fact.result,
        }
        self._add("authentication", since, until, parent, attributes, error=None if fact.result == "answered" else fact.detail)

    def _farewell(self, root: int, method: str) -> None:
        """BYE or CANCEL, from its first appearance on either leg to its last response on either."""
        request = self._first(lambda m: m.method == method and m.status == 0)
        if request is None:
            return
        answer = self._last(lambda m: m.method == method and m.status >= 200)
        sender = "sidecar" if request.direction == "out" else "caller" if request.leg == "A" else "agent"
        attributes = _present({"sip.method": method, "trunkside.sent_by": sender, "sip.status_code": answer.status if answer else None})
        error = None if answer is not None else f"no response to the {method}"
        self._add(method, request.at, answer.at if answer else request.at, root, attributes, error=error)

    def _links(self) -> tuple[Link, ...]:
        links = []
        invite = self._first(lambda m: m.leg == "A" and m.direction == "in" and m.method == "INVITE" and m.status == 0)
        context = trace_context.read(invite.message.headers.all(trace_context.HEADER)) if invite else None
        if context is not None:
            links.append(Link(context, "caller"))
        for told in self._messages:
            if told.leg != "B" or told.direction != "in":
                continue
            context = trace_context.read(told.message.headers.all(trace_context.HEADER))
            # What merely echoes the caller's header, or goes on in this trace, tells nothing new.
            if context is not None and context.trace_id != self._trace_id and all(link.context != context for link in links):
                links.append(Link(context, "agent"))
                break
        return tuple(links)

    # -- speech ------------------------------------------------------------------------------------------------------------------------

    def _turn(self, root: int, turn: Turn, zero: float) -> None:
        attributes = _present(
            {
                "trunkside.turn.n": turn.n,
                "trunkside.turn.kind": turn.kind,
                "trunkside.turn.response_latency_ms": turn.response_latency_ms,
                "trunkside.turn.first_audio_ms": turn.first_audio_ms,
                "trunkside.turn.uncertainty_ms": turn.uncertainty_ms,
                "trunkside.turn.interrupted": turn.interrupted,
            }
        )
        place = self._add(f"turn {turn.n}", zero + turn.caller_start_ms, zero + turn.agent_end_ms, root, attributes)
        if turn.agent_start_ms > turn.caller_end_ms:
            latency: dict[str, Value] = {"trunkside.turn.response_latency_ms": turn.response_latency_ms}
            self._add("response", zero + turn.caller_end_ms, zero + turn.agent_start_ms, place, latency)

    def _barge_in(self, root: int, barge_in: BargeIn, zero: float) -> None:
        start = barge_in.caller_start_ms
        stop = barge_in.agent_stop_ms if barge_in.agent_stop_ms is not None else start
        attributes = _present({"trunkside.barge_in.kind": barge_in.kind, "trunkside.barge_in.latency_ms": barge_in.latency_ms})
        self._add("barge-in", zero + start, zero + stop, root, attributes)

    # -- the list ----------------------------------------------------------------------------------------------------------------------

    def _add(
        self,
        name: str,
        start: float,
        end: float,
        parent: int | None,
        attributes: Mapping[str, Value],
        *,
        error: str | None = None,
        links: tuple[Link, ...] = (),
    ) -> int:
        """Append a span and return its place. A span never ends before it starts, whatever the facts say."""
        status: Status = "unset" if error is None else "error"
        self._spans.append(Span(name, self._wall(start), self._wall(max(start, end)), parent, attributes, status, error or "", links))
        return len(self._spans) - 1

    def _wall(self, elapsed_ms: float) -> Wall:
        return Wall(round(self._epoch + elapsed_ms / 1000, 6))

    def _first(self, fits: Callable[[_Sip], bool]) -> _Sip | None:
        return next((message for message in self._messages if fits(message)), None)

    def _last(self, fits: Callable[[_Sip], bool]) -> _Sip | None:
        return next((message for message in reversed(self._messages) if fits(message)), None)


def _messages(trace: Sequence[f.Fact]) -> list[_Sip]:
    """The trace's messages without their repetitions. One that does not parse is left out: it opened and closed nothing."""
    found = []
    for fact in trace:
        if not isinstance(fact, f.SipMessage) or fact.retransmission:
            continue
        try:
            message = parse(fact.text.encode("utf-8", "surrogateescape"))
        except MalformedMessage:
            continue
        if message is not None:
            found.append(_Sip(fact.elapsed_ms, fact.leg, fact.direction, message))
    return found


def _call_attributes(call: Call) -> dict[str, Value]:
    """What is worth searching calls by. The correlation token appears as its hash alone."""
    return _present(
        {
            "trunkside.call_id": call.id,
            "sip.call_id": call.sip_call_id,
            "trunkside.b_leg_call_ids": tuple(call.b_leg_call_ids) or None,
            "trunkside.platform_ids": tuple(call.platform_ids) or None,
            "trunkside.correlation_sha256": call.correlation_sha256,
            "trunkside.route": call.route,
            "trunkside.platform": call.platform,
            "trunkside.kind": call.kind,
            "trunkside.direction": call.direction,
            "sip.from": call.from_,
            "sip.to": call.to,
            "trunkside.recipient": call.recipient,
            "sip.status_code": call.status,
            "trunkside.ended_by": call.ended_by,
            "trunkside.reason": call.reason,
            "trunkside.cause": call.cause,
            "trunkside.answered": call.answered_at is not None,
            "trunkside.turns": len(call.turns),
            "trunkside.response_latency_p50_ms": call.speech.response_latency_ms.p50,
            "trunkside.response_latency_p90_ms": call.speech.response_latency_ms.p90,
            "trunkside.greeting_ms": call.timings_ms.greeting,
            "trunkside.caller.loss_pct": call.media.caller.loss_pct if call.media.caller.packets else None,
            "trunkside.agent.loss_pct": call.media.agent.loss_pct if call.media.agent.packets else None,
            "trunkside.caller.mos_lq": call.media.caller.mos_lq,
            "trunkside.agent.mos_lq": call.media.agent.mos_lq,
        }
    )


def _timings(call: Call) -> dict[str, Value | None]:
    timings = call.timings_ms
    return {
        "trunkside.to_100_ms": timings.to_100,
        "trunkside.to_ringing_ms": timings.to_ringing,
        "trunkside.to_answer_ms": timings.to_answer,
        "trunkside.auth_ms": timings.auth,
    }


def _present(values: Mapping[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in values.items() if value is not None}
