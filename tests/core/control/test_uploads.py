"""Which recordings are offered to the evaluator with a report, and how."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from control.contract.call import Call, Kind, Recording, RecordingFormat
from control.delivery.upload import read_form
from control.matching.splice import enrich
from control.store.uploads import UploadPolicy

SIMULATIONS, ALL, NONE = frozenset({"simulation"}), frozenset({"simulation", "production"}), frozenset[str]()


def call(kind: Kind, form: RecordingFormat | None) -> Call:
    made = Call(id="c1", sip_call_id="SCL_abc", kind=kind, started_at=datetime(2026, 1, 31, 12, tzinfo=UTC))
    made.media.recording = Recording(format=form, seconds=1.0, bytes=16_044, sha256="0" * 64) if form is not None else None
    return made


@pytest.mark.parametrize(
    ("kinds", "kind", "form", "agents_own", "offered"),
    [
        (SIMULATIONS, "simulation", "wav", False, "wav"),
        (SIMULATIONS, "simulation", "ogg", False, "ogg"),
        (SIMULATIONS, "simulation", "wav", True, None),
        (SIMULATIONS, "production", "wav", False, None),
        (ALL, "production", "wav", False, "wav"),
        (ALL, "simulation", None, False, None),
        (NONE, "simulation", "wav", False, None),
    ],
)
def test_which_recordings_are_offered(
    kinds: frozenset[str], kind: Kind, form: RecordingFormat | None, agents_own: bool, offered: str | None
) -> None:
    assert UploadPolicy(kinds).wanted(call(kind, form), agents_own=agents_own) == offered


@pytest.mark.parametrize(
    "body", [b'{"call_id": "r1"}', b'{"recording_file_extension": null, "call_id":"r1", "recording_s3_caller_channel": null}']
)
def test_an_offer_tells_the_form_and_who_is_in_which_channel(body: bytes) -> None:
    told = json.loads(enrich(body, call("simulation", "ogg"), recording="ogg"))
    assert (told["recording_file_extension"], told["recording_s3_multi_channel"], told["recording_s3_caller_channel"]) == ("ogg", True, 0)
    assert "recording_s3_multi_channel" not in json.loads(enrich(body, call("simulation", "ogg")))


@pytest.mark.parametrize(
    "given",
    [None, "no form", [], {"fields": {}}, {"url": "ftp://s.example"}, {"url": "https://s.example", "fields": 3}, {"url": "https://a b"},
     {"url": "https://s.example", "content_type": "audio/wav\r\nX-Evil: 1"}, {"url": "https://s.example", "max_bytes": -1}],
)  # fmt: skip
def test_what_is_no_form_is_none(given: object) -> None:
    assert read_form(given) is None


def test_the_fields_of_a_form_stay_in_their_order() -> None:
    names = ["policy", "key", "Content-Type", "x-amz-signature", "a"]
    form = read_form({"url": "https://s.example/b", "fields": dict.fromkeys(names, "v"), "later": 1})
    assert form is not None
    assert list(form.fields) == names
    assert list(json.loads(form.model_dump_json())["fields"]) == names
