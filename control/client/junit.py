"""Checks as JUnit XML, the form in which build servers read test results."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from xml.etree import ElementTree as ET

from control.client.bounds import Check


def document(checks: Sequence[Check], at: datetime, took_s: float) -> bytes:
    """One test case a check; its failure holds a line for each breach."""
    failures = sum(bool(check.breaches) for check in checks)
    sums = {"tests": str(len(checks)), "failures": str(failures), "errors": "0", "time": f"{took_s:.3f}"}
    root = ET.Element("testsuites", {"name": "trunkside", **sums})
    suite = ET.SubElement(
        root, "testsuite", {"name": "trunkside calls assert", "skipped": "0", "timestamp": at.isoformat(timespec="seconds"), **sums}
    )
    for check in checks:
        case = ET.SubElement(suite, "testcase", {"classname": "trunkside.calls", "name": check.name, "time": "0"})
        if check.breaches:
            failure = ET.SubElement(case, "failure", {"message": _xml(check.breaches[0]), "type": "breach"})
            failure.text = _xml("\n".join(check.breaches))
        ET.SubElement(case, "system-out").text = _xml(check.found)
    ET.indent(root)
    text: str = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'.encode()


def _xml(text: str) -> str:
    """Text as XML 1.0 can hold it."""
    return "".join(
        sign if sign == "\n" or (sign >= " " and not 0xD800 <= ord(sign) <= 0xDFFF and ord(sign) < 0xFFFE) else " " for sign in text
    )
