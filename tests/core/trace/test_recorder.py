"""Every line of a trace is what the contract says, and says what happened."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.contract import facts as f
from control.contract.call import BargeIn, Media, RelayDelay, Speech, Stream, Turn
from sidecar.b2bua import effects as e
from sidecar.clocks import Mono, Wall
from sidecar.sip.flow import Flow
from sidecar.trace.recorder import Recorder, rfc3339
from sidecar.turns.measured import Measured

CALL = "0123456789abcdef0123456789abcdef"
CALLER, OURS = ("192.0.2.7", 5062), ("192.0.2.1", 5060)
WALL = Wall(1767225600.25)
TURN = Turn(n=1, kind="response", caller_start_ms=0, caller_end_ms=900.5, agent_start_ms=1500, agent_end_ms=2500, response_latency_ms=599.5)


def started(**changes: Any) -> e.Started:
    values: dict[str, Any] = {
        "call": CALL,
        "sip_call_id": "sim-7@192.0.2.7",
        "correlation_id": "run-3",
        "kind": "simulation",
        "direction": "inbound",
        "route": "agent",
        "platform": "generic",
        "from_": '"Eva" <sip:eva@192.0.2.7>',
        "to": "sip:agent@192.0.2.1",
        "recipient": None,
        "source": CALLER,
    }
    return e.Started(**{**values, **changes})


def message(data: bytes) -> e.Message:
    return e.Message(CALL, "A", "in", Flow("udp", OURS, CALLER), data, False)


EVERY: list[tuple[e.Fact, type[object]]] = [
    (started(), f.CallStarted),
    (started(wire_only=False, recipient="sip:sim-1@192.0.2.7"), f.CallStarted),
    (message(b'INVITE sip:agent@192.0.2.1 SIP/2.0\r\nSubject: "quoted" \\ and \xc3\xa9 and \xff\r\n\r\n'), f.SipMessage),
    (e.Dialled(CALL, "sim-7@192.0.2.7", "sip:agent@192.0.2.9"), f.LegStarted),
    (e.HopProven(CALL, "carried", "INVITE to 192.0.2.9"), f.HopSeen),
    (e.Learned(CALL, "x-platform-id", "p-\udcff"), f.IdLearned),
    (e.Found(CALL, "call-id-in-use", "twice"), f.FindingMade),
    (e.Challenged(CALL, "B", 407, "edge", "SHA-256", "answered", ""), f.Authentication),
    (e.Answered(CALL), f.CallAnswered),
    (e.Ended(CALL, 200, "caller", "completed", "the caller hung up", e.SetupTimings(to_100=0.0012345)), f.CallEnded),
]


def line(fact: e.Fact) -> bytes:
    made = Recorder(CALL, "edge-1").record(fact, Mono(5.0), WALL)
    assert made is not None
    return made


@pytest.mark.parametrize(("fact", "kind"), EVERY, ids=lambda value: type(value).__name__ if not isinstance(value, type) else "")
def test_a_line_is_a_fact_of_the_contract_on_one_line(fact: e.Fact, kind: type[object]) -> None:
    made = line(fact)
    assert b"\n" not in made
    read = f.FACT.validate_json(made)
    assert type(read) is kind
    assert (read.call, read.seq, read.elapsed_ms) == (CALL, 1, 0.0)
    assert read.at.timestamp() == WALL
    # Nothing is written that the contract does not know: what it writes again is the same.
    assert json.loads(read.model_dump_json(by_alias=True, exclude_none=True)) == json.loads(made)


def test_every_kind_of_fact_has_a_line() -> None:
    kinds = {json.loads(line(fact))["kind"] for fact, _ in EVERY} | {json.loads(made)["kind"] for made in measured_lines()}
    known = {arm.model_fields["kind"].default for arm in f.Fact.__args__[0].__args__}  # type: ignore[attr-defined]
    assert kinds == known - {"call_interrupted"}, "which the spool itself appends"


def measured_lines() -> list[bytes]:
    recorder = Recorder(CALL, "edge-1")
    result = Measured(
        turns=[TURN],
        barge_ins=[BargeIn(kind="barge_in", caller_start_ms=1600, agent_stop_ms=1800, latency_ms=200)],
        speech=Speech(detector="test"),
        media=Media(caller=Stream(), agent=Stream(codec="PCMU", packets=5), tap_dropped=0, refused=1, relay_delay=RelayDelay(p50_us=80.0)),
        greeting_ms=12.5,
        first_agent_rtp_ms=None,
        tracks=f.Tracks(caller=f.Track(segments=[(1.0, 2.0)], levels=f.Levels(from_ms=0.0, step_ms=100.0, db=[-20]), lost=[(1.5, 1.7)])),
    )
    return [
        recorder.media_opened("A", "PCMU", OURS, ("2001:db8::7", 4000), Mono(1.0), WALL),
        recorder.turn(TURN, Mono(2.0), WALL),
        recorder.measured(result, Mono(3.0), WALL),
        recorder.closed(Mono(4.5), WALL),
    ]


def test_figures_cross_whole_and_lines_are_numbered_and_timed_from_the_first() -> None:
    opened, turn, final, closed = [f.FACT.validate_json(made) for made in measured_lines()]
    assert isinstance(opened, f.MediaOpened)
    assert (opened.local, opened.remote) == ("192.0.2.1:5060", "[2001:db8::7]:4000")
    assert isinstance(turn, f.TurnMeasured)
    assert turn.turn == TURN
    assert isinstance(final, f.CallMeasured)
    assert (final.turns, final.barge_ins[0].latency_ms, final.media.agent.packets, final.media.refused) == ([TURN], 200, 5, 1)
    assert (final.greeting_ms, final.first_agent_rtp_ms) == (12.5, None)
    assert final.tracks is not None
    assert (final.tracks.caller.segments, final.tracks.caller.levels) == ([(1.0, 2.0)], f.Levels(from_ms=0.0, step_ms=100.0, db=[-20]))
    assert isinstance(closed, f.CallClosed)
    assert [fact.seq for fact in (opened, turn, final, closed)] == [1, 2, 3, 4]
    assert [fact.elapsed_ms for fact in (opened, turn, final, closed)] == [0.0, 1000.0, 2000.0, 3500.0]


def test_a_clock_that_is_set_in_a_call_moves_none_of_its_times() -> None:
    recorder = Recorder(CALL, "edge-1")
    lines = [recorder.closed(Mono(at), Wall(WALL + at + step)) for at, step in ((1.0, 0.0), (2.5, 3600.0), (4.0, -3600.0))]
    times = [f.FACT.validate_json(made).at for made in lines]
    assert [(time - times[0]).total_seconds() for time in times] == pytest.approx([0.0, 1.5, 3.0], abs=1e-5)


def test_a_fact_for_the_shell_alone_takes_no_number() -> None:
    recorder = Recorder(CALL, "edge-1")
    assert recorder.record(e.Gone(CALL), Mono(1.0), WALL) is None
    assert json.loads(recorder.closed(Mono(1.0), WALL))["seq"] == 1


def test_octets_that_are_not_utf_8_stay_legible() -> None:
    assert json.loads(line(message(b"\xff\r\n")))["text"] == "\\xff\r\n"
    assert json.loads(line(started(from_="caf\udce9 \u00e9")))["from"] == "caf\\xe9 \u00e9"


@given(st.binary(max_size=200))
def test_whatever_a_peer_sends_gives_a_line_that_control_takes(data: bytes) -> None:
    read = f.FACT.validate_json(line(message(data)))
    assert isinstance(read, f.SipMessage)
    assert read.text.encode().decode() == read.text


@given(st.floats(min_value=0, max_value=4e9))
def test_a_time_is_told_to_the_microsecond(wall: float) -> None:
    read = f.FACT.validate_json(Recorder(CALL, "edge-1").closed(Mono(0.0), Wall(wall)))
    assert abs(read.at.timestamp() - wall) <= 1e-6
    assert len(rfc3339(Wall(wall))) == len("2026-01-01T00:00:00.000000Z")
