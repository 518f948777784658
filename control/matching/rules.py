"""The table of rules by which a report finds its call, in order of trust, and the function that applies it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from control.contract.call import Call
from control.contract.fold import correlation_hash
from control.matching.claim import Claim, party

SLACK_MS = 5_000
"""Clocks of agent and sidecar, and whole-second timestamps, may put the same call this far apart."""
ADDRESS_SLACK_MS = 3_600_000
"""As far apart may they be where the recipient is an address: clocks that are an hour wrong are found, last week's calls are not."""


@dataclass(frozen=True, slots=True)
class Known:
    """A call as matching sees it. Times are epoch milliseconds; `ended_ms` is None while the call lives."""

    id: str
    sip_call_id: str
    simulation: bool = True
    outbound: bool = False
    b_leg_call_ids: frozenset[str] = frozenset()
    platform_ids: frozenset[str] = frozenset()
    correlation_sha256: str | None = None
    recipient: str | None = None
    caller: str | None = None
    callee: str | None = None
    started_ms: int = 0
    ended_ms: int | None = None
    answered: bool = True


def known(call: Call) -> Known:
    """What matching needs of a call object."""
    return Known(
        id=call.id,
        sip_call_id=call.sip_call_id,
        simulation=call.kind == "simulation",
        outbound=call.direction == "outbound",
        b_leg_call_ids=frozenset(call.b_leg_call_ids),
        platform_ids=frozenset(call.platform_ids),
        correlation_sha256=call.correlation_sha256,
        recipient=call.recipient,
        caller=party(call.from_),
        callee=party(call.recipient or call.to),
        started_ms=int(call.started_at.timestamp() * 1000),
        ended_ms=int(call.ended_at.timestamp() * 1000) if call.ended_at else None,
        answered=call.answered_at is not None,
    )


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table.

    A `hard` rule rests on an identifier, so that two hard rules that name different calls contradict each other.
    """

    name: str
    confidence: float
    hard: bool
    test: Callable[[Claim, Known], bool]


@dataclass(frozen=True, slots=True)
class Match:
    """The result. `call` is None for no candidate and for several; `candidates` then tells which of the two it was."""

    call: str | None = None
    rule: str | None = None
    confidence: float = 0.0
    exact: bool = False
    """The report carries the link as the evaluator needs it; nothing is to be repaired."""
    candidates: tuple[str, ...] = ()

    @property
    def kind(self) -> Literal["matched", "conflict", "unlinked"]:
        """Whether one call, several calls or none were found."""
        if self.call is not None:
            return "matched"
        return "conflict" if self.candidates else "unlinked"


def _said(claim: Claim) -> frozenset[str]:
    return claim.ids | {claim.sip_call_id} if claim.sip_call_id else claim.ids


def _a_leg(claim: Claim, call: Known) -> bool:
    return call.sip_call_id in _said(claim)


def _b_leg(claim: Claim, call: Known) -> bool:
    return not call.b_leg_call_ids.isdisjoint(_said(claim))


def _correlation(claim: Claim, call: Known) -> bool:
    # Some platforms hand the correlation token back as the sip_call_id, or under a name of their own.
    if call.correlation_sha256 is None:
        return False
    return claim.correlation_sha256 == call.correlation_sha256 or any(
        correlation_hash(value) == call.correlation_sha256 for value in _said(claim)
    )


def _platform(claim: Claim, call: Known) -> bool:
    return not call.platform_ids.isdisjoint(_said(claim))


def _recipient(claim: Claim, call: Known) -> bool:
    if call.recipient is None or claim.recipient != call.recipient:
        return False
    # A telephone number is dialled again and again; an address is the evaluator's for one call, and it links by nothing else.
    is_number = (party(call.recipient) or "").isdigit()
    return overlaps(claim, call, slack_ms=SLACK_MS if is_number else ADDRESS_SLACK_MS)


def _parties(claim: Claim, call: Known) -> bool:
    # The called side alone proves nothing: every call of an agent has it in common.
    if claim.caller is None or claim.caller != call.caller or (claim.callee is not None and claim.callee != call.callee):
        return False
    return overlaps(claim, call, strict=True) and _mostly(claim, call)


def overlaps(claim: Claim, call: Known, *, strict: bool = False, slack_ms: int = SLACK_MS) -> bool:
    """Whether report and call share time, within `slack_ms`. A report without times overlaps everything, unless `strict`."""
    if claim.start_ms is None or claim.end_ms is None:
        return not strict
    ended = call.ended_ms if call.ended_ms is not None else claim.end_ms
    return claim.start_ms - slack_ms <= ended and call.started_ms <= claim.end_ms + slack_ms


def _mostly(claim: Claim, call: Known) -> bool:
    """Whether one of both lies in the other for half its length at least, wherever within SLACK_MS the clocks stand to each other.

    An evaluator's next call often comes from the same number, seconds after the last one: it touches that one's report and no more.
    """
    if claim.start_ms is None or claim.end_ms is None:
        return False
    said, lasted = claim.end_ms - claim.start_ms, call.ended_ms - call.started_ms if call.ended_ms is not None else None
    shared = min(claim.end_ms, call.ended_ms or claim.end_ms) - max(claim.start_ms, call.started_ms) + SLACK_MS
    return 2 * shared >= (said if lasted is None else min(said, lasted))


RULES: tuple[Rule, ...] = (
    Rule("a_leg_call_id", 1.0, True, _a_leg),
    Rule("b_leg_call_id", 1.0, True, _b_leg),
    Rule("correlation_id", 0.99, True, _correlation),
    Rule("platform_id", 0.95, True, _platform),
    Rule("recipient", 0.9, False, _recipient),
    Rule("to_from_time", 0.7, False, _parties),
)
CALLER_ONLY = 0.5
"""Confidence of `to_from_time` when the report names the caller only."""
CIRCUMSTANTIAL = frozenset(rule.name for rule in RULES if not rule.hard)
"""Rules whose hits may turn into conflicts while calls are still being told of."""
_RANK = {rule.name: index for index, rule in enumerate(RULES)}


def match(claim: Claim, calls: Sequence[Known]) -> Match:
    """The call that `claim` belongs to. The first rule with a hit decides; several hits, or hard rules that disagree, are a conflict."""
    calls = _without_others_ids(calls)
    decided: Match | None = None
    for rule in RULES:
        if decided is not None and not rule.hard:
            break
        hits = _narrow(claim, [call for call in calls if rule.test(claim, call)])
        if not hits:
            continue
        ids = tuple(sorted(call.id for call in hits))
        if decided is None:
            decided = _decide(rule, claim, hits, ids)
        elif decided.call is not None and decided.call not in ids:
            decided = Match(candidates=tuple(sorted({decided.call, *ids})), rule=decided.rule)
    return decided or Match()


def _without_others_ids(calls: Sequence[Known]) -> Sequence[Known]:
    """A call may have heard of another one's Call-ID (it replaced that call, or was transferred to it): there it names the other."""
    owners: dict[str, set[str]] = {}
    for call in calls:
        for own in (call.sip_call_id, *call.b_leg_call_ids):
            owners.setdefault(own, set()).add(call.id)
    foreign = {call.id: frozenset(each for each in call.platform_ids if owners.get(each, set()) - {call.id}) for call in calls}
    return [replace(call, platform_ids=call.platform_ids - foreign[call.id]) if foreign[call.id] else call for call in calls]


