"""W3C Trace Context on the way through: what the agent's leg is told of the call's trace."""

from __future__ import annotations

from sidecar.identity import trace_context
from sidecar.trace import spans
from tests.core.trace.calls import CALLER_CONTEXT
from tests.support.relay import Relay, Relayed, route

CALLERS = (("Traceparent", CALLER_CONTEXT), ("tracestate", "vendor=1"))


def dialled(traced: bool, *headers: tuple[str, str]) -> tuple[Relay, Relayed]:
    relay = Relay(route("generic"), traced=traced)
    return relay, relay.call("sip:agent@generic.test", call_id="one@caller", headers=headers)


def test_a_traced_call_tells_the_agent_its_own_root_span() -> None:
    _, call = dialled(True)
    assert call.arrived.headers.all("traceparent") == [trace_context.traceparent(trace_context.ours(call.id))]


def test_the_callers_context_does_not_cross_a_traced_call_but_is_linked_from_its_root() -> None:
    relay, call = dialled(True, *CALLERS)
    told = call.arrived.headers.all("traceparent")
    assert len(told) == 1
    context = trace_context.read(told)
    assert context is not None
    assert context.trace_id == call.id
    assert call.arrived.headers.all("tracestate") == []
    relay.answer(call)
    relay.hang_up(call)
    tree = spans.tree(spans.read(relay.traces[call.id]))
    assert tree is not None
    assert (tree.trace_id, trace_context.span_id(call.id, 0)) == (context.trace_id, context.span_id)
    assert [(link.party, trace_context.traceparent(link.context)) for link in tree.spans[0].links] == [("caller", CALLER_CONTEXT)]


def test_without_a_collector_the_callers_context_crosses_as_it_came() -> None:
    _, call = dialled(False, *CALLERS)
    assert call.arrived.headers.all("traceparent") == [CALLER_CONTEXT]
    assert call.arrived.headers.all("tracestate") == ["vendor=1"]
    _, call = dialled(False)
    assert call.arrived.headers.all("traceparent") == []
