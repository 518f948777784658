"""Facts: what a sidecar appends to a call's trace, one JSON object a line, and posts to control.

A fact is never changed. `(call, seq)` identifies it, so posting it twice is harmless. `seq` counts from 1 without gaps within a call.
A trace ends with exactly one `call_closed` or `call_interrupted`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from control.contract import VERSION
from control.contract.call import BargeIn, ClockOffset, Direction, EndedBy, HopName, Kind, Media, Model, Speech, Timings, Turn

Leg = Literal["A", "B"]
"""A faces the caller, B faces the agent."""
_MOST = 2**31 - 1
"""What an integer column holds on every engine."""


class _Fact(Model):
    call: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """Trace id: 32 lower-case hex digits. What else a database key can hold is taken too."""
    seq: int = Field(ge=1, le=_MOST)
    at: datetime
    """Wall clock of the sidecar."""
    elapsed_ms: float
    """Monotonic milliseconds since the call's first fact: orders and measures, whatever the wall clock does."""


class CallStarted(_Fact):
    """The caller's INVITE was taken."""

    kind: Literal["call_started"] = "call_started"
    sidecar: str
    route: str
    platform: str
    call_kind: Kind
    direction: Direction
    sip_call_id: str
    correlation_id: str | None = None
    from_: str = Field(alias="from")
    to: str
    recipient: str | None = None
    source: str
    clock: ClockOffset | None = None
    """Control's clock against that of `at`, when it was known."""
    wire_only: bool | None = None
    """Whether the route lets control report this call by itself when its agent does not; null: control's own setting decides."""


class SipMessage(_Fact):
    """A SIP message as it was on the wire, with digest responses redacted."""

    kind: Literal["sip_message"] = "sip_message"
    leg: Leg
    direction: Literal["in", "out"]
    transport: str
    local: str
    remote: str
    text: str
    retransmission: bool = False


class LegStarted(_Fact):
    """An INVITE left on the B leg (again for each failover target)."""

    kind: Literal["leg_started"] = "leg_started"
    call_id: str
    target: str


class HopSeen(_Fact):
    """Evidence for the verdict chain: `received` and `carried` come from the sidecar."""

    kind: Literal["hop_seen"] = "hop_seen"
    hop: HopName
    evidence: str


class IdLearned(_Fact):
    """An identifier under which the platform knows this call."""

    kind: Literal["id_learned"] = "id_learned"
    name: str
    value: str


class FindingMade(_Fact):
    """Something at the door was not as it should be."""

    kind: Literal["finding_made"] = "finding_made"
    name: str
    detail: str


class Authentication(_Fact):
    """A digest challenge of the edge and what became of it."""

    kind: Literal["authentication"] = "authentication"
    leg: Leg
    status: int
    realm: str
    algorithm: str
    result: Literal["answered", "refused", "no_credentials"]
    detail: str


class CallAnswered(_Fact):
    """The 200 OK left towards the caller: call time 0."""

    kind: Literal["call_answered"] = "call_answered"


class MediaOpened(_Fact):
    """The codec and addresses that an offer/answer exchange settled for one leg."""

    kind: Literal["media_opened"] = "media_opened"
    leg: Leg
    codec: str
    local: str
    remote: str


class TurnMeasured(_Fact):
    """A turn, live. A later fact with the same `turn.n` replaces it; `call_measured` replaces all."""

    kind: Literal["turn_measured"] = "turn_measured"
    turn: Turn


class Levels(Model):
    """How loud one side was: the greatest level in each step, in whole dB of full scale."""

    from_ms: float
    """Call time at which the first step begins."""
    step_ms: float = Field(gt=0)
    db: list[int]


class Track(Model):
    """What was heard of one side, in call time: enough to draw it, little enough to keep (some 2,400 levels, however long the call)."""

    segments: list[tuple[float, float]] = Field(default_factory=list)
    """Speech: from, to, in order."""
    levels: Levels | None = None
    lost: list[tuple[float, float]] = Field(default_factory=list)
    """Where audio never arrived: from, to. Losses close together are one entry."""
    jitter: list[tuple[float, float]] = Field(default_factory=list)
    """Up to when, and the mean jitter of the packets since the entry before (milliseconds both)."""


class Tracks(Model):
    """Both sides."""

    caller: Track = Field(default_factory=Track)
    agent: Track = Field(default_factory=Track)


class CallMeasured(_Fact):
    """The final figures."""

    kind: Literal["call_measured"] = "call_measured"
    turns: list[Turn]
    barge_ins: list[BargeIn]
    speech: Speech
    media: Media
    greeting_ms: float | None = None
    first_agent_rtp_ms: float | None = None
    """Call time of the agent's first RTP packet; negative for early media."""
    tracks: Tracks | None = None


class CallEnded(_Fact):
    """Signalling is over. `status` is what the caller got for its INVITE (200 for an answered call)."""

    kind: Literal["call_ended"] = "call_ended"
    status: int = Field(ge=0, le=999)
    ended_by: EndedBy
    reason: str
    cause: str
    timings_ms: Timings


class CallClosed(_Fact):
    """The trace is complete."""

    kind: Literal["call_closed"] = "call_closed"


class CallInterrupted(_Fact):
    """The sidecar died during the call; appended when it came back and found the trace open."""

    kind: Literal["call_interrupted"] = "call_interrupted"
    detail: str


Fact = Annotated[
    CallStarted
    | SipMessage
    | LegStarted
    | HopSeen
    | IdLearned
    | FindingMade
    | Authentication
    | CallAnswered
    | MediaOpened
    | TurnMeasured
    | CallMeasured
    | CallEnded
    | CallClosed
    | CallInterrupted,
    Field(discriminator="kind"),
]
TERMINAL = (CallClosed, CallInterrupted)
FACT: TypeAdapter[Fact] = TypeAdapter(Fact)
"""Validates one fact from JSON or from values; raises `pydantic.ValidationError`."""


class FactBatch(Model):
    """Body of `POST /v1/ingest/facts`: facts of any calls, in order within each call."""

    version: int = Field(json_schema_extra={"const": VERSION})
    sidecar: str
    facts: list[Fact]


class FactReceipt(Model):
    """Answer to a batch: what is now stored for good. `new` leaves out what was stored before."""

    stored: int
    new: int


class RecordingReceipt(Model):
    """Answer to `POST /v1/ingest/recordings/{id}` and `…/captures/{id}`: the octets that are now stored for good."""

    bytes: int
