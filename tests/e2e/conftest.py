"""The scenario matrix: what real peers did with the sidecar, one line a case, printed at the end of the run."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator

import pytest

from tests.e2e.matrix import rows_of, widths_of
from tests.support.tshark import faults

KEY = f"inline:{b64encode(bytes(30)).decode()}"
"""What stands in a trace for an SRTP key is none, and the dissector would say so (RFC 4568 6.1: 30 octets)."""


@pytest.fixture(scope="session", autouse=True)
def whatever_peers_and_sidecar_said_is_well_formed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """At the end, tshark reads every SIP message of every trace that the tests of this folder left behind."""
    yield
    said = {
        fact["text"].replace("inline:redacted", KEY).encode("utf-8", "surrogateescape")
        for file in tmp_path_factory.getbasetemp().glob("**/spool/*.jsonl")
        if file.is_file()
        for fact in map(json.loads, file.read_text(errors="surrogateescape").splitlines())
        if fact["kind"] == "sip_message"
    }
    if said:
        assert faults(sorted(said), tmp_path_factory.mktemp("tshark")) == []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the matrix of all scenarios that ran."""
    rows = rows_of(terminalreporter.stats)
    if not rows:
        return
    terminalreporter.section("scenarios")
    widths = widths_of(rows)
    for row in rows:
        terminalreporter.line("  ".join([*(text.ljust(width) for text, width in zip(row[:3], widths, strict=True)), row[3]]))
