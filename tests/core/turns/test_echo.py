"""The agent's echo in the caller's stream, however loud, is nobody's speech; what the caller says over it is."""

from __future__ import annotations

import numpy as np
import pytest

from control.contract.call import RelayDelay
from sidecar.clocks import Mono
from sidecar.media.codec import STATIC
from sidecar.turns.echo import find
from sidecar.turns.measured import Measured
from sidecar.turns.measurement import Measurement
from tests.support.speech_call import Audio, Conversation, Sender, Track, conversation, merged, voice

ANSWER = 5000.0
CLIPS = [voice(seed, 0.8 + seed % 4 * 0.6) for seed in range(8)]
TALK = conversation(17, 6, CLIPS[:4], CLIPS[4:])


def measured(caller: Audio, agent: Audio, live: bool = False) -> tuple[Measured, int]:
    call = Measurement()
    for leg in ("A", "B"):
        call.negotiated(leg, STATIC)
    call.answered(Mono(ANSWER))
    told, look = 0, ANSWER
    sent = merged(A=Sender(ssrc=1).packets(caller, ANSWER), B=Sender(ssrc=2).packets(agent, ANSWER))
    for leg, at, data in sent:
        call.packet("A" if leg == "A" else "B", data, Mono(at))
        if live and at > look:
            told, look = told + sum(turn.kind != "response" for turn in call.live(Mono(at))), at + 0.5
    seconds = len(agent) / 8000
    return call.finish(Mono(ANSWER + seconds), tap_dropped=0, refused=0, relay_delay=RelayDelay()), told


def echoed(talk: Conversation, db: float, late_ms: int) -> Audio:
    """What the caller sends when the agent's voice comes back through its microphone."""
    echo = np.convolve(talk.agent.audio, [0.2, 0.5, 0.3], "same") * 10 ** (db / 20)
    late = late_ms * 8
    return talk.caller.audio + np.concatenate([np.zeros(late), echo[: len(echo) - late]])


@pytest.mark.parametrize(("db", "late_ms"), [(-10, 60), (-15, 200), (-25, 40)])
def test_a_call_with_echo_has_the_turns_of_the_same_call_without(db: float, late_ms: int) -> None:
    plain, _ = measured(TALK.caller.audio, TALK.agent.audio)
    result, _ = measured(echoed(TALK, db, late_ms), TALK.agent.audio)
    assert [turn.kind for turn in result.turns] == [turn.kind for turn in plain.turns] == ["response"] * 6
    for mine, theirs in zip(result.turns, plain.turns, strict=True):
        assert mine.response_latency_ms == pytest.approx(theirs.response_latency_ms, abs=40)
    assert result.barge_ins == []
    assert result.speech.caller_ms == pytest.approx(plain.speech.caller_ms, rel=0.08)


def test_a_caller_who_barges_in_over_the_echo_is_heard_from_the_start() -> None:
    talk = Conversation(Track.silent(16), Track.silent(16), [], [], 16)
    talk.agent.say(500, voice(31, 4.0))
    talk.caller.say(5200, CLIPS[1])
    talk.agent.say(7500, voice(33, 4.5))
    talk.agent.audio[10_000 * 8 :] = 0
    start, _ = talk.caller.say(9400, voice(32, 2.0))
    talk.agent.say(12_500, CLIPS[5])
    result, _ = measured(echoed(talk, -14, 120), talk.agent.audio)
    assert [barge.kind for barge in result.barge_ins] == ["barge_in"]
    assert result.barge_ins[0].latency_ms == pytest.approx(10_000 - start, abs=60)


def test_live_turns_of_a_call_with_echo_settle_down() -> None:
    """Until the echo has been heard long enough to be known, it may be told as speech; once it is known, no more."""
    result, interrupted = measured(echoed(TALK, -15, 200), TALK.agent.audio, live=True)
    assert [turn.kind for turn in result.turns] == ["response"] * 6
    assert interrupted <= 2


def test_no_echo_is_found_where_there_is_none() -> None:
    rng = np.random.default_rng(1)
    caller, agent = (rng.uniform(-60, -15, 12_000).astype(np.float32) for _ in range(2))
    assert find(caller, agent) is None
    assert find(np.full(12_000, -96, np.float32), agent) is None
    assert find(caller[:0], agent[:0]) is None


def test_an_echo_is_known_by_how_late_and_how_faint_it_is() -> None:
    rng = np.random.default_rng(2)
    agent = (-30 + 12 * np.sin(np.arange(3000) / 9) + rng.normal(0, 3, 3000)).astype(np.float32)
    caller = np.concatenate([np.full(17, -96.0), agent[:-17] - 15]).astype(np.float32) + rng.normal(0, 1, 3000).astype(np.float32)
    found = find(caller, agent)
    assert found is not None
    assert found.late == 17
    assert found.gain == pytest.approx(-15, abs=1)
