"""A call as a ladder: caller, trunkside, agent, and what happened between them in order of time. The form here is text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, assert_never

from control.contract import facts as f
from control.contract.answers import Ladder, LadderStep
from control.contract.call import BargeIn, Call, Turn

_COLUMN = 34
"""Characters between two columns."""
_METHOD = re.compile(r"^([A-Z][A-Z-]*) \S")
_STATUS = re.compile(r"^SIP/2\.0 (\d{3}) ?([^\r\n]*)")
_CSEQ = re.compile(r"^CSeq[ \t]*:[ \t]*\d+[ \t]+(\S+)", re.IGNORECASE | re.MULTILINE)
_SDP = re.compile(r"^m=audio (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Arrow:
    """A SIP message between two neighbours: `leg` A is caller and trunkside, B trunkside and agent."""

    ms: float
    leg: f.Leg
    rightward: bool
    label: str
    seq: int = 0
    """Of the message in its trace."""
    copies: int = 0
    """Retransmissions that are folded into it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that concerns everybody, across the ladder."""

    ms: float
    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is no message: media (`*`) or speech (`=`)."""

    ms: float
    mark: Literal["*", "="]
    text: str


Step = Arrow | Rule | Note


def steps(call: Call, trace: Iterable[f.Fact]) -> list[Step]:
    """What happened, by milliseconds since the call's first fact. A retransmission is folded into the step of what it repeats."""
    facts = list(trace)
    answered = answered_ms(facts)
    found: list[Step] = [*_arrows([fact for fact in facts if isinstance(fact, f.SipMessage)])]
    found += [step for fact in facts for step in marks(fact)]
    if answered is not None:
        found += [step for turn in call.turns for step in _turn(turn, answered)]
        found += [step for barge_in in call.barge_ins for step in _barge_in(barge_in, answered)]
    return sorted(found, key=lambda step: step.ms)


def answered_ms(trace: Iterable[f.Fact]) -> float | None:
    """When call time 0 was, on the clock of `steps`; None for a call without an answer."""
    return next((fact.elapsed_ms for fact in trace if isinstance(fact, f.CallAnswered)), None)


def told(call: Call, trace: Iterable[f.Fact]) -> Ladder:
    """The ladder as JSON, for those who draw it themselves."""
    facts = list(trace)
    return Ladder(call=call.id, answered_ms=answered_ms(facts), steps=[_told(step) for step in steps(call, facts)])


def _told(step: Step) -> LadderStep:
    match step:
        case Arrow():
            return LadderStep(
                kind="message", ms=step.ms, text=step.label, leg=step.leg, rightward=step.rightward, seq=step.seq, copies=step.copies
            )
        case Rule(ms, text):
            return LadderStep(kind="rule", ms=ms, text=text)
        case Note(ms, mark, text):
            return LadderStep(kind="media" if mark == "*" else "speech", ms=ms, text=text)
        case _ as never:
            assert_never(never)


def render(call: Call, trace: Iterable[f.Fact]) -> str:
    """The ladder of `call` from its facts, as text."""
    shown = [f"{step.ms:>10.1f}  {_text(step).rstrip()}" for step in steps(call, trace)]
    return "\n".join([*title(call), "", f"{'ms':>10}  {_header()}", *shown, "", *foot(call)]) + "\n"


def _text(step: Step) -> str:
    match step:
        case Arrow():
            return _arrow(step)
        case Rule(_, text):
            return f" {text} ".center(2 * _COLUMN + 5, "=")
        case Note(_, mark, text):
            return f"{mark} {text}"
        case _ as never:
            assert_never(never)


def title(call: Call) -> list[str]:
    """Two lines that say which call this is."""
    return [
        f"call {call.id}  {call.kind} {call.direction}, route {call.route or '-'}, sidecar {call.sidecar or '-'}",
        f"{call.from_ or '?'} -> {call.to or '?'}  Call-ID {call.sip_call_id}",
    ]


