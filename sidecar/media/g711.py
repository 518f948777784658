"""G.711 decoding: the 256 values of each law, as tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.int16]
"""Linear 16-bit samples at 8 kHz."""


def _mu_law() -> Pcm:
    code = ~np.arange(256, dtype=np.int32) & 0xFF  # G.711 table 2: sent with all bits inverted
    magnitude = ((((code & 0x0F) << 3) + 0x84) << ((code >> 4) & 0x07)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _a_law() -> Pcm:
    code = np.arange(256, dtype=np.int32) ^ 0x55  # G.711 table 1: sent with the even bits inverted
    exponent, mantissa = (code >> 4) & 0x07, (code & 0x0F) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, (mantissa + 0x108) << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


MU_LAW: Final = _mu_law()
A_LAW: Final = _a_law()


def decode_mu_law(payload: bytes) -> Pcm:
    """μ-law octets to linear samples."""
    return MU_LAW.take(np.frombuffer(payload, np.uint8), mode="clip")


def decode_a_law(payload: bytes) -> Pcm:
    """A-law octets to linear samples."""
    return A_LAW.take(np.frombuffer(payload, np.uint8), mode="clip")


DECODERS: Final[dict[str, Callable[[bytes], Pcm]]] = {"PCMU": decode_mu_law, "PCMA": decode_a_law}
"""Stateless decoders to 8 kHz by codec name: one octet is one sample."""
