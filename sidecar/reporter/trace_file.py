"""One call's trace on disk: whole JSON lines at the end of a file, or nothing at all.

Invariant: the first `size` bytes of the file are whole lines. What could not be written stays in `waiting`, in order, and goes first
next time.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class TraceFile:
    """A trace and how far it has come. Sizes and offsets are bytes."""

    call: str
    path: Path
    size: int = 0
    """On disk, whole lines only."""
    sent: int = 0
    """Acknowledged by control. Kept in memory alone: posting twice is harmless."""
    closed: bool = False
    """No further fact will come."""
    waiting: list[bytes] = field(default_factory=list)
    """Lines that the disk did not take yet."""
    fd: int | None = None
    torn: bool = False
    """A write stopped half way and the half line is still to be cut off."""
    recent: deque[bytes] | None = None
    """The lines on disk from `sent` on, kept so that a live trace need not be read back; None: they are on disk alone."""

    @property
    def home(self) -> Path:
        """Where the file stands once it has its own name."""
        return self.path.with_name(f"{self.call}.jsonl")

    @property
    def unsent(self) -> int:
        """Bytes on disk that control has not acknowledged."""
        return self.size - self.sent

    @property
    def done(self) -> bool:
        """All of a finished trace is with control: the file may go."""
        return self.closed and not self.waiting and self.unsent == 0

    def write(self) -> int:
        """Append `waiting` in one write and return its bytes; raises OSError and keeps the lines when the disk does not take them."""
        if not self.waiting:
            return 0
        data = b"".join(self.waiting)
        if self.fd is None:
            self.fd = self._opened_to_append()
        self._mend()
        self._write_all(self.fd, data)
        if self.size == 0:
            self.recent = deque()
        if self.recent is not None:
            self.recent.extend(self.waiting)
        self.size += len(data)
        self.waiting.clear()
        return len(data)

    def _opened_to_append(self) -> int:
        """A file that was made ahead is never made anew: it may be getting its own name at this moment."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        try:
            return os.open(self.path, flags)
        except FileNotFoundError:
            return os.open(self.home, flags | os.O_CREAT, 0o640)

    def acknowledge(self, offset: int) -> None:
        """Control has all up to `offset`."""
        offset = min(offset, self.size)
        while self.recent and self.sent < offset:
            self.sent += len(self.recent.popleft())
        self.sent = max(self.sent, offset)

    def forget(self) -> None:
        """Keep nothing of what is on disk."""
        self.recent = None

    def _write_all(self, fd: int, data: bytes) -> None:
        """POSIX lets write() stop short on a full disk; the next one then says why."""
        done = 0
        try:
            while done < len(data):
                done += os.write(fd, data[done:] if done else data)
        except OSError:
            self.torn = done > 0
            if self.torn:
                self._mend()
            raise

    def _mend(self) -> None:
        if self.torn and self.fd is not None:
            os.ftruncate(self.fd, self.size)
            self.torn = False

    def opened(self) -> int:
        """A descriptor to read by, from any thread: the file may be getting its own name at this moment. Raises OSError."""
        try:
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return os.open(self.home, os.O_RDONLY | os.O_CLOEXEC)

    def unlink(self) -> None:
        """Remove the file, under whichever name it stands. Raises OSError."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.home)

    def read(self, offset: int, limit: int) -> list[bytes]:
        """Whole lines without their newline from `offset`, about `limit` bytes of them and at least one if there is one; raises OSError."""
        with os.fdopen(self.opened(), "rb") as file:
            file.seek(offset)
            data = file.read(min(limit, self.size - offset))
            if not data.endswith(b"\n"):
                whole = data.rfind(b"\n") + 1
                data = data[:whole] if whole else data + file.readline()
        return data.removesuffix(b"\n").split(b"\n") if data else []

    def recall(self, limit: int) -> list[bytes]:
        """What `read` gives from `sent` on, out of memory. For a trace with `recent`."""
        lines: list[bytes] = []
        for line in self.recent or ():
            if limit <= 0:
                break
            limit -= len(line)
            lines.append(line[:-1])
        return lines

    def release(self) -> None:
        """Give the file descriptor back; the file stays."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
