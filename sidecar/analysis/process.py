"""The sidecar's end of its analysis process: one request at a time, and a new process where the old one died."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from sidecar.analysis.work import LENGTH, Ended, Finish, Look, News, Request, packed, unpacked
from sidecar.clocks import Mono
from sidecar.net.errors import StartError
from sidecar.turns.measured import Measured

log = structlog.get_logger()

START_TIMEOUT: Final = 30.0
"""Seconds for a new process to have loaded what it needs."""
ANSWER_TIMEOUT: Final = 60.0
"""Seconds for an answer: a process that takes longer hangs, and every call's end waits for it."""
STOP_TIMEOUT: Final = 5.0
_BUFFER: Final = 1 << 20


class AnalysisLost(Exception):
    """The analysis process died with the figures of the calls that it knew. The text says how it ended."""


class AnalysisProcess:
    """Asks the process; requests are answered one at a time, in the order in which they were asked."""

    def __init__(self, recordings: Path | None = None, most_bytes: int = 0, patience: float = ANSWER_TIMEOUT) -> None:
        """`recordings`: the folder of recorded calls, of at most so many bytes; None where none is recorded. `patience`: seconds."""
        self._patience = patience
        self._recordings = [] if recordings is None else [str(recordings), str(most_bytes)]
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._closing = False
        self.known: set[str] = set()
        """Calls that the present process has heard of."""
        self.lost: set[str] = set()
        """Calls whose figures died with an earlier process: what is left of them would be no measurement."""
        self.deaths = 0

    async def start(self) -> None:
        """Start the process and wait until it is there. Raises StartError."""
        try:
            await self._start()
        except AnalysisLost as error:
            raise StartError(f"the analysis process did not start: {error}") from error

    async def look(self, calls: Sequence[tuple[str, Sequence[Any]]], now: Mono) -> list[tuple[str, News]]:
        """Feed calls their work; what is new of each. A call whose figures are lost is left out."""
        async with self._turn:  # while we waited, the process may have died with some of them
            calls = [(call, work) for call, work in calls if call not in self.lost]
            self.known.update(call for call, _ in calls)
            news: list[News] | None = await self._ask(Look(calls, now))
        return [] if news is None else [(call, found) for (call, _), found in zip(calls, news, strict=True)]

    async def finish(self, calls: Sequence[Ended]) -> list[Measured | None]:
        """The final figures of calls, in their order; None where a call was not answered or its figures are lost."""
        async with self._turn:
            asked = [ended for ended in calls if ended.call not in self.lost]
            found: list[Measured | None] | None = await self._ask(Finish(asked))
        figures = {} if found is None else {ended.call: one for ended, one in zip(asked, found, strict=True)}
        for ended in calls:
            self.known.discard(ended.call)
            self.lost.discard(ended.call)
        return [figures.get(ended.call) for ended in calls]

    async def stop(self) -> None:
        """Let the process end; kill it if it does not."""
        self._closing = True
        process = self._process
        await self._hang_up()
        if process is not None and process.returncode is None:
            try:
                async with asyncio.timeout(STOP_TIMEOUT):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    def describe(self) -> dict[str, object]:
        """The process and what it holds."""
        return {
            "pid": self._process.pid if self._process is not None else None,
            "calls": len(self.known),
            "lost": len(self.lost),
            "deaths": self.deaths,
        }

    async def _ask(self, request: Request) -> Any:
        """The answer; None where the process died over the question (then there is a new one). For whose turn it is."""
        if not request.calls:
            return []
        was_running = self._reader is not None
        exchange = asyncio.ensure_future(self._exchange(packed(request), self._patience))
        try:
            return await asyncio.shield(exchange)
        except asyncio.CancelledError:
            # The answer is on its way all the same, and the next question must not take it for its own.
            await asyncio.wait([exchange])
            with contextlib.suppress(AnalysisLost):  # the next question finds that out
                exchange.result()
            raise
        except AnalysisLost as error:
            self.lost |= self.known
            if was_running:
                self.deaths += 1
                log.error("analysis lost", cause=str(error), calls=len(self.known), note="these calls go on without figures")
            self.known.clear()
            await self._restart()
            return None

    async def _exchange(self, frame: bytes, patience: float) -> Any:
        """One frame there and one back, within `patience` seconds. Raises AnalysisLost."""
        if self._reader is None or self._writer is None:
            raise AnalysisLost("it is not running")
        try:
            async with asyncio.timeout(patience):
                self._writer.write(frame)
                await self._writer.drain()
                (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
                return unpacked(await self._reader.readexactly(length))
        except TimeoutError as error:
            if self._process is not None:
                self._process.kill()
                await self._process.wait()
            raise AnalysisLost(f"it said nothing for {patience:g} s") from error
        except (asyncio.IncompleteReadError, OSError) as error:
            status = await self._process.wait() if self._process is not None else None
            raise AnalysisLost(f"the process ended with status {status}") from error

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "sidecar.analysis",
                str(theirs.fileno()),
                *self._recordings,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                # It has one processor at most: threads for its larger products would spin on those of the calls.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            )
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        await self._exchange(b"", START_TIMEOUT)

    async def _restart(self) -> None:
        await self._hang_up()
        if self._closing:
            return
        try:
            await self._start()
        except (AnalysisLost, OSError) as error:
            log.error("analysis not restarted", cause=str(error), note="tried again with the next packets")

    async def _hang_up(self) -> None:
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):  # it has gone already, which is what we want
                await writer.wait_closed()
