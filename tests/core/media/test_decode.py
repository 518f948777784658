"""Wideband and linear codecs: encoded, carried and decoded again, the sound is the same and lies where it was."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from sidecar.media.codec import Codec
from sidecar.media.decode import Decoder, decoder_for
from sidecar.media.decode_av import Opus
from tests.support.speech_call import Audio, voice
from tests.support.speech_codec import coded

SPOKEN = voice(5, 2.0).audio


def decoder(codec: Codec) -> Decoder:
    found = decoder_for(codec)
    assert found is not None
    return found


def lag_and_likeness(decoded: Audio, original: Audio) -> tuple[int, float]:
    size = 1 << 16
    product = np.fft.irfft(np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(original, size)))
    return int(product[:400].argmax()), float(product.max() / np.linalg.norm(decoded) / np.linalg.norm(original))


@pytest.mark.parametrize("ptime", [20, 60])
@pytest.mark.parametrize("name", ["PCMU", "PCMA", "G722", "OPUS", "L16/8000", "L16/16000", "L16/44100", "L16/48000"])
def test_a_round_trip_gives_the_sound_back_with_the_lag_that_the_decoder_states(name: str, ptime: int) -> None:
    sent = coded(SPOKEN, name, ptime)
    heard = decoder(sent.codec)
    pieces = [heard.decode(sent.payloads[i : i + 3]) for i in range(0, len(sent.payloads), 3)]
    assert [len(p) for p in pieces] == [sum(map(heard.samples, sent.payloads[i : i + 3])) for i in range(0, len(sent.payloads), 3)]
    decoded = np.concatenate(pieces) / 32768
    assert len(decoded) == len(sent.payloads) * ptime * 8
    lag, likeness = lag_and_likeness(decoded, SPOKEN)
    assert lag == pytest.approx(heard.delay, abs=3)
    assert likeness > (0.8 if name == "OPUS" else 0.93)


@pytest.mark.parametrize("name", ["PCMU", "G722", "L16/16000"])
def test_joined_payloads_decode_as_they_would_one_by_one(name: str) -> None:
    sent = coded(SPOKEN, name)
    one, other = decoder(sent.codec), decoder(sent.codec)
    assert one.joins
    joined = one.decode([b"".join(sent.payloads)])
    assert np.array_equal(joined, np.concatenate([other.decode([payload]) for payload in sent.payloads]))


@pytest.mark.parametrize(
    ("toc", "samples"),
    [
        (b"\x08", 160),  # SILK, narrow band, 20 ms, one frame
        (b"\x18", 480),  # SILK, 60 ms
        (b"\x78", 160),  # hybrid, 20 ms
        (b"\xe0", 20),  # CELT, 2.5 ms
        (b"\xf9\x00", 320),  # two frames of 20 ms
        (b"\xfb\x03", 480),  # three frames, told in the second octet
        (b"\xfb\x3f", 0),  # longer than 120 ms
        (b"\xfb", 0),
        (b"", 0),
    ],
)
def test_an_opus_packet_tells_its_length(toc: bytes, samples: int) -> None:  # RFC 6716 3.1, 3.4
    assert Opus().samples(toc) == samples


def test_an_opus_pause_is_silence_and_what_follows_is_heard() -> None:  # RFC 7587 3.1.3
    sent = coded(SPOKEN, "OPUS")
    heard = decoder(sent.codec)
    heard.decode(sent.payloads[:30])
    pause = heard.decode([b"\x78"] * 5)
    assert len(pause) == 5 * 160
    assert np.abs(pause[2 * 8 :]).max() == 0
    assert np.abs(heard.decode(sent.payloads[30:40])).max() > 300


@pytest.mark.parametrize("name", ["OPUS", "G722"])
def test_a_payload_of_noise_harms_nothing(name: str) -> None:
    sent = coded(SPOKEN, name)
    heard = decoder(sent.codec)
    rng = np.random.default_rng(1)
    for size in (1, 3, 40, 200):
        payload = rng.bytes(size)
        assert len(heard.decode([payload])) == heard.samples(payload)
    assert len(heard.decode(sent.payloads[:5])) == 800


def test_stereo_linear_audio_is_mixed_down() -> None:
    heard = decoder(Codec("L16", 8000, 2))
    payload = np.array([[1000, 3000]] * 160, ">i2").tobytes()
    assert heard.samples(payload) == 160
    assert set(heard.decode([payload]).tolist()) == {2000}


def test_an_unknown_codec_has_no_decoder() -> None:
    unknown = [Codec("G729", 8000), Codec("G722", 16000), Codec("OPUS", 8000), Codec("L16", 4000), Codec("PCMU", 16000)]
    assert [decoder_for(codec) for codec in unknown] == [None] * len(unknown)


def test_the_large_library_is_loaded_with_the_first_packet_only() -> None:
    script = "import sys; from sidecar.media.decode import decoder_for; from sidecar.media.codec import Codec; "
    script += "decoder_for(Codec('OPUS', 48000, 2)); print('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout == "False\n"
