"""What a verification reports: its steps in order, each with its time, what was seen, and what is wrong. All of it goes into JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sidecar.verify.findings import Finding

StepName = Literal["uri", "resolve", "connect", "options", "invite", "answer", "media", "end", "received", "carried", "platform", "echoed"]
Outcome = Literal["ok", "note", "failed"]
"""`note`: not as usual, yet no reason for a call to fail."""
Facts = tuple[tuple[str, str], ...]
"""(label, text) in the order in which they were seen."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `ms` is how long it took."""

    name: StepName
    outcome: Outcome
    ms: float
    detail: str
    facts: Facts = ()
    findings: tuple[Finding, ...] = ()

    def as_json(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "step": self.name,
            "outcome": self.outcome,
            "ms": round(self.ms, 1),
            "detail": self.detail,
            "facts": [{"what": what, "seen": seen} for what, seen in self.facts],
            "findings": [found.as_json() for found in self.findings],
        }


@dataclass(frozen=True, slots=True)
class Report:
    """A whole verification. `call_id` is that of the test call, so that it can be found in the edge's log; empty when none was placed."""

    uri: str
    call_id: str
    steps: tuple[Step, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All that is wrong, in the order in which it was found."""
        return tuple(found for step in self.steps for found in step.findings)

    @property
    def fine(self) -> bool:
        """Nothing is wrong."""
        return not self.findings

    @property
    def exit_status(self) -> int:
        """0: fine, 1: a finding, 2: what was given is no SIP URI."""
        if any(found.name == "uri_invalid" for found in self.findings):
            return 2
        return 0 if self.fine else 1

    def as_json(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "uri": self.uri,
            "call_id": self.call_id,
            "fine": self.fine,
            "steps": [step.as_json() for step in self.steps],
            "findings": [found.as_json() for found in self.findings],
        }
