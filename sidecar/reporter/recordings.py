"""Brings finished recordings and captures to control and removes them here; what control does not take stays for some days, then goes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import aiohttp
import structlog

from sidecar.reporter.pace import Backoff, Pace

log = structlog.get_logger()

_KINDS: Final = {
    ".wav": ("recordings", "audio/wav"),
    ".ogg": ("recordings", "audio/ogg"),
    ".pcap": ("captures", "application/vnd.tcpdump.pcap"),
}
"""By a file's ending: where control takes it, and as what."""
_LOOK_S: Final = 1.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=10, sock_read=60)
_DAY_S: Final = 86_400
_NEVER: Final = frozenset({400, 404, 405, 413, 415, 422})
"""Control will not take this file later either."""


class RecordingUploader:
    """One file at a time, oldest first: recordings are large, and traces and reports come before them."""

    def __init__(self, folder: Path, *, url: str, token: str | None, days: float, pace: Pace | None = None) -> None:
        """`url` is control's base URL; `days` is how long a file waits here at most (0: for good)."""
        self._folder, self._days = folder, days
        self._url = f"{url.rstrip('/')}/v1/ingest"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._backoff = Backoff(pace or Pace(), lambda: 0.5)
        self._unfit: set[str] = set()
        self.uploaded = 0
        self.problem: str | None = None

    async def run(self) -> None:
        """Upload until cancelled."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            while True:
                wait = _LOOK_S
                for path in await asyncio.to_thread(self._waiting):
                    if not await self._upload(session, path):
                        wait = self._backoff.next(None)
                        break
                await asyncio.sleep(wait)

    def describe(self) -> dict[str, object]:
        """Files that wait, and why."""
        return {"waiting": self.waiting, "uploaded": self.uploaded, "unfit": self.refused, "problem": self.problem}

    @property
    def waiting(self) -> int:
        """Files that are whole and still here."""
        return len(self._finished())

    @property
    def refused(self) -> int:
        """Files that control will not take later either."""
        return len(self._unfit)

    def _waiting(self) -> list[Path]:
        """Files to bring, oldest first; those that waited too long are deleted."""
        found = []
        for path in self._finished():
            try:
                written = path.stat().st_mtime
            except FileNotFoundError:
                continue  # made room for another
            if self._days and time.time() - written > self._days * _DAY_S:
                path.unlink(missing_ok=True)
                log.warning("recording dropped", file=path.name, cause=f"control did not take it within {self._days:g} days")
            elif path.name not in self._unfit:
                found.append((written, path))
        return [path for _, path in sorted(found)]

    def _finished(self) -> list[Path]:
        return [path for path in self._folder.glob("*") if path.suffix in _KINDS]

    async def _upload(self, session: aiohttp.ClientSession, path: Path) -> bool:
        """Whether the next file may be tried at once."""
        place, content_type = _KINDS[path.suffix]
        headers = {**self._headers, "Content-Type": content_type}
        try:
            with path.open("rb") as file:
                async with session.post(f"{self._url}/{place}/{path.stem}", data=file, headers=headers) as answer:
                    status, text = answer.status, (await answer.content.read(500)).decode("utf-8", "replace")
        except FileNotFoundError:
            return True
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._say(f"control cannot be reached: {error or type(error).__name__}")
            return False
        if status == 200:
            await asyncio.to_thread(path.unlink, missing_ok=True)
            self.uploaded += 1
            self.problem = None
            self._backoff.reset()
            return True
        if status in _NEVER:
            self._unfit.add(path.name)
            log.error("recording refused", file=path.name, status=status, answer=text)
            return True
        self._say(f"control answered {status}: {text}")
        return False

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("recordings wait", cause=problem)
        self.problem = problem
