"""`calls export`: calls as files. Many calls go into one file where the format has rows, else into a folder with a file for each."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from control.client.asked import Format
from control.client.errors import ClientError
from control.client.link import Link
from control.contract.call import Call

_VIEWS: Mapping[str, tuple[str, Mapping[str, str], str]] = {
    "vcon": ("vcon", {}, "vcon.json"),
    "pcap": ("pcap", {}, "pcap"),
    "evidence": ("evidence", {}, "html"),
    "svg": ("ladder", {"format": "svg"}, "svg"),
    "mermaid": ("ladder", {"format": "mermaid"}, "mmd"),
    "ladder": ("ladder", {"format": "text"}, "txt"),
}
"""Format to: control's view of a call, its parameters, the ending of a file's name."""

Cell = str | int | float | None


def _iso(call: Call, name: Literal["started_at", "answered_at", "ended_at"]) -> str | None:
    at = getattr(call, name)
    return at.isoformat() if at is not None else None


COLUMNS: Mapping[str, Callable[[Call], Cell]] = {
    "id": lambda call: call.id,
    "sip_call_id": lambda call: call.sip_call_id,
    "kind": lambda call: call.kind,
    "direction": lambda call: call.direction,
    "route": lambda call: call.route,
    "sidecar": lambda call: call.sidecar,
    "from": lambda call: call.from_,
    "to": lambda call: call.to,
    "recipient": lambda call: call.recipient,
    "started_at": lambda call: _iso(call, "started_at"),
    "answered_at": lambda call: _iso(call, "answered_at"),
    "ended_at": lambda call: _iso(call, "ended_at"),
    "status": lambda call: call.status,
    "ended_by": lambda call: call.ended_by,
    "reason": lambda call: call.reason,
    "cause": lambda call: call.cause,
    "outcome": lambda call: call.verdict.outcome,
    "repaired_by": lambda call: call.verdict.repair.rule if call.verdict.repair else None,
    "turns": lambda call: len(call.turns),
    "response_n": lambda call: call.speech.response_latency_ms.n,
    "response_p50_ms": lambda call: call.speech.response_latency_ms.p50,
    "response_p90_ms": lambda call: call.speech.response_latency_ms.p90,
    "response_max_ms": lambda call: call.speech.response_latency_ms.max,
    "greeting_ms": lambda call: call.timings_ms.greeting,
    "to_ringing_ms": lambda call: call.timings_ms.to_ringing,
    "to_answer_ms": lambda call: call.timings_ms.to_answer,
    "barge_ins": lambda call: sum(each.kind == "barge_in" for each in call.barge_ins),
    "talk_ratio": lambda call: call.speech.talk_ratio,
    "dead_air": lambda call: call.speech.dead_air,
    "caller_codec": lambda call: call.media.caller.codec,
    "caller_loss_pct": lambda call: call.media.caller.loss_pct if call.media.caller.packets else None,
    "caller_jitter_ms": lambda call: call.media.caller.jitter_ms if call.media.caller.packets else None,
    "caller_mos_lq": lambda call: call.media.caller.mos_lq,
    "agent_codec": lambda call: call.media.agent.codec,
    "agent_loss_pct": lambda call: call.media.agent.loss_pct if call.media.agent.packets else None,
    "agent_jitter_ms": lambda call: call.media.agent.jitter_ms if call.media.agent.packets else None,
    "agent_mos_lq": lambda call: call.media.agent.mos_lq,
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(slots=True)
class Written:
    """What was written."""

    calls: int = 0
    octets: int = 0


async def export(link: Link, calls: AsyncIterator[Call], form: Format, to: Path | None, *, one: bool) -> Written:
    """Write `calls`. `to` None: stdout. `one`: exactly one call was named, so its file may have any name. Raises ClientError."""
    written = Written()
    if form in ("json", "ndjson", "csv"):
        with _Output(to) as output:
            async for line in _rows(calls, form, written):
                await asyncio.to_thread(output.write, line)
                written.octets += len(line)
        return written
    view, parameters, ending = _VIEWS[form]
    if not one and to is None:
        raise ClientError(f"--format {form} makes a file for each call: give --to FOLDER")
    alone = one and (to is None or not _is_folder(to))
    async for call in calls:
        data = await link.view(call.id, view, parameters)
        target = to if alone or to is None else to / f"{_file_name(call.id)}.{ending}"
        with _Output(target) as output:
            await asyncio.to_thread(output.write, data)
        written.calls += 1
        written.octets += len(data)
    return written


async def _rows(calls: AsyncIterator[Call], form: Literal["json", "ndjson", "csv"], written: Written) -> AsyncIterator[bytes]:
    match form:
        case "ndjson":
            async for call in calls:
                written.calls += 1
                yield _json(call) + b"\n"
        case "json":
            async for call in calls:
                yield (b"[\n" if not written.calls else b",\n") + _json(call)
                written.calls += 1
            yield b"\n]\n" if written.calls else b"[]\n"
        case "csv":
            yield _csv(list(COLUMNS))
            async for call in calls:
                written.calls += 1
                yield _csv([_cell(read(call)) for read in COLUMNS.values()])


def _json(call: Call) -> bytes:
    return call.model_dump_json(by_alias=True).encode("utf-8", "replace")


def _csv(cells: list[Cell]) -> bytes:
    """A row after RFC 4180."""
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().encode("utf-8", "replace")


def _cell(value: Cell) -> Cell:
    """A stranger's text must not be a formula in a spreadsheet."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _is_folder(path: Path) -> bool:
    return path.is_dir()


def _file_name(call_id: str) -> str:
    return "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_") else "_" for sign in call_id)[:64] or "call"


class _Output:
    """Stdout, or a file that appears only when it is whole."""

    def __init__(self, to: Path | None) -> None:
        self._to = to
        self._part = to.with_name(f".{to.name}.part") if to is not None else None
        self._file: BinaryIO = sys.stdout.buffer

    def __enter__(self) -> BinaryIO:
        if self._part is not None:
            try:
                self._part.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._part.open("wb")
            except OSError as error:
                raise ClientError(f"{self._to}: cannot be written: {error.strerror}") from None
        return self._file

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._part is None or self._to is None:
            self._file.flush()
            return
        self._file.close()
        if kind is not None:
            self._part.unlink(missing_ok=True)
            return
        try:
            os.replace(self._part, self._to)
        except OSError as error:
            self._part.unlink(missing_ok=True)
            raise ClientError(f"{self._to}: cannot be written: {error.strerror}") from None
