"""The pass-through changes what is ours, and not one byte besides."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.contract.call import Call, Turn
from control.matching.claim import Unreadable, read_claim, read_json
from control.matching.splice import Link, compare, enrich, link_of, reported

ANSWERED = datetime(2026, 1, 31, 12, tzinfo=UTC)


def call(*turns: tuple[float, float], **more: Any) -> Call:
    """A call whose turns are (caller's end, agent's start) in ms of call time."""
    told = [
        Turn(
            n=n,
            kind="response",
            caller_start_ms=end - 500,
            caller_end_ms=end,
            agent_start_ms=start,
            agent_end_ms=start + 900,
            response_latency_ms=start - end,
        )
        for n, (end, start) in enumerate(turns, 1)
    ]
    values: dict[str, Any] = {"id": "c1", "sip_call_id": 'SCL_"abc', "started_at": ANSWERED, "answered_at": ANSWERED, "turns": told}
    return Call(**(values | more))


OURS = json.dumps(call().as_json())
LINK = Link("sip_call_id", 'SCL_"abc')


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"call_id":"r"}', '{"call_id":"r", "sip_call_id": "SCL_\\"abc", "general_meta_data_raw": {"trunkside": OURS}}'),
        ('{"sip_call_id" : null ,"n":1.50}\n', '{"sip_call_id" : "SCL_\\"abc" ,"n":1.50, "general_meta_data_raw": {"trunkside": OURS}}\n'),
        ('{"general_meta_data_raw":{},"sip_call_id":"x"}', '{"general_meta_data_raw":{"trunkside": OURS},"sip_call_id":"SCL_\\"abc"}'),
        ('{"general_meta_data_raw":null}', '{"general_meta_data_raw":{"trunkside": OURS}, "sip_call_id": "SCL_\\"abc"}'),
        (
            '\t{ "general_meta_data_raw" : { "trunkside" : [ "}" ] , "é" : "\\u00e9😀" } }',
            '\t{ "general_meta_data_raw" : { "trunkside" : OURS , "é" : "\\u00e9😀" }, "sip_call_id": "SCL_\\"abc" }',
        ),
        ('{"general_meta_data_raw":"theirs","a":1E+2}', '{"general_meta_data_raw":"theirs","a":1E+2, "sip_call_id": "SCL_\\"abc"}'),
    ],
)
def test_only_our_members_change(before: str, after: str) -> None:
    assert enrich(before.encode(), call(), repair=LINK).decode() == after.replace("OURS", OURS)


def test_without_a_repair_the_reported_id_stays() -> None:
    body = b'{"sip_call_id": null, "general_meta_data_raw": {"a": 1}}'
    assert enrich(body, call()).startswith(b'{"sip_call_id": null, ')


def test_of_a_repeated_member_the_one_that_parsers_take_is_changed() -> None:
    out = enrich(b'{"sip_call_id": "a", "sip_call_id": "b"}', call(), repair=LINK)
    assert out.startswith(b'{"sip_call_id": "a", "sip_call_id": "SCL_\\"abc"')
    assert json.loads(out)["sip_call_id"] == 'SCL_"abc'


@pytest.mark.parametrize("body", [b"", b"{", b'{"a":}', b'"text"', b"[1]", b'{"a":1} {"b":2}', b'\xff{"a":1}', b"[" * 50_000])
def test_what_cannot_be_edited_safely_leaves_as_it_came(body: bytes) -> None:
    assert enrich(body, call(), repair=LINK) == body


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-16-le", "utf-32"])
def test_a_body_stays_in_its_encoding_and_keeps_its_byte_order_mark(encoding: str) -> None:
    body = ' {"text" : "\u00e9\U0001f600"} '.encode(encoding)
    out = enrich(body, call(), repair=LINK)
    assert read_json(out)["sip_call_id"] == LINK.value
    mark = len("".encode(encoding))
    assert out[:mark] == body[:mark]
    assert out.decode(encoding).startswith(' {"text" : "\u00e9\U0001f600", ')


def test_surrogates_that_were_encoded_as_they_are_stay() -> None:
    out = enrich(b'{"text":"\xed\xa0\xbd"}', call(), repair=LINK)
    assert out.startswith(b'{"text":"\xed\xa0\xbd", "sip_call_id": ')


def test_numbers_of_any_length_pass() -> None:
    digits = b"1" * 5000
    assert digits in enrich(b'{"n": ' + digits + b"}", call(), repair=LINK)


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":, \n\\ue0-1.E"nulltrefa\ufeff', max_size=60).map(str.encode))
def test_whatever_is_read_as_a_report_can_be_mended(rest: bytes) -> None:
    for body in (rest, b'{"call_id":"r"' + rest + b"}", b'{"call_id":"r","general_meta_data_raw":' + rest + b"}"):
        try:
            read_claim(body)
        except Unreadable:
            continue
        assert read_claim(enrich(body, call(), repair=LINK)).sip_call_id == LINK.value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)
SEGMENT = st.fixed_dictionaries(
    {"role": st.sampled_from(["agent", "user", "agent_function"]), "text": st.text(max_size=5)},
    optional={
        "start_ms": st.integers(0, 9000) | st.none(),
        "metadata": st.none() | st.dictionaries(st.text(max_size=4), JSON, max_size=2),
        "words": JSON,
    },
)
REPORT = st.fixed_dictionaries(
    {},
    optional={
        "call_id": st.text(max_size=5),
        "sip_call_id": st.none() | st.text(max_size=5),
        "general_meta_data_raw": JSON,
        "transcript_with_tool_calls": st.lists(SEGMENT | JSON, max_size=6) | JSON,
        "é \n": JSON,
    },
)


@given(REPORT, st.sampled_from([None, 1, "\t"]), st.booleans(), st.sampled_from([(",", ":"), (" ,\n", " : ")]))
def test_every_other_byte_and_the_order_of_all_members_stay(
    report: dict[str, Any], indent: Any, ascii_only: bool, separators: tuple[str, str]
) -> None:
    text = json.dumps(report, indent=indent, ensure_ascii=ascii_only, separators=separators)
    wire = call((1000, 1600), (4000, 4800))
    out = enrich(text.encode("utf-8", "surrogatepass"), wire, repair=LINK, pairs=compare(text.encode(), wire))
    result = out.decode()
    assert _without_ours(_forms(result)) == _without_ours(_forms(text))
    stripped = result.replace(json.dumps(wire.as_json()), "")
    if report.get("sip_call_id") is None and "sip_call_id" not in report:
        assert _is_subsequence(text, stripped) or report.get("general_meta_data_raw", 0) is None or _null_metadata(report)
    assert json.loads(result)["sip_call_id"] == 'SCL_"abc'


def _forms(text: str) -> Any:
    """The parse of a text that keeps number forms, member order and repeated members."""
    return json.loads(text, object_pairs_hook=list, parse_int=lambda n: ("n", n), parse_float=lambda n: ("n", n))


def _without_ours(top: Any) -> Any:
    kept = []
    for name, value in top:
        if name == "sip_call_id":
            continue
        if name == "general_meta_data_raw" and (value is None or isinstance(value, list)):
            value = _strip(value, "trunkside")
        if name == "transcript_with_tool_calls" and isinstance(value, list):
            value = [_segment(each) for each in value]
        if value is not None:
            kept.append((name, value))
    return kept


def _segment(segment: Any) -> Any:
    if not isinstance(segment, list):
        return segment
    pairs = [
        (pair[0], _strip(pair[1], "wire_response_latency") if pair[0] == "metadata" else pair[1])
        for pair in segment
        if isinstance(pair, tuple)
    ]
    return [pair for pair in pairs if pair[1] is not None] if pairs else segment


def _strip(value: Any, name: str) -> Any:
    """An object without our member; None when nothing is left, as an absent or null one is."""
    if isinstance(value, list) and all(isinstance(pair, tuple) and isinstance(pair[0], str) for pair in value):
        return [pair for pair in value if pair[0] != name] or None
    return value


def _is_subsequence(short: str, long: str) -> bool:
    rest = iter(long)
    return all(character in rest for character in short)


def _null_metadata(report: dict[str, Any]) -> bool:
    segments = report.get("transcript_with_tool_calls")
    return isinstance(segments, list) and any(isinstance(each, dict) and each.get("metadata", 0) is None for each in segments)


def segments(*agents: tuple[float, float | None], shift: float = 0.0, **more: Any) -> bytes:
    told = [{"role": "agent", "text": "", "start_ms": start + shift, "metadata": {"e2e_latency": claimed}} for start, claimed in agents]
    return json.dumps({"call_id": "r", "transcript_with_tool_calls": told, **more}).encode()


@pytest.mark.parametrize("shift", [0, -1200, 2500, 9000])
def test_segments_find_their_turns_whatever_the_time_base(shift: float) -> None:
    wire = call((2000, 2600), (6500, 7400), (11_000, 11_900))
    pairs = compare(segments((2650, 400), (7420, 800), (11_880, None), shift=shift), wire)
    assert [(pair.segment.index, pair.segment.claimed_ms, pair.wire_ms) for pair in pairs] == [(0, 400, 600), (1, 800, 900), (2, None, 900)]


def test_the_report_is_set_beside_the_wire_segment_by_segment() -> None:
    wire = call((2000, 2600), (6500, 7400), (11_000, 11_900))
    told = reported(compare(segments((2650, 400), (7400, 800), (11_880, None), shift=2500), wire))
    assert told.offset_ms == -2500
    assert [(turn.segment, turn.turn, turn.e2e_latency_ms, turn.response_latency_ms, turn.difference_ms) for turn in told.turns] == [
        (0, 1, 400, 600, 200),
        (1, 2, 800, 900, 100),
        (2, 3, None, 900, None),
    ]
    assert [turn.start_difference_ms for turn in told.turns] == [-50, 0, 20]
    assert (told.difference_ms, told.difference.n, told.difference.p50, told.difference.max) == ([200, 100], 2, 100, 200)
    assert reported([]).turns == []


def test_timestamps_decide_between_shifts_that_fit_equally() -> None:
    wire = call((1000, 2000), (4000, 5000), (7000, 8000))
    late = int(ANSWERED.timestamp() * 1000) + 3000  # the agent's session began with the second turn near
    pairs = compare(segments((2000, None), (5000, None), start_timestamp=late, end_timestamp=late + 9000), wire)
    assert [round(pair.segment.start_ms + 3000) for pair in pairs] == [5000, 8000]
    assert [pair.wire_ms for pair in pairs] == [1000, 1000]


def test_a_greeting_or_a_segment_far_from_every_turn_has_no_latency() -> None:
    wire = call((2000, 2600), timings_ms={"greeting": 300})
    pairs = compare(segments((310, None), (2610, 500), (30_000, 1)), wire)
    assert [(pair.segment.index, pair.wire_ms) for pair in pairs] == [(1, 600)]


def test_link_is_the_recipient_of_an_outbound_call() -> None:
    assert link_of(call(direction="outbound", recipient="sip:sim-1@h")) == Link("recipient", "sip:sim-1@h")
    assert link_of(call()) == LINK
