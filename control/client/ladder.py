"""The ladder of a call, drawn to the width of a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from control.client import look
from control.contract.answers import Ladder, LadderStep

_WIDEST, _LEAST = 48, 20
"""Columns between two parties: wider is no clearer, and below that no message's name can be read."""
_DELTA_FROM = 100
"""Terminal columns from which on the time since the step before is shown, too."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What lines are made of."""

    down: str
    across: str
    right: str
    left: str
    rule: str
    media: str
    speech: str
    cut: str


UNICODE = Signs("│", "─", "▶", "◀", "═", "◆", "●", "…")
ASCII = Signs("|", "-", ">", "<", "=", "*", "+", "~")


def draw(ladder: Ladder, width: int, signs: Signs = UNICODE) -> Iterator[Text]:
    """Lines, none wider than `width` (at least 55). Seconds count from the caller's INVITE."""
    delta = width >= _DELTA_FROM
    lead = 10 + (9 if delta else 0)
    gap = max(_LEAST, min(_WIDEST, (width - lead - 3) // 2))
    head = f"{'s':>8}{'':>2}" + (f"{'+ s':>7}  " if delta else "")
    yield Text(head + set_cell_size("caller", gap - 3) + set_cell_size("trunkside", gap + 1) + "agent", "dim")
    before = 0.0
    for step in ladder.steps:
        line = Text(f"{step.ms / 1000:>8.3f}  ", "dim")
        if delta:
            since = (step.ms - before) / 1000
            line.append(f"{since:>+7.3f}  " if since >= 0.0005 else " " * 9, "dim")
        before = step.ms
        line.append_text(_body(step, gap, width - lead, signs))
        line.rstrip()
        yield line


def _body(step: LadderStep, gap: int, room: int, signs: Signs) -> Text:
    match step.kind:
        case "message":
            return _arrow(step, gap, signs)
        case "rule":
            words = f" {look.plain(step.text)} "
            total = 2 * gap + 3
            left = max(0, total - cell_len(words)) // 2
            return Text(set_cell_size(signs.rule * left + words + signs.rule * (total - left), total), "green")
        case "media":
            return Text(_cut(f"{signs.media} {look.plain(step.text)}", room, signs), "dim")
        case "speech":
            return Text(_cut(f"{signs.speech} {look.plain(step.text)}", room, signs), look.AGENT if ": agent" in step.text else look.CALLER)


def _arrow(step: LadderStep, gap: int, signs: Signs) -> Text:
    label = f" {_cut(look.plain(step.text), gap - 5, signs)} "
    shaft = signs.across * max(0, gap - 1 - cell_len(label))
    colour = _colour(step.text)
    if step.rightward:
        parts = [(label, f"bold {colour}"), (shaft + signs.right, colour)]
    else:
        parts = [(signs.left + shaft, colour), (label, f"bold {colour}")]
    bar, blank = (signs.down, "dim"), " " * gap
    drawn = Text.assemble(*parts)
    if step.leg == "A":
        return Text.assemble(bar, drawn, bar, blank, bar)
    return Text.assemble(bar, blank, bar, drawn, bar)


def _colour(label: str) -> str:
    status = re.match(r"(\d)\d\d ", label)
    if status is None:
        return "cyan"
    return {"1": "blue", "2": "green", "3": "yellow"}.get(status[1], "red")


def _cut(text: str, room: int, signs: Signs) -> str:
    return text if cell_len(text) <= room else set_cell_size(text, max(1, room - 1)) + signs.cut
