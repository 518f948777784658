"""Matching over the store: which call a stored report belongs to, and the verdict that follows for that call."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from control.clock import as_datetime
from control.contract.call import Call, Finding, Hop
from control.contract.fold import correlation_hash
from control.matching.claim import Claim, party, read_claim
from control.matching.rules import Match, Rival, against, known, match
from control.matching.splice import compare, link_of, reported
from control.matching.verdict import Answer, outcome_of_report, repair_of, verdict
from control.store import rows
from control.store.dialect import insert_many, lock
from control.store.schema import calls, claims, conflicts, deliveries, reports

LEFT_EARLY = "report_left_unlinked"
SECOND_REPORT = "second_report"
WIRE_ONLY_UNSET = "wire_only_unset"
"""A route asks for a report of the wire alone, and control has no credentials for one: no agent's request brings them."""
_THESE: sa.BindParameter[str] = sa.bindparam("calls", expanding=True)
_MATCHED = sa.select(reports).where(reports.c.call.in_(_THESE))
_TORN = (
    sa.select(conflicts.c.call.label("candidate"), reports)
    .join(reports, reports.c.id == conflicts.c.report)
    .where(conflicts.c.call.in_(_THESE), reports.c.outcome == "conflict")
)
_CLAIMING = sa.select(claims.c.report).where(claims.c.value.in_(sa.bindparam("values", expanding=True)))
_WAITING = sa.select(reports).where(reports.c.id.in_(_CLAIMING), reports.c.call.is_(None), reports.c.origin == "agent")
_FOUND = ("call", "outcome", "rule", "confidence", "exact", "candidates")
_RELATE = sa.update(reports).where(reports.c.id == sa.bindparam("this")).values({name: sa.bindparam(f"its_{name}") for name in _FOUND})
_CARRY = sa.update(deliveries).where(deliveries.c.report == sa.bindparam("this")).values(call=sa.bindparam("its_call"))
_CALLER = "caller:"
"""Keeps a caller apart from identifiers among the claims: a telephone number is no Call-ID."""


async def link(conn: AsyncConnection, report: sa.Row[Any]) -> Match:
    """Match a stored report against all calls and write the result on it. In a frozen report nothing is mended any more."""
    claim = read_claim(report.body)
    found = await rows.candidates(conn, _values(claim), claim)
    matched = match(claim, [known(call) for call in found])
    if matched.call is not None and not matched.exact:
        await lock(conn, [matched.call])  # two replicas must not mend two reports of one call
        matched = against(matched, await _rivals(conn, report, matched.call))
    simulation = next((call.kind == "simulation" for call in found if call.id == matched.call), True)
    outcome = outcome_of_report(
        matched=matched.call is not None,
        candidates=len(matched.candidates),
        exact=matched.exact,
        simulation=simulation,
        left_unlinked=report.frozen,
    )
    values = {
        "call": matched.call,
        "outcome": outcome,
        "rule": matched.rule,
        "confidence": matched.confidence,
        "exact": matched.exact,
        "candidates": json.dumps(list(matched.candidates)),
    }
    if any(getattr(report, name) != value for name, value in values.items()):
        await conn.execute(_RELATE, {"this": report.id, **{f"its_{name}": value for name, value in values.items()}})
    if report.call != matched.call:
        await conn.execute(_CARRY, {"this": report.id, "its_call": matched.call})
    if report.outcome == "conflict":
        await conn.execute(sa.delete(conflicts).where(conflicts.c.report == report.id))
    if outcome == "conflict":
        await conn.execute(sa.insert(conflicts), [{"call": call, "report": report.id} for call in matched.candidates])
    return matched


async def _rivals(conn: AsyncConnection, report: sa.Row[Any], call_id: str) -> list[Rival]:
    others = sa.select(reports).where(reports.c.call == call_id, reports.c.id != report.id, reports.c.origin == "agent")
    return [
        Rival(other.rule, exact=other.exact, left=other.frozen and other.outcome == "repaired", earlier=other.id < report.id)
        for other in await conn.execute(others)
    ]


