"""Every test that the threat model names exists, and every threat names one."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODEL = (ROOT / "THREAT_MODEL.md").read_text(encoding="utf-8")


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", MODEL)
    assert len(named) > 40
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in (ROOT / file).read_text(encoding="utf-8")]
    assert missing == []


def test_every_threat_names_a_mechanism_and_a_test() -> None:
    tables = MODEL.split("\n## Threats")[1:]
    rows = [line for table in tables for line in table.split("\n## ")[0].splitlines() if line.startswith("| ") and "|---" not in line]
    threats = [row for row in rows if not row.startswith("| threat")]
    assert len(threats) >= 20
    for row in threats:
        _, threat, mechanism, test, _ = row.split("|")
        assert threat.strip()
        assert mechanism.strip()
        assert "::test_" in test, threat
