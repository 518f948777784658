"""The closed set of causes and what a report says of them."""

from __future__ import annotations

import json
import string

import pytest

from sidecar.verify.findings import NAMES, WORDS, CauseName, finding
from sidecar.verify.steps import Report, Step


def fields(name: CauseName) -> set[str]:
    return {field for text in WORDS[name] for _, field, _, _ in string.Formatter().parse(text) if field}


@pytest.mark.parametrize("name", NAMES)
def test_every_cause_has_one_sentence_and_one_mend(name: CauseName) -> None:
    found = finding(name, **dict.fromkeys(fields(name), "x"))
    for text in (found.cause, found.mend):
        assert text
        assert "{" not in text
        assert "\n" not in text
        assert not text.endswith(".")
        assert ". " not in text


def test_the_table_is_the_set() -> None:
    assert set(WORDS) == set(NAMES)


def test_a_fact_that_is_missing_is_not_passed_over() -> None:
    with pytest.raises(KeyError):
        finding("host_unknown")


def test_what_an_edge_says_is_not_taken_for_a_template() -> None:
    assert finding("host_unknown", host="{secret}").cause.startswith("host {secret} has no SRV")


@pytest.mark.parametrize(
    ("findings", "status"),
    [
        ((), 0),
        ((finding("answer_without_sdp"),), 1),
        ((finding("uri_invalid", uri="x", why="y"), finding("answer_without_sdp")), 2),
    ],
)
def test_the_exit_status_tells_a_finding_from_usage(findings: tuple[object, ...], status: int) -> None:
    report = Report("sip:a@b", "", (Step("uri", "ok", 0.0, "", (), findings),))  # type: ignore[arg-type]
    assert report.exit_status == status


def test_a_report_is_json() -> None:
    steps = (
        Step("uri", "ok", 1.26, "user a"),
        Step("answer", "failed", 2.0, "none", (("codecs", "OPUS"),), (finding("answer_without_sdp"),)),
    )
    seen = json.loads(json.dumps(Report("sip:a@b", "id", steps).as_json()))
    assert seen["fine"] is False
    assert [step["step"] for step in seen["steps"]] == ["uri", "answer"]
    assert seen["steps"][0]["ms"] == 1.3
    assert seen["steps"][1]["facts"] == [{"what": "codecs", "seen": "OPUS"}]
    assert seen["findings"] == seen["steps"][1]["findings"]
    assert seen["findings"][0]["name"] == "answer_without_sdp"
