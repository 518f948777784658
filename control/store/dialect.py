"""All that differs between the two engines: how a connection is set up, how a write begins, and the upsert's spelling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

WRITE = "trunkside_write"
"""Execution option of a connection that will write."""


def make_engine(url: str) -> AsyncEngine:
    """An engine that holds foreign keys, has a commit on disk before it returns, and waits for a lock instead of failing."""
    if not is_sqlite(url):
        return create_async_engine(url, pool_pre_ping=True)
    engine = create_async_engine(url, connect_args={"timeout": 30})
    event.listen(engine.sync_engine, "connect", _on_connect)
    event.listen(engine.sync_engine, "begin", _on_begin)
    return engine


def is_sqlite(url: str) -> bool:
    """Whether the URL names an SQLite database: one process writes, and a second lease-holder cannot exist."""
    return make_url(url).get_backend_name() == "sqlite"


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database, or None."""
    database = make_url(url).database
    return Path(database) if is_sqlite(url) and database and database != ":memory:" else None


def _on_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_begin(connection: sa.Connection) -> None:
    # A transaction that reads before it writes cannot wait for the lock later: SQLite answers SQLITE_BUSY at once.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(WRITE) else "BEGIN")


def insert(conn: AsyncConnection, table: sa.Table) -> Any:
    """The engine's own INSERT, whose `on_conflict_do_nothing` and `on_conflict_do_update` both engines spell alike."""
    return sqlite.insert(table) if conn.dialect.name == "sqlite" else postgresql.insert(table)
