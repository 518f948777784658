"""What somebody hears who listens in on a live call: both parties on one clock, a moment late, from when they began to listen.

A measurement of its own stream would wait two seconds for the best mapping of the clocks; an ear wants to hear now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sidecar.clocks import Mono
from sidecar.media.codec import Codec
from sidecar.media.decode import RATE, Pcm
from sidecar.media.relay import Leg
from sidecar.media.stream import Stream, StreamSettings
from sidecar.media.tap import Tapped
from sidecar.turns.stereo import Channel, Stereo

LAG_S: Final = 0.25
"""How far behind the call one hears: packets are waited for, put in order, and decoded by the packet."""
_SETTINGS: Final = StreamSettings(reorder_s=0.08, silence_chunk=RATE // 4)


class _Nothing:
    """A stream's sink that keeps nothing."""

    def audio(self, pcm: Pcm) -> None:
        """Take decoded samples."""

    def silence(self, samples: int) -> None:
        """Take a stretch in which nothing was sent."""

    def lost(self, samples: int) -> None:
        """Take a stretch that never arrived."""


class Listening:
    """From `now` on. `codecs`: the payload types that each party may send at that time."""

    def __init__(self, codecs: Mapping[Leg, Mapping[int, Codec]], now: Mono) -> None:
        left, right = Channel(_Nothing()), Channel(_Nothing())
        self._streams: dict[Leg, Stream] = {"A": Stream(left, _SETTINGS), "B": Stream(right, _SETTINGS)}
        for leg, known in codecs.items():
            self.negotiated(leg, known)
        self._stereo = Stereo(left, right, self._streams["A"], self._streams["B"])
        self._stereo.begin(now)

    def negotiated(self, leg: Leg, codecs: Mapping[int, Codec]) -> None:
        """Take the payload types that the party of `leg` may send from now on."""
        self._streams[leg].negotiated(codecs)

    def packets(self, packets: Sequence[Tapped]) -> None:
        """Take packets of both parties in order of arrival."""
        for leg, stream in self._streams.items():
            stream.packets([packet for packet in packets if packet[0] == leg])

    def take(self, now: Mono) -> bytes:
        """The frames that were not given yet, as `Stereo.take` gives them, up to `LAG_S` before `now`."""
        for stream in self._streams.values():
            stream.advance(now)
        return self._stereo.take(now - LAG_S)
