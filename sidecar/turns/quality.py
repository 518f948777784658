"""How good the line was in one direction: loss and its spread, what the parties say of it in RTCP, and both opinion scores."""

from __future__ import annotations

from statistics import median

from control.contract.call import Bursts, Heard, LossInterval, Percentiles, Stream
from sidecar.clocks import Mono
from sidecar.media import mos
from sidecar.media.decode import RATE
from sidecar.media.hearsay import Party
from sidecar.media.losses import INTERVAL_S, Interval
from sidecar.turns.side import Side
from sidecar.turns.sums import percentiles


def judged(side: Side, answered: Mono, sender: Party, hearer: Party, percentile_floor: int) -> Stream:
    """The stream of `side`, sent by `sender` and heard by `hearer`, as the call object shows it."""
    stream, told = side.stream, side.model(answered)
    main = max(stream.receptions.values(), key=lambda r: r.packets, default=None)
    pattern, packet_ms = stream.losses.finish(), stream.step_ms
    share = told.loss_pct / 100
    delay = one_way_ms(sender, hearer, packet_ms)
    score = None
    if delay is not None and told.packets:
        score = mos.mos_cq(stream.codec, share, mos.burst_ratio(share, stream.loss_runs, stream.loss_run_packets), delay)
    told.mos_cq = None if score is None else round(score, 2)
    told.late = stream.late
    told.unsent_ms = round(stream.unsent * 1000 / RATE, 1)
    told.bursts = Bursts(
        n=pattern.bursts,
        density_pct=round(100 * pattern.burst_density, 2),
        mean_ms=round(pattern.burst_packets * packet_ms, 1),
        gap_density_pct=round(100 * pattern.gap_density, 3),
    )
    told.lossy_intervals = pattern.lossy_intervals
    told.worst_interval = None if pattern.worst is None else _interval(pattern.worst, side, answered)
    told.heard = _heard(hearer, main.clock_rate) if main is not None else None
    told.round_trip_ms = _round_trips(sender, percentile_floor)
    skew = sender.skew_ppm(main.clock_rate) if main is not None else None
    told.clock_ppm = None if skew is None else round(skew, 1)
    return told


def one_way_ms(sender: Party, hearer: Party, packet_ms: float) -> float | None:
    """From mouth to ear, as far as it can be known between the two: half of both round trips, one packet, and the hearer's own delay where
    it tells that (RFC 3611 4.7.7). None without a round trip on both legs."""
    if not sender.round_trips or not hearer.round_trips:
        return None
    network = 500 * (median(sender.round_trips) + median(hearer.round_trips))
    return network + packet_ms + (hearer.end_system_ms or 0)


def _interval(worst: Interval, side: Side, answered: Mono) -> LossInterval:
    return LossInterval(
        start_ms=round(side.call_time(round(worst.start_s * RATE), answered), 1),
        duration_ms=1000 * INTERVAL_S,
        expected=worst.expected,
        lost=worst.lost,
        loss_pct=round(100 * worst.lost / worst.expected, 2),
    )


def _heard(hearer: Party, clock_rate: int) -> Heard | None:
    block = hearer.heard
    if block is None:
        return None
    return Heard(
        reports=hearer.reports,
        lost=block.lost,
        loss_pct=round(100 * hearer.worst_fraction, 2),
        jitter_ms=round(1000 * block.jitter / clock_rate, 3),
    )


def _round_trips(party: Party, floor: int) -> Percentiles:
    return percentiles([round(1000 * seconds, 3) for seconds in party.round_trips], floor)
