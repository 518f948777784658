"""The scenario matrix: what real peers did with the sidecar, one line a case, printed at the end of the run."""

from __future__ import annotations

import pytest

SCENARIO = "scenario"
"""Name of the property under which a test notes (case, transport, peer), or those and its result, once for each line of the matrix."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the matrix of all scenarios that ran."""
    rows: list[tuple[str, str, str, str]] = []
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            if report.when == "call":
                noted = [value for name, value in report.user_properties if name == SCENARIO]
                rows += [(*row, outcome) if len(row) == 3 else row for row in noted]
    if not rows:
        return
    terminalreporter.section("scenarios")
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in sorted(rows):
        terminalreporter.line("  ".join([*(text.ljust(width) for text, width in zip(row[:3], widths, strict=True)), row[3]]))
