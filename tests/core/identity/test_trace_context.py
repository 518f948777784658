"""W3C Trace Context, section 3.2: what is a traceparent and what is not."""

from __future__ import annotations

import pytest

from sidecar.identity import trace_context
from sidecar.identity.trace_context import TraceContext

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f" 00-{TRACE}-{SPAN}-03\t", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be", True),
    ],
)
def test_well_formed(value: str, sampled: bool) -> None:
    assert trace_context.read([value]) == TraceContext(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01"],
        [f"ff-{TRACE}-{SPAN}-01"],
        [f"00-{TRACE.upper()}-{SPAN}-01"],
        [f"00-{'0' * 32}-{SPAN}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"00-{TRACE}-{SPAN}-01-more"],
        [f"cc-{TRACE}-{SPAN}-01.more"],
        [f"00-{TRACE}-{SPAN}-1"],
        [f"00-{TRACE[1:]}-{SPAN}-01"],
        [""],
    ],
)
def test_everything_else_is_ignored(values: list[str]) -> None:
    assert trace_context.read(values) is None


def test_what_is_written_can_be_read() -> None:
    ours = trace_context.ours(TRACE)
    assert trace_context.read([trace_context.traceparent(ours)]) == ours
    assert ours.trace_id == TRACE


@pytest.mark.parametrize("call", ["", "0" * 32, TRACE.upper(), TRACE + "0"])
def test_an_id_that_cannot_name_a_trace_is_refused(call: str) -> None:
    with pytest.raises(ValueError, match="trace id"):
        trace_context.ours(call)
