"""Percentiles as every figure of this product is made: nearest rank, always with n."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from control.contract.call import Percentiles

LEAST_FOR_P95 = 20


def percentiles(values: Iterable[float]) -> Percentiles:
    """Nearest-rank percentiles with n; no p95 under n = 20."""
    ordered = sorted(values)
    if not ordered:
        return Percentiles()

    def at(share: float) -> float:
        return round(ordered[max(0, ceil(share * len(ordered)) - 1)], 3)

    p95 = at(0.95) if len(ordered) >= LEAST_FOR_P95 else None
    return Percentiles(n=len(ordered), p50=at(0.5), p90=at(0.9), p95=p95, max=round(ordered[-1], 3))
