"""What one party sends: counted packet by packet, put back in order, and laid as audio on one continuous time line at 8 kHz."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from sidecar.clocks import Mono
from sidecar.media import rtp
from sidecar.media.batch import Stretch, parts
from sidecar.media.codec import STATIC, TELEPHONE_EVENT, Codec
from sidecar.media.decode import RATE, Decoder, Pcm, decoder_for
from sidecar.media.dtmf import Keypad
from sidecar.media.losses import Losses
from sidecar.media.reception import Reception
from sidecar.media.red import RED, primary
from sidecar.media.run import Held, Run
from sidecar.media.tap import Tapped


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How packets are placed in time."""

    reach_s: float = 2.0
    """Half width of the lower envelope."""
    leap_s: float = 0.25
    """A disagreement of RTP time and arrival beyond this starts a new mapping."""
    reorder_s: float = 0.3
    """How long a packet is waited for; one that comes later is counted but not heard."""
    stall_s: float = 0.6
    """Packets late by more than `leap_s` for this long are a sender's clock that stood still, not a stall of the network."""
    proof: int = 3
    """Packets in a row that show a new source or a new clock."""
    silence_chunk: int = RATE


_ROUNDING = 2
"""Samples by which a packet may seem to lie apart from the last: some clocks give lengths that are no whole number."""


class Sink(Protocol):
    """Takes a stream's time line, piece after piece without gaps, in samples at 8 kHz."""

    def audio(self, pcm: Pcm) -> None:
        """Decoded samples."""
        ...

    def silence(self, samples: int) -> None:
        """The sender sent nothing (DTX, comfort noise, an event in place of audio)."""
        ...

    def lost(self, samples: int) -> None:
        """The sender sent something that never arrived."""
        ...


@dataclass(frozen=True, slots=True)
class _Format:
    codec: Codec
    decoder: Decoder | None
    event: bool
    audible: bool


