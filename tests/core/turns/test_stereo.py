"""The recording's two channels against the sources, by cross-correlation on the true clock."""

from __future__ import annotations

import numpy as np
import pytest

from control.contract.call import RelayDelay
from sidecar.clocks import Mono
from sidecar.media.codec import STATIC
from sidecar.turns.measurement import Measurement
from tests.support.speech_call import Audio, Network, Sender, merged, voice
from tests.support.speech_hour import Packet, batches

ANSWER = 5000.0
RATE = 8000


def packets(left: Audio, right: Audio, left_network: Network, right_network: Network, ptime: tuple[int, int] = (20, 20)) -> list[Packet]:
    sent = merged(
        A=Sender(ssrc=1, ptime_ms=ptime[0]).packets(left, ANSWER, left_network, 1),
        B=Sender(ssrc=2, ptime_ms=ptime[1]).packets(right, ANSWER, right_network, 2),
    )
    return [("A" if leg == "A" else "B", data, Mono(at)) for leg, at, data in sent]


def recorded(sent: list[Packet], seconds: float) -> np.ndarray:
    """Both channels, taken piece by piece while the call runs, as floats of full scale."""
    call = Measurement(record=True)
    for leg in ("A", "B"):
        call.negotiated(leg, STATIC)
    call.answered(Mono(ANSWER))
    pieces = []
    for batch in batches(sent, 1.0):
        call.packets(batch)
        pieces.append(call.recorded())
    end = Mono(ANSWER + seconds)
    call.finish(end, tap_dropped=0, refused=0, relay_delay=RelayDelay())
    pieces.append(call.recorded(end))
    return np.frombuffer(b"".join(pieces), "<i2").reshape(-1, 2) / 32768


def lag_ms(heard: Audio, source: Audio) -> float:
    """By how much `heard` is behind `source`, from the peak of their cross-correlation (a parabola through three points)."""
    size = 1 << (len(heard) + len(source)).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(source, size)), size)
    peak = int(correlation.argmax())
    before, at, after = correlation[peak - 1], correlation[peak], correlation[(peak + 1) % size]
    fine = peak + 0.5 * (before - after) / (before - 2 * at + after)
    return (fine if peak < size // 2 else fine - size) / 8


def speech(seconds: int, seed: int) -> Audio:
    """Something that is said over and over, with pauses, and never repeats to the sample."""
    rng, audio, at = np.random.default_rng(seed), np.zeros(seconds * RATE), RATE // 2
    clips = [voice(seed + i, 0.8 + i * 0.4).audio for i in range(5)]
    while at + 4 * RATE < len(audio):
        clip = clips[rng.integers(5)]
        audio[at : at + len(clip)] += clip
        at += len(clip) + int(rng.uniform(0.3, 1.5) * RATE)
    return audio


@pytest.mark.parametrize(("minutes", "drift"), [(30, 100.0), (2, -100.0), (2, 0.0)])
def test_thirty_minutes_stay_within_5_ms_of_the_source(minutes: int, drift: float) -> None:
    """The caller's clock is fast by as much as the agent's is slow; the wire loses, delays and reorders."""
    left, right = speech(60 * minutes, 1), speech(60 * minutes, 9)
    network = {"jitter_ms": 20.0, "loss": 0.01}
    heard = recorded(packets(left, right, Network(drift_ppm=drift, **network), Network(drift_ppm=-drift, **network)), 60.0 * minutes - 1)
    assert len(heard) == (60 * minutes - 1) * RATE
    for side, (source, ppm) in enumerate(((left, drift), (right, -drift))):
        for second in (2, 20 * minutes, 40 * minutes, 60 * minutes - 14):
            window = slice(second * RATE, (second + 10) * RATE)
            true_time = np.arange(window.start, window.stop) / (1 + ppm * 1e-6)
            expected = np.interp(true_time, np.arange(len(source)), source)
            assert abs(lag_ms(heard[window, side], expected)) < 5.0


def test_audio_is_as_it_was_sent() -> None:
    """A clean line without drift: sample by sample, but for the coding."""
    left, right = speech(20, 3), speech(20, 4)
    heard = recorded(packets(left, right, Network(), Network()), 19.0)
    shift = round(lag_ms(heard[:, 0], left[: len(heard)]) * 8)
    assert abs(shift) <= 1
    assert np.abs(np.roll(heard[:, 0], -shift)[RATE:-RATE] - left[RATE : len(heard) - RATE]).max() < 0.05


def test_a_moved_sample_keeps_the_band() -> None:
    """A clock that is off moves every sample by a fraction; a tone of 3 kHz loses nothing by it."""
    time = np.arange(12 * RATE) / RATE
    tone = 0.4 * np.sin(2 * np.pi * 3000 * time)
    heard = recorded(packets(tone, tone, Network(drift_ppm=100.0), Network(drift_ppm=-80.0)), 11.0)
    for side in (0, 1):
        level = np.sqrt((heard[2 * RATE : 9 * RATE, side].reshape(-1, RATE // 10) ** 2).mean(axis=1))
        assert level.min() > 0.4 / np.sqrt(2) * 0.93
        assert level.max() < 0.4 / np.sqrt(2) * 1.03


def test_gaps_and_suppressed_silence_keep_their_length() -> None:
    left, right = speech(40, 5), speech(40, 6)
    left[12 * RATE : 25 * RATE] = 0
    sent = [p for p in packets(left, right, Network(dtx=True), Network()) if not (p[0] == "B" and 15 < p[2] - ANSWER < 18)]
    heard = recorded(sent, 39.0)
    for start, side, source in ((2, 0, left), (27, 0, left), (4, 1, right), (20, 1, right)):
        window = slice(start * RATE, (start + 8) * RATE)
        assert abs(lag_ms(heard[window, side], source[window])) < 1.0
    assert not heard[13 * RATE : 24 * RATE, 0].any()
    assert not heard[int(15.1 * RATE) : int(17.9 * RATE), 1].any()


def test_one_party_alone_and_nobody() -> None:
    talk = speech(12, 7)
    sent: list[Packet] = [("A", data, Mono(at)) for at, data in Sender(ssrc=1).packets(talk, ANSWER)]
    heard = recorded(sent, 11.0)
    assert abs(lag_ms(heard[:, 0], talk[: len(heard)])) < 1.0
    assert not heard[:, 1].any()
    assert recorded(sent[:1], 3.0).shape == (3 * RATE, 2)


def test_what_is_written_is_not_kept() -> None:
    talk = speech(60, 8)
    call = Measurement(record=True)
    call.negotiated("A", STATIC)
    call.negotiated("B", STATIC)
    call.answered(Mono(ANSWER))
    most = 0
    for batch in batches(packets(talk, talk, Network(), Network()), 0.2):
        call.packets(batch)
        call.live(batch[-1][2])
        call.recorded()
        most = max(most, *(sum(map(len, side.channel._kept)) for side in call._sides.values() if side.channel is not None))
    assert most < 15 * RATE