def foot(call: Call) -> list[str]:
    """How the call ended and what became of its identity."""
    lines = (
        [f"{'ended':<9}{call.status if call.status is not None else '-'} by {call.ended_by}: {call.cause or call.reason}"]
        if call.ended_at
        else []
    )
    verdict = call.verdict
    lines.append(
        f"{'verdict':<9}{verdict.outcome}" + (f" by {verdict.repair.rule} ({verdict.repair.confidence:.2f})" if verdict.repair else "")
    )
    lines += [f"{'':<9}{hop.hop:<9} {hop.evidence}" for hop in verdict.hops]
    lines += [f"{'':<9}finding   {finding.name}: {finding.detail}" for finding in verdict.findings]
    return lines


def _header() -> str:
    return f"{'caller':<{_COLUMN}}{'trunkside':<{_COLUMN}}agent"


def _arrows(messages: list[f.SipMessage]) -> list[Arrow]:
    """One arrow a message; copies of it are counted on the first one's."""
    copies: dict[tuple[str, str, str], int] = {}
    firsts: list[f.SipMessage] = []
    for message in messages:
        key = (message.leg, message.direction, message.text)
        if message.retransmission and key in copies:
            copies[key] += 1
        else:
            copies[key] = 0
            firsts.append(message)
    return [_message(m, copies.pop((m.leg, m.direction, m.text), 0)) for m in firsts]


def _message(message: f.SipMessage, copies: int) -> Arrow:
    label = _label(message.text) + (f" (x{copies + 1})" if copies else "") + (" (again)" if message.retransmission else "")
    rightward = (message.leg == "A") == (message.direction == "in")
    return Arrow(message.elapsed_ms, message.leg, rightward, label, message.seq, copies)


def _arrow(arrow: Arrow) -> str:
    room = _COLUMN - 3
    label = f" {arrow.label[: room - 2]} "
    drawn = f"|{label.ljust(room, '-')}->|" if arrow.rightward else f"|<-{label.rjust(room, '-')}|"
    blank = " " * (_COLUMN - 1)
    return f"{drawn}{blank}|" if arrow.leg == "A" else f"|{blank}{drawn}"


def _label(text: str) -> str:
    sdp = " [sdp]" if _SDP.search(text) else ""
    status = _STATUS.match(text)
    if status is not None:
        method = _CSEQ.search(text)
        of = f" ({method[1]})" if method is not None and method[1] != "INVITE" else ""
        return f"{status[1]} {status[2].strip()}{of}{sdp}"
    method = _METHOD.match(text)
    return f"{method[1] if method is not None else text[:20]}{sdp}"


def marks(fact: f.Fact) -> list[Rule | Note]:
    """What a fact that is no message adds."""
    match fact:
        case f.CallAnswered():
            return [Rule(fact.elapsed_ms, "answered: call time 0")]
        case f.MediaOpened():
            side = "caller" if fact.leg == "A" else "agent"
            return [Note(fact.elapsed_ms, "*", f"media {side}: {fact.codec}  {fact.local} <-> {fact.remote}")]
        case f.Authentication():
            return [Note(fact.elapsed_ms, "*", f"digest {fact.status} {fact.algorithm} realm {fact.realm!r}: {fact.result}")]
        case f.CallInterrupted():
            return [Rule(fact.elapsed_ms, f"interrupted: {fact.detail}")]
        case _:
            return []


def _turn(turn: Turn, answered: float) -> list[Step]:
    latency = f"{turn.response_latency_ms:.0f} ms" + (f" ±{turn.uncertainty_ms:.0f}" if turn.kind == "response" else "")
    said = "answers after" if turn.kind == "response" else turn.kind.replace("_", " ")
    spoke = f"agent {said} {latency}, speaks {turn.agent_end_ms - turn.agent_start_ms:.0f} ms" + (
        ", interrupted" if turn.interrupted else ""
    )
    return [
        Note(answered + turn.caller_start_ms, "=", f"turn {turn.n}: caller speaks {turn.caller_end_ms - turn.caller_start_ms:.0f} ms"),
        Note(answered + turn.agent_start_ms, "=", f"turn {turn.n}: {spoke}"),
    ]


def _barge_in(barge_in: BargeIn, answered: float) -> list[Step]:
    stopped = f", agent silent after {barge_in.latency_ms:.0f} ms" if barge_in.latency_ms is not None else ""
    return [Note(answered + barge_in.caller_start_ms, "=", f"{barge_in.kind.replace('_', '-')}: caller speaks over the agent{stopped}")]
