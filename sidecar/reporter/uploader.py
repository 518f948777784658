"""Posts the spool to control, at least once and in order within each call, live while a call goes on.

How far a trace was acknowledged is kept in memory alone: control knows a fact by (call, seq), so a restart posts the whole spool again.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal, NamedTuple, assert_never

import aiohttp
import structlog

from control.contract import VERSION
from sidecar.reporter.answers import Answer, Away, Refused, Stored, Unfit, judge
from sidecar.reporter.pace import Backoff, Pace, retry_after
from sidecar.reporter.spool import Spool
from sidecar.reporter.trace_file import TraceFile

log = structlog.get_logger()

Link = Literal["unknown", "up", "away", "refused"]
_ANSWER_LIMIT = 64 * 1024
_SMALLEST_BATCH = 16 * 1024


class Line(NamedTuple):
    """One fact of a batch. `end` is the offset behind it in its trace."""

    call: str
    end: int
    fact: bytes


class Uploader:
    """The one writer to control's ingest. Own it with a task that runs `run`, and end with `aclose`."""

    def __init__(
        self,
        spool: Spool,
        *,
        url: str,
        token: str | None,
        sidecar: str,
        pace: Pace | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`url` is control's base URL; `token` is sent as Bearer; `sidecar` is this sidecar's name."""
        self._spool = spool
        self._url = f"{url.rstrip('/')}/v1/ingest/facts"
        self._pace = pace or Pace()
        self._backoff = Backoff(self._pace, jitter)
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._head = b'{"version":%d,"sidecar":%s,"facts":[' % (VERSION, json.dumps(sidecar).encode())
        self._max_bytes = self._pace.max_bytes
        self._session: aiohttp.ClientSession | None = None
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._wake.set()
        self._link: Link = "unknown"
        self._trouble: str | None = None
        self._since = 0.0
        self._posted = self._batches = self._failures = 0

    def wake(self) -> None:
        """Something was appended."""
        self._wake.set()

    async def run(self) -> None:
        """Post for as long as the task lives. Never ends by itself."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(self._pace.gather)
            while any(True for _ in self._spool.unsent()):
                pause = await self._post_next()
                if pause is not None:
                    await asyncio.sleep(pause)

    async def flush(self, deadline: float) -> int:
        """Post what is left, for at most `deadline` seconds; returns the number of traces that control does not have in full."""
        try:
            async with asyncio.timeout(deadline):
                while self._spool.backlog:
                    self._spool.retry()
                    pause = await self._post_next()
                    if pause is not None:
                        await asyncio.sleep(min(pause, 1.0))
        except TimeoutError:
            log.warning("spool not flushed in time", deadline_s=deadline, detail=self._trouble or "control is slow")
        return sum(1 for _ in self._spool.unsent())

    async def aclose(self) -> None:
        """Close the HTTP session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def describe(self) -> dict[str, Any]:
        """State of the link and counts, for the admin API."""
        return {
            "url": self._url,
            "link": self._link,
            "trouble": self._trouble,
            "posted_facts": self._posted,
            "posted_batches": self._batches,
            "failed_posts": self._failures,
            "max_batch_bytes": self._max_bytes,
        }

    async def _post_next(self) -> float | None:
        """One batch; returns the seconds to wait before the next, None for none."""
        async with self._turn:
            lines = _recalled(self._spool.unsent(), self._pace.max_facts, self._max_bytes)
            if not lines:  # the oldest is on disk alone
                heads = [(trace, trace.sent) for trace in islice(self._spool.unsent(), self._pace.max_facts)]
                lines, unreadable = await asyncio.to_thread(_collect, heads, self._pace.max_facts, self._max_bytes)
                for call, reason in unreadable:
                    self._spool.set_aside(call, reason)
            return await self._deliver(lines) if lines else self._pace.gather

    async def _deliver(self, batch: list[Line]) -> float | None:
        """Post a batch; where something in it is unfit, halve until that fact stands alone, the first half first: order is kept."""
        todo = [batch]
        while todo:
            lines = todo.pop()
            answer = await self._post(lines)
            match answer:
                case Stored():
                    self._acknowledge(lines)
                case Away() | Refused():
                    return self._wait_after(answer)
                case Unfit() if len(lines) > 1:
                    if answer.status == 413:
                        self._max_bytes = max(_SMALLEST_BATCH, self._max_bytes // 2)
                    middle = len(lines) // 2
                    todo += [lines[middle:], lines[:middle]]
                case Unfit():
                    pause = await self._put_aside(lines[0], answer)
                    if pause is not None:
                        return pause
                case _ as never:
                    assert_never(never)
        return None

    async def _put_aside(self, line: Line, answer: Unfit) -> float | None:
        """Move one refused fact out of the way, unless an empty batch fares no better: then the fact is not to blame."""
        probe = await self._post([])
        match probe:
            case Stored():
                pass
            case Unfit():
                return self._wait_after(Refused(probe.status, probe.answer[:300].decode("utf-8", "replace")))
            case Away() | Refused():
                return self._wait_after(probe)
            case _ as never:
                assert_never(never)
        try:
            path = await asyncio.to_thread(self._spool.rejects.keep, line.call, line.fact, answer.answer)
        except OSError as error:
            return self._wait_after(Away(f"a refused fact could not be kept: {error.strerror}"))
        log.error(
            "control refused a fact",
            call=line.call,
            status=answer.status,
            kept=str(path),
            answer=answer.answer[:300].decode("utf-8", "replace"),
        )
        self._spool.acknowledge(line.call, line.end)
        return None

    def _acknowledge(self, lines: Sequence[Line]) -> None:
        self._posted += len(lines)
        self._batches += 1
        for call, end in {line.call: line.end for line in lines}.items():
            self._spool.acknowledge(call, end)

    async def _post(self, lines: Sequence[Line]) -> Answer:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._pace.timeout), headers=self._headers)
        body = self._head + b",".join(line.fact for line in lines) + b"]}"
        try:
            # A redirect would carry the token to wherever it points.
            async with self._session.post(self._url, data=body, allow_redirects=False) as response:
                text = await response.content.read(_ANSWER_LIMIT)
                asked = retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
                answer = judge(response.status, text, asked, len(lines))
        except TimeoutError:
            return Away(f"no answer within {self._pace.timeout:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return Away(str(error) or type(error).__name__)
        if isinstance(answer, Stored):
            self._backoff.reset()
            self._note("up", None)
        return answer

    def _wait_after(self, failure: Away | Refused) -> float:
        self._failures += 1
        match failure:
            case Away(detail, asked):
                self._note("away", detail)
                return self._backoff.next(asked)
            case Refused(status, detail, asked):
                hint = " (check control.token)" if status in (401, 403) else ""
                self._note("refused", f"HTTP {status}{hint}: {detail}")
                return self._backoff.next(asked, refused=True)
            case _ as never:
                assert_never(never)

    def _note(self, link: Link, trouble: str | None) -> None:
        """One line when the link changes, however often it is tried."""
        before, self._trouble = self._link, trouble
        if link == before:
            return
        now = asyncio.get_running_loop().time()
        lasted, self._since, self._link = now - self._since, now, link
        match link:
            case "up":
                log.info("control takes facts", url=self._url, after_s=round(lasted, 3) if before != "unknown" else None)
            case "away":
                log.warning("control unreachable", url=self._url, detail=trouble, consequence="calls go on; traces wait in the spool")
            case "refused":
                log.error("control refuses facts", url=self._url, detail=trouble, consequence="calls go on; traces wait in the spool")
            case "unknown":
                pass
            case _ as never:
                assert_never(never)


def _recalled(traces: Iterable[TraceFile], max_facts: int, max_bytes: int) -> list[Line]:
    """What `_collect` gives, as far as it is in memory from the first trace on."""
    lines: list[Line] = []
    for trace in traces:
        if trace.recent is None or max_bytes <= 0 or len(lines) >= max_facts:
            break
        call, offset = trace.call, trace.sent
        for fact in trace.recall(max_bytes)[: max_facts - len(lines)]:
            offset += len(fact) + 1
            lines.append(Line(call, offset, fact))
        max_bytes -= offset - trace.sent
    return lines


def _collect(heads: Sequence[tuple[TraceFile, int]], max_facts: int, max_bytes: int) -> tuple[list[Line], list[tuple[str, str]]]:
    """Blocking: the next lines of these traces from their offsets, within both bounds but at least one; and what could not be read."""
    lines: list[Line] = []
    unreadable: list[tuple[str, str]] = []
    room = max_bytes
    for trace, offset in heads:
        if room <= 0 or len(lines) >= max_facts:
            break
        try:
            facts = trace.read(offset, room)
        except OSError as error:
            unreadable.append((trace.call, error.strerror or str(error)))
            continue
        if not facts:
            unreadable.append((trace.call, "the file is shorter than what was written to it"))
        for fact in facts[: max_facts - len(lines)]:
            offset += len(fact) + 1
            room -= len(fact) + 1
            lines.append(Line(trace.call, offset, fact))
    return lines, unreadable
