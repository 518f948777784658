"""Decoders to the one form that the analysis hears: linear 16-bit samples at 8 kHz."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from sidecar.media import g711
from sidecar.media.codec import Codec

Pcm = npt.NDArray[np.int16]
"""Linear 16-bit samples at 8 kHz."""
RATE: Final = 8000


class Decoder(Protocol):
    """Decoding of one run of packets, in order."""

    def samples(self, payload: bytes) -> int:
        """How many samples `decode` gives for `payload`."""
        ...

    def decode(self, payloads: list[bytes]) -> Pcm:
        """The audio of consecutive payloads."""
        ...


class _G711:
    def __init__(self, table: Callable[[bytes], Pcm]) -> None:
        self._table = table

    def samples(self, payload: bytes) -> int:
        return len(payload)

    def decode(self, payloads: list[bytes]) -> Pcm:
        return self._table(b"".join(payloads))


class _L16:
    """Linear samples in network byte order (RFC 3551 4.5.11), one channel at 8 kHz."""

    def samples(self, payload: bytes) -> int:
        return len(payload) // 2

    def decode(self, payloads: list[bytes]) -> Pcm:
        whole = b"".join(p[: len(p) & ~1] for p in payloads)
        return np.frombuffer(whole, ">i2").astype(np.int16)


def decoder_for(codec: Codec) -> Decoder | None:
    """A fresh decoder, or None for a codec that is relayed untouched and not analysed."""
    if codec.channels != 1 or codec.clock_rate != RATE:
        return None
    if codec.name in g711.DECODERS:
        return _G711(g711.DECODERS[codec.name])
    if codec.name == "L16":
        return _L16()
    return None
