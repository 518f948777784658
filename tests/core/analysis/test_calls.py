"""Requests of the sidecar in, turns and figures out: the same as measuring in place."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

from control.contract.call import RelayDelay
from sidecar.analysis.calls import Calls
from sidecar.analysis.work import LENGTH, Answered, Ended, Finish, Hold, Look, Negotiated, Work, packed, unpacked
from sidecar.clocks import Mono
from sidecar.media.codec import STATIC
from sidecar.media.tap import Tapped
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
        shown += calls.answer(Look([("c1", piece)], piece[-1][2]))[0]
    expected = here.finish(Mono(ANSWER + SECONDS), tap_dropped=3, refused=4, relay_delay=DELAY)
    assert [turn.kind for turn in expected.turns] == ["response"] * 3
    assert calls.answer(over("c1")) == [expected]
    assert {turn.n for turn in shown} == {1, 2, 3}


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
