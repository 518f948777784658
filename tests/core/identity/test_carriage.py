"""The identity on its way to the platform and back out of what the application reports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.identity.carriage import carry, decode, decode_as, encode, reported_forms, shortfalls
from sidecar.identity.presets import ENCODINGS, PRESETS, Encoding, preset_from_values

CALL_ID = "2xTb9aQ0kLm3@203.0.113.9:5060"
TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_common_headers_are_always_there_raw(name: str) -> None:
    assert carry(PRESETS[name], CALL_ID, TOKEN)[:2] == [("X-Sip-Call-Id", CALL_ID), ("X-CID", CALL_ID)]


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("call_id", [CALL_ID, "2xTb9aQ0kLm3Zp8RwV4sY1cN7dE", TOKEN, "a%41b"])
def test_whichever_header_the_application_reads_its_report_decodes_to_the_call_id(name: str, call_id: str) -> None:
    preset = PRESETS[name]
    for header, value in carry(preset, call_id, None):
        if preset.passes(header):
            assert decode(preset, value) == call_id
            assert value in reported_forms(preset, call_id, None)
    assert decode(preset, call_id) == call_id


def test_plivo_sees_letters_and_digits_only() -> None:
    through = [(name, value) for name, value in carry(PRESETS["plivo"], CALL_ID, TOKEN) if PRESETS["plivo"].passes(name)]
    assert through == [("X-PH-Sipcallid", CALL_ID.encode().hex()), ("X-PH-Correlationid", TOKEN)]
    assert carry(PRESETS["plivo"], CALL_ID, "a-b")[-1] == ("X-PH-Correlationid", b"a-b".hex())
    assert all(value.isalnum() for _, value in through)


def test_vapi_gets_a_name_that_is_a_variable_there() -> None:
    assert ("X-sip_call_id", CALL_ID) in carry(PRESETS["vapi"], CALL_ID, None)


def test_the_correlation_token_is_never_taken_for_an_encoded_id() -> None:
    assert decode(PRESETS["plivo"], TOKEN) == TOKEN
    assert TOKEN in reported_forms(PRESETS["generic"], CALL_ID, TOKEN)


def test_a_percent_preset_of_ones_own_round_trips() -> None:
    preset = preset_from_values("mine", {"alias": "X-Link", "encoding": "percent", "seen_as": ["{name}"]})
    assert dict(carry(preset, CALL_ID, None))["X-Link"] == "2xTb9aQ0kLm3%40203.0.113.9%3A5060"
    assert decode(preset, "2xTb9aQ0kLm3%40203.0.113.9%3A5060") == CALL_ID


@given(st.sampled_from(ENCODINGS), st.binary(max_size=40).map(lambda octets: octets.decode("utf-8", "surrogateescape")))
def test_every_encoding_is_undone(encoding: Encoding, value: str) -> None:
    if value or encoding != "hex":
        assert decode_as(encoding, encode(encoding, value)) == value


@given(st.sampled_from(sorted(PRESETS)), st.text())
def test_any_report_decodes_to_something(name: str, reported: str) -> None:
    assert isinstance(decode(PRESETS[name], reported), str)


def test_what_a_platform_cannot_carry_is_named() -> None:
    assert [finding.name for finding in shortfalls(PRESETS["exotel"], CALL_ID)] == ["carriage_none"]
    assert shortfalls(PRESETS["retell"], CALL_ID) == ()
    assert [finding.name for finding in shortfalls(PRESETS["retell"], "x" * 1100)] == ["carriage_too_long"]
    assert shortfalls(PRESETS["generic"], "x" * 1100) == ()
