"""Requests of the sidecar in, turns and figures out: the same as measuring in place."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import numpy as np

from control.contract.call import RelayDelay
from sidecar.analysis.calls import Calls
from sidecar.analysis.work import LENGTH, Accurate, Answered, Ended, Finish, Hold, Listen, Look, Negotiated, Work, packed, unpacked
from sidecar.clocks import Mono
from sidecar.media.codec import STATIC
from sidecar.media.tap import Tapped
from sidecar.speech.neural import Floats
from sidecar.turns.measurement import Measurement
from tests.support.speech_call import Sender, conversation, merged, voice

ANSWER, SECONDS = 5000.0, 30.0
DELAY = RelayDelay(p50_us=20.0, p99_us=90.0)
TALK = conversation(7, 3, [voice(seed, 0.5 + seed % 3 * 0.6) for seed in range(6)])
PACKETS: list[Tapped] = [
    ("A" if leg == "A" else "B", data, Mono(at))
    for leg, at, data in merged(
        A=Sender(ssrc=1).packets(TALK.caller.audio, ANSWER),
        B=Sender(ssrc=2).packets(TALK.agent.audio, ANSWER),
    )
]
OPENING: list[Work] = [Negotiated("A", STATIC), Negotiated("B", STATIC), Hold("A", False, Mono(ANSWER)), Answered(Mono(ANSWER))]


def over(call: str, work: Sequence[Work] = (), *, answered: bool = True) -> Finish:
    return Finish([Ended(call, work, answered, Mono(ANSWER + SECONDS), tap_dropped=3, refused=4, relay_delay=DELAY)])


def test_a_call_that_is_looked_at_in_pieces_is_measured_like_one_in_place() -> None:
    here = Measurement()
    for leg in ("A", "B"):
        here.negotiated(leg, STATIC)
    here.answered(Mono(ANSWER))
    calls = Calls()
    calls.answer(Look([("c1", OPENING)], Mono(ANSWER)))
    shown = []
    for first in range(0, len(PACKETS), 400):
        piece = PACKETS[first : first + 400]
        here.packets(piece)
        here.live(piece[-1][2])
        shown += calls.answer(Look([("c1", piece)], piece[-1][2]))[0].turns
    expected = here.finish(Mono(ANSWER + SECONDS), tap_dropped=3, refused=4, relay_delay=DELAY)
    assert [turn.kind for turn in expected.turns] == ["response"] * 3
    assert calls.answer(over("c1")) == [expected]
    assert {turn.n for turn in shown} == {1, 2, 3}


def test_who_begins_to_listen_in_the_last_moment_of_a_call_leaves_nothing_behind() -> None:
    calls = Calls()
    calls.answer(over("c1", [*OPENING, Listen(True, Mono(ANSWER))]))
    assert calls.answer(Look([("c1", [*OPENING, *PACKETS[:200]])], PACKETS[200][2]))[0].audio == b""


def test_work_between_packets_counts_from_where_it_stands() -> None:
    """Commands and packets of one request are taken in their order: what comes before the answer is early media."""
    calls = Calls()
    early = [("B", data, Mono(at - 1000)) for _, data, at in PACKETS[:40]]
    figures = calls.answer(over("c1", [*OPENING[:3], *early, OPENING[3], *PACKETS]))[0]
    assert figures is not None
    assert figures.media.agent.packets == sum(leg == "B" for leg, _, _ in PACKETS)


def test_a_call_without_an_answer_has_no_figures_and_leaves_nothing() -> None:
    calls = Calls()
    calls.answer(Look([("c1", OPENING[:3]), ("c2", OPENING)], Mono(ANSWER)))
    assert len(calls) == 2
    assert calls.answer(over("c1", answered=False)) == [None]
    assert len(calls) == 1


def test_requests_and_answers_cross_as_they_are() -> None:
    request = Look([("c1", [*OPENING, *PACKETS[:3]])], Mono(ANSWER))
    frame = packed(request)
    assert LENGTH.unpack(frame[: LENGTH.size]) == (len(frame) - LENGTH.size,)
    assert unpacked(frame[LENGTH.size :]) == request
    answer = Calls().answer(over("c1", [*OPENING, *PACKETS]))
    assert pickle.loads(pickle.dumps(answer)) == answer


class Loud:
    """A network that takes what is loud for speech."""

    def __init__(self) -> None:
        self.together: list[int] = []

    def __call__(self, windows: Floats, states: Floats) -> tuple[Floats, Floats]:
        self.together.append(len(windows))
        return (np.abs(windows).max(axis=1) > 0.01).astype(np.float32), states


def test_calls_of_accurate_routes_are_judged_together_and_the_network_is_loaded_once() -> None:
    network, loaded = Loud(), list[int]()
    calls = Calls(network=lambda: loaded.append(1) or network)
    calls.answer(Look([("plain", OPENING)], Mono(ANSWER)))
    assert loaded == []
    calls.answer(Look([(f"c{i}", [Accurate(), *OPENING]) for i in range(3)], Mono(ANSWER)))
    until = Mono(ANSWER + SECONDS)
    for first in range(0, len(PACKETS), 20):
        piece = PACKETS[first : first + 20]
        calls.answer(Look([("plain", piece), *((f"c{i}", piece) for i in range(3))], piece[-1][2]))
    figures = calls.answer(
        Finish([Ended(c, [], True, until, tap_dropped=0, refused=0, relay_delay=DELAY) for c in ("plain", "c0", "c1", "c2")])
    )
    assert loaded == [1]
    assert max(network.together) >= 3
    assert [f.speech.detector for f in figures if f is not None] == ["webrtc3", "silero", "silero", "silero"]
    for one in figures[1:]:
        assert one is not None
        assert [turn.kind for turn in one.turns] == ["response"] * 3
        assert one.turns == figures[1].turns


def test_without_the_network_the_default_detector_measures_and_says_so() -> None:
    calls = Calls(network=lambda: None)
    calls.answer(Look([("c1", [Accurate(), *OPENING])], Mono(ANSWER)))
    figures = calls.answer(over("c1", PACKETS))[0]
    assert figures is not None
    assert figures.speech.detector == "webrtc3"
