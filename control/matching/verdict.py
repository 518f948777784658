"""What became of the link: the outcome of a call as a function of its reports, and how long a report may wait for its call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from control.contract.call import Outcome, Repair


@dataclass(frozen=True, slots=True)
class Answer:
    """A report as the verdict sees it, once it was matched to a call or was one candidate's share of a conflict."""

    outcome: Outcome
    """`linked`, `repaired`, `conflict`, `unlinked` or `not_applicable`, from `outcome_of_report`."""
    rule: str | None = None
    reported: str | None = None
    confidence: float = 0.0
    candidates: tuple[str, ...] = ()


_BEST: tuple[Outcome, ...] = ("linked", "repaired", "conflict", "unlinked")
"""The strongest report decides, whatever the order of arrival."""


def outcome_of_report(*, matched: bool, candidates: int, exact: bool, simulation: bool, left_unlinked: bool = False) -> Outcome:
    """What a report's match means for the report. `left_unlinked`: it was sent before its call was known, so nothing was mended in it."""
    if not matched:
        return "conflict" if candidates else "unlinked"
    if not simulation:
        return "not_applicable"
    if exact:
        return "linked"
    return "unlinked" if left_unlinked else "repaired"


def verdict(*, simulation: bool, answered: bool, ended: bool, grace_over: bool, answers: Sequence[Answer]) -> tuple[Outcome, Answer | None]:
    """The outcome of a call and the report that decided it.

    A call that the agent never answered owes no report. `grace_over`: the time allowed for a report after the call's end is gone.
    """
    if not simulation:
        return "not_applicable", None
    for outcome in _BEST:
        deciding = next((answer for answer in answers if answer.outcome == outcome), None)
        if deciding is not None:
            return outcome, deciding
    if not ended:
        return "pending", None
    if not answered:
        return "not_applicable", None
    return ("missing" if grace_over else "pending"), None


def repair_of(answer: Answer | None) -> Repair | None:
    """The repair that an API client sees, when there was one."""
    if answer is None or answer.outcome != "repaired" or answer.rule is None:
        return None
    return Repair(rule=answer.rule, reported=answer.reported, confidence=answer.confidence)


UPLOAD_WAIT_US = 3_000_000
"""How long a report waits whose sender wants an upload target, and for it waits until the evaluator has answered (SDKs: 15 s or more)."""


def patience(*, arrived: int, complete: bool, live: bool, ended: int | None, wait: int, cap: int) -> int:
    """When a report has to leave, in the unit of its arguments.

    At once when its trace is complete; `wait` after its arrival or the call's end; `cap` after its arrival while the call lives on.
    """
    if complete:
        return arrived
    if live:
        return arrived + max(wait, cap)
    return min(max(arrived, ended or arrived) + wait, arrived + max(wait, cap))
