"""A real PostgreSQL for the tests: Debian's binaries, a cluster in a temporary folder, a port that the kernel chose, gone afterwards."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from control.config import ControlConfig
from control.store import migrate
from tests.support.product import free_port

HOW = "PostgreSQL's server is needed for these tests: apt-get install postgresql"
_TEMPLATE = "trunkside_template"
# With so few rows, DELETE is much faster than TRUNCATE, which makes a new file for each table and index.
_EMPTY = """
DO $$ DECLARE one text; BEGIN
    SET LOCAL session_replication_role = replica;
    FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version' LOOP
        EXECUTE 'DELETE FROM ' || quote_ident(one);
    END LOOP;
END $$
"""
# Nothing here has to survive the machine, and the test machines are small.
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "deadlock_timeout": "200ms",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
}


def binaries() -> Path:
    """The folder of `initdb` and `postgres`, the newest of them. Raises RuntimeError, saying what to install, when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    if on_path is None:
        raise RuntimeError(HOW)
    return Path(on_path).resolve().parent


def _as_server() -> list[str]:
    """The prefix of a command that PostgreSQL will agree to run under: never root."""
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []


def apart(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in a loop and thread of its own, so that fixtures may and tests with a loop of their own may too."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


@dataclass
class Server:
    """A cluster; `start` and `stop` may take turns."""

    folder: Path
    port: int
    durable: bool = False
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """As the configuration of control wants it."""
        return f"postgresql+asyncpg://trunkside@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = _SETTINGS | {"port": str(self.port)}
        if self.durable:
            settings |= {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "256MB"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [*_as_server(), str(binaries() / "postgres"), "-D", str(self.folder / "data"), *options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        for _ in range(200):
            ready = [str(binaries() / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
            if subprocess.run(ready, check=False).returncode == 0:
                return
            if self.process.poll() is not None:
                break
            try:
                self.process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-2000:]}")

    def stop(self) -> None:
        """Stop it as a machine that goes down would: connections are cut, what was committed stays."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def sql(self, statement: str, database: str = "postgres") -> None:
        """Run a statement outside of any transaction."""
        apart(self._sql(statement, database))

    async def _sql(self, statement: str, database: str) -> None:
        conn = await asyncpg.connect(host="127.0.0.1", port=self.port, user="trunkside", database=database)
        try:
            await conn.execute(statement)
        finally:
            await conn.close()


@contextmanager
def server(*, durable: bool = False) -> Iterator[Server]:
    """A running server with an empty cluster. `durable` has it keep its promises, for measurements."""
    tools = binaries()
    folder = Path(tempfile.mkdtemp(prefix="trunkside-postgres-"))
    try:
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        made = subprocess.run(
            [*_as_server(), str(tools / "initdb"), "--no-sync", "--auth=trust", "--username=trunkside", "--encoding=UTF8", "--locale=C",
             "-D", str(folder / "data")],
            capture_output=True, text=True, check=False, cwd=folder,
        )  # fmt: skip
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed: {made.stderr}")
        running = Server(folder, free_port("127.0.0.1", socket.SOCK_STREAM), durable)
        running.start()
        try:
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Databases:
    """Databases for tests with the present schema and nothing in them; one that comes back is emptied and used again."""

    def __init__(self, running: Server) -> None:
        self.server = running
        self._numbers = count(1)
        self._free: list[str] = []
        self._migrated = False

    def take(self) -> str:
        """The URL of an empty database."""
        if self._free:
            return self._free.pop()
        if not self._migrated:
            self.server.sql(f"CREATE DATABASE {_TEMPLATE}")
            apart(migrate(ControlConfig(database=self.server.url(_TEMPLATE), evaluator={"api_key": "unused"})))
            self._migrated = True
        name = f"t{next(self._numbers)}"
        self.server.sql(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        return self.server.url(name)

    def give_back(self, url: str) -> None:
        """Empty a database. Nobody may be connected to it any more."""
        self.server.sql(_EMPTY, url.rpartition("/")[2])
        self._free.append(url)
