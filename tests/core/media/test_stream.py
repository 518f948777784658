"""Packets laid on one time line, whatever the network did to them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
import pytest

from sidecar.clocks import Mono
from sidecar.media.codec import STATIC, TELEPHONE_EVENT, Codec
from sidecar.media.decode import Pcm
from sidecar.media.stream import Stream
from sidecar.media.tap import Tapped
from tests.support.speech_call import Network, Sender

RATE = 8000


@dataclass
class Recorder:
    """A sink that remembers."""

    pcm: list[Pcm] = field(default_factory=list)
    silent: int = 0
    gone: int = 0

    def audio(self, pcm: Pcm) -> None:
        self.pcm.append(pcm.copy())

    def silence(self, samples: int) -> None:
        self.silent += samples
        self.pcm.append(np.zeros(samples, np.int16))

    def lost(self, samples: int) -> None:
        self.gone += samples
        self.pcm.append(np.zeros(samples, np.int16))

    @property
    def line(self) -> np.ndarray:
        return np.concatenate(self.pcm) / 32768


def sweep(seconds: float) -> np.ndarray:
    """A tone whose pitch rises all the time, so that every moment is unlike every other."""
    time = np.arange(int(seconds * RATE)) / RATE
    return 0.4 * np.sin(2 * np.pi * (200 + 40 * time) * time)


def heard(sent: list[tuple[float, bytes]], step: float = 1.0) -> tuple[Stream, Recorder]:
    sink = Recorder()
    stream = Stream(sink)
    stream.negotiated({**STATIC, 101: Codec(TELEPHONE_EVENT, RATE)})
    batch: list[Tapped] = []
    stepped = sent[0][0]
    for arrival, data in sent:
        batch.append(("A", data, Mono(arrival)))
        if arrival - stepped > step:
            stream.packets(batch)
            stream.advance(Mono(arrival))
            batch, stepped = [], arrival
    stream.packets(batch)
    stream.finish()
    return stream, sink


def lag(sink: Recorder, audio: np.ndarray) -> int:
    """Samples by which the line is behind `audio`, by cross-correlation."""
    line = sink.line
    size = 1 << (len(line) + len(audio)).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(line, size) * np.conj(np.fft.rfft(audio, size)), size)
    peak = int(correlation.argmax())
    return peak if peak < size // 2 else peak - size


@pytest.mark.parametrize("ptime", [10, 20, 30, 40, 60])
@pytest.mark.parametrize("jitter", [0.0, 40.0])
def test_audio_comes_through_whole(ptime: int, jitter: float) -> None:
    audio = sweep(6.0)
    stream, sink = heard(Sender(ptime_ms=ptime).packets(audio, 50.0, Network(jitter_ms=jitter)))
    whole = len(audio) // (ptime * 8) * ptime * 8
    assert stream.position == whole
    assert np.abs(sink.line - audio[:whole]).max() < 0.02
    assert (sink.silent, sink.gone, stream.late) == (0, 0, 0)
    assert stream.locate(RATE * 3) == pytest.approx(53.0, abs=0.004)


def test_sequence_and_time_stamp_wrap_unseen() -> None:
    audio = sweep(10.0)
    stream, sink = heard(Sender(sequence=65400, timestamp=2**32 - 20000).packets(audio, 50.0))
    assert stream.position == len(audio)
    assert (sink.silent, sink.gone) == (0, 0)
    assert len(stream.receptions) == 1


def test_one_at_a_time_is_the_same_as_all_together() -> None:
    sent = Sender().packets(sweep(8.0), 50.0, Network(jitter_ms=15.0, loss=0.03, duplication=0.02))
    together, sink = heard(sent)
    singly, other = Stream(alone := Recorder()), alone
    singly.negotiated(STATIC)
    for arrival, data in sent:
        singly.packet(data, Mono(arrival))
    singly.finish()
    assert np.array_equal(sink.line, other.line)
    mine, theirs = next(iter(together.receptions.values())), next(iter(singly.receptions.values()))
    assert (mine.packets, mine.lost, mine.duplicates, mine.reordered) == (theirs.packets, theirs.lost, theirs.duplicates, theirs.reordered)
    assert mine.jitter_s == pytest.approx(theirs.jitter_s)
    assert together.loss_runs == singly.loss_runs


def test_loss_leaves_a_gap_of_its_own_length() -> None:
    audio = sweep(5.0)
    sent = Sender().packets(audio, 50.0)
    del sent[60:63]
    stream, sink = heard(sent)
    assert (sink.gone, sink.silent) == (480, 0)
    assert stream.position == len(audio)
    assert (stream.loss_runs, stream.loss_run_packets) == (1, 3)


def test_silence_that_is_not_sent_is_no_loss() -> None:
    audio = sweep(8.0)
    audio[2 * RATE : 5 * RATE] = 0
    stream, sink = heard(Sender().packets(audio, 50.0, Network(dtx=True)))
    assert (sink.silent, sink.gone) == (3 * RATE, 0)
    assert next(iter(stream.receptions.values())).lost == 0
    assert np.abs(sink.line - audio).max() < 0.02


def test_ninety_seconds_without_a_packet() -> None:
    audio = sweep(100.0)
    audio[5 * RATE : 95 * RATE] = 0
    stream, sink = heard(Sender().packets(audio, 50.0, Network(dtx=True)))
    assert sink.silent == 90 * RATE
    assert stream.locate(96 * RATE) == pytest.approx(146.0, abs=1e-3)


def test_duplicates_are_heard_once() -> None:
    audio = sweep(4.0)
    stream, sink = heard(Sender().packets(audio, 50.0, Network(duplication=0.5)))
    assert stream.position == len(audio)
    assert np.abs(sink.line - audio).max() < 0.02


def test_a_new_source_goes_on_where_the_old_one_ended() -> None:
    audio = sweep(10.0)
    first = Sender(ssrc=1).packets(audio[: 4 * RATE], 50.0)
    second = Sender(ssrc=2, sequence=9, timestamp=77).packets(audio[5 * RATE :], 55.0)
    stream, sink = heard(first + second)
    assert stream.position == pytest.approx(10 * RATE, abs=8)
    assert sink.silent == pytest.approx(RATE, abs=8)
    assert stream.locate(8 * RATE) == pytest.approx(58.0, abs=0.002)
    assert sorted(stream.receptions) == [1, 2]
    assert sum(r.lost for r in stream.receptions.values()) == 0


def test_a_second_source_beside_the_first_is_counted_and_not_heard() -> None:
    audio = sweep(5.0)
    beside = Sender(ssrc=2).packets(np.zeros(5 * RATE), 50.009)
    stream, sink = heard(sorted(Sender(ssrc=1).packets(audio, 50.0) + beside))
    assert np.abs(sink.line[: len(audio)] - audio).max() < 0.02
    assert stream.receptions[2].packets == 250
    assert stream.late >= 240


@pytest.mark.parametrize("leap", [900_000, -900_000, 2**31 - 5])
def test_a_time_stamp_that_leaps_begins_a_new_mapping(leap: int) -> None:
    audio = sweep(8.0)
    sender = Sender()
    sent = sender.packets(audio[: 4 * RATE], 50.0)
    sender.timestamp += leap
    stream, _ = heard(sent + sender.packets(audio[4 * RATE :], 54.0))
    assert stream.position == pytest.approx(len(audio), abs=8)
    assert stream.locate(6 * RATE) == pytest.approx(56.0, abs=0.002)


def test_a_clock_that_stands_still_in_silence() -> None:
    """Some agents send nothing between two utterances and let RTP time stand still meanwhile."""
    audio = sweep(6.0)
    sender = Sender()
    sent = (
        sender.packets(audio[: 2 * RATE], 50.0) + sender.packets(audio[2 * RATE : 4 * RATE], 55.0) + sender.packets(audio[4 * RATE :], 62.0)
    )
    stream, sink = heard(sent)
    assert sink.silent == pytest.approx(8 * RATE, abs=16)
    assert stream.locate(int(5.5 * RATE)) == pytest.approx(55.5, abs=0.002)
    assert stream.locate(13 * RATE) == pytest.approx(63.0, abs=0.002)


def test_a_stall_of_the_network_invents_no_pause() -> None:
    audio = sweep(10.0)
    stalled = [(max(at, 54.0) if 52.0 < at < 54.0 else at, data) for at, data in Sender().packets(audio, 50.0)]
    stream, sink = heard(stalled)
    assert (stream.position, sink.silent, sink.gone) == (len(audio), 0, 0)
    for moment in (1.0, 2.9, 3.5, 6.0):
        assert stream.locate(int(moment * RATE)) == pytest.approx(50.0 + moment, abs=0.002)


def test_a_call_that_begins_with_a_burst() -> None:
    late_start = [(max(at, 51.0), data) for at, data in Sender().packets(sweep(6.0), 50.0)]
    stream, _ = heard(late_start)
    assert stream.locate(RATE // 2) == pytest.approx(50.5, abs=0.002)


def test_two_clocks_that_drift_apart_for_ten_minutes() -> None:
    stream, _ = heard(Sender().packets(np.tile(sweep(60.0), 10), 50.0, Network(drift_ppm=100.0)), step=4.0)
    assert stream.locate(590 * RATE) == pytest.approx(50.0 + 590 * 1.0001, abs=0.001)


def test_codec_changed_in_mid_call() -> None:
    audio = sweep(6.0)
    sender = Sender()
    sent = sender.packets(audio[: 3 * RATE], 50.0)
    sender.payload_type = 8
    stream, sink = heard(
        sent + [(at, data[:12] + bytes(b ^ 0x55 for b in data[12:])) for at, data in sender.packets(audio[3 * RATE :], 53.0)]
    )
    assert stream.position == len(audio)
    assert np.abs(sink.line[: 3 * RATE] - audio[: 3 * RATE]).max() < 0.02
    assert np.abs(sink.line[3 * RATE :]).max() > 0.1


def test_unknown_codec_is_counted_and_not_analysed() -> None:
    sent = Sender(payload_type=96).packets(sweep(2.0), 50.0)
    stream, _ = heard(sent)
    assert (stream.codec, stream.analysed) == ("PT96", False)
    assert next(iter(stream.receptions.values())).packets == 100


def test_comfort_noise_is_silence() -> None:
    audio = sweep(4.0)
    sent = Sender().packets(audio, 50.0)
    for i in range(100, 150):  # RFC 3389: one octet of level
        at, data = sent[i]
        sent[i] = (at, data[:1] + b"\x0d" + data[2:12] + b"\x40")
    stream, sink = heard(sent)
    assert (sink.silent, sink.gone) == (RATE, 0)
    assert stream.position == len(audio)
    assert stream.codec == "PCMU"


def test_key_presses_are_placed_and_are_no_loss() -> None:
    sent = Sender(sequence=0, timestamp=0).packets(sweep(4.0), 50.0)
    for i in range(100, 110):
        at, data = sent[i]
        event = struct.pack("!BBH", 7, 0x80 if i > 107 else 0, (i - 99) * 160)
        header = struct.pack("!BBHII", 0x80, 101, struct.unpack("!H", data[2:4])[0], 100 * 160, 0x1234)
        sent[i] = (at, header + event)
    stream, sink = heard(sent)
    assert [(p.digit, p.duration) for p in stream.keypad.presses] == [("7", 1600)]
    assert stream.locate(stream.keypad.presses[0].position) == pytest.approx(52.0, abs=0.001)
    assert (sink.gone, sink.silent) == (0, 1600)


def test_garbage_is_counted_and_nothing_else() -> None:
    audio = sweep(2.0)
    sent = Sender().packets(audio, 50.0)
    sent[50:50] = [(sent[50][0], b"\x00" * 40), (sent[50][0], b""), (sent[50][0], b"\x80\xc8" + bytes(26))]
    stream, sink = heard(sent)
    assert stream.malformed == 2  # the third is a sender report
    assert stream.position == len(audio)
    assert lag(sink, audio) == 0
