"""What can go wrong with a database, under one name: every failure of the store is an `SQLAlchemyError`, whichever driver it came from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

_AGAIN = ("40001", "40P01")
"""serialization_failure and deadlock_detected (PostgreSQL, appendix A): the same transaction can succeed at once."""


class Unavailable(SQLAlchemyError):
    """The database cannot be reached, or too much waits for it. Nothing was stored."""


@contextmanager
def translated() -> Iterator[None]:
    """Raises Unavailable for what a driver raises when there is no server: sockets and connection set-up are not SQLAlchemy's errors."""
    try:
        yield
    except _of_drivers() as error:
        raise Unavailable(f"the database cannot be reached: {str(error) or type(error).__name__}") from error


def _of_drivers() -> tuple[type[Exception], ...]:
    """What drivers raise. asyncpg takes long to import, and a process on SQLite, which never has, cannot meet its errors."""
    asyncpg = sys.modules.get("asyncpg")
    return (OSError,) if asyncpg is None else (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


def at_once_again(error: BaseException) -> bool:
    """Whether the transaction lost against another one and may simply be run again."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _AGAIN


def brief(error: BaseException) -> str:
    """One line of an error, without the statement that met it."""
    cause = getattr(error, "orig", None) or error
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__
