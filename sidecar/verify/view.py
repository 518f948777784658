"""A report for a terminal: one line a step as it happens, what was seen below it, and in the end what is wrong and how to mend it."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from sidecar.verify.steps import Report, Step

_MARKS = {"ok": ("✓", "green"), "note": ("·", "yellow"), "failed": ("✗", "red")}


class View:
    """Writes to one console; colours only where somebody looks."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def step(self, step: Step) -> None:
        """A step is done."""
        mark, colour = _MARKS[step.outcome]
        line = Text.assemble((mark, colour), " ", (f"{step.name:<9}", "bold"), (f"{step.ms:>7.0f} ms  ", "dim"), step.detail)
        self._line(line)
        for what, seen in step.facts:
            self._line(Text(f"{'':<22}{what}: {seen}", "dim"))

    def conclude(self, report: Report) -> None:
        """All steps are done."""
        self._line(Text())
        for found in report.findings:
            self._line(Text.assemble(("✗ ", "red"), (found.cause, "bold"), "."))
            self._line(Text.assemble("  → ", found.mend, "."))
        if report.fine:
            self._line(Text("Fine: an evaluator that dials this URI gets through.", "green"))
        if report.call_id:
            self._line(Text(f"Call-ID of the test call: {report.call_id}", "dim"))

    def _line(self, text: Text) -> None:
        # What a stranger's edge says may hold escape sequences that mean something to a terminal.
        text.plain = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text.plain)
        self._console.print(text, soft_wrap=True)
