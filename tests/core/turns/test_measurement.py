"""A whole call, from packets to figures."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pytest

from control.contract.call import RelayDelay, Turn
from sidecar.clocks import Mono
from sidecar.media.codec import STATIC, TELEPHONE_EVENT, Codec
from sidecar.turns import side
from sidecar.turns.measured import Measured
from sidecar.turns.measurement import Measurement
from tests.support.speech_call import Conversation, Network, Sender, Track, conversation, merged, voice
from tests.support.speech_hour import batches, hour

ANSWER = 5000.0
CLIPS = [voice(seed, 0.5 + seed % 5 * 0.6) for seed in range(10)]
CODECS = {**STATIC, 101: Codec(TELEPHONE_EVENT, 8000)}
GOOD = Network()
BAD = Network(jitter_ms=40.0, loss=0.02)
Tapped = Sequence[tuple[str, float, bytes]]


def finished(call: Measurement, seconds: float) -> Measured:
    return call.finish(Mono(ANSWER + seconds), tap_dropped=3, refused=4, relay_delay=RelayDelay(p50_us=20.0, p99_us=90.0))


def opened() -> Measurement:
    call = Measurement()
    call.negotiated("A", CODECS)
    call.negotiated("B", CODECS)
    return call


def measured(packets: Tapped, seconds: float, *, live: bool = False) -> tuple[Measured, list[Turn]]:
    call = opened()
    call.answered(Mono(ANSWER))
    seen: list[Turn] = []
    look = ANSWER
    for leg, at, data in packets:
        call.packet("A" if leg == "A" else "B", data, Mono(at))
        if live and at > look:
            seen += call.live(Mono(at))
            look = at + 0.25
    return finished(call, seconds), seen


def spoken(talk: Conversation, network: Network = GOOD, ptime: int = 20, seed: int = 1) -> Tapped:
    caller = Sender(ssrc=1, ptime_ms=ptime).packets(talk.caller.audio, ANSWER, network, seed)
    agent = Sender(ssrc=2, ptime_ms=ptime).packets(talk.agent.audio, ANSWER, network, seed + 1)
    return merged(A=caller, B=agent)


TALK = conversation(7, 6, CLIPS)


@pytest.mark.parametrize(
    ("network", "ptime"),
    [
        (Network(), 20),
        (Network(), 10),
        (Network(), 30),
        (Network(), 60),
        (BAD, 20),
        (Network(dtx=True), 20),
        (Network(drift_ppm=100.0), 20),
        (Network(duplication=0.1, jitter_ms=60.0, loss=0.05), 20),
    ],
)
def test_every_latency_is_within_40_ms_of_the_truth(network: Network, ptime: int) -> None:
    result, _ = measured(spoken(TALK, network, ptime), TALK.seconds)
    assert [t.kind for t in result.turns] == ["response"] * len(TALK.latencies)
    errors = [t.response_latency_ms - truth for t, truth in zip(result.turns, TALK.latencies, strict=True)]
    assert np.abs(errors).max() < 40
    assert np.median(np.abs(errors)) < 8
    assert result.speech.response_latency_ms.n == len(TALK.latencies)


def test_noise_widens_the_uncertainty_and_covers_the_error() -> None:
    talk = conversation(8, 6, CLIPS)
    talk.caller.add_noise(18.0, 3)
    result, _ = measured(spoken(talk), talk.seconds)
    errors = np.array([t.response_latency_ms - truth for t, truth in zip(result.turns, talk.latencies, strict=True)])
    assert all(t.uncertainty_ms > 40 for t in result.turns)
    assert sum(abs(e) <= t.uncertainty_ms for e, t in zip(errors, result.turns, strict=True)) >= 5


def test_sums_are_those_of_the_truth() -> None:
    result, _ = measured(spoken(TALK), TALK.seconds)
    caller = sum(end - start for start, end in TALK.caller.spans)
    agent = sum(end - start for start, end in TALK.agent.spans)
    assert result.speech.talk_ratio == pytest.approx(agent / (agent + caller), abs=0.03)
    total = result.speech.caller_ms + result.speech.agent_ms - result.speech.overlap_ms + result.speech.silence_ms
    assert total == pytest.approx(TALK.seconds * 1000, abs=1)


def test_greeting_is_from_the_answer_to_the_first_agent_speech() -> None:
    talk = Conversation(Track.silent(6), Track.silent(6), [], [], 6)
    start, _ = talk.agent.say(830, CLIPS[3])
    result, _ = measured(spoken(talk), 6)
    assert result.greeting_ms == pytest.approx(start, abs=10)
    assert result.turns == []
    assert result.first_agent_rtp_ms == pytest.approx(0, abs=1)


def test_barge_in_latency() -> None:
    talk = Conversation(Track.silent(9), Track.silent(9), [], [], 9)
    talk.agent.say(500, voice(31, 4.0))
    talk.agent.audio[2600 * 8 :] = 0
    start, _ = talk.caller.say(2000, voice(32, 1.8))
    talk.agent.say(4700, CLIPS[4])
    result, _ = measured(spoken(talk, BAD), 9)
    assert [b.kind for b in result.barge_ins] == ["barge_in"]
    assert result.barge_ins[0].latency_ms == pytest.approx(2600 - start, abs=25)
    assert [t.kind for t in result.turns] == ["response"]


def test_early_media_never_counts() -> None:
    ringback = Track.silent(4)
    ringback.say(500, voice(33, 2.5))
    early = Sender(ssrc=9).packets(ringback.audio, ANSWER - 5.0, Network(loss=0.3, jitter_ms=50))
    call = opened()
    for at, data in early:
        call.packet("B", data, Mono(at))
    talk = spoken(TALK)
    for leg, at, data in talk[:6]:  # these were ahead of the news of the answer
        call.packet("A" if leg == "A" else "B", data, Mono(at))
    call.answered(Mono(ANSWER))
    for leg, at, data in talk[6:]:
        call.packet("A" if leg == "A" else "B", data, Mono(at))
    result = finished(call, TALK.seconds)
    plain, _ = measured(talk, TALK.seconds)
    assert result.turns == plain.turns
    assert result.media.agent == plain.media.agent
    assert result.greeting_ms == plain.greeting_ms
    assert result.first_agent_rtp_ms == pytest.approx(-5000, abs=60)


def test_nothing_counts_on_hold() -> None:
    talk = Conversation(Track.silent(16), Track.silent(16), [], [], 16)
    talk.caller.say(500, voice(34, 1.0))
    talk.agent.say(2300, voice(35, 1.0))
    talk.agent.say(5000, voice(36, 4.0))  # hold announcement
    talk.caller.say(11_000, voice(37, 1.0))
    talk.agent.say(12_700, voice(38, 1.0))
    call = opened()
    call.answered(Mono(ANSWER))
    for leg, at, data in spoken(talk):
        call.packet("A" if leg == "A" else "B", data, Mono(at))
    call.hold("B", True, Mono(ANSWER + 4.5))
    call.hold("A", True, Mono(ANSWER + 5.0))
    call.hold("B", False, Mono(ANSWER + 9.0))
    call.hold("A", False, Mono(ANSWER + 10.0))
    result = finished(call, 16)
    assert len(result.turns) == 2
    assert result.speech.agent_ms == pytest.approx(2000, abs=120)
    assert result.speech.caller_ms + result.speech.agent_ms + result.speech.silence_ms == pytest.approx(10_500, abs=2)


def test_counts_of_each_direction() -> None:
    sent = list(spoken(TALK))
    lost = [i for i, (leg, _, _) in enumerate(sent) if leg == "A"][100:110]
    result, _ = measured([p for i, p in enumerate(sent) if i not in lost], TALK.seconds)
    caller, agent = result.media.caller, result.media.agent
    assert (caller.lost, agent.lost) == (10, 0)
    assert caller.packets == agent.packets - 10
    assert caller.loss_pct == pytest.approx(100 * 10 / agent.packets, abs=0.01)
    assert (caller.codec, caller.analysed, caller.ssrcs) == ("PCMU", True, ["00000001"])
    assert caller.mos_lq is not None
    assert agent.mos_lq is not None
    assert caller.mos_lq < agent.mos_lq == pytest.approx(4.41, abs=0.01)
    assert (result.media.tap_dropped, result.media.refused, result.media.relay_delay.p50_us) == (3, 4, 20.0)


def test_key_presses_are_listed_in_call_time() -> None:
    sent = Sender(ssrc=1, sequence=0, timestamp=0).packets(np.zeros(4 * 8000), ANSWER)
    for i in range(100, 105):
        at, _ = sent[i]
        sent[i] = (at, struct.pack("!BBHII", 0x80, 101, i, 16000, 1) + struct.pack("!BBH", 3, 0x80 if i == 104 else 0, (i - 99) * 160))
    result, _ = measured(merged(A=sent), 4)
    assert [(d.digit, d.start_ms, d.duration_ms) for d in result.media.caller.dtmf] == [("3", pytest.approx(2000, abs=1), 100)]


def test_an_unknown_codec_is_counted_and_the_rest_still_measured() -> None:
    coded = [(at, data[:1] + b"\x6f" + data[2:]) for at, data in Sender(ssrc=1).packets(TALK.caller.audio, ANSWER)]
    agent = Sender(ssrc=2).packets(TALK.agent.audio, ANSWER)
    call = opened()
    call.negotiated("A", {111: Codec("AMR", 8000)})
    call.answered(Mono(ANSWER))
    for leg, at, data in merged(A=coded, B=agent):
        call.packet("A" if leg == "A" else "B", data, Mono(at))
    result = finished(call, TALK.seconds)
    assert (result.media.caller.codec, result.media.caller.analysed, result.media.caller.mos_lq) == ("AMR", False, None)
    assert result.media.caller.packets == len(coded)
    assert result.greeting_ms is not None
    assert result.turns == []


def test_live_turns_come_soon_and_agree_with_the_final_ones() -> None:
    call = opened()
    call.answered(Mono(ANSWER))
    first_seen: dict[int, float] = {}
    last: dict[int, Turn] = {}
    look = ANSWER
    for leg, at, data in spoken(TALK, BAD):
        call.packet("A" if leg == "A" else "B", data, Mono(at))
        if at > look:
            look = at + 0.25
            for turn in call.live(Mono(at)):
                first_seen.setdefault(turn.n, (at - ANSWER) * 1000)
                last[turn.n] = turn
    result = finished(call, TALK.seconds)
    assert sorted(last)[: len(result.turns) - 1] == [t.n for t in result.turns][:-1]
    for turn in result.turns[:-1]:
        assert first_seen[turn.n] - turn.agent_start_ms < 3000
        assert last[turn.n].response_latency_ms == pytest.approx(turn.response_latency_ms, abs=5)


def test_looking_at_a_call_changes_none_of_its_figures() -> None:
    sent = spoken(TALK, BAD)
    looked, _ = measured(sent, TALK.seconds, live=True)
    plain, _ = measured(sent, TALK.seconds)
    for mine, theirs in zip(looked.turns, plain.turns, strict=True):
        assert mine.response_latency_ms == pytest.approx(theirs.response_latency_ms, abs=5)


def test_live_work_does_not_grow_with_the_call() -> None:
    talk = conversation(11, 40, [CLIPS[1]])
    call = opened()
    call.answered(Mono(ANSWER))
    look, seen = ANSWER, 0
    for leg, at, data in spoken(talk):
        call.packet("A" if leg == "A" else "B", data, Mono(at))
        if at > look:
            look = at + 0.25
            seen = max([seen, *(t.n for t in call.live(Mono(at)))])
    assert seen >= 39
    assert len(call._shown) < 30


def test_a_call_that_was_never_answered_has_no_figures() -> None:
    call = opened()
    for leg, at, data in spoken(TALK)[:200]:
        call.packet("A" if leg == "A" else "B", data, Mono(at))
    result = call.finish(Mono(ANSWER + 9), tap_dropped=0, refused=0, relay_delay=RelayDelay())
    assert (result.turns, result.greeting_ms, result.first_agent_rtp_ms) == ([], None, None)
    assert result.media.agent.packets == 0


def test_a_call_without_media_has_no_figures() -> None:
    call = opened()
    call.answered(Mono(ANSWER))
    assert call.live(Mono(ANSWER + 1)) == []
    result = finished(call, 10)
    assert (result.turns, result.speech.silence_ms, result.speech.dead_air) == ([], 10_000, 1)
    assert (result.media.caller.codec, result.media.caller.mos_lq) == (None, None)


def test_an_hour() -> None:
    """Some ninety conversations of forty seconds, in batches as the sidecar's analysis gets them."""
    talk, rounds, packets, seconds = hour(CLIPS, ANSWER)
    call = opened()
    call.answered(Mono(ANSWER))
    for batch in batches(packets, 0.2):
        call.packets(batch)
    result = finished(call, seconds)
    assert len(result.turns) == rounds * 8
    errors = [t.response_latency_ms - talk.latencies[i % 8] for i, t in enumerate(result.turns)]
    assert np.abs(errors).max() < 60
    assert result.media.caller.lost == result.media.agent.lost == 0