async def settle_verdict(conn: AsyncConnection, call_id: str, now: int, *, grace_over: bool | None = None) -> Call | None:
    """Work out the call's verdict from all its reports and write it; returns the call when it changed.

    `grace_over` None keeps what the row says.
    """
    row = await rows.load(conn, call_id)
    if row is None:
        return None
    call = rows.read_call(row.doc)
    settled = row.settled if grace_over is None else grace_over
    await judge(conn, call, settled)
    if settled == row.settled and call.model_dump_json(by_alias=True) == row.doc:
        return None
    await rows.save(conn, call, now, settled=settled)
    return call


async def settle_all(conn: AsyncConnection, call_ids: Sequence[str], now: int) -> list[Call]:
    """Close the time for a report of several calls. Returns those that changed with it."""
    before = {call_id: row for call_id, row in (await rows.load_all(conn, call_ids)).items() if not row.settled}
    judged = {call_id: rows.read_call(row.doc) for call_id, row in before.items()}
    await judge_all(conn, {call_id: (call, True) for call_id, call in judged.items()})
    changed = [call for call_id, call in judged.items() if call.model_dump_json(by_alias=True) != before[call_id].doc]
    for call in changed:
        await rows.save(conn, call, now)
    for part in rows.parts(sorted(before)):
        await conn.execute(sa.update(calls).where(calls.c.id.in_(part)).values(settled=True))
    return changed


async def judge(conn: AsyncConnection, call: Call, grace_over: bool) -> bool:
    """Put the verdict, and what else its reports add, into `call`. Returns whether a report waits for this call."""
    return bool(await judge_all(conn, {call.id: (call, grace_over)}))


async def judge_all(conn: AsyncConnection, judged: Mapping[str, tuple[Call, bool]]) -> set[str]:
    """As `judge`, for several calls with their `grace_over`. Returns those for which a report waits."""
    concerning = await _concerning(conn, sorted(judged))
    waited_for: set[str] = set()
    for call_id, (call, grace_over) in judged.items():
        ours = concerning.get(call_id, [])
        _judge(call, grace_over, ours)
        if any(report.call == call_id and not report.frozen for report in ours):
            waited_for.add(call_id)
    return waited_for


def _judge(call: Call, grace_over: bool, ours: list[sa.Row[Any]]) -> None:
    outcome, deciding = verdict(
        simulation=call.kind == "simulation",
        answered=call.answered_at is not None,
        ended=call.ended_at is not None,
        grace_over=grace_over,
        answers=[_answer(report) for report in ours],
    )
    call.verdict.outcome, call.verdict.repair = outcome, repair_of(deciding)
    call.verdict.candidates = list(deciding.candidates) if deciding is not None and outcome == "conflict" else []
    for report in ours:
        _tell(call, report, sum(each.origin == "agent" and each.call == call.id for each in ours))


async def add_hop(conn: AsyncConnection, call_id: str, hop: Hop, now: int) -> Call | None:
    """Append evidence to a call's verdict, once. Returns the call when it changed."""
    row = await rows.load(conn, call_id)
    if row is None:
        return None
    call = rows.read_call(row.doc)
    if any(seen.hop == hop.hop and seen.evidence == hop.evidence for seen in call.verdict.hops):
        return None
    call.verdict.hops.append(hop)
    await rows.save(conn, call, now)
    return call


async def add_finding(conn: AsyncConnection, call_id: str, finding: Finding, now: int) -> Call | None:
    """Put a finding of control's own into a call's verdict, once. Returns the call when it changed."""
    row = await rows.load(conn, call_id)
    if row is None:
        return None
    call = rows.read_call(row.doc)
    if finding in call.verdict.findings:
        return None
    _find(call, finding.name, finding.detail)
    await rows.save(conn, call, now)
    return call


async def waiting_for(conn: AsyncConnection, changed: Iterable[Call]) -> list[sa.Row[Any]]:
    """The reports without a call that a change of these calls may concern, in order of arrival."""
    values = {value for call in changed for value in _findable(call)}
    found: dict[int, sa.Row[Any]] = {}
    for part in rows.parts(sorted(values)):
        found |= {report.id: report for report in await conn.execute(_WAITING, {"values": part})}
    return [found[number] for number in sorted(found)]


