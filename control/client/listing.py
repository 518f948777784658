"""`calls list`: one line a call; the narrower the terminal, the fewer columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from control.client import look
from control.contract.call import Call


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    least: int
    """Terminal columns from which on it is shown."""
    cell: Callable[[Call], Text | str]
    right: bool = False


def _loss(call: Call) -> Text | str:
    worst = look.worst_loss(call)
    if worst is None:
        return look.NONE
    return Text(f"{worst:.1f} %", "red" if worst >= 1 else "")


def _duration(call: Call) -> str:
    took = look.duration(call)
    return look.NONE if took is None else look.seconds(took)


def _kind(call: Call) -> Text:
    return Text(call.kind, "" if call.kind == "simulation" else "dim")


def _latency(call: Call) -> str:
    told = call.speech.response_latency_ms
    if told.n == 0:
        return look.NONE
    return f"{look.milliseconds(told.p50)}/{look.milliseconds(told.p90)}"


_LONG = 100


def columns(width: int) -> list[_Column]:
    """The columns that fit into `width`."""
    whole = width >= _LONG
    shown = None if width >= look.PIPED_WIDTH else 12 if whole else 8
    found = [
        _Column("id", 0, lambda call: Text(look.plain(call.id[:shown]), "bold")),
        _Column("began", 0, lambda call: look.clock(call.started_at)),
        _Column("kind", 90, _kind),
        _Column("route", 110, lambda call: look.plain(call.route or look.NONE)),
        _Column("status", 0, look.status, right=True),
        _Column("length", 0, _duration, right=True),
        _Column("turns", 0, lambda call: str(len(call.turns)), right=True),
        _Column("p50/p90", 0, _latency, right=True),
        _Column("loss", 0, _loss, right=True),
        _Column("verdict", 0, look.outcome),
    ]
    return [column for column in found if column.least <= width]


def show(console: Console, calls: Sequence[Call], *, more: bool) -> None:
    """The table. `more`: these are not all."""
    if not calls:
        console.print(Text("no call fits", "dim"))
        return
    shown = columns(console.width)
    table = Table(box=None, padding=(0, 1), pad_edge=False, show_edge=False, header_style="dim")
    for column in shown:
        table.add_column(column.name, justify="right" if column.right else "left", no_wrap=True)
    for call in calls:
        table.add_row(*(column.cell(call) for column in shown))
    console.print(table)
    if more and console.is_terminal:
        console.print(Text(f"the newest {len(calls)}; more with --limit, fewer with --since, --outcome, --route …", "dim"))
