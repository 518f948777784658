"""W3C Trace Context (Recommendation, level 1) in SIP headers: what a peer's `traceparent` says, and what ours is for a call."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

HEADER, STATE = "traceparent", "tracestate"
# Section 3.2.2: version ff is forbidden; version 00 ends after the flags, later ones may go on behind a further dash.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII | re.DOTALL)
_CALL = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span of a trace, in lower-case hex: 32 digits and 16."""

    trace_id: str
    span_id: str
    sampled: bool


def read(values: list[str]) -> TraceContext | None:
    """The context that a message's `traceparent` values tell; None for none, for several and for one that is malformed (section 3.2)."""
    if len(values) != 1:
        return None
    found = _TRACEPARENT.fullmatch(values[0].strip(" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if (version == "00" and more is not None) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & 1))


def span_id(call: str, index: int) -> str:
    """The id of a call's span: 16 hex digits that follow from the call's id and the span's place, 0 being the root.

    Known before the span is exported, so a header that leaves during the call can name it.
    """
    return hashlib.sha256(f"{call}/{index}".encode()).hexdigest()[:16]


def ours(call: str) -> TraceContext:
    """The root span of a call, whose trace id is the call's id. ValueError for an id that is not 32 lower-case hex digits, or is zero."""
    if _CALL.fullmatch(call) is None or not call.strip("0"):
        raise ValueError(f"not a trace id: {call!r}")
    return TraceContext(call, span_id(call, 0), sampled=True)


def traceparent(context: TraceContext) -> str:
    """The header value that names `context` (section 3.2.1)."""
    return f"00-{context.trace_id}-{context.span_id}-{int(context.sampled):02x}"
