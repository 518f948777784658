"""Distributions for scrapers, over the calls whose traces were completed here since this process began; the exemplar is the trace id.

Sidecars tell the same of themselves; here it is told for all of them, also for those that nobody scrapes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from prometheus_client import Counter, Histogram
from prometheus_client.core import Metric

from control.contract.call import Call

_SPEECH_S = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
_LOSS_RATIO = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
_MOS = (1.5, 2.0, 2.5, 3.0, 3.5, 3.75, 4.0, 4.1, 4.2, 4.3, 4.4)
_LABELS = ("route", "kind")
_REMEMBERED = 20_000
"""Calls that are known to have been counted: a complete call may still change, by a late fact."""


class Figures:
    """Counts over the life of the process."""

    def __init__(self) -> None:
        def distribution(name: str, about: str, bounds: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"trunkside_control_{name}", about, labels, buckets=bounds, registry=None)

        about = "Silence between the caller's speech and the agent's answer, of all sidecars"
        self._response = distribution("response_latency_seconds", about, _SPEECH_S, *_LABELS)
        self._loss = distribution("rtp_loss_ratio", "Share of a call's packets that never came, by who sent them", _LOSS_RATIO, "party")
        self._mos = distribution("mos_lq", "MOS-LQ of calls, by who sent the media", _MOS, "party")
        self._calls = Counter("trunkside_control_calls", "Calls that came to their end", (*_LABELS, "reason"), registry=None)
        self._counted: OrderedDict[str, None] = OrderedDict()

    def changed(self, call: Call) -> None:
        """Count a call once it is complete, and once only."""
        if not call.complete or call.id in self._counted:
            return
        self._counted[call.id] = None
        if len(self._counted) > _REMEMBERED:
            self._counted.popitem(last=False)
        exemplar = {"trace_id": call.id[:64]}
        self._calls.labels(call.route, call.kind, call.reason or "unknown").inc(1, exemplar)
        response = self._response.labels(call.route, call.kind)
        for turn in call.turns:
            if turn.kind == "response":
                response.observe(turn.response_latency_ms / 1000, exemplar)
        for party, stream in (("caller", call.media.caller), ("agent", call.media.agent)):
            if stream.packets:
                self._loss.labels(party).observe(max(0.0, stream.loss_pct) / 100, exemplar)
            if stream.mos_lq is not None:
                self._mos.labels(party).observe(stream.mos_lq, exemplar)

    def collect(self) -> Iterable[Metric]:
        """As a scraper wants it."""
        for each in (self._response, self._loss, self._mos, self._calls):
            yield from each.collect()
