"""The stand-ins' G.711 against the figures of ITU-T G.711."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.lab import g711


@pytest.mark.parametrize(
    ("codec", "code", "value"),
    [
        ("PCMU", 0xFF, 0), ("PCMU", 0x7F, 0), ("PCMU", 0x80, 32124), ("PCMU", 0x00, -32124), ("PCMU", 0xFE, 8),
        ("PCMA", 0xD5, 8), ("PCMA", 0x55, -8), ("PCMA", 0xAA, 32256), ("PCMA", 0x2A, -32256), ("PCMA", 0xD4, 24),
    ],
)  # fmt: skip
def test_codes_of_the_tables(codec: g711.Codec, code: int, value: int) -> None:
    assert g711.decode(bytes([code]), codec)[0] == value


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
def test_every_decoded_value_survives_another_round(codec: g711.Codec) -> None:
    values = g711.decode(bytes(range(256)), codec)
    assert (g711.decode(g711.encode(values, codec), codec) == values).all()


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
def test_the_error_stays_under_a_thirtieth_of_the_signal(codec: g711.Codec) -> None:
    samples = np.arange(-30000, 30001, 7).astype(np.int16)
    error = np.abs(g711.decode(g711.encode(samples, codec), codec).astype(int) - samples)
    assert (error <= (np.abs(samples.astype(int)) + 256) / 30).all()
