"""The evaluator's Create Call as its documentation describes it, checked to the letter: what a strict stand-in accepts and answers."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StringConstraints, ValidationError, model_validator

Text = Annotated[str, StringConstraints(strict=True)]
Short = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=100)]
Url = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=1024)]
Millis = Annotated[float, Field(ge=0)]
E164_OR_URI = re.compile(r"\+[1-9]\d{1,14}|sips?:\S+")
SECONDS_BELOW = 10_000_000_000
"""An epoch under this is in seconds, from it on in milliseconds."""


class _Open(BaseModel):
    """Known keys are checked, unknown ones are accepted."""

    model_config = ConfigDict(extra="allow")


class Word(_Open):
    """One word with its times relative to the call's start."""

    word: Text
    start_ms: Millis
    end_ms: Millis
    confidence: float | None = None


class Tool(_Open):
    """A tool call or its result."""

    name: Text
    request_id: Text | None = None
    params: dict[str, Any] | None = None
    is_error: StrictBool | None = None
    error: Text | None = None
    start_ms: Millis | None = None


class SegmentMetadata(_Open):
    """Latencies in milliseconds and marks of one segment."""

    e2e_latency: float | None = None
    interrupted: StrictBool | None = None
    llm_node_ttft: float | None = None
    tts_node_ttfb: float | None = None
    stt_node_ttfb: float | None = None
    transcript_confidence: float | None = None


class Segment(_Open):
    """One entry of the transcript."""

    role: Literal["user", "agent", "agent_function", "agent_result", "node_transition"]
    text: Text | None = None
    start_ms: Millis | None = None
    end_ms: Millis | None = None
    duration_ms: Millis | None = None
    words: list[Word] | None = None
    tool: Tool | None = None
    node: dict[str, Any] | None = None
    metadata: SegmentMetadata | None = None

    @model_validator(mode="after")
    def _timed(self) -> Self:
        timed = self.words or (self.start_ms is not None and (self.end_ms is not None or self.duration_ms is not None))
        if self.role in ("user", "agent") and not timed:
            raise ValueError("a user or agent segment needs words, or start_ms with end_ms or duration_ms")
        return self


class CreateCall(_Open):
    """The body of POST /api/v1/public/call."""

    call_id: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=200)]
    call_type: Short
    transcript_with_tool_calls: Annotated[list[Segment], Field(min_length=1)]
    start_timestamp: StrictInt
    end_timestamp: StrictInt
    recording_url: Url
    agent_version: Annotated[StrictInt, Field(ge=0)] | None = None
    transcript: Text | None = None
    duration_ms: Annotated[StrictInt, Field(ge=0)] | None = None
    call_status: Annotated[str, StringConstraints(max_length=100)] | None = None
    disconnection_reason: Annotated[str, StringConstraints(max_length=100)] | None = None
    caller_phone_number: Annotated[str, StringConstraints(max_length=50, pattern=r"^\+[1-9]\d{1,14}$")] | None = None
    call_successful: StrictBool | None = None
    in_voicemail: StrictBool | None = None
    user_sentiment: Literal["positive", "neutral", "negative", "unknown"] | None = None
    collected_dynamic_variables: dict[str, Any] | None = None
    call_analysis: dict[str, Any] | None = None
    call_cost: float | None = None
    metadata: dict[str, Any] | None = None
    general_meta_data_raw: dict[str, Any] | None = None
    recording_multi_channel_url: Url | None = None
    sip_call_id: Annotated[str, StringConstraints(strict=True, min_length=1)] | None = None
    sip_headers: dict[str, Text] | None = None
    recipient: Annotated[str, StringConstraints(strict=True)] | None = None
    recording_file_extension: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]+$")] | None = None
    recording_s3_multi_channel: StrictBool | None = None
    recording_s3_caller_channel: Annotated[StrictInt, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if _seconds(self.end_timestamp) < _seconds(self.start_timestamp):
            raise ValueError("end_timestamp lies before start_timestamp")
        if self.recipient is not None and not E164_OR_URI.fullmatch(self.recipient):
            raise ValueError("recipient must be an E.164 number or a SIP URI")
        return self


def _seconds(epoch: int) -> float:
    return epoch if epoch < SECONDS_BELOW else epoch / 1000


def problems(body: object) -> list[dict[str, Any]]:
    """What is wrong with a Create Call body, as the `detail` of a 422: `[{"loc": […], "msg": …, "type": …}]`; empty when it is right."""
    try:
        CreateCall.model_validate(body)
    except ValidationError as error:
        return [
            {"loc": ["body", *item["loc"]], "msg": item["msg"], "type": item["type"]}
            for item in error.errors(include_url=False, include_context=False, include_input=False)
        ]
    return []
