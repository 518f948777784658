"""The measurement of one call: packets of both directions in, turns and figures out. Pure: arrival times and `now` are arguments."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from control.contract.call import Media, RelayDelay, Turn
from control.contract.facts import Tracks
from sidecar.clocks import Mono
from sidecar.media.codec import Codec
from sidecar.media.hearsay import Hearsay
from sidecar.media.relay import Leg
from sidecar.media.rtp import RTCP_TYPES, is_rtcp
from sidecar.media.tap import Tapped
from sidecar.speech.neural import Bench
from sidecar.turns.echo import FRAME_MS, Echo, find, without_echo
from sidecar.turns.echo import LONGEST as ECHO_LONGEST
from sidecar.turns.findings import findings
from sidecar.turns.floor import fold
from sidecar.turns.measured import Measured
from sidecar.turns.quality import judged
from sidecar.turns.settings import MeasureSettings
from sidecar.turns.side import Side
from sidecar.turns.spans import Span, bridge, without
from sidecar.turns.stereo import Stereo
from sidecar.turns.sums import speech

_EARLY_PACKETS = 256
_DEFAULTS = MeasureSettings()


class Measurement:
    """Leg A is the caller, leg B the agent. `answered` sets call time 0; what arrived before it is early media and never counts."""

    def __init__(self, settings: MeasureSettings = _DEFAULTS, *, record: bool = False, bench: Bench | None = None) -> None:
        """`record`: keep the audio for `recorded`, which then has to be called now and then. `bench`: the neural detector in place of
        the default one, shared with other calls.
        """
        self._settings, self._bench = settings, bench
        caller, agent = (Side(settings, listen=listen, record=record, bench=bench) for listen in (False, True))
        self._sides: dict[Leg, Side] = {"A": caller, "B": agent}
        self._stereo: Stereo | None = None
        if caller.channel is not None and agent.channel is not None:
            self._stereo = Stereo(caller.channel, agent.channel, caller.stream, agent.stream)
        self._answered: Mono | None = None
        # The answer is told by another path than the packets, so a few of them may be ahead of it.
        self._early: deque[Tapped] = deque(maxlen=_EARLY_PACKETS)
        self._first_agent_rtp: Mono | None = None
        self._hearsay = Hearsay()
        self._held: set[Leg] = set()
        self._held_since: Mono | None = None
        self._holds: list[tuple[Mono, Mono]] = []
        self._shown: dict[int, Turn] = {}
        self._echo: Echo | None = None
        self._echo_sought = 0
        self._live_version = (0, 0, 0)
        self._live_from = 0.0
        self._live_n = 1

    def negotiated(self, leg: Leg, codecs: Mapping[int, Codec]) -> None:
        """Take the payload types that the party of `leg` may send from now on."""
        self._sides[leg].stream.negotiated(codecs)

    def codecs(self) -> dict[Leg, dict[int, Codec]]:
        """The payload types that each party may send."""
        return {leg: side.stream.codecs for leg, side in self._sides.items()}

    def answered(self, at: Mono) -> None:
        """The 200 OK left towards the caller. A second answer changes nothing."""
        if self._answered is not None:
            return
        self._answered = at
        if self._stereo is not None:
            self._stereo.begin(at)
        early, self._early = self._early, deque(maxlen=_EARLY_PACKETS)
        for packet in early:
            if packet[2] >= at:
                self._sides[packet[0]].packet(packet)

    def packet(self, leg: Leg, data: bytes, arrival: Mono) -> None:
        """Take an RTP or RTCP packet as the tap saw it."""
        if is_rtcp(data):
            self._control(leg, data, arrival)
            return
        if self._first_agent_rtp is None and leg == "B":
            self._first_agent_rtp = arrival
        answered = self._answered
        if answered is None:
            self._early.append((leg, data, arrival))
        elif arrival >= answered:
            self._sides[leg].packet((leg, data, arrival))

    def packets(self, packets: Sequence[Tapped]) -> None:
        """Take RTP and RTCP packets in order of arrival: the same as `packet` for each of them, at less cost."""
        first = 0
        while first < len(packets) and (self._first_agent_rtp is None or self._answered is None or packets[first][2] < self._answered):
            self.packet(*packets[first])
            first += 1
        rest = packets[first:] if first else packets
        taken = 0
        for leg, side in self._sides.items():
            media = [packet for packet in rest if packet[0] == leg and packet[1][1:2] not in RTCP_TYPES]
            side.packets(media)
            taken += len(media)
        if taken < len(rest):
            for packet in rest:
                if is_rtcp(packet[1]):
                    self._control(*packet)

    def _control(self, leg: Leg, data: bytes, arrival: Mono) -> None:
        if not self._sides[leg].stream.sealed:  # of SRTCP only the first eight octets mean what they seem to
            self._hearsay.packet(leg, data, arrival)

    def hold(self, leg: Leg, held: bool, at: Mono) -> None:
        """The party of `leg` put the call on hold, or took it back. Nothing counts while either did."""
        before = bool(self._held)
        if held:
            self._held.add(leg)
        else:
            self._held.discard(leg)
        if self._held and not before:
            self._held_since = at
        elif before and not self._held and self._held_since is not None:
            self._holds.append((self._held_since, at))
            self._held_since = None

    def look(self, now: Mono) -> None:
        """Analyse what has come, if the last time is long enough ago. Several calls that do so before the first is asked for its turns
        have their audio judged together.
        """
        if self._answered is not None:
            for side in self._sides.values():
                side.look(now)

    def live(self, now: Mono) -> list[Turn]:
        """Turns that are new, or better known, since the last call of this method."""
        answered = self._answered
        if answered is None:
            return []
        self.look(now)
        if self._bench is not None:
            self._bench.judge()
            for side in self._sides.values():
                side.track.decide()
        version = (self._sides["A"].track.version, self._sides["B"].track.version, len(self._holds))
        if version == self._live_version:
            return []
        self._live_version = version
        holds = self._hold_spans(answered, now)
        caller, agent = (without(spans, holds) for spans in self._speech(answered, self._live_from, (now - answered) * 1000))
        onsets = self._sides["B"].sound_onsets(answered, self._live_from)
        turns = fold(
            caller,
            agent,
            self._settings.turns,
            resets=[h.end for h in holds],
            first_sound=_first_of(onsets),
            n=self._live_n,
        ).turns
        changed = [turn for turn in turns if self._shown.get(turn.n) != turn]
        self._shown.update((turn.n, turn) for turn in changed)
        self._move_window(turns, (now - answered) * 1000)
        return changed

    def _speech(self, answered: Mono, since: float, until: float) -> tuple[list[Span], list[Span]]:
        """Speech of the caller and of the agent between two call times, the agent's echo taken out of the caller's."""
        everything = float("-inf") if since <= 0 else since
        caller, agent = (self._sides[leg].spans(answered, everything) for leg in ("A", "B"))
        last = int(until / FRAME_MS)
        self._find_echo(answered, last)
        if self._echo is None or not caller:
            return caller, agent
        first = max(0, int(min(since, caller[0].start) / FRAME_MS) - ECHO_LONGEST)
        heard, said = (self._sides[leg].grid(answered, first, last) for leg in ("A", "B"))
        return without_echo(caller, heard, said, first, self._echo), agent

    def _find_echo(self, answered: Mono, last: int, *, final: bool = False) -> None:
        """Look for it again from time to time. What was found stays: a line has its echo or has none."""
        if not final and last - self._echo_sought < self._settings.echo_period_s * 1000 / FRAME_MS:
            return
        self._echo_sought = last
        reach = self._settings.echo_final_s if final else self._settings.echo_window_s
        first = max(0, last - int(reach * 1000 / FRAME_MS))
        caller, agent = (self._sides[leg].grid(answered, first, last) for leg in ("A", "B"))
        self._echo = find(caller, agent) or self._echo

    def _move_window(self, turns: list[Turn], now: float) -> None:
        """Leave behind the turns that nothing can change any more."""
        old = now - self._settings.live_window_s * 1000
        for turn in turns[1:]:
            if turn.caller_start_ms < old:
                # A little before the turn, but after all that the turn before it is made of.
                self._live_from, self._live_n = turn.caller_start_ms - 1.0, turn.n
        self._shown = {n: turn for n, turn in self._shown.items() if n >= self._live_n}

    def recorded(self, ended_at: Mono | None = None) -> bytes:
        """Frames of the recording that are new, as `Stereo.take` gives them: those that nothing to come can move, or after `finish` all."""
        if self._stereo is None:
            return b""
        if ended_at is not None:
            return self._stereo.take(ended_at)
        return self._stereo.take(min(side.looked for side in self._sides.values()) - self._settings.record_lag_s)

    def finish(self, ended_at: Mono, *, tap_dropped: int, refused: int, relay_delay: RelayDelay) -> Measured:
        """The figures of the whole call, from all its packets. Of a call that was never answered, only the first packet's time is known."""
        answered = self._answered if self._answered is not None else ended_at
        for side in self._sides.values():
            side.finish()
        duration = max(0.0, (ended_at - answered) * 1000)
        holds = self._hold_spans(answered, ended_at)
        outside = [*holds, Span(duration, float("inf"))]
        self._find_echo(answered, int(duration / FRAME_MS), final=True)
        caller, agent = (without(spans, outside) for spans in self._speech(answered, 0.0, duration))
        conversation = fold(
            caller,
            agent,
            self._settings.turns,
            resets=[h.end for h in holds],
            first_sound=_first_of(self._sides["B"].sound_onsets(answered)),
        )
        first = self._first_agent_rtp
        return Measured(
            turns=conversation.turns,
            barge_ins=[o.model() for o in conversation.overlaps],
            speech=speech(caller, agent, conversation.turns, duration, holds, self._sides["A"].track.detector, self._settings.turns),
            media=self._media(answered, duration, holds, Media(tap_dropped=tap_dropped, refused=refused, relay_delay=relay_delay)),
            greeting_ms=round(agent[0].start, 1) if agent else None,
            first_agent_rtp_ms=None if first is None or self._answered is None else round((first - answered) * 1000, 3),
            tracks=Tracks(
                caller=self._sides["A"].drawn(answered, duration, caller),
                agent=self._sides["B"].drawn(answered, duration, agent),
            ),
        )

    def _media(self, answered: Mono, duration: float, holds: list[Span], media: Media) -> Media:
        """Both streams, and what was odd about them, put into `media`."""
        caller, agent = self._sides["A"], self._sides["B"]
        parties, floor = self._hearsay.parties, self._settings.turns.percentile_floor
        media.caller = judged(caller, answered, parties["A"], parties["B"], floor)
        media.agent = judged(agent, answered, parties["B"], parties["A"], floor)
        sides = {"caller": caller, "agent": agent}
        if self._answered is not None:
            media.findings = findings(
                media,
                duration,
                holds,
                silent={name: side.silent for name, side in sides.items()},
                last={name: None if (at := side.stream.last_arrival) is None else (at - answered) * 1000 for name, side in sides.items()},
            )
        return media

    def _hold_spans(self, answered: Mono, until: Mono) -> list[Span]:
        holds = [*self._holds, *([(self._held_since, until)] if self._held_since is not None else [])]
        return bridge([Span((a - answered) * 1000, (b - answered) * 1000) for a, b in holds if b > a], 0.0)


def _first_of(onsets: list[float]) -> Callable[[float, float], float | None]:
    """The first of `onsets` (in order) within a stretch."""

    def first(start: float, end: float) -> float | None:
        index = bisect_left(onsets, start)
        return onsets[index] if index < len(onsets) and onsets[index] <= end else None

    return first
