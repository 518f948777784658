"""What a sidecar and control say to each other over the WebSocket at `/v1/fleet`: JSON objects, one a text message, told apart by `type`.

The sidecar speaks first (`hello`). Control answers `welcome`, or `farewell` with the reason why not. Then the sidecar beats, control sends
snapshots and commands, and each is answered. Either side ignores keys that it does not know; another `version` is refused.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter

from control.contract.call import ClockOffset, Model
from control.contract.routing import PRINTABLE

VERSION = 1
"""Version of these messages."""
PATH = "/v1/fleet"
MOST_BYTES = 4 * 1024 * 1024
"""Of one message."""

Source = Literal["file", "control"]


class RefusedSnapshot(Model):
    """A snapshot that a sidecar did not take: the one before stays in force."""

    id: str
    version: int
    reason: str


class InForce(Model):
    """Which configuration a sidecar goes by. `source`: whose routes they are; `id`, `version`: the newest snapshot that it took."""

    source: Source = "file"
    id: str | None = None
    version: int | None = None
    refused: RefusedSnapshot | None = None


class SidecarState(Model):
    """What a sidecar tells of itself with each beat."""

    live_calls: int = 0
    ended_calls: dict[str, int] = Field(default_factory=dict)
    """Since its start, by reason."""
    drops: dict[str, int] = Field(default_factory=dict)
    """What it could not keep since its start, by kind."""
    not_ready: list[str] = Field(default_factory=list)
    """Why it should get no new call, one sentence each."""
    draining: bool = False
    routes: list[str] = Field(default_factory=list)
    verify_hosts: list[str] = Field(default_factory=list)
    """Hosts that it may dial for a verification; `*.domain` stands for the names below one."""
    configuration: InForce = Field(default_factory=InForce)
    clock: ClockOffset | None = None


class Hello(Model):
    """The sidecar's first message. `instance` tells one run of the process from the next."""

    type: Literal["hello"] = "hello"
    version: int = VERSION
    sidecar: str = Field(min_length=1, max_length=128)
    instance: str = Field(min_length=1, max_length=64)
    software: str = Field(max_length=64)
    facts_version: int
    state: SidecarState


class Beat(Model):
    """The sidecar lives. `sent_us`: microseconds on its wall clock as this leaves; `n` counts beats."""

    type: Literal["beat"] = "beat"
    n: int
    sent_us: int
    state: SidecarState


class Applied(Model):
    """What became of a snapshot. `reason` when it was refused."""

    type: Literal["applied"] = "applied"
    id: str
    version: int
    applied: bool
    reason: str | None = None


class Progress(Model):
    """Something that a command has done so far."""

    type: Literal["progress"] = "progress"
    id: str
    step: dict[str, Any]


class Trouble(Model):
    """Why a command was not done: the HTTP status that fits, and what to do."""

    status: int = Field(ge=400, le=599)
    detail: str


class Done(Model):
    """A command's end: its result, or why there is none."""

    type: Literal["done"] = "done"
    id: str
    result: dict[str, Any] | None = None
    trouble: Trouble | None = None


class Welcome(Model):
    """Control takes the sidecar in. `heartbeat_s`: how often it wants to hear of it."""

    type: Literal["welcome"] = "welcome"
    version: int = VERSION
    software: str
    heartbeat_s: float = Field(gt=0, le=300)


class Farewell(Model):
    """Control does not want this connection. `retry_s`: when to try again."""

    type: Literal["farewell"] = "farewell"
    reason: str
    retry_s: float = Field(ge=0, le=3600)


class Pulse(Model):
    """The answer to a beat: the beat's own time, and control's clock when it came and when this leaves; all microseconds."""

    type: Literal["pulse"] = "pulse"
    n: int
    sent_us: int
    received_us: int
    replied_us: int


class SnapshotSent(Model):
    """The newest snapshot. Answered by `applied`. `content`: a `routing.Snapshot`; with keys that the sidecar does not know, refused."""

    type: Literal["snapshot"] = "snapshot"
    id: str
    version: int
    content: dict[str, Any] = Field(repr=False)


class VerifyOrder(BaseModel):
    """Place a test call to `uri` and tell each step."""

    name: Literal["verify"] = "verify"
    uri: str
    username: str | None = None
    password: str | None = Field(default=None, repr=False)
    timeout_s: float = Field(gt=0, le=120)


class HangUpOrder(BaseModel):
    """End a live call. `by`: who asks, for the trace."""

    name: Literal["hang_up"] = "hang_up"
    call: str
    by: str


class ListenOrder(BaseModel):
    """Tell the audio of a live call from now on: each step's `audio` is base64 of 16-bit samples, little end first, at 8 kHz, the caller
    left and the agent right. The first step comes at once, and is empty. `by`: who asks.
    """

    name: Literal["listen"] = "listen"
    call: str
    by: str


