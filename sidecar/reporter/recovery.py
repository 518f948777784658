"""What a start finds of calls that another run left: half a line is cut off, an open trace is ended with `call_interrupted`.

Nothing else is touched, and a trace that cannot be read is left where it is and named.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from control.contract.facts import CallInterrupted
from sidecar.reporter.trace_file import TraceFile

SPARE = ".spare-"
"""Begins the names of files that were made ahead of the calls whose traces they get."""
_CALL = re.compile(r"[0-9a-f]{32}")
_TAIL = 64 * 1024
_TERMINAL = ("call_closed", "call_interrupted")


@dataclass(slots=True)
class Recovery:
    """What was found. `unreadable` holds one sentence a file."""

    traces: list[TraceFile] = field(default_factory=list)
    interrupted: list[str] = field(default_factory=list)
    """Ids of the calls in which the last run died."""
    torn: int = 0
    """Traces whose last line was only half there."""
    empty: int = 0
    """Files without one whole line; they told nothing and are gone."""
    unreadable: list[str] = field(default_factory=list)


def recover(folder: Path, now: datetime) -> Recovery:
    """Mend and list every trace in `folder`, oldest first; an open one comes with its last fact `waiting` to be written.

    Raises OSError if the folder cannot be listed.
    """
    found = Recovery()
    for path in sorted(folder.glob(f"{SPARE}*")):
        try:
            _name(path)
        except OSError as error:
            found.unreadable.append(f"{path.name}: {error.strerror}")
    for path in sorted(folder.glob("*.jsonl"), key=lambda p: p.stat().st_mtime_ns):
        try:
            trace = _recover_one(path, now, found)
        except OSError as error:
            found.unreadable.append(f"{path.name}: {error.strerror}")
            continue
        if trace is not None:
            found.traces.append(trace)
    return found


def _name(path: Path) -> None:
    """Give a trace that still stands under a spare file's name its own; a spare file that tells nothing goes."""
    with path.open("rb") as file:
        fact = _as_fact(file.readline())
    call = fact.get("call") if fact is not None else None
    if isinstance(call, str) and _CALL.fullmatch(call):
        path.rename(path.with_name(f"{call}.jsonl"))
    else:
        path.unlink()


def _recover_one(path: Path, now: datetime, found: Recovery) -> TraceFile | None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        last, end = _last_fact(fd, size)
        if last is None:
            path.unlink()
            found.empty += 1
            return None
        if end < size:
            os.ftruncate(fd, end)
            found.torn += 1
    finally:
        os.close(fd)
    trace = TraceFile(path.stem, path, size=end, closed=True)
    if last["kind"] not in _TERMINAL:
        trace.waiting.append(_interruption(path.stem, last, now))
        found.interrupted.append(path.stem)
    return trace


def _last_fact(fd: int, size: int) -> tuple[dict[str, Any] | None, int]:
    """The last whole fact and the offset behind its newline. A power cut may leave half a line or a run of zero bytes, no facts."""
    length = min(size, _TAIL)
    while True:
        tail = os.pread(fd, length, size - length)
        whole = length == size
        end = len(tail)
        while (newline := tail.rfind(b"\n", 0, end)) >= 0:
            begin = tail.rfind(b"\n", 0, newline) + 1
            if begin == 0 and not whole:
                break  # the line began before this window
            fact = _as_fact(tail[begin:newline])
            if fact is not None:
                return fact, size - length + newline + 1
            end = newline
        if whole:
            return None, 0
        length = min(size, length * 4)


def _as_fact(line: bytes) -> dict[str, Any] | None:
    try:
        fact = json.loads(line)
    except ValueError:
        return None
    return fact if isinstance(fact, dict) and isinstance(fact.get("kind"), str) and isinstance(fact.get("seq"), int) else None


def _interruption(call: str, last: dict[str, Any], now: datetime) -> bytes:
    detail = f"the sidecar stopped in this call after fact {last['seq']} ({last.get('at', 'time unknown')}); what came later is not known"
    fact = CallInterrupted(call=call, seq=last["seq"] + 1, at=now, elapsed_ms=float(last.get("elapsed_ms") or 0.0), detail=detail)
    return fact.model_dump_json(by_alias=True).encode() + b"\n"
