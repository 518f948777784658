"""A call as a ladder of text: caller, trunkside, agent, with the time between each two things that happened."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from control.contract import facts as f
from control.contract.call import BargeIn, Call, Turn

_COLUMN = 34
"""Characters between two columns."""
_METHOD = re.compile(r"^([A-Z][A-Z-]*) \S")
_STATUS = re.compile(r"^SIP/2\.0 (\d{3}) ?([^\r\n]*)")
_CSEQ = re.compile(r"^CSeq[ \t]*:[ \t]*\d+[ \t]+(\S+)", re.IGNORECASE | re.MULTILINE)
_SDP = re.compile(r"^m=audio (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Line:
    """One line, at `ms` after the call's first fact."""

    ms: float
    text: str


def render(call: Call, trace: Iterable[f.Fact]) -> str:
    """The ladder of `call` from its facts. A retransmission is folded into the line of what it repeats."""
    facts = list(trace)
    messages = [fact for fact in facts if isinstance(fact, f.SipMessage)]
    answered = next((fact.elapsed_ms for fact in facts if isinstance(fact, f.CallAnswered)), None)
    lines = _arrows(messages) + [line for fact in facts for line in _marks(fact)]
    if answered is not None:
        lines += [line for turn in call.turns for line in _turn(turn, answered)]
        lines += [line for barge_in in call.barge_ins for line in _barge_in(barge_in, answered)]
    lines.sort(key=lambda line: line.ms)
    shown = [f"{line.ms:>10.1f}  {line.text.rstrip()}" for line in lines]
    return "\n".join([*_title(call), "", f"{'ms':>10}  {_header()}", *shown, "", *_foot(call)]) + "\n"


def _title(call: Call) -> list[str]:
    return [
        f"call {call.id}  {call.kind} {call.direction}, route {call.route or '-'}, sidecar {call.sidecar or '-'}",
        f"{call.from_ or '?'} -> {call.to or '?'}  Call-ID {call.sip_call_id}",
    ]


def _foot(call: Call) -> list[str]:
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


def _arrows(messages: list[f.SipMessage]) -> list[_Line]:
    """One arrow a message; copies of it are counted on the first one's line."""
    copies: dict[tuple[str, str, str], int] = {}
    firsts: list[f.SipMessage] = []
    for message in messages:
        key = (message.leg, message.direction, message.text)
        if message.retransmission and key in copies:
            copies[key] += 1
        else:
            copies[key] = 0
            firsts.append(message)
    return [_Line(m.elapsed_ms, _arrow(m, copies.pop((m.leg, m.direction, m.text), 0))) for m in firsts]


def _arrow(message: f.SipMessage, copies: int) -> str:
    label = _label(message.text) + (f" (x{copies + 1})" if copies else "") + (" (again)" if message.retransmission else "")
    rightward = (message.leg == "A") == (message.direction == "in")
    room = _COLUMN - 3
    body = f" {label[: room - 2]} ".ljust(room, "-") if rightward else f" {label[: room - 2]} ".rjust(room, "-")
    arrow = f"|{body}->|" if rightward else f"|<-{body}|"
    if message.leg == "A":
        return arrow + " " * (_COLUMN - 1) + "|"
    return "|" + " " * (_COLUMN - 1) + arrow


def _label(text: str) -> str:
    sdp = " [sdp]" if _SDP.search(text) else ""
    status = _STATUS.match(text)
    if status is not None:
        method = _CSEQ.search(text)
        of = f" ({method[1]})" if method is not None and method[1] != "INVITE" else ""
        return f"{status[1]} {status[2].strip()}{of}{sdp}"
    method = _METHOD.match(text)
    return f"{method[1] if method is not None else text[:20]}{sdp}"


def _marks(fact: f.Fact) -> list[_Line]:
    match fact:
        case f.CallAnswered():
            return [_Line(fact.elapsed_ms, _rule("answered: call time 0"))]
        case f.MediaOpened():
            side = "caller" if fact.leg == "A" else "agent"
            return [_Line(fact.elapsed_ms, f"* media {side}: {fact.codec}  {fact.local} <-> {fact.remote}")]
        case f.Authentication():
            return [_Line(fact.elapsed_ms, f"* digest {fact.status} {fact.algorithm} realm {fact.realm!r}: {fact.result}")]
        case f.CallInterrupted():
            return [_Line(fact.elapsed_ms, _rule(f"interrupted: {fact.detail}"))]
        case _:
            return []


def _turn(turn: Turn, answered: float) -> list[_Line]:
    latency = f"{turn.response_latency_ms:.0f} ms" + (f" ±{turn.uncertainty_ms:.0f}" if turn.kind == "response" else "")
    said = "answers after" if turn.kind == "response" else turn.kind.replace("_", " ")
    cut = ", interrupted" if turn.interrupted else ""
    return [
        _Line(answered + turn.caller_start_ms, f"= turn {turn.n}: caller speaks {turn.caller_end_ms - turn.caller_start_ms:.0f} ms"),
        _Line(
            answered + turn.agent_start_ms,
            f"= turn {turn.n}: agent {said} {latency}, speaks {turn.agent_end_ms - turn.agent_start_ms:.0f} ms{cut}",
        ),
    ]


def _barge_in(barge_in: BargeIn, answered: float) -> list[_Line]:
    stopped = f", agent silent after {barge_in.latency_ms:.0f} ms" if barge_in.latency_ms is not None else ""
    return [_Line(answered + barge_in.caller_start_ms, f"= {barge_in.kind.replace('_', '-')}: caller speaks over the agent{stopped}")]


def _rule(text: str) -> str:
    return f" {text} ".center(2 * _COLUMN + 5, "=")
