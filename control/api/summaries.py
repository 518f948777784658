"""Counts and percentiles over a filter, made by the database from the narrow table of figures and finished here.

Exact, not sampled: every call under the filter counts, finished or not, as it stood at one moment.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from control.api.parameters import CallFilter
from control.api.queries import conditions
from control.contract.answers import Histogram, SlowTurn, Summary
from control.contract.call import Percentiles
from control.store import rows
from control.store.schema import calls, figures

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_COUNTED = ("outcome", "kind", "status", "reason")
_MEASURED = ("responses", "greeting", "differences")
_HISTOGRAM_STEP_MS = 100.0
_HISTOGRAM_STEPS = 31
_SLOWEST = 5


async def summary(conn: AsyncConnection, query: CallFilter) -> Summary:
    """Counts and percentiles (ms) over all calls under the filters of `query`: one statement, a row a combination of what is counted."""
    counted = [figures.c[name] for name in _COUNTED]
    measured = [_joined(conn, figures.c[name]).label(name) for name in _MEASURED]
    wanted = sa.select(*counted, sa.func.count().label("n"), *measured).where(*conditions(query, figures)).group_by(*counted)
    found = (await conn.execute(wanted)).all()
    slowest = await _slowest(conn, query)
    return await asyncio.to_thread(_finish, found, slowest)  # sorting a million values would hold up everybody else


async def _slowest(conn: AsyncConnection, query: CallFilter) -> list[SlowTurn]:
    """The slowest turns lie in the calls whose slowest turn is slowest, so no more than those are read."""
    chosen = sa.select(figures.c.call).where(*conditions(query, figures), figures.c.latency_ms.is_not(None))
    chosen = chosen.order_by(figures.c.latency_ms.desc(), figures.c.call).limit(_SLOWEST)
    told = [rows.read_call(doc) for doc in await conn.scalars(sa.select(calls.c.doc).where(calls.c.id.in_(chosen)))]
    turns = [
        SlowTurn(call=call.id, n=turn.n, response_latency_ms=turn.response_latency_ms, started_at=call.started_at, route=call.route)
        for call in told
        for turn in call.turns
        if turn.kind == "response"
    ]
    return sorted(turns, key=lambda turn: (-turn.response_latency_ms, turn.call, turn.n))[:_SLOWEST]


def _joined(conn: AsyncConnection, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The octets of a whole group behind one another. SQLite joins text only, so there they come as hex digits."""
    if conn.dialect.name == "sqlite":
        return sa.func.group_concat(sa.func.hex(column), "", type_=sa.Text)
    return sa.func.string_agg(column, sa.literal(b"", sa.LargeBinary), type_=sa.LargeBinary)


def _finish(found: Sequence[Any], slowest: list[SlowTurn]) -> Summary:
    counts: dict[str, Counter[str]] = {name: Counter() for name in _COUNTED}
    for row in found:
        for name in _COUNTED:
            counts[name][str(getattr(row, name))] += row.n
    responses = _values(row.responses for row in found)
    return Summary(
        calls=sum(row.n for row in found),
        **{name: dict(count) for name, count in counts.items()},
        response_latency_ms=Percentiles.of(responses.tolist()),
        greeting_ms=Percentiles.of(_values(row.greeting for row in found).tolist()),
        difference_ms=Percentiles.of(_values(row.differences for row in found).tolist()),
        latency_histogram=histogram(responses),
        slowest_turns=slowest,
    )


def histogram(values: npt.NDArray[np.float64]) -> Histogram:
    """How many values (ms) lie in each step."""
    import numpy as np

    steps = np.clip(values // _HISTOGRAM_STEP_MS, 0, _HISTOGRAM_STEPS - 1).astype(np.int64)
    return Histogram(step_ms=_HISTOGRAM_STEP_MS, counts=np.bincount(steps, minlength=_HISTOGRAM_STEPS).tolist())


def _values(joined: Iterable[bytes | str | None]) -> npt.NDArray[np.float64]:
    """In order: what is sorted already costs little more to rank."""
    import numpy as np  # a tenth of a second to load, and most of control's life needs none of it

    octets = b"".join(bytes.fromhex(each) if isinstance(each, str) else each for each in joined if each)
    return np.sort(np.frombuffer(octets, dtype=np.float64))
