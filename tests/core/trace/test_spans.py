"""A finished call as a tree of spans."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.identity import trace_context
from sidecar.trace import spans
from sidecar.trace.spans import Span, SpanTree
from tests.core.trace.calls import AGENT_CONTEXT, CALL, CALL_ID, CALLER_CONTEXT, EPOCH, TOKEN, Trace, answered_call, request, response


def tree(trace: Trace) -> SpanTree:
    """The tree of a trace that must have one."""
    made = spans.tree(spans.read(trace.lines))
    assert made is not None
    return made


def picture(made: SpanTree) -> list[tuple[str, float, float]]:
    """Path, start and end of every span, in seconds since the call's first fact."""
    paths: list[str] = []
    drawn = []
    for span in made.spans:
        paths.append(span.name if span.parent is None else f"{paths[span.parent]}/{span.name}")
        drawn.append((paths[-1], round(span.start - EPOCH, 6), round(span.end - EPOCH, 6)))
    return drawn


def named(made: SpanTree, name: str) -> Span:
    """The one span of that name."""
    (found,) = [span for span in made.spans if span.name == name]
    return found


def test_an_answered_call_shows_where_its_time_went() -> None:
    assert picture(tree(answered_call())) == [
        ("call", 0.0, 12.03),
        ("call/INVITE", 0.0, 0.94),
        ("call/INVITE/authentication", 0.01, 0.05),
        ("call/INVITE/ringing", 0.3, 0.9),
        ("call/INVITE/answer", 0.9, 0.94),
        ("call/turn 1", 2.4, 6.9),
        ("call/turn 1/response", 3.9, 4.72),
        ("call/turn 2", 7.9, 9.9),  # the agent spoke before the caller had ended: there was no silence to show
        ("call/barge-in", 9.5, 9.9),
        ("call/barge-in", 10.1, 10.1),
        ("call/BYE", 12.0, 12.03),
    ]


def test_the_trace_is_found_by_the_call_and_its_ids_are_known_beforehand() -> None:
    made = tree(answered_call())
    assert made.trace_id == CALL
    ids = [trace_context.span_id(CALL, n) for n in range(len(made.spans))]
    assert len(set(ids)) == len(ids)
    assert trace_context.traceparent(trace_context.ours(CALL)) == f"00-{CALL}-{ids[0]}-01"


def test_the_root_tells_what_calls_are_searched_by() -> None:
    root = tree(answered_call()).spans[0]
    expected = {
        "trunkside.call_id": CALL,
        "sip.call_id": CALL_ID,
        "trunkside.route": "agent",
        "trunkside.kind": "simulation",
        "sip.status_code": 200,
        "trunkside.reason": "completed",
        "trunkside.ended_by": "caller",
        "trunkside.answered": True,
        "trunkside.turns": 2,
        "trunkside.response_latency_p50_ms": 820,
        "trunkside.b_leg_call_ids": (CALL_ID,),
    }
    assert {name: root.attributes.get(name) for name in expected} == expected
    assert root.status == "unset"


def test_neither_the_correlation_token_nor_an_absent_figure_is_told() -> None:
    values = [value for span in tree(answered_call()).spans for value in span.attributes.values()]
    assert not any(isinstance(value, str) and TOKEN in value for value in values)
    assert None not in values


def test_turns_and_barge_ins_carry_their_figures() -> None:
    made = tree(answered_call())
    assert named(made, "turn 1").attributes == {
        "trunkside.turn.n": 1,
        "trunkside.turn.kind": "response",
        "trunkside.turn.response_latency_ms": 820,
        "trunkside.turn.uncertainty_ms": 12,
        "trunkside.turn.interrupted": False,
    }
    assert named(made, "turn 2").attributes["trunkside.turn.kind"] == "overlap"
    kinds = [
        (span.attributes["trunkside.barge_in.kind"], span.attributes.get("trunkside.barge_in.latency_ms")) for span in made.spans[8:10]
    ]
    assert kinds == [("barge_in", 400), ("failed", None)]


def test_authentication_names_realm_and_algorithm_and_no_secret() -> None:
    span = named(tree(answered_call()), "authentication")
    assert span.status == "unset"
    assert span.attributes == {
        "trunkside.leg": "B",
        "sip.status_code": 401,
        "trunkside.auth.realm": "edge",
        "trunkside.auth.algorithm": "SHA-256",
        "trunkside.auth.result": "answered",
    }


def test_refused_credentials_fail_the_call_with_their_cause() -> None:
    trace = Trace()
    trace.started()
    trace.message(0.01, "B", "out", request("INVITE", 1))
    trace.message(0.05, "B", "in", response(401, "INVITE", 1))
    trace.fact(0.05, e.Challenged(CALL, "B", 401, "edge", "MD5", "answered", "answered with MD5"))
    trace.message(0.06, "B", "out", request("INVITE", 2))
    trace.message(0.2, "B", "in", response(401, "INVITE", 2))
    trace.fact(0.2, e.Challenged(CALL, "B", 401, "edge", "MD5", "refused", 'credentials of user "u" refused'))
    trace.message(0.2, "A", "out", response(401, "INVITE", 1))
    trace.ended(0.2, 401, "agent", "credentials-refused", "credentials refused by 192.0.2.20:5070")
    trace.closed(0.3)
    made = tree(trace)
    assert picture(made) == [
        ("call", 0.0, 0.2),
        ("call/INVITE", 0.0, 0.2),
        ("call/INVITE/authentication", 0.01, 0.05),
        ("call/INVITE/authentication", 0.06, 0.2),
    ]
    told = [(span.status, span.detail) for span in made.spans]
    assert told == [
        ("error", "credentials refused by 192.0.2.20:5070"),
        ("error", "credentials refused by 192.0.2.20:5070"),
        ("unset", ""),
        ("error", 'credentials of user "u" refused'),
    ]


