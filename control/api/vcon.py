"""A call as a vCon, the IETF's container of conversations (draft-ietf-vcon-vcon-core-03, unsigned form). Pure: call and trace in, JSON out.

A call that was answered is a dialog of type `recording-set`: the one form that tells of a conversation, its time and its parties without
holding media. Its recording, where there is one, is a second dialog that belongs to it, inline or by reference with its hash. A call that
was not answered is `incomplete` with its disposition. The figures and the verdict are an analysis. The SIP messages (as a
capture file) and the ladder are attachments, which the product itself contributes as a party.
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from control.api import ladder_svg, pcap
from control.contract import facts as f
from control.contract.call import Call, Dtmf

MEDIA_TYPE = "application/vcon+json"
VERSION = "0.4.0"
"""Section 4.1.1."""
CALLER, AGENT, TRUNKSIDE = 0, 1, 2
"""Places in `parties`."""
_NUMBER = re.compile(r"(?:sips?|tel):(\+[0-9]{6,15})(?:[@;>]|$)", re.IGNORECASE)
_DISPOSITIONS = {
    "busy": (486, 600),
    "no-answer": (408, 480),
    "hung-up": (487,),
    "congestion": (503,),
}
"""Section 4.3.11; every other status is `failed`."""


@dataclass(frozen=True, slots=True)
class Audio:
    """The recording's file: its octets, or where they are and their SHA-512 (section 2.4)."""

    name: str
    mediatype: str
    url: str
    sha512: bytes
    content: bytes | None = None


def container(call: Call, trace: Iterable[f.Fact], audio: Audio | None = None) -> dict[str, Any]:
    """The container as values that JSON can hold. The same call, trace and recording give the same container."""
    facts = list(trace)
    updated = max((fact.at for fact in facts), default=call.ended_at or call.started_at)
    return {
        "vcon": VERSION,
        "uuid": str(name_of(call)),
        "created_at": _at(call.started_at),
        "updated_at": _at(updated),
        "subject": f"{call.kind} call, {call.direction}" + (f", route {call.route}" if call.route else ""),
        "parties": [_party(call.from_), _party(call.recipient or call.to, kind="bot"), {"name": "Trunkside", "type": "organization"}],
        "dialog": [_dialog(call, 0 if audio is None else 1), *([_recording(call, audio)] if audio is not None else [])],
        "analysis": [
            {
                "type": "report",
                "dialog": 0,
                "vendor": "Trunkside",
                "schema": "trunkside-call-v1",
                "mediatype": "application/json",
                "encoding": "json",
                "body": call.as_json(),
            }
        ],
        "attachments": [
            _attachment(
                call, "SIP messages of both legs", "sip.pcap", "application/vnd.tcpdump.pcap", "base64url", _base64(pcap.capture(facts))
            ),
            _attachment(call, "ladder of the signalling", "ladder.svg", "image/svg+xml", "none", ladder_svg.render_svg(call, facts)),
        ],
    }


def name_of(call: Call) -> uuid.UUID:
    """Version 8 (RFC 9562 section 5.8): the start in milliseconds as in version 7, then a hash of the call's id. The same each time."""
    millis = max(0, int(call.started_at.timestamp() * 1000)) & (1 << 48) - 1
    digest = int.from_bytes(hashlib.sha256(f"trunkside/vcon/{call.id}".encode("utf-8", "replace")).digest()[:10], "big")
    number = millis << 80 | digest
    number = number & ~(0xF << 76) | 8 << 76
    return uuid.UUID(int=number & ~(0x3 << 62) | 0x2 << 62)


def _party(address: str, kind: str | None = None) -> dict[str, Any]:
    """Sections 4.2.1 and 4.2.2; a party without an address is an empty object, which means unknown."""
    party: dict[str, Any] = {"sip": address} if address.lower().startswith(("sip:", "sips:")) else {}
    number = _NUMBER.match(address)
    if number is not None:
        party["tel"] = f"tel:{number[1]}"
    if kind is not None:
        party["type"] = kind
    return party


def _dialog(call: Call, recordings: int) -> dict[str, Any]:
    begun = {"start": _at(call.answered_at or call.started_at), "parties": [CALLER, AGENT], "application": "trunkside"}
    if call.answered_at is None:
        return {"type": "incomplete", **begun, "disposition": _disposition(call.status), "party_history": _history(call)}
    ended = {"duration": max(0.0, (call.ended_at - call.answered_at).total_seconds())} if call.ended_at is not None else {}
    return {"type": "recording-set", **begun, **ended, "recordings": list(range(1, 1 + recordings)), "party_history": _history(call)}


def _recording(call: Call, audio: Audio) -> dict[str, Any]:
    """Sections 4.3.4 and 4.3.10: two channels, a party each. It begins with the answer."""
    told = call.media.recording
    dialog: dict[str, Any] = {
        "type": "recording",
        "start": _at(call.answered_at or call.started_at),
        "parties": [CALLER, AGENT],
        "recording_set": 0,
        "mediatype": audio.mediatype,
        "filename": audio.name,
        "application": "trunkside",
    }
    if told is not None:
        dialog["duration"] = told.seconds
    if audio.content is not None:
        return {**dialog, "encoding": "base64url", "body": _base64(audio.content)}
    return {**dialog, "url": audio.url, "content_hash": f"sha512-{_base64(audio.sha512)}"}


def _disposition(status: int | None) -> str:
    return next((name for name, statuses in _DISPOSITIONS.items() if status in statuses), "failed")


def _history(call: Call) -> list[dict[str, Any]]:
    """Who came and went, and which keys were pressed, in order of time."""
    found: list[tuple[datetime, dict[str, Any]]] = [(call.started_at, {"party": CALLER, "event": "join"})]
    if call.answered_at is not None:
        found.append((call.answered_at, {"party": AGENT, "event": "join"}))
        for party, keys in ((CALLER, call.media.caller.dtmf), (AGENT, call.media.agent.dtmf)):
            found += [each for key in keys for each in _key(call.answered_at, party, key)]
    if call.ended_at is not None:
        present = [CALLER, AGENT] if call.answered_at is not None else [CALLER]
        first = AGENT if call.ended_by == "agent" else CALLER
        found += [(call.ended_at, {"party": party, "event": "drop"}) for party in sorted(present, key=lambda party: party != first)]
    return [{"time": _at(at), **event} for at, event in sorted(found, key=lambda each: each[0])]


def _key(zero: datetime, party: int, key: Dtmf) -> list[tuple[datetime, dict[str, Any]]]:
    down = zero + timedelta(milliseconds=key.start_ms)
    up = down + timedelta(milliseconds=key.duration_ms)
    return [
        (down, {"party": party, "event": "keydown", "button": key.digit}),
        (up, {"party": party, "event": "keyup", "button": key.digit}),
    ]


def _attachment(call: Call, purpose: str, name: str, mediatype: str, encoding: str, body: str) -> dict[str, Any]:
    return {
        "purpose": purpose,
        "start": _at(call.started_at),
        "party": TRUNKSIDE,
        "dialog": 0,
        "mediatype": mediatype,
        "filename": name,
        "encoding": encoding,
        "body": body,
    }


def _base64(data: bytes) -> str:
    """RFC 4648 section 5, without padding, as the draft's section 2.3.2 has it."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _at(moment: datetime) -> str:
    return moment.isoformat()
