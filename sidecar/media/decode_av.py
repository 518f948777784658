"""G.722 and Opus by way of FFmpeg's decoders. They are loaded with the first packet of such a stream, not before: they are large."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from sidecar.media.resample import DELAY, RATE, Resampler

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext

Pcm = npt.NDArray[np.int16]
_FRAME_48: Final = (
    *(480, 960, 1920, 2880) * 3,  # SILK only: narrow, medium, wide band
    *(480, 960) * 2,  # hybrid
    *(120, 240, 480, 960) * 4,  # CELT only
)
"""RFC 6716 table 2: samples at 48 kHz in a frame, by configuration."""


class _Av:
    """A decoder of FFmpeg's, opened when it is first needed, and a resampler behind it."""

    def __init__(self, name: str, rate: int) -> None:
        self._name, self._rate = name, rate
        self._context: AudioCodecContext | None = None
        self._resampler = Resampler(rate)

    def _open(self) -> AudioCodecContext:
        from av.audio.codeccontext import AudioCodecContext

        context = AudioCodecContext.create(self._name, "r")
        if not isinstance(context, AudioCodecContext):
            raise TypeError(f"{self._name} is no audio codec")
        context.sample_rate = self._rate
        context.layout = "mono"  # a stereo stream is mixed down by the decoder itself
        self._context = context
        return context

    def decoded(self, payload: bytes) -> Pcm:
        """Samples at the decoder's rate; none for a payload that it refuses."""
        from av.error import FFmpegError
        from av.packet import Packet

        context = self._context or self._open()
        try:
            frames = context.decode(Packet(payload))
        except FFmpegError:
            return np.zeros(0, np.int16)
        return np.concatenate([np.zeros(0, np.int16), *(frame.to_ndarray().ravel() for frame in frames)])

    def brought_down(self, samples: Pcm, wanted: int) -> Pcm:
        """At 8 kHz, exactly as long as it has to be: what could not be decoded is silence."""
        expected = wanted * self._rate // RATE
        if len(samples) != expected:
            samples = np.concatenate([samples[:expected], np.zeros(max(0, expected - len(samples)), np.int16)])
        return self._resampler.take(samples, wanted)


class G722(_Av):
    """ITU-T G.722 at 64 kbit/s: an octet is two samples at 16 kHz and one tick of the RTP clock (RFC 3551 4.5.2)."""

    joins: Final = True
    delay: Final = DELAY + 11
    """With the 22 samples at 16 kHz of its two filter banks."""

    def __init__(self) -> None:
        super().__init__("g722", 2 * RATE)

    def samples(self, payload: bytes) -> int:
        """One for each octet."""
        return len(payload)

    def decode(self, payloads: list[bytes]) -> Pcm:
        """The audio of consecutive payloads."""
        whole = b"".join(payloads)
        return self.brought_down(self.decoded(whole), len(whole))


class Opus(_Av):
    """RFC 6716 and RFC 7587: always a clock of 48 kHz, whatever the band.

    Each packet says itself whether it is mono or stereo, in which band, and how long: `stereo`, `maxplaybackrate` and `ptime` of the
    session need no care.
    """

    joins: Final = False
    delay: Final = DELAY + 52
    """With the 6.5 ms that encoders look ahead in their ordinary mode."""

    def __init__(self) -> None:
        super().__init__("libopus", 48000)

    def samples(self, payload: bytes) -> int:
        """From the table of contents of the packet (RFC 6716 3.1); 0 for one that breaks its rules."""
        if not payload:
            return 0
        frame, code = _FRAME_48[payload[0] >> 3], payload[0] & 0x03
        frames = (1, 2, 2)[code] if code < 3 else (payload[1] & 0x3F if len(payload) > 1 else 0)
        total = frame * frames
        return total * RATE // 48000 if total <= 5760 else 0  # [R5]: at most 120 ms

    def decode(self, payloads: list[bytes]) -> Pcm:
        """The audio of consecutive payloads."""
        wanted = [self.samples(payload) for payload in payloads]
        # One or two octets hold no sound (RFC 7587 3.1.3): the sender is in its pause, and the decoder's own noise would be no news of it.
        parts = [
            np.zeros(size * 6, np.int16) if len(payload) <= 2 else _fitted(self.decoded(payload), size * 6)
            for payload, size in zip(payloads, wanted, strict=True)
        ]
        return self.brought_down(np.concatenate(parts), sum(wanted))


def _fitted(samples: Pcm, size: int) -> Pcm:
    return samples if len(samples) == size else np.concatenate([samples[:size], np.zeros(max(0, size - len(samples)), np.int16)])
