"""What a set of calls must keep to, for a pipeline: bounds in, breaches out. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from control.contract.call import LEAST_FOR_P95, Call, Percentiles, Stream

Rank = Literal["p50", "p90", "p95", "max"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """None and False: not asked. Latencies in milliseconds, loss in percent."""

    min_calls: int = 1
    response: dict[Rank, float] = field(default_factory=dict)
    """Over the response latencies of all turns of all calls."""
    p90_greeting: float | None = None
    p90_barge_in: float | None = None
    max_loss: float | None = None
    max_jitter: float | None = None
    min_mos: float | None = None
    max_failed: int | None = None
    """Calls that were not answered with a 2xx."""
    all_linked: bool = False
    """Every simulation that owes a report is linked or repaired."""
    no_repairs: bool = False
    """… and none had to be repaired."""


@dataclass(frozen=True, slots=True)
class Check:
    """One bound and what was found: `breaches` is a line for each thing that breaks it."""

    name: str
    found: str
    breaches: tuple[str, ...] = ()


def settled(call: Call) -> bool:
    """Nothing about the call will change of which a bound speaks."""
    return call.complete and call.verdict.outcome != "pending"


def check(calls: Sequence[Call], bounds: Bounds) -> list[Check]:
    """Every bound that was asked, in a fixed order."""
    found = [_enough(calls, bounds.min_calls)]
    latencies = [turn.response_latency_ms for call in calls for turn in call.turns if turn.kind == "response"]
    for rank, most in bounds.response.items():
        found.append(_ranked("response", rank, latencies, most))
    if bounds.p90_greeting is not None:
        greetings = [call.timings_ms.greeting for call in calls if call.timings_ms.greeting is not None]
        found.append(_ranked("greeting", "p90", greetings, bounds.p90_greeting))
    if bounds.p90_barge_in is not None:
        stops = [each.latency_ms for call in calls for each in call.barge_ins if each.kind == "barge_in" and each.latency_ms is not None]
        found.append(_ranked("barge-in", "p90", stops, bounds.p90_barge_in))
    found += _per_call(calls, bounds)
    if bounds.max_failed is not None:
        found.append(_failed(calls, bounds.max_failed))
    if bounds.all_linked or bounds.no_repairs:
        found.append(_linked(calls, repaired_too=not bounds.no_repairs))
    return found


def _enough(calls: Sequence[Call], least: int) -> Check:
    found = f"{len(calls)} calls"
    breaches = () if len(calls) >= least else (f"{found}, at least {least} expected",)
    return Check("calls", found, breaches)


def _ranked(what: str, rank: Rank, values: Sequence[float], most: float) -> Check:
    """A percentile that cannot be told is a breach: a pipeline that measured nothing must not be green."""
    name = f"{rank} {what}"
    told = Percentiles.of(values)
    value = {"p50": told.p50, "p90": told.p90, "p95": told.p95, "max": told.max}[rank]
    if value is None:
        why = f"needs {LEAST_FOR_P95} turns, there are {told.n}" if told.n else "nothing was measured"
        return Check(name, why, (f"{name}: {why}",))
    found = f"{value:.0f} ms (n {told.n})"
    return Check(name, found, () if value <= most else (f"{name} {found} is over {most:g} ms",))


def _per_call(calls: Sequence[Call], bounds: Bounds) -> Iterable[Check]:
    """The bounds that each direction of each call has to keep."""
    rows: list[tuple[str, float | None, Callable[[Call], list[tuple[str, float]]], bool, str]] = [
        ("loss", bounds.max_loss, lambda call: [(who, s.loss_pct) for who, s in _streams(call)], True, " %"),
        ("jitter", bounds.max_jitter, lambda call: [(who, s.jitter_ms) for who, s in _streams(call)], True, " ms"),
        ("MOS", bounds.min_mos, lambda call: [(who, s.mos_lq) for who, s in _streams(call) if s.mos_lq is not None], False, ""),
    ]
    for name, bound, values_of, upper, unit in rows:
        if bound is None:
            continue
        worst: float | None = None
        breaches = []
        for call in calls:
            for who, value in values_of(call):
                worst = value if worst is None else max(worst, value) if upper else min(worst, value)
                if value > bound if upper else value < bound:
                    side = "over" if upper else "under"
                    breaches.append(f"{_named(call)}: {name} of the {who} {value:.2f}{unit} is {side} {bound:g}{unit}")
        if worst is None:
            yield Check(name, "nothing was measured", (f"{name}: nothing was measured",))
        else:
            yield Check(name, f"worst {worst:.2f}{unit}", tuple(breaches))


def _failed(calls: Sequence[Call], most: int) -> Check:
    failed = [call for call in calls if call.status is None or call.status >= 300]
    lines = (f"{_named(call)}: not answered: {_why(call)}" for call in failed)
    return Check("failed calls", str(len(failed)), tuple(lines) if len(failed) > most else ())


def _linked(calls: Sequence[Call], *, repaired_too: bool) -> Check:
    owing = [call for call in calls if call.kind == "simulation" and call.verdict.outcome != "not_applicable"]
    good = ("linked", "repaired") if repaired_too else ("linked",)
    bad = [call for call in owing if call.verdict.outcome not in good]
    breaches = [f"{_named(call)}: {_unlinked(call)}" for call in bad]
    if not owing:
        breaches = ["no simulation that owes a report is among the calls"]
    return Check("linked", f"{len(owing) - len(bad)} of {len(owing)} simulations", tuple(breaches))


def _unlinked(call: Call) -> str:
    match call.verdict.outcome:
        case "pending":
            return "pending: its report has not come yet; give --wait SECONDS"
        case "repaired" if call.verdict.repair is not None:
            return f"repaired by {call.verdict.repair.rule}"
        case other:
            return other


def _why(call: Call) -> str:
    return call.cause or call.reason or ("not over yet" if call.ended_at is None else f"status {call.status}")


def _streams(call: Call) -> list[tuple[str, Stream]]:
    return [(who, stream) for who, stream in (("caller", call.media.caller), ("agent", call.media.agent)) if stream.packets]


def _named(call: Call) -> str:
    return f"call {(call.id)}"
