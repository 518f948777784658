"""One live call in the shell: its media sockets, what the analysis is told of it, and its trace. Decides nothing about signalling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from secrets import token_bytes
from typing import Protocol

from control.contract.call import ClockOffset, RecordingFormat, RelayDelay, Turn
from sidecar.admin import LiveCall
from sidecar.analysis.work import Accurate, Answered, Captured, Ended, Hold, Listen, Negotiated, Record, Work
from sidecar.audience import Audience
from sidecar.b2bua import effects as e
from sidecar.b2bua.call import Call
from sidecar.b2bua.legs import Placed, PortPairs
from sidecar.clocks import Addr, Mono
from sidecar.media.codec import STATIC, Codec
from sidecar.media.tap import Ring
from sidecar.media.wire import Wire
from sidecar.net.clock import mono, wall
from sidecar.net.rtp import MediaLine, PortPool
from sidecar.net.rtpengine.call import RelayedCall
from sidecar.net.rtpengine.client import Server
from sidecar.net.rtpengine.pool import Pool as Relays
from sidecar.sip import sdp
from sidecar.sip.dtls import ICE_OCTETS
from sidecar.sip.sdes import KEY_OCTETS
from sidecar.trace.recorder import Recorder, readable, shown
from sidecar.turns.measured import Measured

RING_CAPACITY = 2000
"""Packets that may wait for the analysis: ten seconds of both directions at 20 ms."""


class Sink(Protocol):
    """Where a trace's lines go."""

    def append(self, call: str, facts: Sequence[bytes]) -> None: ...
    def close(self, call: str) -> None: ...