class Stream:
    """One direction of a call since its answer. `packet` in arrival order; `advance` moves what can no longer be overtaken to the sink."""

    def __init__(self, sink: Sink, settings: StreamSettings = StreamSettings()) -> None:
        self._sink = sink
        self._settings = settings
        self._formats: dict[int, _Format] = {}
        self._run: Run | None = None
        self._candidate: list[tuple[rtp.Packet, int, Mono, bytes, _Format]] = []
        self._runs: list[Run] = []
        self._bases: list[int] = []
        self._events: list[int] = []
        self._last_sequence: int | None = None
        self._packets_by_codec: dict[str, int] = {}
        self._current: Reception | None = None
        self.receptions: dict[int, Reception] = {}
        self.keypad = Keypad()
        self.sealed = False
        """What comes is encrypted for the other party alone."""
        self.position = 0
        """Samples given to the sink so far."""
        self.origin: float | None = None
        """Arrival time of position 0."""
        self.malformed = 0
        self.late = 0
        """Packets too late to be heard, or of a source beside the one that is heard."""
        self.loss_runs = 0
        self.loss_run_packets = 0
        self.losses = Losses()
        self.unsent = 0
        """Samples of the time line in which the sender sent nothing: silence suppression, events in place of audio, a pause."""

    def negotiated(self, codecs: Mapping[int, Codec]) -> None:
        """Payload types that this party may send from now on."""
        self._formats = {pt: _format(codec) for pt, codec in codecs.items()}
        self.sealed = any(codec.sealed for codec in codecs.values())

    @property
    def codecs(self) -> dict[int, Codec]:
        """The payload types that this party may send."""
        return {payload_type: known.codec for payload_type, known in self._formats.items()}

    @property
    def codec(self) -> str | None:
        """Name of the codec that carried most of the packets."""
        return max(self._packets_by_codec, key=lambda name: self._packets_by_codec[name], default=None)

    @property
    def analysed(self) -> bool:
        """Whether the audio of that codec was looked at."""
        name = self.codec
        if self.sealed:
            return False
        if any(f.codec.name == name and f.decoder is not None for f in self._formats.values()):
            return True
        return any(codec.name == name and decoder_for(codec) is not None for codec in STATIC.values())

    def packets(self, packets: Sequence[Tapped]) -> None:
        """Take datagrams in order of arrival: the same as `packet` for each of them, at a fraction of the cost."""
        for part in parts(packets):
            if isinstance(part, tuple):
                self.packet(part[1], part[2])
            elif not self._stretch(part):
                for _, data, arrival in part.packets:
                    self.packet(data, arrival)

    def _stretch(self, stretch: Stretch) -> bool:
        """Take packets in a row at once; False where they must be looked at one by one."""
        known, run, reception = self._formats.get(stretch.payload_type), self._run, self._current
        if known is None or known.decoder is None or run is None or reception is None or self._candidate:
            return False
        if not known.decoder.joins or known.codec.clock_rate != run.rate:
            return False
        if not stretch.ssrc == run.ssrc == reception.ssrc:
            return False
        sequence = reception.next_extended(stretch.sequence)
        if sequence is None or not run.take_stretch(stretch, sequence, known.decoder):
            return False
        reception.stretch(stretch.sequence, stretch.timestamp, stretch.step, stretch.arrivals)
        name = known.codec.name
        self._packets_by_codec[name] = self._packets_by_codec.get(name, 0) + len(stretch)
        return True

    def packet(self, data: bytes, arrival: Mono) -> None:
        """Take one datagram as it came from the network."""
        packet = rtp.peek(data)
        if packet is None:
            self.malformed += not rtp.is_rtcp(data)
            return
        known = self._formats.get(packet.payload_type) or self._unnegotiated(packet.payload_type)
        if known.codec.name == RED and not known.codec.sealed:
            inner = primary(data[packet.start : packet.end])
            if inner is None:
                self.malformed += 1
                return
            packet = packet._replace(payload_type=inner[0], start=packet.start + inner[1])
            known = self._formats.get(packet.payload_type) or self._unnegotiated(packet.payload_type)
        reception = self._current
        if reception is None or reception.ssrc != packet.ssrc:
            reception = self.receptions.get(packet.ssrc) or Reception(packet.ssrc, known.codec.clock_rate, packet.sequence)
            self.receptions[packet.ssrc] = self._current = reception
        sequence = reception.packet(packet.sequence)
        if sequence is None:
            return
        if known.audible:
            name = known.codec.name
            self._packets_by_codec[name] = self._packets_by_codec.get(name, 0) + 1
            if not packet.marker:
                reception.jitter(packet.timestamp, arrival)
        if known.event:
            self._event(packet, sequence, arrival, data[packet.start : packet.end], known.codec.clock_rate)
            return
        self._place(packet, sequence, arrival, data[packet.start : packet.end] if known.decoder else b"", known)

    def _unnegotiated(self, payload_type: int) -> _Format:
        """A payload type that the session never named: the static table knows some, the rest are counted under their number."""
        known = _format(replace(STATIC.get(payload_type, Codec(f"PT{payload_type}", RATE)), sealed=self.sealed))
        self._formats[payload_type] = known
        return known

    def _place(self, packet: rtp.Packet, sequence: int, arrival: Mono, payload: bytes, known: _Format) -> None:
        run = self._run
        same = run is not None and run.ssrc == packet.ssrc and (run.rate == known.codec.clock_rate or not known.audible)
        if run is not None and same and run.take(packet.timestamp, sequence, arrival, payload, known.decoder):
            if not run.step and known.decoder is not None:
                run.step, run.delay = known.decoder.samples(payload), known.decoder.delay / RATE
            if self._candidate:
                self.late += len(self._candidate)
                self._candidate.clear()
            if run.late_since is not None and arrival - run.late_since.arrival >= self._settings.stall_s:
                self._split(run, run.late_since)
            return
        if self._candidate and self._candidate[0][0].ssrc != packet.ssrc:
            self.late += len(self._candidate)
            self._candidate.clear()
        self._candidate.append((packet, sequence, arrival, payload, known))
        if run is None or len(self._candidate) >= self._settings.proof:
            self._change_run()

    def _change_run(self) -> None:
        """Leave the old run, with everything it still holds, for the one that the candidates show."""
        self._flush_run()
        candidates, self._candidate = self._candidate, []
        self._last_sequence = None  # another source, or a clock set anew: what lies between is not loss
        self._events.clear()
        first = candidates[0]
        self._run = Run(first[0].ssrc, first[4].codec.clock_rate, self._settings.leap_s, self._settings.reach_s)
        for packet, sequence, arrival, payload, known in candidates:
            self._place(packet, sequence, arrival, payload, known)

    def _event(self, packet: rtp.Packet, sequence: int, arrival: Mono, payload: bytes, rate: int) -> None:
        """A named event has the time stamp of its start in all its packets, so it can neither be ordered nor mapped like audio."""
        run = self._run
        if run is not None and run.ssrc != packet.ssrc:
            self.keypad.packet(payload, packet.timestamp, round((arrival - (self.origin or arrival)) * RATE), rate)
            return
        self._events.append(sequence)
        if run is None:
            run = self._run = Run(packet.ssrc, rate, self._settings.leap_s, self._settings.reach_s)
            run.take(packet.timestamp, sequence, arrival, b"", None)
        if run.base is None:
            self._base(run, sorted(run.held, key=lambda held: held.timestamp))
        self.keypad.packet(payload, packet.timestamp, run.position(run.extended(packet.timestamp)), rate)

    def advance(self, now: Mono) -> None:
        """Give the sink all that arrived up to the reordering time before `now`."""
        run = self._run
        if run is None:
            return
        late = run.late_since
        if late is not None:
            if now - late.arrival < self._settings.stall_s:
                self._release(run, min(now - self._settings.reorder_s, late.arrival - 1e-6))
                return
            self._split(run, late)
            run = self._run
        self._release(run, now - self._settings.reorder_s)

    def finish(self) -> None:
        """Give the sink all that is left."""
        if self._run is not None:
            late = self._run.late_since
            if late is not None and self._run.last_arrival - late.arrival >= self._settings.stall_s / 2:
                self._split(self._run, late)
        self._flush_run()
        if self._candidate:
            self._change_run()
            self._flush_run()

    def _split(self, run: Run, late: Held) -> None:
        """The sender's clock stood still before `late`: what comes from there on is a run of its own."""
        rest = [held for held in run.held if held.timestamp >= late.timestamp]
        run.held = [held for held in run.held if held.timestamp < late.timestamp]
        self._flush_run()
        self._run = fresh = Run(run.ssrc, run.rate, self._settings.leap_s, self._settings.reach_s)
        fresh.step, fresh.delay = run.step, run.delay
        for held in rest:
            fresh.take(held.timestamp & 0xFFFFFFFF, held.sequence, held.arrival, held.payload, held.decoder)

    def _flush_run(self) -> None:
        if self._run is not None:
            self._release(self._run, float("inf"))

    def _base(self, run: Run, due: list[Held]) -> None:
        """Fix where a run begins on the time line: where the last one ended, later by the real time between them."""
        run.start = due[0].timestamp
        for held in due:
            run.map(held)
        begin = run.envelope.place(run.seconds(due[0].timestamp))
        if self.origin is None:
            self.origin = begin
        gap = round((begin - self.locate(self.position)) * RATE) if self._runs else 0
        run.base = self.position + max(0, gap)
        self._runs.append(run)
        self._bases.append(run.base)

    def _release(self, run: Run | None, before: float) -> None:
        if run is None:
            return
        due = run.due(before)
        if not due:
            return
        if run.base is None:
            self._base(run, due)
        else:
            for held in due:
                run.map(held)
        batch: list[bytes] = []
        decoder: Decoder | None = None
        end = self.position
        for held in due:
            position = run.position(held.timestamp)
            missing = self._missing(held.sequence, held.packets)
            self.losses.packets(position / RATE, held.packets, missing)
            samples = held.decoder.samples(held.payload) if held.decoder is not None else 0
            if not missing and 0 <= position - end <= _ROUNDING and held.decoder is decoder:
                batch.append(held.payload)
                end += samples
                continue
            self._emit(decoder, batch)
            self._gap(position - self.position, missing * (run.step or samples // held.packets))
            batch, decoder = [], held.decoder
            if samples and position < self.position:  # it overlaps what was heard: a copy, or a packet past its time
                self.late += 1
            else:
                batch = [held.payload]
            end = self.position + (samples if batch else 0)
        self._emit(decoder, batch)

    def _missing(self, sequence: int, count: int) -> int:
        """Packets lost right before these."""
        newest = sequence + count - 1
        last, self._last_sequence = self._last_sequence, max(newest, self._last_sequence or newest)
        if last is None or sequence <= last + 1:
            return 0
        missing = sequence - last - 1
        if self._events:
            missing -= sum(last < event < sequence for event in self._events)
            self._events = [event for event in self._events if event > sequence]
        if missing > 0:
            self.loss_runs += 1
            self.loss_run_packets += missing
        return max(0, missing)

    def _emit(self, decoder: Decoder | None, batch: list[bytes]) -> None:
        if decoder is not None and batch:
            pcm = decoder.decode(batch)
            self.position += len(pcm)
            self._sink.audio(pcm)

    def _gap(self, gap: int, lost: int) -> None:
        if gap <= 0:
            return
        lost = min(gap, lost)
        if lost:
            self._sink.lost(lost)
        self.unsent += gap - lost
        for samples in _chunks(gap - lost, self._settings.silence_chunk):
            self._sink.silence(samples)
        self.position += gap

    @property
    def last_arrival(self) -> float | None:
        """When its newest packet came; None before the first."""
        return self._run.last_arrival if self._run is not None else None

    @property
    def step_ms(self) -> float:
        """Length of an ordinary packet; 0 while it is not known."""
        return self._run.step * 1000 / RATE if self._run is not None else 0.0

    def locate(self, position: int) -> float:
        """When the sample at `position` passed, in arrival time (seconds). Before the first packet: the origin, or 0."""
        if not self._runs:
            return self.origin or 0.0
        index = max(0, bisect_right(self._bases, position) - 1)
        return self._runs[index].place(position)


def _format(codec: Codec) -> _Format:
    return _Format(codec, decoder_for(codec) if codec.audible else None, codec.name == TELEPHONE_EVENT and not codec.sealed, codec.audible)


def _chunks(total: int, size: int) -> Iterator[int]:
    while total > 0:
        yield min(total, size)
        total -= size
