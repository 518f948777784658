"""`make matrix`: every scenario with every peer over every transport, as `docs/scenarios.md` shows it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

SCENARIO = "scenario"
"""Name of the property under which a test notes (case, transport, peer), or those and its result, once for each line of the matrix."""
FILES = ("sipp_cases", "transports", "kamailio", "baresip", "pypi_agents", "websocket", "failover")
DOCUMENT = Path(__file__).parents[2] / "docs" / "scenarios.md"
Row = tuple[str, str, str, str]

_HEAD = """# Scenarios

What real peers did with the sidecar between them: the case, the transports of the caller's and the agent's leg, the two peers, the result.
Made by `make matrix`, which plays them all and writes this file. What failed is here too, and `make matrix` then says why.

| case | transports | caller → agent | result |
|---|---|---|---|
"""


def rows_of(stats: Mapping[str, Sequence[Any]]) -> list[Row]:
    """The lines of the matrix out of pytest's reports, sorted."""
    rows: list[Row] = []
    for outcome in ("passed", "failed"):
        for report in stats.get(outcome, []):
            if getattr(report, "when", "") == "call":
                noted = [value for name, value in report.user_properties if name == SCENARIO]
                rows += [(*row, outcome) if len(row) == 3 else row for row in noted]
    return sorted(rows)


def widths_of(rows: Sequence[Row]) -> list[int]:
    """Of the first three columns."""
    return [max(len(row[column]) for row in rows) for column in range(3)]


class Writer:
    """A plugin of pytest that writes the document at the end of the run, or the lines of what was run into the one that is there."""

    def __init__(self, is_part: bool) -> None:
        self._is_part = is_part

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        rows = rows_of(terminalreporter.stats)
        if self._is_part:
            known = {tuple(text.strip("| ").split(" | ")) for text in DOCUMENT.read_text(encoding="utf-8").splitlines() if " → " in text}
            rows = sorted({row[:3]: row for row in [*(row for row in known if row[-1] in ("passed", "failed")), *rows]}.values())
        failed = sum(row[3] != "passed" for row in rows)
        lines = [f"| {case} | {transports} | {peers} | {result} |\n" for case, transports, peers, result in rows]
        DOCUMENT.write_text(f"{_HEAD}{''.join(lines)}\n{len(rows)} scenarios, {failed} failed.\n", encoding="utf-8")


if __name__ == "__main__":
    chosen = sys.argv[1:]
    files = [str(Path(__file__).with_name(f"test_{name}.py")) for name in FILES]
    sys.exit(pytest.main([*files, "-q", "-m", "not load", *chosen], plugins=[Writer(bool(chosen) and DOCUMENT.exists())]))
