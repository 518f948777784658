"""Query parameters as models: strict, so that a filter that is misspelt is refused instead of ignored."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from aiohttp import web
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from control.api.problems import Problem
from control.contract.answers import DeliveryState
from control.contract.call import Kind, Outcome

MOST_PER_PAGE = 500
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)?")
_PLAIN_OFFSET = re.compile(r" (\d\d:\d\d)$")


def _whole(value: object) -> object:
    if isinstance(value, str) and (not value.isascii() or not value.isdigit() or len(value) > 15):
        raise PydanticCustomError("whole_number", "must be a whole number")
    return value


def _time(value: object) -> object:
    """A query decodes `+` to a blank, so an offset written plainly arrives with one."""
    text = _PLAIN_OFFSET.sub(r"+\1", value) if isinstance(value, str) else value
    if not isinstance(text, str) or _RFC3339.fullmatch(text) is None:
        raise PydanticCustomError("rfc3339", "must be an RFC 3339 time such as 2026-01-31T12:00:00Z")
    return text


def _aware(value: datetime) -> datetime:
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def _storable_text(value: str) -> str:
    """No database column holds NUL, so nothing stored has one."""
    return value.replace("\x00", "\ufffd")


Text = Annotated[str, Field(max_length=512), AfterValidator(_storable_text)]
Workspace = Annotated[str, Field(max_length=64), AfterValidator(_storable_text)]
Agent = Annotated[str, Field(max_length=256), AfterValidator(_storable_text)]
Moment = Annotated[datetime, BeforeValidator(_time), AfterValidator(_aware)]
Cursor = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,256}$", description="`next` of the page before.")]
Limit = Annotated[int, Field(ge=1, le=MOST_PER_PAGE, description="How many at most."), BeforeValidator(_whole)]
SipStatus = Annotated[int, Field(ge=100, le=699), BeforeValidator(_whole)]
Row = Annotated[int, Field(ge=0, lt=10**15, description="`next` of the page before."), BeforeValidator(_whole)]
Number = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class Query(BaseModel):
    """Base of all queries: a parameter that is not known is refused."""

    model_config = ConfigDict(extra="forbid")


class CallFilter(Query):
    """Which calls."""

    since: Moment | None = Field(None, description="Started at or after this time; without an offset it is UTC.")
    until: Moment | None = Field(None, description="Started before this time.")
    kind: Kind | None = Field(None, description="Simulation or production.")
    outcome: Outcome | None = Field(None, description="What became of the link.")
    route: Text | None = Field(None, description="The sidecar's route.")
    sidecar: Text | None = Field(None, description="The sidecar's name.")
    sip_call_id: Text | None = Field(None, description="The Call-ID of the caller's leg.")
    status: SipStatus | None = Field(None, description="Final SIP status of the caller's INVITE.")
    min_latency_ms: Number | None = Field(None, description="The slowest ordinary response took at least this long.")
    max_latency_ms: Number | None = Field(None, description="The slowest ordinary response took at most this long.")


class CallQuery(CallFilter):
    """A page of calls."""

    limit: Limit = 50
    cursor: Cursor | None = None


class ExportQuery(CallFilter):
    """All calls under a filter, in one of two forms."""

    format: Literal["ndjson", "csv"] = Field("ndjson", description="One JSON object a line, or the figures as comma-separated values.")


class VconQuery(Query):
    """How the recording is in the container."""

    recording: Annotated[
        Literal["auto", "embed", "reference", "none"],
        Field(description="Inline, by reference with its hash, or not at all; auto: inline up to 8 MiB."),
    ] = "auto"


class LadderQuery(Query):
    """The form of a ladder."""

    format: Literal["text", "svg", "mermaid", "json"] = Field("text", description="Text, a drawing, a sequence diagram's source, or steps.")


class CurrentQuery(Query):
    """What an agent knows of its call; at least one."""

    to: Text | None = Field(None, description="The called side: a URI or a number.")
    from_: Text | None = Field(None, alias="from", description="The calling side: a URI or a number.")
    sip_call_id: Text | None = Field(None, description="A Call-ID of either leg.")
    media: Text | None = Field(None, description="host:port of the agent's RTP, or of ours that it sends to; or the port alone.")
    at: Moment | None = Field(None, description="A moment at which the call was live: calls that ended since count as well.")


class EventQuery(Query):
    """Which calls a watcher is told of."""

    call: Text | None = Field(None, description="One call by its id.")
    kind: Kind | None = None
    route: Text | None = None
    sidecar: Text | None = None


class DeliveryQuery(Query):
    """Which deliveries."""

    state: DeliveryState | None = None
    call: Text | None = Field(None, description="The id of a call.")
    call_id: Text | None = Field(None, description="The provider's call_id.")
    limit: Limit = 50
    cursor: Row | None = None


class AuditQuery(Query):
    """Which changes."""

    actor: Text | None = None
    action: Text | None = None
    since: Moment | None = None
    until: Moment | None = None
    limit: Limit = 50
    cursor: Row | None = None


class ReportQuery(BaseModel):
    """The evaluator's own parameters; others that its clients may add are ignored."""

    workspace_id: Workspace | None = Field(None, description="Needed unless configuration or token say it.")
    agent_remote_identifier: Agent | None = Field(None, description="Needed unless configuration or token say it.")
    agent_id: Agent | None = Field(None, description="Another name of agent_remote_identifier.")


Q = TypeVar("Q", bound=BaseModel)


def read(model: type[Q], request: web.Request) -> Q:
    """The query of a request. Raises Problem 400 that names the parameter, what is wrong with it, and what is allowed."""
    twice = [name for name, count in Counter(name for name, _ in request.query.items()).items() if count > 1]
    if twice and issubclass(model, Query):
        raise Problem(400, f"{twice[0]} is given more than once: give it once", parameter=twice[0])
    try:
        return model.model_validate({name: request.query[name] for name in request.query})
    except ValidationError as error:
        raise _problem(model, error) from None


def _problem(model: type[BaseModel], error: ValidationError) -> Problem:
    first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "query"
    if first["type"] == "extra_forbidden":
        known = sorted(field.alias or key for key, field in model.model_fields.items())
        takes = f"this path takes {', '.join(known)}" if known else "this path takes none"
        return Problem(400, f"{name} is not a parameter here: {takes}", parameter=name, allowed=known)
    context: dict[str, Any] = first.get("ctx", {})
    if first["type"] == "literal_error":
        expected = str(context.get("expected", ""))
        return Problem(400, f"{name} must be {expected}", parameter=name, allowed=re.findall(r"'([^']*)'", expected))
    message = first["msg"][0].lower() + first["msg"][1:]
    return Problem(400, f"{name}: {message}", parameter=name)
