"""What a trace of facts means: a pure fold into the call object.

The fold is total: facts out of order or after the end change what they name and nothing else, so a replay always gives the same call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import assert_never

from control.contract import facts as f
from control.contract.call import Call, CallClock, ClockOffset, Finding, Hop, Timings


def correlation_hash(token: str) -> str:
    """The form in which a correlation token may be shown, logged and compared: SHA-256, lower-case hex."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def on_our_clock(clock: CallClock | None, at: datetime) -> datetime:
    """A sidecar's time `at` as control's clock has it. One offset holds for the whole call, so that no duration changes."""
    if clock is None or not clock.shifted:
        return at
    try:
        return at + timedelta(milliseconds=clock.offset_ms)
    except (OverflowError, ValueError):  # it leads out of the calendar, or is no number: no clock can be so far off
        return at


def _clock(measured: ClockOffset | None) -> CallClock | None:
    if measured is None:
        return None
    shifted = abs(measured.offset_ms) > measured.uncertainty_ms
    return CallClock(offset_ms=measured.offset_ms, uncertainty_ms=measured.uncertainty_ms, shifted=shifted)


def start(fact: f.CallStarted) -> Call:
    """The call as its first fact tells it."""
    clock = _clock(fact.clock)
    return Call(
        id=fact.call,
        sip_call_id=fact.sip_call_id,
        kind=fact.call_kind,
        direction=fact.direction,
        route=fact.route,
        platform=fact.platform,
        sidecar=fact.sidecar,
        source=fact.source,
        correlation_sha256=correlation_hash(fact.correlation_id) if fact.correlation_id else None,
        from_=fact.from_,
        to=fact.to,
        recipient=fact.recipient,
        wire_only=fact.wire_only,
        started_at=on_our_clock(clock, fact.at),
        clock=clock,
    )


def apply(call: Call, fact: f.Fact) -> None:
    """Let one fact change `call`. Messages and authentication are told by the trace itself and change nothing here."""
    match fact:
        case f.CallStarted() | f.SipMessage() | f.Authentication():
            pass
        case f.MediaOpened():
            if fact.leg == "B":  # the newest alone: an address that was given up may be another call's by now
                call.agent_media = [fact.remote, fact.local]
        case f.LegStarted():
            if fact.call_id not in call.b_leg_call_ids:
                call.b_leg_call_ids.append(fact.call_id)
        case f.HopSeen():
            if all(seen.hop != fact.hop or seen.evidence != fact.evidence for seen in call.verdict.hops):
                call.verdict.hops.append(Hop(hop=fact.hop, at=on_our_clock(call.clock, fact.at), evidence=fact.evidence))
        case f.IdLearned():
            if fact.value not in call.platform_ids:
                call.platform_ids.append(fact.value)
        case f.FindingMade():
            call.verdict.findings.append(Finding(name=fact.name, detail=fact.detail))
        case f.CallAnswered():
            call.answered_at = on_our_clock(call.clock, fact.at)
            call.status = 200
        case f.TurnMeasured():
            call.turns = sorted([t for t in call.turns if t.n != fact.turn.n] + [fact.turn], key=lambda t: t.n)
        case f.CallMeasured():
            call.turns, call.barge_ins = fact.turns, fact.barge_ins
            call.speech, call.media = fact.speech, fact.media
            call.timings_ms.greeting = fact.greeting_ms
            if fact.first_agent_rtp_ms is not None and call.timings_ms.to_answer is not None:
                call.timings_ms.to_first_agent_rtp = round(call.timings_ms.to_answer + fact.first_agent_rtp_ms, 3)
        case f.CallEnded():
            call.ended_at = on_our_clock(call.clock, fact.at)
            call.status, call.ended_by = fact.status, fact.ended_by
            call.reason, call.cause = fact.reason, fact.cause
            call.timings_ms = Timings(**{**fact.timings_ms.model_dump(), "greeting": call.timings_ms.greeting})
        case f.CallClosed():
            call.complete = True
        case f.CallInterrupted():
            call.ended_at = call.ended_at or on_our_clock(call.clock, fact.at)
            call.ended_by, call.reason, call.cause = "sidecar", "interrupted", fact.detail
            call.complete = True
        case _ as never:
            assert_never(never)


def fold(trace: Iterable[f.Fact]) -> Call | None:
    """The call that a whole trace tells, or None while its `call_started` is missing."""
    call: Call | None = None
    for fact in trace:
        if isinstance(fact, f.CallStarted):
            call = start(fact)
        elif call is not None:
            apply(call, fact)
    return call