def _decide(rule: Rule, claim: Claim, hits: list[Known], ids: tuple[str, ...]) -> Match:
    if len(hits) > 1:
        return Match(rule=rule.name, candidates=ids)
    call = hits[0]
    confidence = CALLER_ONLY if rule.name == "to_from_time" and claim.callee is None else rule.confidence
    return Match(call=call.id, rule=rule.name, confidence=confidence, exact=is_exact(claim, call), candidates=ids)


def is_exact(claim: Claim, call: Known) -> bool:
    """Whether the report carries what the evaluator links by: `recipient` for an outbound call, `sip_call_id` for an inbound one."""
    return claim.recipient == call.recipient if call.outbound and call.recipient is not None else claim.sip_call_id == call.sip_call_id


def _narrow(claim: Claim, hits: list[Known]) -> list[Known]:
    """A Call-ID that was used again (a caller's retry) names several calls: those of the report's time, then the answered one."""
    for keep in (lambda call: overlaps(claim, call), lambda call: call.answered):
        if len(hits) > 1:
            hits = [call for call in hits if keep(call)] or hits
    return hits


@dataclass(frozen=True, slots=True)
class Rival:
    """Another report of the same call. `left`: it was sent with a link in it; `earlier`: it came first."""

    rule: str | None
    exact: bool = False
    left: bool = False
    earlier: bool = False


def against(match_: Match, rivals: Sequence[Rival]) -> Match:
    """`match_` beside other reports of the same call: only one is repaired.

    A report that carries the link itself stays. Another gives way, and becomes a conflict, to a rival that carries it, that has already
    left repaired, that a stronger rule names, or that an equal rule names and that came first.
    """
    if match_.call is None or match_.exact or match_.rule is None:
        return match_
    rank = _RANK[match_.rule]
    for rival in rivals:
        theirs = _RANK.get(rival.rule or "", len(RULES))
        if rival.exact or rival.left or theirs < rank or (theirs == rank and rival.earlier):
            return replace(match_, call=None, confidence=0.0)
    return match_