async def relink(conn: AsyncConnection, waiting: Iterable[sa.Row[Any]]) -> set[str]:
    """Match reports again. Returns the calls whose verdicts may have changed with it."""
    touched: set[str] = set()
    for report in waiting:
        touched |= set(json.loads(report.candidates))
        matched = await link(conn, report)
        touched |= set(matched.candidates)
    return touched


async def save_claims(conn: AsyncConnection, report: int, claim: Claim) -> None:
    """Make a report findable by every call that a rule may match it with."""
    await insert_many(conn, claims, [{"value": value, "report": report} for value in claimed(claim)], on_conflict="skip")


def claimed(claim: Claim) -> list[str]:
    """Every value that a call of this claim may be known by."""
    said = _values(claim) | ({_CALLER + claim.caller} if claim.caller is not None else set())
    return sorted({rows.clip(each) for each in said})


def _findable(call: Call) -> set[str]:
    caller = party(call.from_)
    names = {call.sip_call_id, *call.b_leg_call_ids, *call.platform_ids}
    names |= {value for value in (call.correlation_sha256, call.recipient, _CALLER + caller if caller else None) if value}
    return {rows.clip(name) for name in names}


def _values(claim: Claim) -> set[str]:
    said = set(claim.ids) | ({claim.sip_call_id} if claim.sip_call_id else set())
    hashed = {correlation_hash(value) for value in said}
    extra = {value for value in (claim.correlation_sha256, claim.recipient) if value}
    return said | hashed | extra


async def _concerning(conn: AsyncConnection, call_ids: list[str]) -> dict[str, list[sa.Row[Any]]]:
    """By call, in order of arrival: the reports that were matched to it, and those in conflict over it."""
    found: dict[str, dict[int, sa.Row[Any]]] = {}
    for part in rows.parts(call_ids):
        for report in await conn.execute(_MATCHED, {"calls": part}):
            found.setdefault(report.call, {})[report.id] = report
        for report in await conn.execute(_TORN, {"calls": part}):
            found.setdefault(report.candidate, {})[report.id] = report
    return {call: [by_number[number] for number in sorted(by_number)] for call, by_number in found.items()}


def _answer(report: sa.Row[Any]) -> Answer:
    if report.origin == "wire":
        return Answer("repaired", "wire_only", None, 1.0)
    return Answer(report.outcome, report.rule, report.sip_call_id, report.confidence, tuple(json.loads(report.candidates)))


def _tell(call: Call, report: sa.Row[Any], agents_reports: int) -> None:
    """Put into the call what one report adds: the echo of the identity, the agent's own figures, what was odd."""
    if report.origin != "agent" or report.call != call.id:
        return
    claim = read_claim(report.body)
    evidence = _echo(claim, call)
    if evidence is not None and all(hop.hop != "echoed" for hop in call.verdict.hops):
        call.verdict.hops.append(Hop(hop="echoed", at=as_datetime(report.received_us), evidence=evidence))
    if report.frozen and report.outcome == "unlinked":
        _find(call, LEFT_EARLY, f"report {claim.provider_call_id} left before the trace came, so it was not mended")
    if agents_reports > 1:
        _find(call, SECOND_REPORT, f"{agents_reports} reports claim this call")
    pairs = compare(report.body, call)
    if pairs:
        call.reported = reported(pairs)


def _echo(claim: Claim, call: Call) -> str | None:
    wanted = link_of(call)
    if getattr(claim, wanted.name) == wanted.value:
        return f"the report carried {wanted.name}"
    if (place := claim.places.get(wanted.value)) is not None:
        return f"the report carried the Call-ID in {rows.clip(place)}, and not in {wanted.name}"
    if claim.correlation_sha256 is not None and claim.correlation_sha256 == call.correlation_sha256:
        return "the report carried X-Correlation-Id in sip_headers"
    return None


def _find(call: Call, name: str, detail: str) -> None:
    call.verdict.findings = [finding for finding in call.verdict.findings if finding.name != name]
    call.verdict.findings.append(Finding(name=name, detail=detail))
