"""G.711 for the stand-ins, on numpy tables. Not the sidecar's own decoder: a witness must not share the eyes of the one it checks."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sidecar.lab.speech.bounds import Pcm

Codec = Literal["PCMU", "PCMA"]
PAYLOAD_TYPE: dict[Codec, int] = {"PCMU": 0, "PCMA": 8}
CODEC_OF: dict[int, Codec] = {number: name for name, number in PAYLOAD_TYPE.items()}


def _mu_law() -> NDArray[np.int16]:
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << (code >> 4 & 7)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _a_law() -> NDArray[np.int16]:
    code = np.arange(256, dtype=np.int32) ^ 0x55
    segment = code >> 4 & 7
    base = ((code & 0x0F) << 4) + 8
    magnitude = np.where(segment == 0, base, (base + 0x100) << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


DECODE: dict[Codec, NDArray[np.int16]] = {"PCMU": _mu_law(), "PCMA": _a_law()}


def _encoder(table: NDArray[np.int16]) -> NDArray[np.uint8]:
    """For each 16-bit value (offset 32768) the code whose decoded value is nearest."""
    order = np.argsort(table, kind="stable")
    values = table[order].astype(np.int32)
    middles = (values[1:] + values[:-1]) / 2
    return np.asarray(order[np.searchsorted(middles, np.arange(-32768, 32768))], dtype=np.uint8)


ENCODE: dict[Codec, NDArray[np.uint8]] = {name: _encoder(table) for name, table in DECODE.items()}


def encode(samples: Pcm, codec: Codec) -> bytes:
    """One octet a sample (ITU-T G.711)."""
    return ENCODE[codec][samples.astype(np.int32) + 32768].tobytes()


def decode(payload: bytes, codec: Codec) -> Pcm:
    """One 16-bit sample an octet."""
    return DECODE[codec][np.frombuffer(payload, dtype=np.uint8)]