class CaptureOrder(BaseModel):
    """Keep the packets of a live call's audio from now on. `by`: who asks."""

    name: Literal["capture"] = "capture"
    call: str
    by: str


class DrainOrder(BaseModel):
    """Take no new call, end when the live ones have."""

    name: Literal["drain"] = "drain"
    by: str


Order = Annotated[VerifyOrder | HangUpOrder | ListenOrder | CaptureOrder | DrainOrder, Field(discriminator="name")]
ORDER: TypeAdapter[Order] = TypeAdapter(Order)


class Command(Model):
    """Something to do. Answered by any number of `progress` and one `done`."""

    type: Literal["command"] = "command"
    id: str
    deadline_s: float
    """The sidecar gives up after so many seconds: nobody waits any longer."""
    order: Order


class Cancel(Model):
    """Nobody waits for this command any more."""

    type: Literal["cancel"] = "cancel"
    id: str


FromSidecar = Annotated[Hello | Beat | Applied | Progress | Done, Field(discriminator="type")]
FROM_SIDECAR: TypeAdapter[FromSidecar] = TypeAdapter(FromSidecar)
FromControl = Annotated[Welcome | Farewell | Pulse | SnapshotSent | Command | Cancel, Field(discriminator="type")]
FROM_CONTROL: TypeAdapter[FromControl] = TypeAdapter(FromControl)


class Configuration(Model):
    """How far a sidecar follows control.

    `none`: control holds nothing; `applied`: it has the newest version; `refused`: it did not take it, `reason` says why, and `version`
    stays; `pending`: it has not answered yet.
    """

    state: Literal["none", "applied", "refused", "pending"]
    source: Source
    version: int | None
    """The newest version that it took; null: none."""
    wanted: int | None
    """The newest version that control holds; null: none."""
    reason: str | None


class SidecarSeen(Model):
    """A sidecar that has uploaded or connected. `version`: of its facts. `live_calls`: those whose end control has not heard of."""

    name: str
    version: int
    software: str | None
    first_seen_at: datetime
    last_seen_at: datetime
    facts: int
    live_calls: int
    connected: bool
    connected_at: datetime | None
    """Of the present connection, or of the last."""
    draining: bool
    not_ready: list[str]
    """Why it should get no new call; empty when it is ready."""
    ended_calls: dict[str, int]
    drops: dict[str, int]
    routes: list[str]
    configuration: Configuration
    clock: ClockOffset | None


class Sidecars(Model):
    """All sidecars by name."""

    sidecars: list[SidecarSeen]


class VerifyAsked(BaseModel):
    """What to verify. `sidecar` null: one that is connected and may dial the host is chosen."""

    uri: str = Field(min_length=1, max_length=512, description="What an evaluator would dial, as in sip:agent@voice.example.")
    username: str | None = Field(default=None, max_length=256, pattern=PRINTABLE)
    password: str | None = Field(default=None, max_length=1024, repr=False, json_schema_extra={"writeOnly": True})
    sidecar: str | None = Field(default=None, max_length=128)
    timeout_s: float = Field(default=10.0, ge=0.5, le=30, description="For each wait for an answer.")


class VerifyFact(Model):
    """Something that was seen in a step."""

    what: str
    seen: str


class VerifyFinding(Model):
    """One thing that is wrong: its cause and its mend, in words."""

    name: str
    cause: str
    mend: str


class VerifyStep(Model):
    """One step of a verification. `ms`: how long it took."""

    step: str
    outcome: Literal["ok", "note", "failed"]
    ms: float
    detail: str
    facts: list[VerifyFact]
    findings: list[VerifyFinding]


class VerifyReport(Model):
    """A whole verification. `call_id`: the test call's, empty when none was placed."""

    sidecar: str
    uri: str
    call_id: str
    fine: bool
    steps: list[VerifyStep]
    findings: list[VerifyFinding]


class HungUp(Model):
    """A live call was told to end."""

    call: str
    sidecar: str


class ListenAsked(BaseModel):
    """A WebRTC offer of who wants to listen: one audio section, `recvonly`, with all its candidates."""

    sdp: str = Field(min_length=1, max_length=65536)


class ListenAnswer(Model):
    """The WebRTC answer: Opus, stereo, the caller left and the agent right."""

    call: str
    sidecar: str
    sdp: str


class IceServer(Model):
    """A STUN or TURN server, as WebRTC names them."""

    urls: list[str]
    username: str | None = None
    credential: str | None = Field(default=None, repr=False)


class ListenWays(Model):
    """What a browser has to know before it offers."""

    ice_servers: list[IceServer]


class Capturing(Model):
    """The packets of a live call are kept from now on."""

    call: str
    sidecar: str


class Draining(Model):
    """A sidecar takes no new call from now on and stops when its live ones have ended."""

    sidecar: str
    live_calls: int
