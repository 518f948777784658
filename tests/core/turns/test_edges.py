"""What a call may do in its middle without moving a figure: fall silent, wrap, change its source, press keys, send redundancy."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
import pytest

from control.contract.call import RelayDelay
from sidecar.clocks import Mono
from sidecar.media.codec import COMFORT_NOISE, STATIC, TELEPHONE_EVENT, Codec
from sidecar.media.red import primary
from sidecar.speech.neural import Bench, Floats
from sidecar.turns.measured import Measured
from sidecar.turns.measurement import Measurement
from tests.support.speech_call import Conversation, Network, Sender, Track, conversation, merged, voice

ANSWER = 5000.0
CLIPS = [voice(seed, 0.6 + seed % 4 * 0.5) for seed in range(8)]
CODECS = {**STATIC, 101: Codec(TELEPHONE_EVENT, 8000), 121: Codec("RED", 8000)}
TALK = conversation(7, 4, CLIPS)
GOOD = Network()
Sent = list[tuple[float, bytes]]


def loud(windows: Floats, states: Floats) -> tuple[Floats, Floats]:
    """A network that takes what is loud for speech."""
    return (np.abs(windows).max(axis=1) > 0.01).astype(np.float32), states


def measured(caller: Sent, agent: Sent, seconds: float, bench: Bench | None = None) -> Measured:
    call = Measurement(bench=bench)
    for leg in ("A", "B"):
        call.negotiated(leg, CODECS)
    call.answered(Mono(ANSWER))
    call.packets([("A" if leg == "A" else "B", data, Mono(at)) for leg, at, data in merged(A=caller, B=agent)])
    return call.finish(Mono(ANSWER + seconds), tap_dropped=0, refused=0, relay_delay=RelayDelay())


def sent(track: Track, ssrc: int, network: Network = GOOD) -> Sent:
    return Sender(ssrc=ssrc).packets(track.audio, ANSWER, network, ssrc)


def latencies(result: Measured) -> list[float]:
    return [turn.response_latency_ms for turn in result.turns]


PLAIN = measured(sent(TALK.caller, 1), sent(TALK.agent, 2), TALK.seconds)


@pytest.mark.parametrize("bench", [None, Bench(loud)], ids=["default", "neural"])
def test_ninety_seconds_in_which_nothing_is_sent_move_no_figure(bench: Bench | None) -> None:
    """Both stop sending in a silence of 90 s (over the wraps of both numbers), and the caller's clock runs 100 ppm slow."""
    talk = Conversation(Track.silent(110), Track.silent(110), [], [], 110)
    ends = [talk.caller.say(at, CLIPS[i])[1] for i, at in enumerate((600.0, 96_000.0))]
    starts = [talk.agent.say(end + wait, CLIPS[4])[0] for end, wait in zip(ends, (700.0, 1100.0), strict=True)]
    result = measured(
        sent(talk.caller, 1, Network(dtx=True, drift_ppm=100)), sent(talk.agent, 2, Network(dtx=True, jitter_ms=30)), talk.seconds, bench
    )
    drift = 0.0001 * ends[1]
    assert latencies(result) == pytest.approx([starts[0] - ends[0], starts[1] - ends[1] - drift], abs=15)
    assert (result.media.caller.lost, result.media.agent.lost) == (0, 0)
    assert result.media.caller.unsent_ms > 85_000
    assert result.speech.dead_air == 2


@pytest.mark.parametrize("gap_s", [0.0, 0.7])
def test_an_agent_that_hands_over_to_another_goes_on_in_the_same_call(gap_s: float) -> None:
    """A transfer or a re-INVITE: another source with numbers of its own, at once or after a while without any."""
    first = sent(TALK.agent, 2)
    between = next(t.agent_end_ms for t in PLAIN.turns if t.n == 2) / 1000 + 0.2
    second = Sender(ssrc=77, sequence=9, timestamp=123_456).packets(
        TALK.agent.audio[int(between * 50) * 160 :], ANSWER + int(between * 50) / 50
    )
    agent = [p for p in first if p[0] < ANSWER + between - gap_s] + second
    result = measured(sent(TALK.caller, 1), agent, TALK.seconds)
    assert latencies(result) == pytest.approx(latencies(PLAIN), abs=3)
    assert result.media.agent.ssrcs == ["00000002", "0000004d"]
    assert result.media.agent.lost == 0


