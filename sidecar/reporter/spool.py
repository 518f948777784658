"""The spool: every call's trace, append-only, one file `<call id>.jsonl` a call (at first under a spare's name), kept until control has it.

Promises, in the order in which they bind:
1. Nothing here raises into a call. A disk that refuses is counted and told once; the facts wait in memory, bounded, and go first once it
   takes them again.
2. A trace that was closed survives power loss once it is synced (file and directory); a call that was alive when the process died is
   ended with `call_interrupted` at the next start.
3. Disk use is bounded by `max_bytes`. A trace leaves as soon as control has acknowledged all of it. When control is away for so long
   that the bound is reached, facts that control refused for good (`rejected/`) go, oldest first; then calls that begin get no trace and
   are counted, while a trace already begun is always finished. Neither an open trace nor a finished one that control does not have is
   ever given up for room.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from sidecar.reporter.recovery import SPARE, Recovery, recover
from sidecar.reporter.rejects import Rejects
from sidecar.reporter.trace_file import TraceFile

log = structlog.get_logger()

GIB = 1 << 30
_CALL = re.compile(r"[0-9a-f]{32}")
_MAX_WAITING = 8 << 20
_SPARES = 64
"""Files made ahead: as many calls may begin between two rounds of the keeper without one of them waiting for the disk."""
_MAX_RECENT = 8 << 20
"""Octets of traces that are kept in memory beside the disk until control has them: seconds of a busy sidecar."""


@dataclass(frozen=True, slots=True)
class Chores:
    """Traces with the name that their file has and the one that it is to get; files to be made ahead."""

    names: Sequence[tuple[TraceFile, Path, Path]]
    spares: Sequence[Path]


class SpoolError(Exception):
    """The spool cannot be used. The text is one sentence that names the path and the cause."""


class Spool:
    """All traces of one sidecar. Every method belongs to the event loop's thread, except `sync`."""

    def __init__(self, path: Path, lock: int, recovery: Recovery, *, max_bytes: int, max_waiting: int) -> None:
        """See `open`."""
        self.path = path
        self.interrupted: Sequence[str] = tuple(recovery.interrupted)
        self.rejects = Rejects(path / "rejected")
        self.on_change: Callable[[], None] = _nobody
        """Called after each append and close; the uploader and the keeper wait for it."""
        self._lock = lock
        self._max_bytes, self._max_waiting = max_bytes, max_waiting
        self._traces: dict[str, TraceFile] = {}
        self._unsent: dict[str, None] = {}
        self._waiting: dict[str, None] = {}
        self._unsynced: dict[str, None] = {}
        self._refused: set[str] = set()
        self._spares: deque[Path] = deque()
        self._spares_made = 0
        self._unnamed: list[TraceFile] = []
        """Traces that still stand under a spare file's name, and …"""
        self._naming: list[TraceFile] = []
        """… those that are getting their own."""
        self._bytes = self._waiting_bytes = self._recent_bytes = 0
        self._lost = self._late = self._refusals = self._errors = 0
        self._trouble: str | None = None
        for trace in recovery.traces:
            self._adopt(trace)

    @classmethod
    def open(cls, path: Path, *, now: datetime, max_bytes: int = GIB, max_waiting: int = _MAX_WAITING) -> Spool:
        """Create or take over the spool at `path`, which no other process may use, and mend what the last run left.

        `max_bytes` bounds the disk, `max_waiting` the memory for facts that the disk refuses. `now` dates the ends of calls found open.
        Raises SpoolError.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = path / ".writable"
            probe.write_bytes(b"trunkside\n")
            probe.unlink()
            lock = _lock(path)
        except OSError as error:
            raise SpoolError(f"the spool {path} cannot be written: {error.strerror}") from error
        try:
            recovery = recover(path, now)
        except OSError as error:
            os.close(lock)
            raise SpoolError(f"the spool {path} cannot be read: {error.strerror}") from error
        spool = cls(path, lock, recovery, max_bytes=max_bytes, max_waiting=max_waiting)
        for sentence in recovery.unreadable:
            log.warning("trace left as it is", reason="unreadable", detail=sentence)
        if recovery.traces or recovery.empty:
            log.info(
                "spool recovered",
                traces=len(recovery.traces),
                interrupted=len(recovery.interrupted),
                torn=recovery.torn,
                empty=recovery.empty,
            )
        return spool

    # A call's side: append and close never raise for what the disk does.

    def append(self, call: str, facts: Sequence[bytes]) -> None:
        """Add facts to a call's trace: JSON objects already serialised, without a line end inside.

        Raises ValueError for a call id that is not one.
        """
        if not facts:
            return
        trace = self._traces.get(call) or self._begin(call)
        if trace is None:
            return
        if trace.closed:
            self._late += len(facts)
            log.warning("facts after the end of the trace", call=call, facts=len(facts))
            return
        self._wait(trace, [fact + b"\n" for fact in facts])
        self._write(trace)
        self.on_change()

    def close(self, call: str) -> None:
        """No further fact will come for this call: sync its trace, and let it go once control has it."""
        self._refused.discard(call)
        trace = self._traces.get(call)
        if trace is None or trace.closed:
            return
        trace.closed = True
        self._write(trace)
        if not trace.waiting:
            self._end(trace)
        self.on_change()

    # The keeper's side: files made ahead, since a new directory entry may wait for the disk, and a caller must not.

    def take_chores(self) -> Chores:
        """What is to be done in the directory; hand it to `do`, off the event loop, then to `done`."""
        unnamed, self._unnamed = self._unnamed, []
        self._naming = unnamed
        wanted = _SPARES - len(self._spares)
        first, self._spares_made = self._spares_made, self._spares_made + wanted
        spares = [self.path / f"{SPARE}{os.getpid()}-{number}" for number in range(first, first + wanted)]
        return Chores([(trace, trace.path, self._home_of(trace.call)) for trace in unnamed], spares)

    @staticmethod
    def do(chores: Chores) -> Chores:
        """Blocking; any thread. Returns what was done of it: a name that cannot be given stays, a spare that cannot be made is none."""
        named: list[tuple[TraceFile, Path, Path]] = []
        for trace, old, new in chores.names:
            with contextlib.suppress(
                OSError
            ):  # removed with its last fact, or the disk refuses: the next start reads the call's id from within
                old.rename(new)
                named.append((trace, old, new))
        made: list[Path] = []
        for path in chores.spares:
            with contextlib.suppress(OSError):  # whoever begins a trace makes its file then, and tells what the disk says
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))
                made.append(path)
        return Chores(named, made)

    def done(self, chores: Chores) -> None:
        """Go by what `do` did."""
        self._naming = []
        self._spares.extend(chores.spares)
        for trace, _, new in chores.names:
            trace.path = new
            if self._traces.get(trace.call) is not trace:  # it went while it got its name
                self._unlink(trace)

    # What makes a closed trace durable.

    def take_unsynced(self) -> list[TraceFile]:
        """The closed traces that are not yet safe from power loss; hand them to `sync`, off the event loop, then to `synced`."""
        taken = [self._traces[call] for call in self._unsynced if call in self._traces]
        self._unsynced.clear()
        return taken

    def sync(self, traces: Sequence[TraceFile]) -> str | None:
        """Blocking; any thread. One fsync a file, then one of the directory for all of them. Returns what failed, in words."""
        failed: str | None = None
        for trace in traces:
            try:
                fd = trace.opened()
            except FileNotFoundError:
                continue  # control had all of it before we came: nothing is left to keep
            except OSError as error:
                failed = f"{trace.path.name}: {error.strerror}"
                continue
            failed = _fsync(fd, trace.path.name) or failed
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            return f"{self.path}: {error.strerror}"
        return _fsync(fd, str(self.path)) or failed

    def note_sync(self, failed: str | None) -> None:
        """Record the outcome of `sync`."""
        if failed is not None:
            self._failed(f"a trace could not be synced to disk, {failed}")

    # The uploader's side.

    def unsent(self) -> Iterator[TraceFile]:
        """Traces with facts that control has not acknowledged, the oldest first. Do not change the spool while iterating."""
        return (self._traces[call] for call in self._unsent)

    def set_aside(self, call: str, reason: str) -> None:
        """This trace cannot be read now: leave its file where it is and go on with the others; the next start takes it up again."""
        if self._unsent.pop(call, 0) is None:
            self._failed(f"the trace {call} cannot be read: {reason}")

    @property
    def refused_by_disk(self) -> bool:
        """Whether facts wait in memory for the disk; `retry` offers them again."""
        return bool(self._waiting)

    @property
    def backlog(self) -> bool:
        """Whether anything on disk or in memory is still to be acknowledged."""
        return bool(self._unsent or self._waiting)

    def acknowledge(self, call: str, offset: int) -> None:
        """Control has this trace's first `offset` bytes for good. The file goes when that is all of a finished trace."""
        trace = self._traces.get(call)
        if trace is None:
            return
        before = trace.sent
        trace.acknowledge(offset)
        if trace.recent is not None:
            self._recent_bytes -= trace.sent - before
        if trace.unsent == 0:
            self._unsent.pop(call, None)
        if trace.done:
            self._remove(trace)

    def retry(self) -> None:
        """Offer the disk again what it refused."""
        for call in tuple(self._waiting):
            trace = self._traces[call]
            if not self._write(trace):
                return
            if trace.closed:
                self._end(trace)

    def problem(self) -> str | None:
        """Why traces are not safe at present, in words, or None."""
        if self._trouble is not None:
            return self._trouble
        if self._full():
            return f"the spool has reached its bound of {self._max_bytes} bytes: calls that begin now get no trace"
        return None

    def describe(self) -> dict[str, Any]:
        """Sizes, counts and the last trouble, for the admin API."""
        return {
            "path": str(self.path),
            "traces": len(self._traces),
            "open": sum(not trace.closed for trace in self._traces.values()) + self._nameless,
            "unsent_traces": len(self._unsent),
            "bytes": self._bytes,
            "max_bytes": self._max_bytes,
            "rejected_bytes": self.rejects.bytes,
            "rejected_facts": self.rejects.count,
            "waiting_bytes": self._waiting_bytes,
            "lost_facts": self._lost,
            "late_facts": self._late,
            "untraced_calls": self._refusals,
            "write_errors": self._errors,
            "interrupted_at_start": len(self.interrupted),
            "problem": self.problem(),
        }

    def shut(self) -> None:
        """Give every descriptor and the lock back. Open traces stay open on disk: the next start ends them."""
        for path in self._spares:
            with contextlib.suppress(OSError):  # the next start does away with it
                path.unlink()
        self._spares.clear()
        for trace in self._traces.values():
            trace.release()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _adopt(self, trace: TraceFile) -> None:
        self._traces[trace.call] = trace
        self._bytes += trace.size
        self._unsent[trace.call] = None
        if trace.waiting:
            self._waiting[trace.call] = None
            self._waiting_bytes += sum(map(len, trace.waiting))
            self._write(trace)
        if not trace.waiting:
            self._end(trace)

    def _begin(self, call: str) -> TraceFile | None:
        if not _CALL.fullmatch(call):
            raise ValueError(f"{call!r} is not a trace id of 32 lower-case hex digits")
        if call in self._refused:
            return None
        if self._full():
            self._bytes_from_rejects()
        if self._full():
            if not self._refused:
                log.error("spool full", path=str(self.path), max_bytes=self._max_bytes, detail="calls that begin now get no trace")
            self._refused.add(call)
            self._refusals += 1
            return None
        trace = self._traces[call] = TraceFile(call, self._home_of(call))
        if self._spares:
            trace.path = self._spares.popleft()
            self._unnamed.append(trace)
        return trace

    @property
    def _nameless(self) -> int:
        """Closed traces that do not stand in their place yet."""
        return sum(trace.closed for trace in (*self._unnamed, *self._naming))

    def _home_of(self, call: str) -> Path:
        return self.path / f"{call}.jsonl"

    def _full(self) -> bool:
        return self._bytes + self.rejects.bytes >= self._max_bytes

    def _bytes_from_rejects(self) -> None:
        try:
            self.rejects.shrink(self._bytes + self.rejects.bytes - self._max_bytes + 1)
        except OSError as error:
            self._failed(f"rejected facts could not be removed: {error.strerror}")

    def _wait(self, trace: TraceFile, lines: list[bytes]) -> None:
        size = sum(map(len, lines))
        if self._waiting_bytes + size > self._max_waiting:
            self._lost += len(lines)
            return
        trace.waiting += lines
        self._waiting[trace.call] = None
        self._waiting_bytes += size

    def _write(self, trace: TraceFile) -> bool:
        """Whether the disk took all that waited."""
        try:
            size = trace.write()
        except OSError as error:
            self._failed(f"the disk of the spool {self.path} refuses facts: {error.strerror}", full=error.errno == errno.ENOSPC)
            return False
        if size:
            self._bytes += size
            self._waiting_bytes -= size
            self._unsent[trace.call] = None
            self._remember(trace, size)
        self._waiting.pop(trace.call, None)
        if self._trouble is not None and not self._waiting:
            log.info("spool writes again", path=str(self.path), lost_facts=self._lost)
            self._trouble = None
        return True

    def _remember(self, trace: TraceFile, size: int) -> None:
        """Count what is kept in memory; when that is too much, this trace is read back from disk."""
        if trace.recent is None:
            return
        self._recent_bytes += size
        if self._recent_bytes > _MAX_RECENT:
            self._recent_bytes -= trace.unsent
            trace.forget()

    def _end(self, trace: TraceFile) -> None:
        trace.release()
        self._unsynced[trace.call] = None
        if trace.done:
            self._remove(trace)

    def _remove(self, trace: TraceFile) -> None:
        trace.release()
        self._bytes -= trace.size
        self._traces.pop(trace.call, None)
        for index in (self._unsent, self._unsynced, self._waiting):
            index.pop(trace.call, None)
        self._unlink(trace)

    def _unlink(self, trace: TraceFile) -> None:
        try:
            trace.unlink()
        except OSError as error:
            # The next start finds the file and posts it again, which control takes as known.
            self._failed(f"{trace.path.name} could not be removed: {error.strerror}")

    def _failed(self, sentence: str, *, full: bool = False) -> None:
        self._errors += 1
        if self._trouble != sentence:
            log.error("spool in trouble", detail=sentence, disk_full=full)
        self._trouble = sentence


def _nobody() -> None:
    """Before anyone listens."""


def _fsync(fd: int, name: str) -> str | None:
    try:
        os.fsync(fd)
    except OSError as error:
        return f"{name}: {error.strerror}"
    finally:
        os.close(fd)
    return None


def _lock(path: Path) -> int:
    """Hold the directory: a second sidecar on it would take our live calls for dead ones."""
    fd = os.open(path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.close(fd)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise SpoolError(f"the spool {path} is in use by another running sidecar; give each its own spool.path") from error
        raise
    return fd
