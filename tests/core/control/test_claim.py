"""What a report says about itself, in all the forms that agents and platforms give it."""

from __future__ import annotations

import json

import pytest

from control.contract.fold import correlation_hash
from control.matching.claim import Unreadable, epoch_ms, party, read_claim, variants


def claim_of(**members: object):  # type: ignore[no-untyped-def]
    return read_claim(json.dumps({"call_id": "r1", **members}).encode())


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sip:+1 (555) 010-0@host;user=phone", "15550100"),
        ("tel:+15550100", "15550100"),
        ("15550100", "15550100"),
        ('"Bob, the <caller" <sip:+15550100@10.0.0.1:5060;transport=tcp>;tag=1', "15550100"),
        ("SIP:Agent@Edge.Example:5070", "agent@edge.example"),
        ("sips:agent@edge.example?X-A=b", "agent@edge.example"),
        ("anonymous", None),
        ('"Anonymous" <sip:anonymous@anonymous.invalid>;tag=1', None),
        ("sip:Restricted@10.0.0.1", None),
        ("sip:%2B15550100@h", "15550100"),
        ("", None),
        (None, None),
        ("<>", None),
    ],
)
def test_party_is_the_number_or_the_address(uri: str | None, expected: str | None) -> None:
    assert party(uri) == expected


def test_identifiers_are_also_found_in_their_encoded_forms() -> None:
    assert variants("SCL_abc%40host") == {"SCL_abc%40host", "SCL_abc@host"}
    assert variants(b"SCL_abc".hex()) == {"53434c5f616263", "SCL_abc"}
    assert variants("00ff00ff00ff") == {"00ff00ff00ff"}  # hex, but of nothing that could be an identifier


def test_identifiers_are_read_from_headers_and_free_form_objects() -> None:
    claim = claim_of(
        sip_headers={"X-CID": "header-id", "n": None},
        general_meta_data_raw={"sip_call_id_full": "meta-id", "o": {}},
        metadata={"sid": "CA1234"},
    )
    assert {"header-id", "meta-id", "CA1234"} <= claim.ids


def test_identifiers_are_found_in_a_platforms_own_payload_however_it_nests() -> None:
    payload = {"transport": {"sbcCallSid": "sbc-call-1"}, "phoneCallProviderDetails": [{"sbcCallId": "sbc-call-2"}], "phase": 1}
    claim = claim_of(collected_dynamic_variables={"call": payload})
    assert {"sbc-call-1", "sbc-call-2"} <= claim.ids
    assert claim.places["sbc-call-2"] == "collected_dynamic_variables.call.phoneCallProviderDetails.0.sbcCallId"
    with pytest.raises(Unreadable):
        read_claim(b'{"call_id":"r1","metadata":' + b'{"d":' * 50_000 + b"1" + b"}" * 50_001)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_every_encoding_that_parsers_take_is_read(encoding: str) -> None:
    assert read_claim('{"call_id": "r\u00e9"}'.encode(encoding)).provider_call_id == "r\u00e9"


def test_numbers_of_any_length_do_not_refuse_a_report() -> None:
    assert read_claim(b'{"call_id": "r1", "n": ' + b"1" * 5000 + b"}").provider_call_id == "r1"


@pytest.mark.parametrize("name", ["X-Correlation-Id", "x-correlation-id", "SipHeader_X-Correlation-Id"])
def test_correlation_token_is_kept_as_its_hash_alone(name: str) -> None:
    claim = claim_of(sip_headers={name: "f" * 32})
    assert claim.correlation_sha256 == correlation_hash("f" * 32)


@pytest.mark.parametrize(
    ("value", "expected"), [(1_700_000_000, 1_700_000_000_000), (1_700_000_000_123, 1_700_000_000_123), (1.7e9, 1_700_000_000_000)]
)
def test_both_timestamp_units_are_understood(value: float, expected: int) -> None:
    assert epoch_ms(value) == expected


@pytest.mark.parametrize("value", [None, True, "1700000000", -1, 0, 1e300, float("nan")])
def test_what_is_no_timestamp_is_none(value: object) -> None:
    assert epoch_ms(value) is None


def test_oddly_typed_members_do_not_refuse_a_report() -> None:
    claim = claim_of(
        sip_call_id=5, sip_headers=["x"], recipient={}, start_timestamp="now", transcript_with_tool_calls=None, general_meta_data_raw=None
    )
    assert (claim.sip_call_id, claim.recipient, claim.start_ms) == (None, None, None)
    assert read_claim(b'{"call_id": 17}').provider_call_id == "17"
    assert (
        read_claim(b'{"call_id": "r1", "text": "a\tb\x01"}').provider_call_id == "r1"
    )  # raw control characters, as careless writers leave them


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"null", b'{"call_id": true}', b'{"call_id": "' + b"x" * 201 + b'"}', b"[" * 50_000])
def test_what_has_no_usable_call_id_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        read_claim(body)


def test_lone_surrogates_become_something_that_can_be_stored() -> None:
    claim = read_claim(b'{"call_id": "r\\ud800", "sip_call_id": "a\\udcff", "sip_headers": {"X-Correlation-Id": "\\ud800"}}')
    assert (claim.provider_call_id, claim.sip_call_id) == ("r?", "a?")
    assert claim.correlation_sha256 == correlation_hash("?")