def test_batches_give_the_same_figures_as_single_packets() -> None:
    sent = spoken(TALK, BAD)
    singly, _ = measured(sent, TALK.seconds)
    call = opened()
    call.answered(Mono(ANSWER))
    for batch in batches([("A" if leg == "A" else "B", data, Mono(at)) for leg, at, data in sent], 0.2):
        call.packets(batch)
    assert finished(call, TALK.seconds) == singly


def test_what_is_drawn_lies_where_the_speech_is() -> None:
    result, _ = measured(spoken(TALK), TALK.seconds)
    assert result.tracks is not None
    for track, truth in ((result.tracks.caller, TALK.caller.spans), (result.tracks.agent, TALK.agent.spans)):
        assert track.levels is not None
        assert track.levels.step_ms == 100.0
        assert len(track.levels.db) == np.ceil(TALK.seconds * 10)
        assert track.lost == []
        heard = np.zeros(len(track.levels.db), bool)
        for start, end in truth:
            inner = track.levels.db[int(start // 100) + 1 : int(end // 100)]
            assert max(inner) > -40, "speech is loud"
            heard[max(0, int(start // 100) - 1) : int(end // 100) + 2] = True
        assert max(np.array(track.levels.db)[~heard]) < -60, "and pauses are not"
        starts = [start for start, _ in track.segments]
        assert all(min(abs(start - seen) for seen in starts) < 60 for start, _ in truth)
    assert result.tracks.caller.segments[0][0] == pytest.approx(result.turns[0].caller_start_ms, abs=0.1)


def test_what_never_arrived_is_drawn_where_it_is_missing() -> None:
    packets = [each for each in spoken(TALK) if each[0] == "B" or not ANSWER + 3.0 <= each[1] < ANSWER + 3.4]
    result, _ = measured(packets, TALK.seconds)
    assert result.tracks is not None
    (loss,) = result.tracks.caller.lost
    assert loss == pytest.approx((3000.0, 3400.0), abs=25)
    assert result.tracks.agent.lost == []


def test_jitter_is_drawn_when_it_was() -> None:
    uneven = [(leg, at + 0.008 * (i // 2 % 2) * (leg == "A" and at < ANSWER + 8.0), data) for i, (leg, at, data) in enumerate(spoken(TALK))]
    result, _ = measured(sorted(uneven, key=lambda each: each[1]), TALK.seconds)
    assert result.tracks is not None
    caller, agent = result.tracks.caller.jitter, result.tracks.agent.jitter
    assert [until for until, _ in caller] == sorted(until for until, _ in caller)
    assert all(jitter > 5.0 for until, jitter in caller if 0 < until < 8000.0)
    assert all(jitter < 0.5 for until, jitter in caller if until > 12_500.0)
    assert all(jitter < 0.5 for _, jitter in agent)
    assert min(len(caller), len(agent)) > 3


def test_the_jitter_of_a_long_call_is_told_more_coarsely_and_never_less_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side, "_MOST_JITTERS", 20)
    call = opened()
    call.answered(Mono(ANSWER))
    for i in range(50 * 200):
        header = struct.pack("!BBHII", 0x80, 0, i & 0xFFFF, i * 160, 7)
        late = 0.018 if 5000 <= i < 5200 and i % 2 else 0.0
        call.packet("A", header + b"\xff" * 160, Mono(ANSWER + i * 0.02 + late))
    result = finished(call, 200.0)
    assert result.tracks is not None
    told = result.tracks.caller.jitter
    assert 10 <= len(told) <= 20
    worst = max(told, key=lambda each: each[1])
    assert worst[1] > 15.0
    assert 100_000 <= worst[0] <= 104_000 + 16_000
    assert told[-1][0] > 190_000


def test_a_long_call_is_drawn_with_few_levels() -> None:
    call = opened()
    call.answered(Mono(ANSWER))
    quiet = b"\xff" * 160
    for i in range(50 * 600):
        header = struct.pack("!BBHII", 0x80, 0, i & 0xFFFF, i * 160, 7)
        call.packet("A", header + quiet, Mono(ANSWER + i * 0.02))
    result = finished(call, 600.0)
    assert result.tracks is not None
    assert result.tracks.caller.levels is not None
    assert len(result.tracks.caller.levels.db) == 2400
    assert result.tracks.caller.levels.step_ms == 250.0
    assert set(result.tracks.caller.levels.db) == {-96}
    assert result.tracks.agent.levels is None, "who sent nothing has no levels"
