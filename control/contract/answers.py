"""What the API answers besides a call itself. The OpenAPI document is made from these models, and so are the answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from control.contract.call import Call, Kind, Model, Percentiles
from control.contract.facts import Leg, Tracks

DeliveryState = Literal["pending", "delivered", "dead", "superseded"]


class CallPage(Model):
    """Calls, newest first. `next` is the cursor of the page after this one; null: this is the last."""

    calls: list[Call]
    next: str | None


class Message(Model):
    """A SIP message as it was on the wire: digest responses redacted, correlation tokens hashed."""

    seq: int
    at: datetime
    elapsed_ms: float
    """Since the call's first fact."""
    leg: Leg
    direction: Literal["in", "out"]
    transport: str
    local: str
    remote: str
    text: str
    retransmission: bool


class Messages(Model):
    """The SIP messages of both legs, in order."""

    call: str
    messages: list[Message]


class LadderStep(Model):
    """One step: a SIP message between two neighbours, or something that happened beside them."""

    kind: Literal["message", "rule", "media", "speech"]
    """`rule` concerns everybody; `media` tells of media and authentication, `speech` of turns."""
    ms: float
    """Since the call's first fact."""
    text: str
    leg: Leg | None = None
    """Of a message: A is between caller and trunkside, B between trunkside and agent."""
    rightward: bool | None = None
    """Of a message: away from the caller."""
    seq: int | None = None
    """Of a message: its number in the trace and in `/messages`."""
    copies: int = 0
    """How often a message was repeated; the repetitions are folded into it."""


class Ladder(Model):
    """A call's ladder, in order of time."""

    call: str
    answered_ms: float | None
    """Call time 0 on the same clock; null while the call is not answered."""
    steps: list[LadderStep]


class Note(Model):
    """Something of the trace that is no message: `kind` is the fact's."""

    at_ms: float
    """Since the call's first fact."""
    kind: str
    text: str


class Timeline(Model):
    """What of a trace is drawn besides its messages. Times of `tracks` are call time, those of `…at_ms` since the first fact."""

    call: str
    answered_ms: float | None
    """When call time 0 is, since the call's first fact; null: never answered."""
    tracks: Tracks | None
    """Null until the call has ended, and for one that was not measured."""
    notes: list[Note]


class Histogram(Model):
    """How many values lie in each step, from 0 on; below 0 counts as 0, and the last step holds all beyond."""

    step_ms: float
    counts: list[int]


class SlowTurn(Model):
    """An ordinary response that was among the slowest."""

    call: str
    n: int
    response_latency_ms: float
    started_at: datetime
    """Of the call."""
    route: str


class Span(Model):
    """A span of the agent's own trace that names this call (`tuner.call_id`).

    Its times are the agent's clock set against the sidecar's, so they are off by as much as the two clocks are apart.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    service: str | None
    start_ms: float
    """Call time: 0 is the answer leaving the sidecar; of a call that was not answered, its INVITE."""
    duration_ms: float
    turn: int | None
    """The turn of the wire during which most of it went by."""
    status: Literal["unset", "ok", "error"]
    attributes: dict[str, Any]


class Spans(Model):
    """The spans of a call in order of time. `total` tells when there are more than are shown."""

    call: str
    total: int
    spans: list[Span]


class Summary(Model):
    """Counts by value, and percentiles in milliseconds: always with n, and no p95 under n = 20."""

    calls: int
    outcome: dict[str, int]
    kind: dict[str, int]
    status: dict[str, int]
    reason: dict[str, int]
    response_latency_ms: Percentiles
    greeting_ms: Percentiles
    difference_ms: Percentiles
    """Wire minus reported, for turns that both sides measured."""
    latency_histogram: Histogram
    slowest_turns: list[SlowTurn]
    """The slowest first."""


class Identity(Model):
    """What an agent that cannot read SIP headers needs of the call it is in."""

    id: str
    sip_call_id: str
    b_leg_call_ids: list[str]
    from_: str = Field(alias="from")
    to: str
    recipient: str | None
    kind: Kind
    started_at: datetime


class CallEvent(Model):
    """Data of the server-sent event `call`: a call's state after a change. The event's id resumes a stream."""

    id: str
    sip_call_id: str
    kind: Kind
    route: str
    sidecar: str
    status: int | None
    ended: bool
    outcome: str
    turns: int


class Delivery(Model):
    """One thing in the outbox. `call_id` is the provider's, `call` the id of ours that it is about."""

    id: int
    destination: str
    kind: str
    call_id: str
    call: str | None
    workspace_id: str
    agent_id: str
    state: DeliveryState
    attempts: int
    next_at: datetime | None
    """When it is tried next; null unless pending."""
    under_way: bool
    last_error: str | None
    created_at: datetime
    finished_at: datetime | None


class DeliveryPage(Model):
    """Deliveries, newest first."""

    deliveries: list[Delivery]
    next: str | None


class AuditEntry(Model):
    """A change: `actor` is `token:NAME`, `cli…`, or `anonymous` where no token is asked for."""

    id: int
    at: datetime
    actor: str
    action: str
    target: str
    detail: dict[str, Any]
    source: str | None
    request_id: str | None


class AuditPage(Model):
    """Changes, newest first."""

    entries: list[AuditEntry]
    next: str | None


class CreateCall(BaseModel):
    """An agent's report. Only `call_id` must be right; what else cannot be read is forwarded as it came: it is not ours to refuse."""

    model_config = ConfigDict(extra="allow")

    call_id: Annotated[str, Field(min_length=1, max_length=200)] | int
    """The provider's id: a repetition under the same one changes nothing."""
    sip_call_id: Any = None
    """The link of an inbound simulation."""
    recipient: Any = None
    """The link of an outbound simulation."""
    sip_headers: Any = None
    """By name; may carry X-Correlation-Id."""


class CreateCallAnswer(Model):
    """What the evaluator's clients expect. `recording_upload` only when the report asked for it and the evaluator gave one in time."""

    id: int
    provider_call_id: str
    is_new: bool
    recording_upload: Any = None


class Health(Model):
    """Alive."""

    status: Literal["ok"] = "ok"


class Readiness(Model):
    """Ready, with the inner state of the parts."""

    status: Literal["ok"] = "ok"
    delivery: dict[str, Any]
    events: dict[str, Any]
    access: dict[str, Any]
    fleet: dict[str, Any]


class ProblemDetails(BaseModel):
    """RFC 9457. `detail` says what to do; `request_id` finds it in the log."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    request_id: str
