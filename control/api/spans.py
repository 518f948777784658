"""An agent's own spans as the API shows them: on the call's time, beside the turns, without the correlation token."""

from __future__ import annotations

import re
from typing import Any, Literal, cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from control.contract import facts as f
from control.contract.answers import Span, Spans
from control.contract.call import Call
from control.contract.fold import correlation_hash
from control.contract.redact import redact_correlation, token_of
from control.matching.spans import AgentSpan, turn_of
from control.store import spans
from control.store.schema import facts

_CORRELATION = re.compile(r"correlation[-_.]?id$", re.IGNORECASE)


async def told_spans(conn: AsyncConnection, call: Call) -> Spans:
    """The spans of `call`."""
    total, found = await spans.of_call(conn, call.id)
    token = await _token(conn, call) if found else None
    zero_us = (call.answered_at or call.started_at).timestamp() * 1e6
    return Spans(call=call.id, total=total, spans=[_shown(span, call, zero_us, token) for span in found])


async def _token(conn: AsyncConnection, call: Call) -> str | None:
    first = sa.select(facts.c.doc).where(facts.c.call == call.id, facts.c.kind == "call_started").limit(1)
    doc = await conn.scalar(first)
    return token_of([f.FACT.validate_json(doc)]) if doc is not None else None


def _shown(span: AgentSpan, call: Call, zero_us: float, token: str | None) -> Span:
    start, end = (span.start_us - zero_us) / 1000, (span.end_us - zero_us) / 1000
    return Span(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        name=redact_correlation(span.name, token),
        service=span.service,
        start_ms=round(start, 3),
        duration_ms=round(end - start, 3),
        turn=turn_of(start, end, call.turns),
        status=cast("Literal['unset', 'ok', 'error']", span.status),
        attributes={name: _hidden(name, value, token) for name, value in span.attributes.items()},
    )


def _hidden(name: str, value: Any, token: str | None) -> Any:
    if isinstance(value, list):
        return [_hidden(name, each, token) for each in value]
    if not isinstance(value, str):
        return value
    return f"sha256:{correlation_hash(value)}" if _CORRELATION.search(name) else redact_correlation(value, token)
