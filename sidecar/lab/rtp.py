"""One party's RTP: a paced G.711 stream whose every sample has a known time, and what it hears from the other side.

Packet k is due at t0 + k * 20 ms on an absolute schedule: a late loop catches up and never drifts, so sample s is heard at t0 + s / 8000.
The stream never stops; between utterances it carries faint noise, as a quiet line does, or digital silence.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from sidecar.clocks import Addr, Mono
from sidecar.lab import g711
from sidecar.lab.speech import Clip
from sidecar.lab.speech.bounds import RATE, Pcm, spans

PTIME_S = 0.02
FRAME = 160
HEADER = struct.Struct("!BBHII")
FADE = 40
"""Samples over which a clip that is cut short fades: 5 ms, so that the cut is no click."""
NOISE_AMPLITUDE = 6
"""Peak of the line noise: about −79 dBov, far under any speech threshold."""


@dataclass(slots=True)
class Spoken:
    """A clip placed in the stream at sample `at`; `cut_at` is the sample after which nothing of it was sent."""

    clip: Clip
    at: int
    cut_at: int | None = None

    @property
    def samples(self) -> Pcm:
        """What is sent of the clip, faded where it was cut."""
        if self.cut_at is None or self.cut_at >= self.at + len(self.clip.samples):
            return self.clip.samples
        kept = self.clip.samples[: max(0, self.cut_at - self.at)].copy()
        fade = kept[-FADE:]
        fade[:] = (fade * np.linspace(1.0, 0.0, len(fade))).astype(np.int16)
        return kept

    @property
    def stop(self) -> int:
        """Sample after the last one."""
        whole = self.at + len(self.clip.samples)
        return whole if self.cut_at is None else min(whole, self.cut_at)


@dataclass(frozen=True, slots=True)
class Heard:
    """One packet of the other side; `sample` is where its audio stands in the stream as heard."""

    sample: int
    samples: Pcm


@dataclass(slots=True)
class Arrivals:
    """The other side's stream on the monotonic clock: RTP time plus the least (arrival − RTP time), which a queue's delay cannot move."""

    packets: int = 0
    sequences: set[int] = field(default_factory=set)
    _ssrc: int | None = None
    _origin: int = 0
    _next: int = 0
    _offset: float = math.inf

    def place(self, ssrc: int, sequence: int, timestamp: int, arrival: Mono) -> int:
        """The stream's sample at which a packet begins. A new SSRC goes on where the old one stopped."""
        if ssrc != self._ssrc:
            self._ssrc, self._origin, self._offset = ssrc, timestamp - self._next, math.inf
        sample = (timestamp - self._origin + 0x8000_0000 & 0xFFFF_FFFF) - 0x8000_0000
        self._offset = min(self._offset, arrival - sample / RATE)
        self._next = max(self._next, sample + FRAME)
        self.packets += 1
        self.sequences.add(sequence)
        return sample

    def time_of(self, sample: int) -> Mono:
        """When that sample was heard. Infinite before the first packet."""
        return Mono(self._offset + sample / RATE)


