"""What a scraper learns of the calls that have ended: distributions and sums, with the call's trace id as exemplar.

The classic text format has no exemplars; a scraper that accepts OpenMetrics gets them. Seconds, as the field's conventions want it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import Counter, Histogram
from prometheus_client.core import Metric

from control.contract.call import Kind
from sidecar.b2bua import effects as e
from sidecar.turns.measured import Measured

SPEECH_S = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Bounds for what a caller waits for: dense where a conversation begins to feel slow."""
_SET_UP_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 40.0)
_CALL_S = (5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
_RELAY_S = (20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3)
_MOST_DELAYS = 64
"""Relay delays of one call that are counted: its sorted sample, thinned evenly."""
_LABELS = ("route", "kind")
_PARTIES = ("caller", "agent")


class Figures:
    """Counts over the life of the process."""

    def __init__(self) -> None:
        def distribution(name: str, about: str, bounds: Sequence[float], labels: Sequence[str] = _LABELS) -> Histogram:
            return Histogram(f"trunkside_{name}_seconds", about, labels, buckets=bounds, registry=None)

        def count(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"trunkside_{name}", about, labels, registry=None)

        self._response = distribution("response_latency", "Silence between the caller's speech and the agent's answer", SPEECH_S)
        self._greeting = distribution("greeting", "From the answer to the agent's first speech", SPEECH_S)
        self._barge_in = distribution("barge_in_stop", "From a caller who breaks in to the agent's silence", SPEECH_S)
        self._set_up = distribution("call_setup", "From the caller's INVITE to its 200 OK", _SET_UP_S)
        self._length = distribution("call_duration", "From the answer to the end", _CALL_S)
        self._relay = distribution("relay_delay", "The sidecar's own delay of media packets, of a sample of each call's", _RELAY_S, ())
        self._calls = count("calls_finished", "Calls by route, kind, SIP status class and who ended them", *_LABELS, "status", "ended_by")
        self._packets = count("rtp_packets", "RTP packets received since the answer, by who sent them", "party")
        self._lost = count("rtp_packets_lost", "RTP packets that never came, by who sent them", "party")
        self._unseen = count("tap_dropped_packets", "Packets that were relayed but not analysed")
        self._refused = count("rtp_refused_packets", "Packets from a source that was neither negotiated nor latched")
        for party in _PARTIES:  # a rate needs the zero before the first
            self._packets.labels(party)
            self._lost.labels(party)

    def ended(self, route: str, kind: Kind, fact: e.Ended, talked_s: float | None) -> None:
        """A call is over; `talked_s` counts from its answer, None for one that had none."""
        exemplar = {"trace_id": fact.call}
        self._calls.labels(route, kind, f"{fact.status // 100}xx", fact.ended_by).inc(1, exemplar)
        if fact.timings.to_answer is not None:
            self._set_up.labels(route, kind).observe(fact.timings.to_answer, exemplar)
        if talked_s is not None:
            self._length.labels(route, kind).observe(max(0.0, talked_s), exemplar)

    def measured(self, call: str, route: str, kind: Kind, result: Measured, relay_delays: Sequence[float]) -> None:
        """The final figures of a call. `relay_delays`: seconds, sorted."""
        exemplar = {"trace_id": call}
        response = self._response.labels(route, kind)
        for turn in result.turns:
            if turn.kind == "response":
                response.observe(turn.response_latency_ms / 1000, exemplar)
        if result.greeting_ms is not None:
            self._greeting.labels(route, kind).observe(result.greeting_ms / 1000, exemplar)
        for barge_in in result.barge_ins:
            if barge_in.kind == "barge_in" and barge_in.latency_ms is not None:
                self._barge_in.labels(route, kind).observe(barge_in.latency_ms / 1000, exemplar)
        for party, stream in zip(_PARTIES, (result.media.caller, result.media.agent), strict=True):
            self._packets.labels(party).inc(max(0, stream.packets))
            self._lost.labels(party).inc(max(0, stream.lost))
        self._unseen.inc(result.media.tap_dropped)
        self._refused.inc(result.media.refused)
        for delay in relay_delays[:: max(1, -(-len(relay_delays) // _MOST_DELAYS))]:
            self._relay.observe(max(0.0, delay), exemplar)

    def collect(self) -> Iterable[Metric]:
        """As a scraper wants it."""
        for each in (
            self._response, self._greeting, self._barge_in, self._set_up, self._length, self._relay,
            self._calls, self._packets, self._lost, self._unseen, self._refused,
        ):  # fmt: skip
            yield from each.collect()
