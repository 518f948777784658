"""Ladder, timeline and list, drawn to a width."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from control.client import ladder as drawing
from control.client import listing, show, timeline
from control.contract.answers import Ladder, LadderStep
from tests.core.control.client.calls import barge_in, call, turn

STEPS = [
    LadderStep(kind="message", ms=0, text="INVITE [sdp]", leg="A", rightward=True, seq=2),
    LadderStep(kind="message", ms=6.4, text="407 Proxy Authentication Required", leg="B", rightward=False, seq=5, copies=1),
    LadderStep(kind="media", ms=7, text="digest 407 \x1b[2J"),
    LadderStep(kind="rule", ms=117, text="answered: call time 0"),
    LadderStep(kind="speech", ms=4933, text="turn 1: agent answers after 618 ms ±9, speaks 1786 ms and says 言葉" * 3),
]
LADDER = Ladder(call="c1", answered_ms=117, steps=STEPS)


@pytest.mark.parametrize("width", [55, 80, 99, 100, 120, 200])
def test_no_line_of_a_ladder_is_wider_than_the_terminal_and_the_parties_stand_in_columns(width: int) -> None:
    lines = [line.plain for line in drawing.draw(LADDER, width)]
    assert max(cell_len(line) for line in lines) <= width
    arrows = [line for line in lines if "│" in line]
    assert len(arrows) == 2
    assert [place for place, sign in enumerate(arrows[0]) if sign == "│"] == [place for place, sign in enumerate(arrows[1]) if sign == "│"]
    assert "INVITE [sdp] ─" in arrows[0]
    assert arrows[0].count("▶") == arrows[1].count("◀") == 1


def test_a_ladder_shows_seconds_and_from_100_columns_on_what_passed_between() -> None:
    narrow, wide = ([line.plain for line in drawing.draw(LADDER, width)] for width in (99, 100))
    assert [line[:10].strip() for line in narrow[1:]] == ["0.000", "0.006", "0.007", "0.117", "4.933"]
    assert [line[10:17].strip() for line in wide[1:]] == ["", "+0.006", "+0.001", "+0.110", "+4.816"]


def test_what_a_stranger_sent_commands_no_terminal() -> None:
    assert all(line.plain.isprintable() for line in drawing.draw(LADDER, 80))


def test_ascii_alone_draws_a_ladder_too() -> None:
    ladder = Ladder(call="c1", answered_ms=None, steps=STEPS[:2])
    assert all(line.plain.isascii() for line in drawing.draw(ladder, 80, drawing.ASCII))


def lane(lines: list[str], name: str) -> str:
    """One lane over all rows of a timeline."""
    return "".join(line[8:] for line in lines if line.startswith(name))


def test_a_lane_shows_speech_to_scale_and_the_wait_before_a_response() -> None:
    answered = call("c1", 1000.0)  # the caller 8 to 10 s, the agent 11 to 14 s of 60 s
    rows = [line.plain.ljust(68) for line in timeline.lanes(answered, 69)]  # five rows of 60 cells: 200 ms a cell
    assert len([line for line in rows if line.startswith("agent")]) == 5
    caller, agent = lane(rows, "caller"), lane(rows, "agent")
    assert (caller.index("█"), caller.rindex("█")) == (40, 49)
    assert (agent.index("·"), agent.rindex("·"), agent.index("█"), agent.rindex("█")) == (50, 54, 55, 69)


def test_a_mark_stands_where_the_caller_broke_in() -> None:
    rows = [line.plain for line in timeline.lanes(call("c1", 1000.0, barge_ins=[barge_in(200)]), 69)]
    assert rows[1] == " " * (8 + 25) + "!"


def test_no_row_of_a_long_call_is_too_wide_and_there_are_few() -> None:
    long = call("c1", *[700.0] * 400)
    rows = [line.plain for line in timeline.lanes(long, 80)]
    assert max(map(len, rows)) <= 80
    assert len(rows) <= 4 * 6


def test_a_bar_is_as_long_as_its_latency() -> None:
    out = Console(file=io.StringIO(), width=100)
    out.print(timeline.turns([turn(1, 500.0), turn(2, 1000.0), turn(3, -50.0, kind="overlap", interrupted=True)], 100))
    rows = out.file.getvalue().splitlines()[1:]  # type: ignore[attr-defined]
    bars = [row.count("━") for row in rows]
    assert bars[1] == 2 * bars[0] > 0
    assert bars[2] == 0
    assert rows[2].rstrip().endswith("overlap, interrupted")


@pytest.mark.parametrize("width", [80, 120, 160])
def test_every_verdict_fits_into_the_list(width: int) -> None:
    out = Console(file=io.StringIO(), width=width)
    calls = [call("a" * 32, 812.0, outcome=outcome) for outcome in ("linked", "not_applicable", "unlinked")]
    listing.show(out, calls, more=False)
    lines = out.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= width
    assert [line.rstrip().rpartition("  ")[2] for line in lines[1:]] == ["✔ linked", "· not applicable", "✗ unlinked"]
    assert all("…" not in line for line in lines)


def test_of_many_turns_the_slowest_are_shown_unless_all_are_asked_for() -> None:
    long = call("c1", *[float(n) for n in range(400, 440)])
    told = {}
    for every in (False, True):
        out = Console(file=io.StringIO(), width=80)
        show.show(out, long, LADDER, every_turn=every)
        told[every] = out.file.getvalue()  # type: ignore[attr-defined]
    assert "the slowest 24 of 40 turns" in told[False]
    assert " 8.00 – 10.00" not in told[False]
    assert " 8.00 – 10.00" in told[True]
