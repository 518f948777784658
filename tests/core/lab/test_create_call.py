"""What the strict stand-in takes and refuses, field by field."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.lab.create_call import problems

MINIMAL: dict[str, Any] = {
    "call_id": "call-1",
    "call_type": "phone_call",
    "transcript_with_tool_calls": [{"role": "agent", "text": "Hello", "start_ms": 0, "end_ms": 900}],
    "start_timestamp": 1_700_000_000,
    "end_timestamp": 1_700_000_020,
    "recording_url": "pending",
}


def test_the_required_fields_are_enough_and_unknown_ones_are_welcome() -> None:
    assert problems(MINIMAL) == []
    assert problems(MINIMAL | {"llm_trace": {"a": 1}, "general_meta_data_raw": {"trunkside": {}}}) == []


@pytest.mark.parametrize("field", MINIMAL)
def test_each_required_field_is_missed(field: str) -> None:
    (problem,) = problems({name: value for name, value in MINIMAL.items() if name != field})
    assert problem["loc"] == ["body", field]
    assert problem["type"] == "missing"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"call_id": ""}, ["call_id"]),
        ({"call_id": "x" * 201}, ["call_id"]),
        ({"call_id": 7}, ["call_id"]),
        ({"transcript_with_tool_calls": []}, ["transcript_with_tool_calls"]),
        ({"transcript_with_tool_calls": [{"role": "user", "text": "Hi", "start_ms": 3}]}, ["transcript_with_tool_calls", 0]),
        ({"transcript_with_tool_calls": [{"role": "robot", "start_ms": 3, "end_ms": 4}]}, ["transcript_with_tool_calls", 0, "role"]),
        ({"start_timestamp": "2024-01-01"}, ["start_timestamp"]),
        ({"end_timestamp": 1_699_999_999}, []),
        ({"end_timestamp": 1_699_999_999_000}, []),
        ({"agent_version": "7"}, ["agent_version"]),
        ({"caller_phone_number": "0123"}, ["caller_phone_number"]),
        ({"sip_headers": {"X-Correlation-Id": 5}}, ["sip_headers", "X-Correlation-Id"]),
        ({"recipient": "agent"}, []),
        ({"user_sentiment": "happy"}, ["user_sentiment"]),
        ({"recording_url": "u" * 1025}, ["recording_url"]),
        ({"recording_file_extension": ".wav"}, ["recording_file_extension"]),
    ],
)
def test_what_the_schema_forbids_is_named_by_its_place(change: dict[str, Any], where: list[str | int]) -> None:
    (problem,) = problems(MINIMAL | change)
    assert problem["loc"] == ["body", *where]


@pytest.mark.parametrize(
    "change",
    [
        {"end_timestamp": 1_700_000_020_000},
        {"transcript_with_tool_calls": [{"role": "user", "start_ms": 3, "duration_ms": 9}]},
        {"transcript_with_tool_calls": [{"role": "user", "words": [{"word": "Hi", "start_ms": 1, "end_ms": 2}]}]},
        {"transcript_with_tool_calls": [{"role": "agent_function", "tool": {"name": "book"}}]},
        {"recipient": "sip:sim-1@sip.example.org"},
        {"recipient": "+4930123456"},
    ],
)
def test_what_the_schema_allows_passes(change: dict[str, Any]) -> None:
    assert problems(MINIMAL | change) == []


@pytest.mark.parametrize("body", [None, [], "text", 3])
def test_a_body_that_is_no_object_is_refused(body: object) -> None:
    assert problems(body)[0]["loc"] == ["body"]