class RtpParty(asyncio.DatagramProtocol):
    """A symmetric RTP endpoint. Open it, tell it the remote address, start it; it sends until closed."""

    def __init__(self, on_heard: Callable[[Heard], None] | None = None, *, noise: bool = True) -> None:
        self.spoken: list[Spoken] = []
        self.heard = Arrivals()
        self.sent = 0
        self.t0: Mono | None = None
        self.errors = 0
        self._on_heard = on_heard
        self._noise: Pcm = (
            np.random.default_rng(1).integers(-NOISE_AMPLITUDE, NOISE_AMPLITUDE + 1, RATE, dtype=np.int16)
            if noise
            else np.zeros(RATE, np.int16)
        )
        self._codec: g711.Codec = "PCMU"
        self._remote: Addr | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._sequence = secrets.randbits(15)
        self._timestamp = secrets.randbits(32)
        self.ssrc = secrets.randbits(32)

    @classmethod
    async def open(cls, host: str = "127.0.0.1", on_heard: Callable[[Heard], None] | None = None, *, noise: bool = True) -> RtpParty:
        """A party on a free even port of `host`. Raises OSError when no socket can be had."""
        loop = asyncio.get_running_loop()
        while True:
            transport, party = await loop.create_datagram_endpoint(lambda: cls(on_heard, noise=noise), local_addr=(host, 0))
            if party.address[1] % 2 == 0:
                return party
            transport.close()

    @property
    def address(self) -> Addr:
        """Where this party receives."""
        assert self._transport is not None  # noqa: S101 – open() is the only way to get a party
        host, port = self._transport.get_extra_info("sockname")[:2]
        return host, port

    # -- sending ---------------------------------------------------------------------------------------------------

    def start(self, remote: Addr, codec: g711.Codec) -> None:
        """Send to `remote` from now on. Later calls change address and codec; the schedule goes on."""
        self._remote, self._codec = remote, codec
        if self.t0 is None:
            self.t0 = Mono(time.monotonic())
            self._tick()

    def sample_at(self, when: Mono) -> int:
        """The stream's sample that is heard at `when`, not before the next one to be sent. Raises RuntimeError before start()."""
        return max(self._frame_start(), round((when - self._origin()) * RATE))

    def time_of(self, sample: int) -> Mono:
        """When that sample of the stream is heard."""
        return Mono(self._origin() + sample / RATE)

    def say(self, clip: Clip, when: Mono) -> Spoken:
        """Place `clip` so that its speech begins at `when`, to the sample; or at once when that is past."""
        start = max(self._frame_start(), round((when - self._origin()) * RATE) - clip.onset)
        spoken = Spoken(clip, start)
        self.spoken.append(spoken)
        return spoken

    def cut(self, spoken: Spoken, when: Mono) -> None:
        """Let nothing of `spoken` be heard after `when`."""
        spoken.cut_at = min(spoken.stop, self.sample_at(when))

    def speech(self) -> list[tuple[Mono, Mono]]:
        """Times of all speech sent or about to be, by the definition in `bounds`: what the other side truly hears."""
        found: list[tuple[Mono, Mono]] = []
        for spoken in self.spoken:
            parts = spans(spoken.samples, level=spoken.clip.level)
            found.extend((self.time_of(spoken.at + part.start), self.time_of(spoken.at + part.end)) for part in parts)
        return sorted(found)

    def close(self) -> None:
        """Stop sending and free the port."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()

    def _origin(self) -> Mono:
        if self.t0 is None:
            raise RuntimeError("the stream has not started, so its samples have no time yet")
        return self.t0

    def _frame_start(self) -> int:
        return self.sent * FRAME

    def _tick(self) -> None:
        now = time.monotonic()
        origin = self._origin()
        while origin + self.sent * PTIME_S <= now:
            self._send_frame()
        self._timer = asyncio.get_running_loop().call_later(origin + self.sent * PTIME_S - now, self._tick)

    def _send_frame(self) -> None:
        if self._transport is None or self._transport.is_closing() or self._remote is None:
            self.sent += 1
            return
        header = HEADER.pack(
            0x80,
            (0x80 if self.sent == 0 else 0) | g711.PAYLOAD_TYPE[self._codec],
            self._sequence + self.sent & 0xFFFF,
            self._timestamp + self.sent * FRAME & 0xFFFF_FFFF,
            self.ssrc,
        )
        self._transport.sendto(header + g711.encode(self._frame(self._frame_start()), self._codec), self._remote)
        self.sent += 1

    def _frame(self, start: int) -> Pcm:
        """Samples start … start + 159: line noise with whatever is spoken then."""
        mix = np.take(self._noise, np.arange(start, start + FRAME), mode="wrap").astype(np.int32)
        for spoken in self.spoken:
            if spoken.at < start + FRAME and spoken.stop > start:
                samples = spoken.samples
                low, high = max(start, spoken.at), min(start + FRAME, spoken.at + len(samples))
                mix[low - start : high - start] += samples[low - spoken.at : high - spoken.at]
        return np.clip(mix, -32768, 32767).astype(np.int16)

    # -- receiving -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self._transport = cast(asyncio.DatagramTransport, transport)  # not every loop's class says so

    def datagram_received(self, data: bytes, addr: Addr) -> None:
        """Decode one packet and hand it on; what is no G.711 RTP is left alone."""
        arrival = Mono(time.monotonic())
        if len(data) < HEADER.size or data[0] >> 6 != 2:
            return
        first, second, sequence, timestamp, ssrc = HEADER.unpack_from(data)
        codec = g711.CODEC_OF.get(second & 0x7F)
        body = HEADER.size + 4 * (first & 0x0F)
        if codec is None or len(data) <= body:
            return
        sample = self.heard.place(ssrc, sequence, timestamp, arrival)
        if self._on_heard is not None:
            self._on_heard(Heard(sample, g711.decode(data[body:], codec)))

    def error_received(self, exc: Exception) -> None:
        """Count what the network says; a stand-in has no better use for it."""
        self.errors += 1
