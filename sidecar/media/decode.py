"""Decoders to the one form that the analysis hears: linear 16-bit samples at 8 kHz."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from sidecar.media import g711
from sidecar.media.codec import Codec
from sidecar.media.decode_av import G722, Opus
from sidecar.media.resample import DELAY, Resampler

Pcm = npt.NDArray[np.int16]
"""Linear 16-bit samples at 8 kHz."""
RATE: Final = 8000
_LINEAR_RATES: Final = range(RATE, 192_001)


class Decoder(Protocol):
    """Decoding of one run of packets, in order."""

    @property
    def joins(self) -> bool:
        """Whether payloads put end to end decode as they would one by one."""
        ...

    @property
    def delay(self) -> int:
        """Samples at 8 kHz by which the result lags behind the sound that was coded."""
        ...

    def samples(self, payload: bytes) -> int:
        """How many samples `decode` gives for `payload`."""
        ...

    def decode(self, payloads: list[bytes]) -> Pcm:
        """The audio of consecutive payloads."""
        ...


class _G711:
    joins: Final = True
    delay: Final = 0

    def __init__(self, table: Callable[[bytes], Pcm]) -> None:
        self._table = table

    def samples(self, payload: bytes) -> int:
        return len(payload)

    def decode(self, payloads: list[bytes]) -> Pcm:
        return self._table(b"".join(payloads))


class _L16:
    """Linear samples in network byte order, channels interleaved (RFC 3551 4.5.11), of any rate from 8 kHz."""

    def __init__(self, rate: int, channels: int) -> None:
        self._rate, self._channels = rate, channels
        self._resampler = Resampler(rate) if rate != RATE else None
        # Only where a packet's length at 8 kHz is a whole number do two packets have twice that.
        self.joins = rate % RATE == 0
        self.delay = DELAY if self._resampler else 0

    def samples(self, payload: bytes) -> int:
        return len(payload) // (2 * self._channels) * RATE // self._rate

    def decode(self, payloads: list[bytes]) -> Pcm:
        wanted = sum(map(self.samples, payloads))
        frame = 2 * self._channels
        whole = b"".join(p[: len(p) // frame * frame] for p in payloads)
        pcm = np.frombuffer(whole, ">i2").astype(np.int16)
        if self._channels > 1:
            pcm = pcm.reshape(-1, self._channels).mean(axis=1).astype(np.int16)
        return self._resampler.take(pcm, wanted) if self._resampler else pcm


def decoder_for(codec: Codec) -> Decoder | None:
    """A fresh decoder, or None for a codec that is relayed untouched and not analysed."""
    match codec:
        case Codec(sealed=True):
            return None
        case Codec("PCMU" | "PCMA", clock_rate=8000, channels=1):
            return _G711(g711.DECODERS[codec.name])
        case Codec("L16") if codec.clock_rate in _LINEAR_RATES and codec.channels in (1, 2):
            return _L16(codec.clock_rate, codec.channels)
        case Codec("G722", clock_rate=8000, channels=1):
            return G722()
        case Codec("OPUS", clock_rate=48000):
            return Opus()
        case _:
            return None
