"""What can be typed after an option: spans of time, instants, filters, formats."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Literal

from control.client.errors import ClientError

Format = Literal["json", "ndjson", "csv", "vcon", "pcap", "evidence", "svg", "mermaid", "ladder"]

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def instant(option: str, text: str, now: datetime) -> str:
    """`90s`, `15m`, `1h`, `2d`, `1w` before `now`, or an RFC 3339 time or date, as the API takes it. Raises ClientError."""
    span = _SPAN.fullmatch(text.strip().lower())
    if span is not None:
        try:
            return (now - timedelta(seconds=float(span[1]) * _UNITS[span[2]])).astimezone(UTC).isoformat()
        except OverflowError:
            raise ClientError(f"{option} {text}: is before all time") from None
    try:
        told = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ClientError(f"{option} {text}: give a span such as 30m, 1h or 2d, or a time such as 2026-01-31T12:00:00Z") from None
    return (told if told.tzinfo is not None else told.astimezone()).astimezone(UTC).isoformat()


def filters(now: datetime, since: str | None, until: str | None, **equal: str | float | None) -> dict[str, str]:
    """The parameters of the API for these options; what is None is not asked."""
    found = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in equal.items() if value is not None}
    for name, text in (("since", since), ("until", until)):
        if text is not None:
            found[name] = instant(f"--{name}", text, now)
    return found
