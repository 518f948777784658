"""All that differs between the two engines: how a connection is set up, how a write begins, locks, and the upsert's spelling."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

WRITE = "trunkside_write"
"""Execution option of a connection that will write."""
MIGRATION_LOCK = 0x7472756E6B
"""Key of the advisory lock under which a PostgreSQL schema is brought up to date."""

_CONNECT_S = 5.0
_STATEMENT_S = 30.0
_LOCK_WAIT_S = 10.0


def make_engine(url: str, *, name: str = "trunkside", statement_s: float | None = _STATEMENT_S) -> AsyncEngine:
    """An engine that holds foreign keys, has a commit on disk before it returns, and waits for a lock instead of failing.

    `name` is the `application_name` under which PostgreSQL knows it. `statement_s`: the longest a PostgreSQL statement may take, None
    without a limit; a server that has gone silent is noticed by it.
    """
    if is_sqlite(url):
        engine = create_async_engine(url, connect_args={"timeout": 30})
        _prepare(engine.sync_engine)
        return engine
    settings = {"application_name": name, "jit": "off"}  # compiling a statement takes longer than any of ours runs
    arguments = {"timeout": _CONNECT_S, "command_timeout": statement_s, "server_settings": settings}
    return create_async_engine(
        url, pool_pre_ping=True, pool_size=8, max_overflow=8, pool_timeout=_LOCK_WAIT_S, pool_recycle=1800, connect_args=arguments
    )


def make_writer(url: str) -> sa.Engine:
    """The engine of SQLite's one writer, which works in a thread of its own."""
    engine = sa.create_engine(make_url(url).set(drivername="sqlite"), connect_args={"timeout": 30})
    _prepare(engine)
    return engine


def is_sqlite(url: str) -> bool:
    """Whether the URL names an SQLite database: one process writes, and a second lease-holder cannot exist."""
    return make_url(url).get_backend_name() == "sqlite"


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database, or None."""
    database = make_url(url).database
    return Path(database) if is_sqlite(url) and database and database != ":memory:" else None


def _prepare(engine: sa.Engine) -> None:
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)


def _on_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    cursor = connection.cursor()
    # cache_size is in KiB when negative; checkpoints of 16 MiB instead of 4 cost fewer syncs under load.
    for pragma in (
        "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000", "wal_autocheckpoint=4000", "cache_size=-16000",
    ):  # fmt: skip
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_begin(connection: sa.Connection) -> None:
    # A transaction that reads before it writes cannot wait for the lock later: SQLite answers SQLITE_BUSY at once.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(WRITE) else "BEGIN")


def insert(conn: AsyncConnection, table: sa.Table) -> Any:
    """The engine's own INSERT, whose `on_conflict_do_nothing` and `on_conflict_do_update` both engines spell alike."""
    return insert_by(conn.dialect.name, table)


def insert_by(dialect: str, table: sa.Table) -> Any:
    """As `insert`, by the dialect's name."""
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # loaded where it is used: it is a part of the time until ready

    return postgresql.insert(table)


async def insert_many(conn: AsyncConnection, table: sa.Table, values: Sequence[Mapping[str, Any]], *, on_conflict: str = "fail") -> None:
    """Insert rows that all have the same columns, past the processing of each single parameter that `execute` does.

    `on_conflict`: `fail`, `skip`, or `update`, which replaces the row of the same primary key, but not its columns with `info["kept"]`.
    """
    if values:
        sql, order = _insertion(table, tuple(values[0]), on_conflict, conn.dialect)
        await conn.exec_driver_sql(sql, [tuple(row[name] for name in order) for row in values])


_insertions: dict[tuple[str, tuple[str, ...], str, str], tuple[str, tuple[str, ...]]] = {}


def _insertion(table: sa.Table, names: tuple[str, ...], on_conflict: str, dialect: sa.Dialect) -> tuple[str, tuple[str, ...]]:
    """The statement in the driver's own text, and the order of its parameters; made once."""
    known = (table.name, names, on_conflict, dialect.name)
    if known not in _insertions:
        statement = insert_by(dialect.name, table)
        if on_conflict == "skip":
            statement = statement.on_conflict_do_nothing()
        elif on_conflict == "update":
            key = [column.name for column in table.primary_key]
            update = {name: statement.excluded[name] for name in names if name not in key and not table.c[name].info.get("kept")}
            statement = statement.on_conflict_do_update(index_elements=key, set_=update)
        compiled: Any = statement.compile(dialect=dialect, column_keys=list(names))
        _insertions[known] = compiled.string, tuple(compiled.positiontup)
    return _insertions[known]


async def lock(conn: AsyncConnection, names: Iterable[str]) -> None:
    """Keep other transactions that lock one of `names` waiting until this one ends.

    It covers what has no row yet. Taken in one order, so that two transactions cannot lock each other out. On SQLite there is one writer.
    """
    if conn.dialect.name == "sqlite":
        return
    for key in sorted({_key(name) for name in names}):
        await conn.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big", signed=True)
