"""The two halves of the product as processes of their own: started, watched until ready, always stopped."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import sys
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Self

LOOPBACK = "127.0.0.1"
READY_S = 30.0
STOP_S = 8.0
MEDIA_PORTS = 40
LOWEST_MEDIA_PORT, HIGHEST_MEDIA_PORT = 20_000, 32_000
"""Under the range from which the system itself hands out ports."""


class ProcessFailed(Exception):
    """A half of the product did not start, or ended on its own; the text is its own last line."""


class Process:
    """`trunkside <command> --config <file>`, in a session of its own so that Ctrl-C reaches this process alone."""

    def __init__(self, command: str, config: Path) -> None:
        self.command = command
        self.log: deque[str] = deque(maxlen=200)
        self._config = config
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TRUNKSIDE_")}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sidecar.cli", self.command, "--config", str(self._config)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            env=environment | {"PYTHONUNBUFFERED": "1"},
        )
        self._reader = asyncio.create_task(self._read(self._process), name=f"log of {self.command}")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is None or self._reader is None:
            return
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader
        if self._ready.done() and not self._ready.cancelled():
            self._ready.exception()

    async def ready(self) -> dict[str, Any]:
        """The fields of its `ready` line. Raises ProcessFailed when it ends, or takes too long."""
        try:
            async with asyncio.timeout(READY_S):
                return await asyncio.shield(self._ready)
        except TimeoutError:
            raise ProcessFailed(f"trunkside {self.command} was not ready within {READY_S:g} s") from None

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Keep the log until the process ends; a line longer than the pipe's buffer is cut there."""
        if process.stdout is None:
            return
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                continue
            if not line:
                break
            self._take(line.decode("utf-8", "replace").rstrip())
        if not self._ready.done():
            last = next((line for line in reversed(self.log) if line.strip()), "it said nothing")
            self._ready.set_exception(ProcessFailed(f"trunkside {self.command} did not start: {last}"))

    def _take(self, line: str) -> None:
        self.log.append(line)
        try:
            fields = json.loads(line)
        except ValueError:
            return
        if isinstance(fields, dict) and fields.get("event") == "ready" and not self._ready.done():
            self._ready.set_result(fields)


def reserve_tcp_port() -> socket.socket:
    """A socket bound to a free port and not listening: nobody is handed the port, yet who sets SO_REUSEADDR can take it. Close it later."""
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((LOOPBACK, 0))
    return held


def free_udp_range(count: int = MEDIA_PORTS) -> tuple[int, int]:
    """First (even) and last of `count` UDP ports next to each other that are free now. Raises ProcessFailed when there are none."""
    blocks = list(range(LOWEST_MEDIA_PORT, HIGHEST_MEDIA_PORT - count, count))
    first = secrets.randbelow(len(blocks))  # two demos at a time must not meet
    for low in blocks[first:] + blocks[:first]:
        held: list[socket.socket] = []
        try:
            for port in range(low, low + count):
                held.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                held[-1].bind((LOOPBACK, port))
        except OSError:
            continue
        finally:
            for each in held:
                each.close()
        return low, low + count - 1
    raise ProcessFailed(f"no {count} free UDP ports between {LOWEST_MEDIA_PORT} and {HIGHEST_MEDIA_PORT}")
