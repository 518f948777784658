"""G.711 decoding against figures of the recommendation."""

from __future__ import annotations

import numpy as np

from sidecar.media.codec import Codec
from sidecar.media.decode import decoder_for
from sidecar.media.g711 import A_LAW, MU_LAW
from tests.support.speech_call import mu_law


def test_mu_law_end_points() -> None:  # G.711 table 2: 0xFF and 0x7F are zero, 0x80 the largest
    assert (MU_LAW[0xFF], MU_LAW[0x7F], MU_LAW[0x80], MU_LAW[0x00]) == (0, 0, 32124, -32124)


def test_a_law_end_points() -> None:  # G.711 table 1
    assert (A_LAW[0xD5], A_LAW[0x55], A_LAW[0xAA], A_LAW[0x2A]) == (8, -8, 32256, -32256)


def test_coding_and_decoding_stay_within_a_step() -> None:
    audio = np.linspace(-0.95, 0.95, 4001)
    decoded = MU_LAW[np.frombuffer(mu_law(audio), np.uint8)] / 32768
    assert np.all(np.abs(decoded - audio) <= np.abs(audio) / 15 + 0.0003)


def test_linear_samples_are_read_in_network_order() -> None:
    decoder = decoder_for(Codec("L16", 8000))
    assert decoder is not None
    assert decoder.decode([b"\x01\x00", b"\xff\xff"]).tolist() == [256, -1]


def test_what_cannot_be_decoded_has_no_decoder() -> None:
    assert decoder_for(Codec("G729", 8000)) is None
    assert decoder_for(Codec("L16", 44100, 3)) is None
