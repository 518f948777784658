"""Opening, migrating and sharing the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control.clock import now_us
from control.config import ControlConfig
from control.errors import StartupError
from control.store.dialect import WRITE, insert, is_sqlite, make_engine, sqlite_file
from control.store.schema import probe

_MIGRATIONS = Path(__file__).with_name("migrations")


class Store:
    """The database. Invariant: on SQLite one write transaction is open at a time, so writers queue here and never meet a lock."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.single_process = is_sqlite(url)
        self._engine: AsyncEngine = make_engine(url)
        self._writer = asyncio.Lock()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes; committed, and on disk, when the block ends without an exception."""
        async with AsyncExitStack() as stack:
            if self.single_process:
                await stack.enter_async_context(self._writer)
            conn = await stack.enter_async_context(self._engine.connect())
            await conn.execution_options(**{WRITE: True})
            async with conn.begin():
                yield conn

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads: one consistent snapshot."""
        async with self._engine.connect() as conn, conn.begin():
            yield conn

    async def check(self) -> None:
        """Write one row. Raises SQLAlchemyError when nothing can be stored."""
        async with self.write() as conn:
            row = {"id": 1, "at_us": now_us()}
            await conn.execute(insert(conn, probe).values(row).on_conflict_do_update(index_elements=["id"], set_=row))

    async def upgrade(self) -> None:
        """Bring the schema to this version. Raises SQLAlchemyError."""
        async with self.write() as conn:
            await conn.run_sync(_upgrade)

    async def close(self) -> None:
        """Give all connections back."""
        await self._engine.dispose()


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
    except (SQLAlchemyError, OSError) as error:
        await store.close()
        shown = sa.engine.make_url(config.database).render_as_string(hide_password=True)
        raise StartupError(f"database: {shown} cannot be used: {_brief(error)}") from None
    return store


async def migrate(config: ControlConfig) -> None:
    """Bring the database of `config` to this version's schema. Raises StartupError."""
    store = await open_store(config)
    await store.close()


def _upgrade(connection: sa.Connection) -> None:
    settings = Config()
    settings.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")


def _brief(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__
