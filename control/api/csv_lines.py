"""Calls as lines of comma-separated values (RFC 4180), for whoever works with a spreadsheet: the figures, without turns and messages."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from typing import Any

from control.contract.call import Call

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet runs a cell that begins so, and From, To and reasons are a stranger's text."""

COLUMNS: tuple[tuple[str, Callable[[Call], Any]], ...] = (
    ("id", lambda call: call.id),
    ("sip_call_id", lambda call: call.sip_call_id),
    ("kind", lambda call: call.kind),
    ("direction", lambda call: call.direction),
    ("route", lambda call: call.route),
    ("platform", lambda call: call.platform),
    ("sidecar", lambda call: call.sidecar),
    ("from", lambda call: call.from_),
    ("to", lambda call: call.to),
    ("recipient", lambda call: call.recipient),
    ("started_at", lambda call: call.started_at.isoformat()),
    ("answered_at", lambda call: call.answered_at.isoformat() if call.answered_at else None),
    ("ended_at", lambda call: call.ended_at.isoformat() if call.ended_at else None),
    ("complete", lambda call: str(call.complete).lower()),
    ("status", lambda call: call.status),
    ("ended_by", lambda call: call.ended_by),
    ("reason", lambda call: call.reason),
    ("outcome", lambda call: call.verdict.outcome),
    ("repair_rule", lambda call: call.verdict.repair.rule if call.verdict.repair else None),
    ("repair_confidence", lambda call: call.verdict.repair.confidence if call.verdict.repair else None),
    ("turns", lambda call: len(call.turns)),
    ("response_latency_n", lambda call: call.speech.response_latency_ms.n),
    ("response_latency_p50_ms", lambda call: call.speech.response_latency_ms.p50),
    ("response_latency_p90_ms", lambda call: call.speech.response_latency_ms.p90),
    ("response_latency_max_ms", lambda call: call.speech.response_latency_ms.max),
    ("greeting_ms", lambda call: call.timings_ms.greeting),
    ("barge_ins", lambda call: len(call.barge_ins)),
    ("talk_ratio", lambda call: call.speech.talk_ratio),
    ("caller_loss_pct", lambda call: call.media.caller.loss_pct),
    ("agent_loss_pct", lambda call: call.media.agent.loss_pct),
    ("caller_mos_lq", lambda call: call.media.caller.mos_lq),
    ("agent_mos_lq", lambda call: call.media.agent.mos_lq),
)
"""Name and value of each column, in order; further ones are added at the end."""


def heads() -> str:
    """The line of names."""
    return _lines([[name for name, _ in COLUMNS]])


def lines(calls: Iterable[Call]) -> str:
    """A line a call."""
    return _lines([_cell(value(call)) for _, value in COLUMNS] for call in calls)


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _lines(rows: Iterable[list[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()
