"""A call as a vCon, held to the tables of draft-ietf-vcon-vcon-core-03 (sections 4.1 to 4.5, 6.3)."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from control.api import pcap, vcon
from control.contract.call import Call, Dtmf, Recording
from control.contract.facts import FACT, Fact
from control.contract.fold import fold
from tests.core.control.traces import TOKEN, Trace

TEXT: dict[str, Any] = {"type": "string"}
INDEX: dict[str, Any] = {"type": "integer", "minimum": 0}
DATE: dict[str, Any] = {"type": "string", "format": "date-time"}
CONTENT = {"mediatype": TEXT, "filename": TEXT, "encoding": {"enum": ["base64url", "json", "none"]}, "body": {}}
INLINE = {
    "required": ["mediatype", "encoding", "body"],
    "if": {"properties": {"encoding": {"const": "json"}}},
    "else": {"properties": {"body": TEXT}},
}


def an_object(required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required.split(), "additionalProperties": False, "properties": properties}


HISTORY = {
    **an_object(
        "party time event",
        party=INDEX,
        time=DATE,
        event={"enum": ["join", "drop", "hold", "unhold", "mute", "unmute", "keydown", "keyup"]},
        button=TEXT,
    ),
    "if": {"properties": {"event": {"enum": ["keydown", "keyup"]}}},
    "then": {"required": ["button"]},
}
MEETING = {"start": DATE, "duration": {"type": "number", "minimum": 0}, "parties": {"type": "array", "items": INDEX}, "application": TEXT,
           "party_history": {"type": "array", "items": HISTORY}}  # fmt: skip
DIALOG = {
    "oneOf": [
        an_object("type start recordings", type={"const": "recording-set"}, recordings={"type": "array", "items": INDEX}, **MEETING),
        an_object(
            "type start parties recording_set mediatype encoding body",
            type={"const": "recording"},
            recording_set=INDEX,
            **MEETING,
            **(CONTENT | {"encoding": {"const": "base64url"}, "body": TEXT}),
        ),
        an_object(
            "type start parties recording_set mediatype url content_hash",
            type={"const": "recording"},
            recording_set=INDEX,
            url={"type": "string", "format": "uri"},
            content_hash={"type": "string", "pattern": "^sha512-[A-Za-z0-9_-]{86}$"},
            mediatype=TEXT,
            filename=TEXT,
            **MEETING,
        ),
        an_object(
            "type start disposition",
            type={"const": "incomplete"},
            disposition={"enum": ["no-answer", "congestion", "failed", "busy", "hung-up", "voicemail-no-message"]},
            **MEETING,
        ),
    ]
}
PARTY = an_object(
    "",
    sip={"type": "string", "format": "uri", "pattern": "^sips?:"},
    tel={"type": "string", "pattern": r"^tel:\+[0-9]+$"},
    name=TEXT,
    type={"enum": ["person", "bot", "organization"]},
)
ANALYSIS = {
    **an_object("type vendor dialog", type={"enum": ["report"]}, dialog=INDEX, vendor=TEXT, schema=TEXT, **CONTENT),
    "allOf": [INLINE],
}
ATTACHMENT = {**an_object("start party dialog", purpose=TEXT, start=DATE, party=INDEX, dialog=INDEX, **CONTENT), "allOf": [INLINE]}
SCHEMA = an_object(
    "uuid created_at parties dialog",
    vcon={"const": "0.4.0"},
    uuid={"type": "string", "format": "uuid"},
    created_at=DATE,
    updated_at=DATE,
    subject=TEXT,
    parties={"type": "array", "items": PARTY},
    dialog={"type": "array", "items": DIALOG},
    analysis={"type": "array", "items": ANALYSIS},
    attachments={"type": "array", "items": ATTACHMENT},
)
INVITE = f"INVITE sip:agent@edge SIP/2.0\r\nCSeq: 1 INVITE\r\nX-Correlation-Id: {TOKEN}\r\n\r\n"


def told(trace: Trace) -> tuple[Call, list[Fact]]:
    facts = [FACT.validate_python(fact) for fact in trace.facts]
    call = fold(facts)
    assert call is not None
    return call, facts


def valid(call: Call, facts: list[Fact], audio: vcon.Audio | None = None) -> dict[str, Any]:
    """The container as it is read back from JSON, once it has been found in order."""
    made: dict[str, Any] = json.loads(json.dumps(vcon.container(call, facts, audio)))
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA, format_checker=FormatChecker()).validate(made)
    for dialog in made["dialog"]:
        assert all(place < len(made["parties"]) for place in dialog["parties"])
    assert all(each["party"] < len(made["parties"]) and each["dialog"] < len(made["dialog"]) for each in made["attachments"])
    return made


def answered() -> tuple[Call, list[Fact]]:
    return told(Trace("c1", "SCL_one").message(0, "A", "in", INVITE).answered().ended())


def test_an_answered_call_is_a_conversation_of_caller_and_agent() -> None:
    call, facts = answered()
    call.media.caller.dtmf = [Dtmf(digit="5", start_ms=1000, duration_ms=120)]
    made = valid(call, facts)
    caller, agent, product = made["parties"]
    assert (caller["sip"], caller["tel"], agent["sip"], product["type"]) == (
        "sip:+15550100@evaluator.example",
        "tel:+15550100",
        "sip:agent@edge.example",
        "organization",
    )
    dialog = made["dialog"][0]
    assert call.answered_at is not None
    assert (dialog["type"], dialog["start"], dialog["duration"]) == ("recording-set", call.answered_at.isoformat(), 11.9)
    assert [(each["party"], each["event"], each.get("button")) for each in dialog["party_history"]] == [
        (0, "join", None), (1, "join", None), (0, "keydown", "5"), (0, "keyup", "5"), (0, "drop", None), (1, "drop", None),
    ]  # fmt: skip
    assert dialog["party_history"][2]["time"] == (call.answered_at + timedelta(seconds=1)).isoformat()


def test_figures_are_the_analysis_and_messages_an_attachment() -> None:
    call, facts = answered()
    made = valid(call, facts)
    assert Call.model_validate(made["analysis"][0]["body"]) == call
    capture, drawing = made["attachments"]
    octets = base64.urlsafe_b64decode(capture["body"] + "=" * (-len(capture["body"]) % 4))
    assert octets == pcap.capture(facts)
    assert TOKEN.encode() not in octets
    assert drawing["body"].startswith("<svg ")


@pytest.mark.parametrize(
    ("status", "disposition"), [(486, "busy"), (408, "no-answer"), (487, "hung-up"), (503, "congestion"), (404, "failed"), (603, "failed")]
)
def test_a_call_that_came_to_nothing_says_why(status: int, disposition: str) -> None:
    trace = Trace("c1", "SCL_one").message(0, "A", "in", INVITE)
    made = valid(*told(trace.ended(50, status)))
    dialog = made["dialog"][0]
    assert (dialog["type"], dialog["disposition"]) == ("incomplete", disposition)
    assert [(each["party"], each["event"]) for each in dialog["party_history"]] == [(0, "join"), (0, "drop")]


def test_a_call_that_goes_on_and_one_without_addresses_are_containers_too() -> None:
    assert "duration" not in valid(*told(Trace("c1", "SCL_one").answered()))["dialog"][0]
    call, facts = answered()
    assert valid(call.model_copy(update={"from_": "", "to": "agent"}), facts)["parties"][:2] == [{}, {"type": "bot"}]


def test_the_same_call_has_the_same_name_and_another_call_another() -> None:
    call, facts = answered()
    name = uuid.UUID(vcon.container(call, facts)["uuid"])
    assert (name.version, name.variant) == (8, uuid.RFC_4122)
    assert name.int >> 80 == int(call.started_at.timestamp() * 1000)
    assert name == vcon.name_of(call)
    assert name != vcon.name_of(call.model_copy(update={"id": "c2"}))


@pytest.mark.parametrize("inside", [True, False])
def test_a_recording_is_a_dialog_of_the_set_with_a_party_a_channel(inside: bool) -> None:
    call, facts = answered()
    call.media.recording = Recording(format="ogg", seconds=11.5, bytes=4, sha256="0" * 64)
    digest = hashlib.sha512(b"Opus").digest()
    audio = vcon.Audio("c1.ogg", "audio/ogg", "https://control.example/v1/calls/c1/recording", digest, b"Opus" if inside else None)
    whole, recording = valid(call, facts, audio)["dialog"]
    assert (whole["type"], whole["recordings"], recording["type"], recording["recording_set"]) == ("recording-set", [1], "recording", 0)
    assert (recording["start"], recording["duration"], recording["parties"]) == (whole["start"], 11.5, [0, 1])
    assert (recording["mediatype"], recording["filename"]) == ("audio/ogg", "c1.ogg")
    if inside:
        assert base64.urlsafe_b64decode(recording["body"] + "==") == b"Opus"
    else:
        assert recording["url"] == audio.url
        assert base64.urlsafe_b64decode(recording["content_hash"].removeprefix("sha512-") + "==") == digest
