"""What every log line of both halves has in common."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

_TRACE = re.compile(r"[0-9a-f]{32}")


def name_trace(logger: object, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: a line about a call names the call's trace, under the key by which log stores join logs to traces."""
    call = line.get("call")
    if isinstance(call, str) and _TRACE.fullmatch(call) and "trace_id" not in line:
        line["trace_id"] = call
    return line
