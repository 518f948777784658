"""How long messages wait, as the valve is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from sidecar.pressure import Pressure

MESSAGE = 2304


@pytest.mark.parametrize(
    ("waiting", "overloaded"),
    [
        ((0, 0, 30 * MESSAGE, 0), False),  # a burst, which has just come to an idle sidecar
        ((0, 30 * MESSAGE, 30 * MESSAGE, 0), True),  # a period later it is still there
    ],
)
async def test_a_burst_that_has_just_come_is_no_overload(waiting: tuple[int, ...], overloaded: bool) -> None:
    looks: Iterator[int] = iter(waiting)
    told: list[float] = []
    done = asyncio.Event()

    def tell(lag: float) -> float:
        told.append(lag)
        if len(told) == len(waiting):
            done.set()
        return 1.0

    watching = asyncio.create_task(Pressure(lambda: next(looks, 0), tell).watch())
    await asyncio.wait_for(done.wait(), 10)
    watching.cancel()
    assert any(lag > 2.5 for lag in told) is overloaded
