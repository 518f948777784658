"""Opening, migrating and sharing the database."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control.clock import now_us
from control.config import ControlConfig
from control.errors import StartupError
from control.store.announce import Hook
from control.store.combine import Combiner
from control.store.dialect import MIGRATION_LOCK, WRITE, insert, is_sqlite, make_engine, make_writer, sqlite_file
from control.store.faults import at_once_again, brief, translated
from control.store.inline import drive, inline
from control.store.migrations import HEAD
from control.store.schema import probe
from control.store.uploads import UploadPolicy

T = TypeVar("T")
Work = Callable[[AsyncConnection], Coroutine[Any, Any, T]]
"""A transaction as a function of its connection. It may be run more than once, so it changes nothing but the database."""

_MIGRATIONS = Path(__file__).with_name("migrations")
_GROUP = 64
_MOST_WAITING = 2000
_ATTEMPTS = 5
_CHECK_S = 5.0
_PROBE_BYTES = 64 * 1024
"""A full disk often has room for one more page: the probe writes what a batch of facts would."""


class Store:
    """The database. Invariant: on SQLite one write transaction is open at a time, so writers queue here and never meet a lock."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.single_process = is_sqlite(url)
        self.hooks: tuple[Hook, ...] = ()
        self.uploads = UploadPolicy()
        """Who is told of events: set once, before anything is stored."""
        self.name = f"trunkside-{uuid.uuid4().hex[:16]}"
        """Tells this process from other replicas."""
        self._engine: AsyncEngine = make_engine(url, name=self.name)
        self._writer = asyncio.Lock()
        self._group = _Group(url, self._writer) if self.single_process else None

    async def run(self, work: Work[T]) -> T:
        """The result of a transaction that writes; it is on disk when this returns. Raises SQLAlchemyError when nothing was stored.

        On SQLite, transactions that wait at the same time share one commit; one that fails does not touch the others. On PostgreSQL a
        transaction that loses against another is run again.
        """
        if self._group is not None:
            result: T = await self._group.run(work)
            return result
        for attempt in range(_ATTEMPTS):
            try:
                async with self.write() as conn:
                    return await work(conn)
            except SQLAlchemyError as error:
                if attempt == _ATTEMPTS - 1 or not at_once_again(error):
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes; committed, and on disk, when the block ends without an exception. `run` is the faster way."""
        async with AsyncExitStack() as stack:
            stack.enter_context(translated())
            if self.single_process:
                await stack.enter_async_context(self._writer)
            conn = await stack.enter_async_context(self._engine.connect())
            await conn.execution_options(**{WRITE: True})
            async with conn.begin():
                yield conn

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads: on SQLite one consistent snapshot, on PostgreSQL what is committed at each statement."""
        with translated():
            async with self._engine.connect() as conn, conn.begin():
                yield conn

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[AsyncConnection]:
        """A connection without a transaction, for what stays connected. PostgreSQL only."""
        with translated():
            async with self._engine.connect() as conn:
                yield await conn.execution_options(isolation_level="AUTOCOMMIT")

    async def check(self) -> None:
        """Write what a small batch would. Raises SQLAlchemyError when nothing can be stored."""
        row = {"id": 1, "at_us": now_us(), "pad": bytes(_PROBE_BYTES)}

        async def write(conn: AsyncConnection) -> None:
            await conn.execute(insert(conn, probe).values(row).on_conflict_do_update(index_elements=["id"], set_=row))

        with translated():
            async with asyncio.timeout(_CHECK_S):  # a server that says nothing is not there either
                await self.run(write)

    async def upgrade(self) -> None:
        """Bring the schema to this version. Replicas that start together take turns. Raises SQLAlchemyError."""
        engine = make_engine(self.url, statement_s=None)  # building an index takes what it takes
        try:
            with translated():
                async with self._writer, engine.connect() as conn:
                    await conn.execution_options(**{WRITE: True})
                    async with conn.begin():
                        if not self.single_process:
                            await conn.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
                        await conn.run_sync(_upgrade)
        finally:
            await engine.dispose()

    async def tend(self) -> None:
        """Let SQLite learn which index is worth what, from a sample; PostgreSQL does so by itself."""

        async def work(conn: AsyncConnection) -> None:
            for statement in ("PRAGMA analysis_limit=400", "ANALYZE"):
                await conn.execute(sa.text(statement))

        if self.single_process:
            await self.run(work)

    def describe(self) -> dict[str, object]:
        """Transactions and the commits they shared, on SQLite."""
        return self._group.describe() if self._group is not None else {}

    async def close(self) -> None:
        """Finish what was begun and give all connections back."""
        if self._group is not None:
            await self._group.close()
        try:
            async with asyncio.timeout(_CHECK_S):
                await self._engine.dispose()
        except TimeoutError:
            await self._engine.dispose(close=False)  # a server that says nothing does not say farewell either


class _Group:
    """SQLite's writer: one thread, one connection, many transactions to a commit."""

    def __init__(self, url: str, turn: asyncio.Lock) -> None:
        self._engine = make_writer(url)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        self._turn = turn
        self._works: Combiner[Work[Any], Any] = Combiner(self._commit_all, weight_of_round=_GROUP, most=_MOST_WAITING)

    async def run(self, work: Work[Any]) -> Any:
        return await self._works.submit(work)

    def describe(self) -> dict[str, object]:
        return {"transactions": self._works.items, "commits": self._works.rounds}

    async def close(self) -> None:
        await self._works.close()
        self._thread.submit(self._engine.dispose).result()
        self._thread.shutdown()

    async def _commit_all(self, works: Sequence[Work[Any]]) -> Sequence[Any]:
        """All in one commit, or, when one of them fails, each in its own."""
        async with self._turn:
            together = await self._in_thread(works)
            if len(works) == 1 or not isinstance(together, BaseException):
                return [together] if isinstance(together, BaseException) else together
            alone = [await self._in_thread([work]) for work in works]
        return [result if isinstance(result, BaseException) else result[0] for result in alone]

    async def _in_thread(self, works: Sequence[Work[Any]]) -> Sequence[Any] | BaseException:
        done = asyncio.wrap_future(self._thread.submit(self._commit, works))
        await asyncio.wait({done})
        return done.exception() or done.result()

    def _commit(self, works: Sequence[Work[Any]]) -> list[Any]:
        with self._engine.connect() as conn:
            conn = conn.execution_options(**{WRITE: True})
            with conn.begin():
                return [drive(work(inline(conn))) for work in works]


async def open_store(config: ControlConfig) -> Store:
    """The store of `config`, migrated and writable. Raises StartupError."""
    file = sqlite_file(config.database)
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartupError(f"database: {file.parent} cannot be made: {error.strerror}") from None
    store = Store(config.database)
    try:
        await store.upgrade()
        await store.check()
    except SQLAlchemyError as error:
        await store.close()
        shown = sa.engine.make_url(config.database).render_as_string(hide_password=True)
        raise StartupError(f"database: {shown} cannot be used: {brief(error)}") from None
    return store


async def migrate(config: ControlConfig) -> None:
    """Bring the database of `config` to this version's schema. Raises StartupError."""
    store = await open_store(config)
    await store.close()


def _upgrade(connection: sa.Connection) -> None:
    if _revision(connection) == HEAD:
        return
    from alembic import command  # a quarter of a second to import, and most starts find the schema as it should be
    from alembic.config import Config

    settings = Config()
    settings.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")


def _revision(connection: sa.Connection) -> str | None:
    """The schema's version, None for a database that is empty."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return revision
