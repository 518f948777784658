"""No filter of the API reads a whole table, and none that is an equality sorts: the engines' own plans of what a request really runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from pydantic import BaseModel

from control.api.parameters import AuditQuery, CallFilter, DeliveryQuery
from control.store import Store
from tests.shell.control import kit
from tests.shell.control.kit import control, settings

NOWHERE = "http://127.0.0.1:9"
WHEN = quote("2026-01-01T00:00:00Z")
CURSOR = "MTc2NzIyNTYwMDAwMDAwMDpj"
CALLS = {
    "since": WHEN, "until": WHEN, "kind": "simulation", "outcome": "linked", "route": "agent", "sidecar": "edge-1", "sip_call_id": "SCL_1",
    "status": "200", "min_latency_ms": "900", "max_latency_ms": "900",
}  # fmt: skip
DELIVERIES = {"state": "dead", "call": "c1", "call_id": "r1", "cursor": "7"}
CHANGES = {"actor": "token:people", "action": "verify", "since": WHEN, "until": WHEN, "cursor": "7"}
SORTED = re.compile("latency_ms|sip_call_id")
"""What is found by an index and then put into the order of time, of which a Call-ID has one or two."""


def test_every_filter_has_an_example() -> None:
    for model, examples in ((CallFilter, CALLS), (DeliveryQuery, DELIVERIES), (AuditQuery, CHANGES)):
        assert filters(model) == set(examples)


def filters(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields) - {"limit"}


PATHS = [
    "/v1/calls",
    f"/v1/calls?cursor={CURSOR}",
    *(f"/v1/calls?{name}={value}" for name, value in CALLS.items()),
    *(f"/v1/calls?{name}={value}&cursor={CURSOR}" for name, value in CALLS.items()),
    "/v1/calls?" + "&".join(f"{name}={value}" for name, value in CALLS.items() if name != "sip_call_id"),
    f"/v1/export?format=csv&route=agent&since={WHEN}",
    "/v1/deliveries",
    *(f"/v1/deliveries?{name}={value}" for name, value in DELIVERIES.items()),
    "/v1/audit",
    *(f"/v1/audit?{name}={value}" for name, value in CHANGES.items()),
]


async def test_a_request_is_answered_out_of_an_index(tmp_path: Path) -> None:
    config = settings(tmp_path, NOWHERE)
    store = Store(config.database)
    try:
        async with control(config) as client:
            for path in PATHS:
                with statements() as seen:
                    await client.get(path)
                asked = [
                    each for each in seen if re.search(r"FROM (calls|deliveries|audit)\b.*ORDER BY .* DESC\s+LIMIT", each[0], re.DOTALL)
                ]
                assert asked, path
                for statement, parameters in asked:
                    plan = await explain(store, statement, parameters)
                    if "?" in path:  # else its newest rows are taken from the end of the table
                        assert not re.search(r"Seq Scan|SCAN \w+$", plan, re.MULTILINE), (path, plan)
                    if SORTED.search(path) is None:
                        assert not re.search(r"\bSort\b|TEMP B-TREE", plan), (path, plan)
    finally:
        await store.close()


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """What is executed meanwhile, in the driver's own form."""
    seen: list[tuple[str, Any]] = []

    def note(_conn: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        seen.append((statement, parameters))

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


async def explain(store: Store, statement: str, parameters: Any) -> str:
    """The plan on an empty table, where PostgreSQL would rather read all of it, if there were no other way, than not at all."""
    async with store.read() as conn:
        if kit.ENGINE.name == "sqlite":
            return "\n".join(row.detail for row in await conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters))
        for way in ("seqscan", "bitmapscan", "sort"):
            await conn.execute(sa.text(f"SET LOCAL enable_{way} = off"))
        return "\n".join(row[0] for row in await conn.exec_driver_sql(f"EXPLAIN {statement}", parameters))
