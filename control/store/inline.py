"""SQLite's write path: a whole transaction in one visit to one thread.

The asynchronous driver goes to its thread and back for each step of each statement, which costs ten times the statement itself. Here the
coroutine that makes up a transaction is driven inside the writer's thread, on a connection whose awaits are over at once.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")


class _Inline:
    """The part of `AsyncConnection` that transactions use, on a synchronous connection."""

    def __init__(self, connection: sa.Connection) -> None:
        self.sync_connection = connection
        self.dialect = connection.dialect

    async def execute(self, statement: Any, parameters: Any = None) -> sa.CursorResult[Any]:
        return self.sync_connection.execute(statement, parameters)

    async def scalar(self, statement: Any, parameters: Any = None) -> Any:
        return self.sync_connection.scalar(statement, parameters)

    async def scalars(self, statement: Any, parameters: Any = None) -> sa.ScalarResult[Any]:
        return self.sync_connection.scalars(statement, parameters)

    async def exec_driver_sql(self, statement: str, parameters: Any = None) -> sa.CursorResult[Any]:
        return self.sync_connection.exec_driver_sql(statement, parameters)


def inline(connection: sa.Connection) -> AsyncConnection:
    """`connection` in the form that transactions are written for: `execute`, `scalar`, `scalars`, `exec_driver_sql` and `dialect`."""
    return cast("AsyncConnection", _Inline(connection))


def drive(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that awaits nothing but an inline connection. RuntimeError when it awaits something else."""
    try:
        work.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    work.close()
    raise RuntimeError("a transaction waited for something other than its connection")
