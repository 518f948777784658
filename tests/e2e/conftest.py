"""The scenario matrix: what real peers did with the sidecar, one line a case, printed at the end of the run."""

from __future__ import annotations

import pytest

from tests.e2e.matrix import rows_of, widths_of


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the matrix of all scenarios that ran."""
    rows = rows_of(terminalreporter.stats)
    if not rows:
        return
    terminalreporter.section("scenarios")
    widths = widths_of(rows)
    for row in rows:
        terminalreporter.line("  ".join([*(text.ljust(width) for text, width in zip(row[:3], widths, strict=True)), row[3]]))