def test_a_cancelled_call_is_no_failure_and_shows_its_cancel() -> None:
    trace = Trace()
    trace.started()
    trace.message(0.2, "B", "in", response(183, "INVITE", 1))
    trace.message(3.0, "A", "in", request("CANCEL", 1))
    trace.message(3.0, "A", "out", response(200, "CANCEL", 1))
    trace.message(3.0, "B", "out", request("CANCEL", 1))
    trace.message(3.0, "A", "out", response(487, "INVITE", 1))
    trace.ended(3.0, 487, "caller", "cancelled", "the caller gave up before the call was answered")
    trace.message(3.1, "B", "in", response(200, "CANCEL", 1))
    made = tree(trace)
    assert picture(made) == [
        ("call", 0.0, 3.1),
        ("call/INVITE", 0.0, 3.0),
        ("call/INVITE/ringing", 0.2, 3.0),
        ("call/CANCEL", 3.0, 3.1),
    ]
    assert {span.status for span in made.spans} == {"unset"}
    assert named(made, "CANCEL").attributes["trunkside.sent_by"] == "caller"


def test_an_answer_that_nobody_acknowledged_lasts_to_the_end_and_is_an_error() -> None:
    trace = Trace()
    trace.started()
    trace.message(0.5, "B", "in", response(200, "INVITE", 1))
    trace.fact(0.5, e.Answered(CALL))
    trace.ended(32.5, 200, "sidecar", "ack-missing", "the caller did not acknowledge the 200 OK within 32 s")
    trace.message(32.5, "B", "out", request("BYE", 2))
    made = tree(trace)
    assert picture(made) == [
        ("call", 0.0, 32.5),
        ("call/INVITE", 0.0, 32.5),
        ("call/INVITE/answer", 0.5, 32.5),
        ("call/BYE", 32.5, 32.5),
    ]
    assert [span.status for span in made.spans] == ["error", "unset", "error", "error"]
    assert named(made, "BYE").attributes == {"sip.method": "BYE", "trunkside.sent_by": "sidecar"}


def test_a_challenge_to_the_bye_stands_beside_the_invite() -> None:
    trace = answered_call()
    trace.message(12.02, "B", "in", response(407, "BYE", 3))
    trace.fact(12.02, e.Challenged(CALL, "B", 407, "edge", "MD5", "no_credentials", "none configured"))
    made = tree(trace)
    last = [span for span in made.spans if span.name == "authentication"][-1]
    assert last.parent == 0
    assert (round(last.start - EPOCH, 6), round(last.end - EPOCH, 6)) == (12.0, 12.02)


def test_a_wall_clock_set_back_during_the_call_bends_no_span() -> None:
    straight = picture(tree(answered_call()))
    trace = Trace()
    trace.started()
    trace.message(0.5, "B", "in", response(200, "INVITE", 1))
    trace.step = 3600.0
    trace.fact(0.5, e.Answered(CALL))
    trace.message(0.6, "A", "in", request("ACK", 1))
    trace.ended(9.0, 200, "agent", "completed", "the agent hung up")
    assert picture(tree(trace)) == [("call", 0.0, 9.0), ("call/INVITE", 0.0, 0.6), ("call/INVITE/answer", 0.5, 0.6)]
    assert all(start <= end for _, start, end in straight)


def test_the_callers_and_the_agents_contexts_become_links_of_the_root() -> None:
    root = tree(answered_call()).spans[0]
    told = [(link.party, trace_context.traceparent(link.context)) for link in root.links]
    assert told == [("caller", CALLER_CONTEXT), ("agent", AGENT_CONTEXT)]
    assert root.parent is None


@pytest.mark.parametrize(
    "echoed",
    [CALLER_CONTEXT, f"00-{CALL}-3333333333333333-01", "00-broken"],
    ids=["the caller's own", "a span of this trace", "malformed"],
)
def test_what_the_agent_tells_that_is_not_new_is_no_link(echoed: str) -> None:
    root = tree(answered_call(agent_headers=(f"traceparent: {echoed}",))).spans[0]
    assert [link.party for link in root.links] == ["caller"]


def test_a_call_cut_off_by_a_crash_is_an_error() -> None:
    trace = Trace()
    trace.started()
    lines = trace.lines
    cut = (
        b'{"call":"%s","seq":3,"at":"2026-03-01T12:10:00Z","elapsed_ms":700.0,"kind":"call_interrupted","detail":"stopped"}' % CALL.encode()
    )
    made = spans.tree(spans.read([*lines, cut]))
    assert made is not None
    assert (made.spans[0].status, made.spans[0].detail) == ("error", "stopped")
    assert made.spans[0].end == EPOCH + 0.7


def test_a_trace_without_its_beginning_has_no_tree() -> None:
    assert spans.tree(spans.read(answered_call().lines[1:])) is None


def test_an_id_that_is_no_trace_id_is_refused() -> None:
    with pytest.raises(ValueError, match="not a trace id"):
        spans.tree(spans.read([line.replace(CALL.encode(), b"call-1") for line in answered_call().lines]))
