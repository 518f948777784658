"""A call in each codec gives the same figures, also with loss and jitter; key presses keep their length under any clock."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from control.contract.call import RelayDelay
from sidecar.clocks import Mono
from sidecar.media.codec import TELEPHONE_EVENT, Codec
from sidecar.turns.measured import Measured
from sidecar.turns.measurement import Measurement
from tests.support.speech_call import Audio, Track, voice
from tests.support.speech_codec import coded

ANSWER = 50.0
Row = list[tuple[float, bytes]]


def talk() -> tuple[Track, Track]:
    caller, agent = Track.silent(9), Track.silent(9)
    agent.say(700, voice(61, 1.2))
    caller.say(2600, voice(62, 1.6))
    agent.say(5000, voice(63, 1.5))
    return caller, agent


def packets(audio: Audio, name: str, ssrc: int, jitter_ms: float = 0.0) -> tuple[Row, dict[int, Codec]]:
    sent = coded(audio, name)
    rng = np.random.default_rng(ssrc)
    rows = []
    for i, payload in enumerate(sent.payloads):
        header = struct.pack("!BBHII", 0x80, sent.payload_type, 65500 + i & 0xFFFF, 2**32 - 90000 + i * sent.step & 0xFFFFFFFF, ssrc)
        rows.append((ANSWER + i * 0.02 + rng.uniform(0, jitter_ms / 1000), header + payload))
    return sorted(rows), {sent.payload_type: sent.codec, 101: Codec(TELEPHONE_EVENT, sent.codec.clock_rate)}


def measured(caller: tuple[Row, dict[int, Codec]], agent: tuple[Row, dict[int, Codec]]) -> Measured:
    call = Measurement()
    call.negotiated("A", caller[1])
    call.negotiated("B", agent[1])
    call.answered(Mono(ANSWER))
    both = sorted([(at, "A", data) for at, data in caller[0]] + [(at, "B", data) for at, data in agent[0]])
    call.packets([("A" if leg == "A" else "B", data, Mono(at)) for at, leg, data in both])
    return call.finish(Mono(ANSWER + 9), tap_dropped=0, refused=0, relay_delay=RelayDelay())


@pytest.mark.parametrize("jitter_ms", [0.0, 40.0])
@pytest.mark.parametrize("name", ["PCMU", "PCMA", "G722", "OPUS", "L16/8000", "L16/16000", "L16/44100", "L16/48000"])
def test_the_figures_do_not_depend_on_the_codec(name: str, jitter_ms: float) -> None:
    caller, agent = talk()
    result = measured(packets(caller.audio, name, 1, jitter_ms), packets(agent.audio, name, 2, jitter_ms))
    assert result.media.caller.analysed
    assert result.media.agent.lost == 0
    assert result.greeting_ms == pytest.approx(agent.spans[0][0], abs=10)
    assert [t.kind for t in result.turns] == ["response"]
    assert result.turns[0].response_latency_ms == pytest.approx(agent.spans[1][0] - caller.spans[0][1], abs=15)


def test_the_codecs_own_delay_is_taken_out_where_only_one_party_has_it() -> None:
    caller, agent = talk()
    result = measured(packets(caller.audio, "PCMU", 1), packets(agent.audio, "OPUS", 2))
    assert result.greeting_ms == pytest.approx(agent.spans[0][0], abs=4)


def test_a_codec_changed_in_mid_call_under_the_same_source() -> None:
    caller, agent = talk()
    first, codecs = packets(agent.audio, "PCMU", 2)
    second, others = packets(agent.audio, "OPUS", 2)
    result = measured(packets(caller.audio, "PCMU", 1), (first[:150] + second[150:], codecs | others))
    assert result.greeting_ms == pytest.approx(agent.spans[0][0], abs=10)
    assert [t.kind for t in result.turns] == ["response"]
    assert result.turns[0].response_latency_ms == pytest.approx(agent.spans[1][0] - caller.spans[0][1], abs=15)


def test_an_opus_sender_that_stops_in_its_pauses() -> None:
    caller, agent = talk()
    rows, codecs = packets(agent.audio, "OPUS", 2)
    spoken = [any(a - 200 < i * 20 < b + 200 for a, b in agent.spans) for i in range(len(rows))]
    kept = [row for row, heard in zip(rows, spoken, strict=True) if heard]
    sequenced = [(at, data[:2] + struct.pack("!H", i) + data[4:]) for i, (at, data) in enumerate(kept)]
    result = measured(packets(caller.audio, "OPUS", 1), (sequenced, codecs))
    assert result.media.agent.lost == 0
    assert result.greeting_ms == pytest.approx(agent.spans[0][0], abs=10)
    assert result.turns[0].response_latency_ms == pytest.approx(agent.spans[1][0] - caller.spans[0][1], abs=15)


def test_a_key_press_beside_a_clock_of_48_khz_keeps_its_length() -> None:
    caller, agent = talk()
    rows, codecs = packets(caller.audio, "OPUS", 1)
    for i in range(30, 35):
        at, data = rows[i]
        start = struct.unpack("!I", rows[30][1][4:8])[0]
        event = struct.pack("!BBH", 7, 0x80 if i == 34 else 0, (i - 29) * 960)
        rows[i] = (at, struct.pack("!BB", 0x80, 101) + data[2:4] + struct.pack("!I", start) + data[8:12] + event)
    result = measured((rows, codecs), packets(agent.audio, "OPUS", 2))
    assert [(d.digit, d.duration_ms, d.start_ms) for d in result.media.caller.dtmf] == [("7", 100.0, pytest.approx(600, abs=10))]