def pressed(packets: Sent, first: int, digit: int, ssrc: int) -> Sent:
    """The same stream with a key held for 100 ms in place of audio (RFC 4733)."""
    changed = list(packets)
    for i in range(first, first + 5):
        at, data = packets[i]
        _, _, sequence, _, _ = struct.unpack("!BBHII", data[:12])
        start = struct.unpack("!I", packets[first][1][4:8])[0]
        event = struct.pack("!BBH", digit, 0x80 if i == first + 4 else 0, (i - first + 1) * 160)
        changed[i] = (at, struct.pack("!BBHII", 0x80, 101 | (i == first) << 7, sequence, start, ssrc) + event)
    return changed


def test_keys_of_either_party_are_listed_and_are_neither_speech_nor_loss() -> None:
    quiet_at = round(PLAIN.turns[1].agent_end_ms / 20) + 8
    result = measured(pressed(sent(TALK.caller, 1), quiet_at, 5, 1), pressed(sent(TALK.agent, 2), quiet_at + 6, 11, 2), TALK.seconds)
    assert [(d.digit, d.start_ms, d.duration_ms) for d in result.media.caller.dtmf] == [("5", pytest.approx(quiet_at * 20, abs=1), 100)]
    assert [(d.digit, d.duration_ms) for d in result.media.agent.dtmf] == [("#", 100)]
    assert latencies(result) == pytest.approx(latencies(PLAIN), abs=3)
    assert (result.media.caller.lost, result.media.agent.lost) == (0, 0)
    assert [t.first_audio_ms for t in result.turns] == [t.first_audio_ms for t in PLAIN.turns]


def test_comfort_noise_is_neither_a_sound_nor_jitter() -> None:
    """RFC 3389: the agent sends a description of noise, late by half its period each time, where it has nothing to say."""
    noisy: Sent = []
    for i, (at, data) in enumerate(sent(TALK.agent, 2)):
        silent = not any(abs(int(o) - 0x7F) > 3 and o != 0xFF for o in data[12:])
        noisy.append((at + (i % 2) * 0.01, data[:1] + bytes([13]) + data[2:12] + b"\x40") if silent else (at, data))
    result = measured(sent(TALK.caller, 1), noisy, TALK.seconds)
    assert STATIC[13].name == COMFORT_NOISE
    assert latencies(result) == pytest.approx(latencies(PLAIN), abs=3)
    assert [t.first_audio_ms for t in result.turns] == pytest.approx([t.first_audio_ms for t in PLAIN.turns], abs=3)
    assert result.media.agent.jitter_ms == pytest.approx(0.0, abs=0.05)
    assert result.media.agent.lost == 0


def test_the_first_packet_after_a_pause_is_left_out_of_jitter() -> None:
    """Senders hurry or dawdle with the packet that carries the marker."""
    hurried = [(at + 0.015 if data[1] & 0x80 else at, data) for at, data in sent(TALK.agent, 2, Network(dtx=True))]
    assert sum(data[1] >> 7 for _, data in hurried) > 3
    assert measured(sent(TALK.caller, 1), hurried, TALK.seconds).media.agent.jitter_ms == pytest.approx(0.0, abs=0.05)


def redundant(packets: Iterable[tuple[float, bytes]]) -> Sent:
    """Each packet with the one before it repeated (RFC 2198)."""
    before, made = b"", list[tuple[float, bytes]]()
    for at, data in packets:
        block = struct.pack("!BHB", 0x80, 160 << 2 | len(before) >> 8, len(before) & 0xFF) if before else b""
        made.append((at, data[:1] + bytes([data[1] & 0x80 | 121]) + data[2:12] + block + b"\x00" + before + data[12:]))
        before = data[12:]
    return made


def test_redundant_audio_is_heard_by_its_newest_block() -> None:
    result = measured(redundant(sent(TALK.caller, 1)), redundant(sent(TALK.agent, 2)), TALK.seconds)
    assert latencies(result) == pytest.approx(latencies(PLAIN), abs=0.1)
    assert (result.media.agent.codec, result.media.agent.analysed, result.media.agent.lost) == ("PCMU", True, 0)


@pytest.mark.parametrize("payload", [b"", b"\x80", b"\x80\x02\x80", b"\x80\x02\x80\xa0", b"\x80\x02\x80\xa0\x00" + bytes(100)])
def test_redundancy_that_breaks_its_own_lengths_is_nothing(payload: bytes) -> None:
    assert primary(payload) is None


def test_tracks_of_an_unchanged_call_are_the_same_twice() -> None:
    assert measured(sent(TALK.caller, 1), sent(TALK.agent, 2), TALK.seconds) == PLAIN
    assert np.isfinite(latencies(PLAIN)).all()
