"""Who spoke when, to scale, and the turns with their latency as bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

from rich.table import Table
from rich.text import Text

from control.client import look
from control.contract.call import Call, Turn

_NAME = 8
_FINE_MS = 200.0
"""Milliseconds that a cell stands for where there is room: short enough to see a response latency."""
_MOST_ROWS = 6
_TICKS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
_TICK_ROOM = 12
_BESIDE_BAR = 48
"""Columns that the rest of a turn's row takes."""
SLOW_MS, POOR_MS = 1000.0, 2000.0
"""From here on a response is drawn in yellow, and in red."""

Spans = Sequence[tuple[float, float]]


def lanes(call: Call, width: int, ascii_only: bool = False) -> Iterator[Text]:
    """Rows of an axis and two lanes each, caller and agent; in the agent's lane the silence before a response is drawn as well."""
    total = _length(call)
    if total <= 0:
        return
    cells = max(20, width - _NAME - 1)
    rows = max(1, min(_MOST_ROWS, ceil(total / (cells * _FINE_MS))))
    scale = total / (rows * cells)
    caller, agent = [(t.caller_start_ms, t.caller_end_ms) for t in call.turns], [(t.agent_start_ms, t.agent_end_ms) for t in call.turns]
    waits = [(t.caller_end_ms, t.agent_start_ms) for t in call.turns if t.agent_start_ms > t.caller_end_ms]
    marks = [(each.caller_start_ms, "!") for each in call.barge_ins] + [
        (each.start_ms, each.digit) for each in (*call.media.caller.dtmf, *call.media.agent.dtmf)
    ]
    full, part, wait = ("#", "+", ".") if ascii_only else ("█", "▒", "·")
    for row in range(rows):
        begin = row * cells * scale
        yield _axis(begin, scale, cells)
        if any(begin <= at < begin + cells * scale for at, _ in marks):
            yield Text.assemble(" " * _NAME, (_marks(marks, begin, scale, cells), "bold yellow"))
        yield _lane("caller", look.CALLER, [(caller, full, part, look.CALLER)], begin, scale, cells)
        yield _lane("agent", look.AGENT, [(agent, full, part, look.AGENT), (waits, wait, wait, "yellow")], begin, scale, cells)


def turns(shown: Sequence[Turn], width: int, ascii_only: bool = False) -> Table:
    """A table of turns; times in seconds of call time, latencies in milliseconds."""
    table = Table(box=None, padding=(0, 1), pad_edge=False, show_edge=False, header_style="dim")
    for name, right in (("turn", True), ("caller spoke", True), ("agent", True), ("latency ms", True), ("", False), ("", False)):
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    notes = [_notes(turn) for turn in shown]
    room = max(6, min(48, width - _BESIDE_BAR - max((len(note) for note in notes), default=0)))
    longest = max([turn.response_latency_ms for turn in shown] + [1.0])
    for turn, note in zip(shown, notes, strict=True):
        late = turn.response_latency_ms
        colour = "red" if late >= POOR_MS else "yellow" if late >= SLOW_MS else "green"
        bar = ("=" if ascii_only else "━") * max(0, round(late / longest * room))
        table.add_row(
            str(turn.n),
            f"{turn.caller_start_ms / 1000:.2f} – {turn.caller_end_ms / 1000:.2f}",
            f"{turn.agent_start_ms / 1000:.2f}",
            Text.assemble((f"{late:.0f}", colour if turn.kind == "response" else "dim"), (f" ±{turn.uncertainty_ms:.0f}", "dim")),
            Text(bar, colour),
            Text(note, "dim"),
        )
    return table


def _notes(turn: Turn) -> str:
    kind = [] if turn.kind == "response" else [turn.kind.replace("_", " ")]
    return ", ".join(kind + (["interrupted"] if turn.interrupted else []))


def _length(call: Call) -> float:
    ends = [t.agent_end_ms for t in call.turns] + [each.agent_stop_ms or each.caller_start_ms for each in call.barge_ins]
    took = look.duration(call) if call.answered_at is not None else None
    return max([*ends, (took or 0.0) * 1000])


def _axis(begin: float, scale: float, cells: int) -> Text:
    every = next((each for each in _TICKS if each * 1000 / scale >= _TICK_ROOM), _TICKS[-1]) * 1000
    line = [" "] * cells
    at = ceil(begin / every) * every
    while (cell := int((at - begin) / scale)) < cells:
        label = f"╵{look.seconds(at / 1000) if at else '0'}".replace(".0 s", " s")
        if cell + len(label) <= cells:
            line[cell : cell + len(label)] = label
        at += every
    return Text(" " * _NAME + "".join(line).rstrip(), "dim")


def _marks(marks: Sequence[tuple[float, str]], begin: float, scale: float, cells: int) -> str:
    line = [" "] * cells
    for at, sign in marks:
        if 0 <= (cell := int((at - begin) // scale)) < cells:
            line[cell] = look.plain(sign)[:1] or "?"
    return "".join(line).rstrip()


def _lane(name: str, style: str, layers: Sequence[tuple[Spans, str, str, str]], begin: float, scale: float, cells: int) -> Text:
    """A row of cells; the layer that is named first wins."""
    line = Text.assemble((f"{name:<{_NAME}}", style))
    for cell in range(cells):
        start, end = begin + cell * scale, begin + (cell + 1) * scale
        for spans, full, part, colour in layers:
            covered = sum(max(0.0, min(end, until) - max(start, since)) for since, until in spans)
            if covered > 0:
                line.append(full if covered >= scale / 2 else part, colour)
                break
        else:
            line.append(" ")
    line.rstrip()
    return line