class Session:
    """From the call's first fact to its last."""

    def __init__(
        self,
        call: str,
        sidecar: str,
        sink: Sink,
        pool: PortPool,
        advertised: Callable[[str, str], str],
        *,
        clock: ClockOffset | None = None,
        record: RecordingFormat | None = None,
        capture: bool = False,
        accurate: bool = False,
        secured: bool = False,
        relays: Relays | None = None,
    ) -> None:
        """`advertised` says for an address of ours under which host the party at another address knows it.

        `clock`: control's clock against ours, if it is known. `record`: the form in which the call's audio is kept. `capture`: its
        packets are kept. `accurate`: speech is found by the neural detector. `secured`: SRTP ends here, so packets are opened and sealed
        on their way.
        """
        self._secured = secured
        self.call = call
        self.ended: e.Ended | None = None
        self._recorder = Recorder(call, sidecar, clock)
        self._sink = sink
        self._pool = pool
        self._advertised = advertised
        self._loop = asyncio.get_running_loop()
        self._lines: dict[int, MediaLine] = {}
        self._hosts: dict[e.Leg, str] = {}
        self._ring = Ring(RING_CAPACITY)
        self._apart = RelayedCall(call, relays, pool, self._ring, self._note_found) if relays is not None else None
        self._measured_line: int | None = None
        self._opening: dict[e.Leg, tuple[str, Addr]] = {}
        """Codec and address of parties that do not know yet where to send to."""
        self._signalling_done = False
        self._measured = False
        self._ended_at: Mono | None = None
        self._started: e.Started | None = None
        self._started_at = datetime.now(UTC)
        self._answered_at: datetime | None = None
        self._answered_mono: Mono | None = None
        self._b_leg_call_ids: dict[str, None] = {}
        self._platform_ids: dict[str, None] = {}
        self._agent_media: tuple[str, ...] = ()
        self._inbox: list[Work] = [*([Record(record)] if record is not None else []), *([Accurate()] if accurate else [])]
        self._wire = Wire(RING_CAPACITY) if capture else None
        if self._apart is not None and self._wire is not None:
            self._apart.wire = self._wire
        self.audience = Audience(lambda on: self._tell(Listen(on, mono())))
        self._lines_due: list[bytes] = []
        self._refused = 0
        self._relay_delay = RelayDelay()
        self.relay_delays: list[float] = []
        """Seconds, sorted, of some packets; known once the call has ended."""

    # -- what the engine says ----------------------------------------------------------------------------------------------------------

    def record(self, fact: e.Fact, now: Mono) -> None:
        """Append a fact to the trace, and act on those that concern media."""
        line = self._recorder.record(fact, now, wall())
        if line is not None:
            self._lines_due.append(line)
        match fact:
            case e.Started():
                self._started = fact
            case e.Dialled():
                self._b_leg_call_ids.setdefault(readable(fact.call_id))
            case e.Learned():
                self._platform_ids.setdefault(readable(fact.value))
            case e.Answered():
                self._answered_at, self._answered_mono = datetime.now(UTC), now
                self._tell(Answered(now))
            case e.Ended():
                self.ended, self._ended_at = fact, now
                self.audience.end()
                self._close_media()
            case e.Gone():
                self._signalling_done = True
                self._close_when_done()
            case _:
                pass

    def open_media(self, m_line: int, hosts: tuple[str, str]) -> PortPairs:
        """Bind the ports of an m-line, leg A's and leg B's each on its host; what was bound for it before is closed. Raises NoPorts."""
        if self._measured_line is None:
            self._measured_line = m_line
        if (former := self._lines.pop(m_line, None)) is not None:
            former.close()
        line = MediaLine(self._pool, hosts, self._loop, self._ring if m_line == self._measured_line else None, secured=self._secured)
        self._lines[m_line] = line
        if self._wire is not None and m_line == self._measured_line:
            line.capture(self._wire)
        self._hosts = {"A": hosts[0], "B": hosts[1]}
        if not self._secured:
            return PortPairs(line.ports("A"), line.ports("B"))
        random = token_bytes(KEY_OCTETS + ICE_OCTETS), token_bytes(KEY_OCTETS + ICE_OCTETS)
        return PortPairs(line.ports("A"), line.ports("B"), random, self._fingerprint())

    @staticmethod
    def _fingerprint() -> str:
        from sidecar.net.dtls import certificate  # OpenSSL is loaded where SRTP ends here, and not before

        return certificate().fingerprint

    def described(self, fact: e.MediaDescribed, now: Mono) -> None:
        """A leg's party said where it wants an m-line's media, and in which codecs."""
        description = fact.line
        rtp = (description.address, description.port)
        if self._apart is not None:
            self._apart.told(fact.leg, description)
            self._measured_line = self._apart.measured
        elif (line := self._lines.get(description.index)) is None:
            return
        else:
            line.shown(fact.leg, self._advertised(self._hosts[fact.leg], fact.signalling_host))
            # RFC 5761: with rtcp-mux RTCP shares the RTP port, which the relay forwards anyway.
            line.negotiated(fact.leg, rtp, description.rtcp, fact.signalling_host)
            if self._secured:
                line.secure(fact.leg, fact.keys)
        if description.index != self._measured_line or description.kind != "audio" or not description.port:
            return
        # RFC 3264 5.1: the payload types in a description are those that its author wants to receive, so the far party sends them.
        codecs = _codecs(description)
        if "SAVP" in description.proto.upper() and not self._secured:  # its keys pass by, and what is said stays between the parties
            codecs = {payload_type: replace(codec, sealed=True) for payload_type, codec in codecs.items()}
        self._tell(Negotiated(e.other(fact.leg), codecs))
        self._tell(Hold(fact.leg, description.held, now))
        first = next(iter(codecs.values()), None)
        name = first.name if first is not None else "unknown"
        self._opening[fact.leg] = (name, rtp)
        self._tell_opened(now, fact.signalling_host)

    def _tell_opened(self, now: Mono, signalling_host: str = "") -> None:
        """Record the media of each leg whose party knows where to send to."""
        for leg, (codec, remote) in list(self._opening.items()):
            local = self._local(leg, signalling_host)
            if local is not None:
                del self._opening[leg]
                if leg == "B":
                    self._agent_media = (readable(shown(remote)), shown(local))
                self._lines_due.append(self._recorder.media_opened(leg, codec, local, remote, now, wall()))

    def _local(self, leg: e.Leg, signalling_host: str) -> Addr | None:
        if self._apart is not None:
            return self._apart.local(leg)
        if self._measured_line is None:
            return None
        return self._advertised(self._hosts[leg], signalling_host), self._lines[self._measured_line].ports(leg)[0]

    # -- a relay outside of this process -----------------------------------------------------------------------------------------------

    async def ask_relay(self, asked: e.AskRelay) -> Placed:
        """Where the relay takes the media. Raises RelayFailed."""
        if self._apart is None:
            raise LookupError(f"call {self.call} is relayed here")
        placed = await self._apart.ask(asked)
        self._tell_opened(mono())
        return placed

    async def restore_relay(self) -> None:
        """Have the relay go by what counts, should it have been told anything else since."""
        if self._apart is not None:
            await self._apart.restore()

    async def close_relay(self) -> None:
        """Take what the relay counted, and have it forget the call."""
        if self._apart is not None:
            await self._apart.close()
            self._refused = self._apart.refused

    def relay_lost(self, server: Server) -> None:
        """An instance does not answer any more: if it is this call's, the call says so."""
        if self._apart is not None and self._apart.server is server and self.ended is None:
            words = f"media relay {server.name} does not answer any more: without it nothing is heard, unless a party renews the session"
            self._note_found("media_relay_lost", words)

    def _note_found(self, name: str, detail: str) -> None:
        if not self.closed:
            self.record(e.Found(self.call, name, detail), mono())
            self.flush()

    # -- analysis ----------------------------------------------------------------------------------------------------------------------

    def capture(self) -> bool:
        """Keep the packets of the call's audio from now on; False where they are kept already."""
        if self._wire is not None:
            return False
        self._wire = Wire(RING_CAPACITY)
        if self._apart is not None:
            self._apart.wire = self._wire
        elif self._measured_line in self._lines:
            self._lines[self._measured_line].capture(self._wire)
        return True

    def work(self) -> list[Work]:
        """Everything that the analysis has not seen yet, in the order in which it happened."""
        self._gather()
        taken, self._inbox = self._inbox, []
        return taken

    def note(self, turns: Sequence[Turn]) -> None:
        """Append turns that are new or better known."""
        if turns and not self.closed:
            self._lines_due += [self._recorder.turn(turn, mono(), wall()) for turn in turns]
            self.flush()

    def finished(self) -> Ended:
        """What the analysis needs for the final figures of a call that has ended."""
        return Ended(
            self.call,
            self.work(),
            answered=self._answered_mono is not None,
            at=self._ended_at if self._ended_at is not None else mono(),
            tap_dropped=self.tap_dropped,
            refused=self._refused,
            relay_delay=self._relay_delay,
        )

    def conclude(self, result: Measured | None) -> None:
        """Append the final figures, if there are any; the trace closes once signalling is done as well."""
        if result is not None:
            self._lines_due.append(self._recorder.measured(result, mono(), wall()))
        self._measured = True
        self._close_when_done()
        self.flush()

    def _tell(self, command: Work) -> None:
        """Queue a command for the measurement behind the packets that came before it."""
        self._gather()
        self._inbox.append(command)

    def _gather(self) -> None:
        if self._pool.forwarder is not None:
            self._pool.forwarder.gather()
        self._inbox.extend(self._ring.drain())
        if self._wire is not None and (packets := self._wire.drain()):
            legs = frozenset(self._lines[self._measured_line].shielded) if self._measured_line in self._lines else frozenset()
            self._inbox.append(Captured(packets, wall() - mono(), legs, self._wire.dropped))

    # -- the end -----------------------------------------------------------------------------------------------------------------------

    def _close_media(self) -> None:
        for line in self._lines.values():
            line.close()
        self._refused = sum(line.refused for line in self._lines.values())
        self.relay_delays = sorted(delay for line in self._lines.values() for delay in line.delays)
        self._relay_delay = _percentiles(self.relay_delays)

    def _close_when_done(self) -> None:
        if self.closed:
            self._lines_due.append(self._recorder.closed(mono(), wall()))

    def flush(self) -> None:
        """Hand the sink what was recorded since the last time: one write for all that one message brought about."""
        if self._lines_due:
            lines, self._lines_due = self._lines_due, []
            self._sink.append(self.call, lines)
            if self.closed:
                self._sink.close(self.call)

    @property
    def tap_dropped(self) -> int:
        """Packets that were relayed but never analysed."""
        return self._ring.dropped + (self._apart.missed if self._apart is not None else 0)

    @property
    def closed(self) -> bool:
        """The trace is complete."""
        return self._signalling_done and self._measured

    @property
    def started(self) -> e.Started:
        """The call's first fact. Raises LookupError before it."""
        if self._started is None:
            raise LookupError(f"call {self.call} has no first fact")
        return self._started

    @property
    def talked_s(self) -> float | None:
        """Seconds from the answer to the end; None while there was none of either."""
        if self._answered_mono is None or self._ended_at is None:
            return None
        return self._ended_at - self._answered_mono

    def live(self, call: Call | None) -> LiveCall:
        """The call as the admin port shows it."""
        started = self.started
        return LiveCall(
            id=self.call,
            sip_call_id=readable(started.sip_call_id),
            kind=started.kind,
            route=started.route,
            platform=started.platform,
            agent_media=self._agent_media,
            from_=readable(started.from_),
            to=readable(started.to),
            recipient=started.recipient,
            started_at=self._started_at,
            answered_at=self._answered_at,
            b_leg_call_ids=tuple(self._b_leg_call_ids),
            platform_ids=tuple(self._platform_ids),
            details={**(call.describe() if call is not None else {}), **self.describe()},
        )

    def describe(self) -> dict[str, object]:
        """State and counts, for the admin API."""
        return {
            "media": {index: line.describe() for index, line in self._lines.items()} if self._apart is None else self._apart.describe(),
            "tap_dropped": self.tap_dropped,
        }


def _codecs(line: sdp.MediaLine) -> dict[int, Codec]:
    """Payload type → codec, in the order of preference of the m-line; static types need no rtpmap (RFC 3551 section 6)."""
    codecs: dict[int, Codec] = {}
    for text in line.formats:
        if not text.isdigit():
            continue
        payload_type = int(text)
        mapped = line.rtpmap.get(payload_type)
        if mapped is not None:
            codecs[payload_type] = Codec(mapped.name.upper(), mapped.clock_rate, mapped.channels, line.fmtp.get(payload_type, ""))
        elif payload_type in STATIC:
            codecs[payload_type] = STATIC[payload_type]
    return codecs


def _percentiles(delays: list[float]) -> RelayDelay:
    if not delays:
        return RelayDelay()
    return RelayDelay(p50_us=round(delays[len(delays) // 2] * 1e6, 1), p99_us=round(delays[int((len(delays) - 1) * 0.99)] * 1e6, 1))
