"""Facts as the sidecar serialises them, for tests of what carries them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

CALL_A = "a" * 32
CALL_B = "b" * 32
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def line(call: str, seq: int, kind: str = "finding_made", **more: object) -> bytes:
    """One fact as a JSON line without its line end; `finding_made` unless told."""
    fact: dict[str, object] = {"call": call, "seq": seq, "at": NOW.isoformat(), "elapsed_ms": seq * 10.0, "kind": kind}
    if kind == "finding_made":
        fact |= {"name": "test", "detail": f"fact {seq}"}
    return json.dumps(fact | more).encode()


def closed(call: str, seq: int) -> bytes:
    """The last fact of a whole trace."""
    return line(call, seq, "call_closed")
