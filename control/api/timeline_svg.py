"""Who spoke when, to scale, as a drawing (SVG 1.1): a lane for each side, the silence before each response, barge-ins and keys.

Pure. Long calls go on in further rows, so that a response latency stays wide enough to see.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from math import ceil

from control.contract.call import Call, Turn

_LEFT, _WIDTH, _LANE = 70, 790, 16
_ROW = 82
_HEAD = 30
"""Room above a row's lanes, for the axis and, below it, the marks."""
_FINE_MS_PER_PX = 60.0
_MOST_ROWS = 24
_TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800)
_TICK_PX = 70
_SLOW_MS, _POOR_MS = 1000.0, 2000.0
_STYLE = (
    "text{font:11px ui-monospace,Menlo,Consolas,monospace;fill:#57606a}.axis{stroke:#d0d7de}.caller{fill:#0969da}.agent{fill:#8250df}"
    ".good{stroke:#1a7f37}.slow{stroke:#9a6700}.poor{stroke:#cf222e}.wait{stroke-width:2;fill:none}.mark{fill:#cf222e;font-weight:bold}"
)


def render(call: Call) -> str:
    """The drawing, complete in itself; empty when nobody spoke."""
    total = max([turn.agent_end_ms for turn in call.turns] + [each.caller_start_ms for each in call.barge_ins] + [_length(call)])
    if not call.turns and not call.barge_ins:
        return ""
    rows = max(1, min(_MOST_ROWS, ceil(total / (_WIDTH * _FINE_MS_PER_PX))))
    scale = total / rows / _WIDTH
    height = rows * _ROW + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 10}" height="{height}" '
        f'viewBox="0 0 {_LEFT + _WIDTH + 10} {height}" role="img">',
        f"<title>Timeline of call {escape(_printable(call.id))}</title><style>{_STYLE}</style>",
        f'<rect width="{_LEFT + _WIDTH + 10}" height="{height}" fill="#fff"/>',
    ]
    for row in range(rows):
        parts += _row(call, row * _ROW, row * _WIDTH * scale, scale)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(call: Call, top: int, begin: float, scale: float) -> Iterator[str]:
    """One row of the axis, from `begin` on; `scale` is milliseconds a pixel."""
    end = begin + _WIDTH * scale
    caller, agent = top + _HEAD, top + _HEAD + _LANE + 6
    every = next((each for each in _TICKS if each * 1000 / scale >= _TICK_PX), _TICKS[-1]) * 1000
    at = ceil(begin / every) * every
    while at < end:
        x = _LEFT + (at - begin) / scale
        yield f'<line class="axis" x1="{x:.1f}" y1="{top + 14}" x2="{x:.1f}" y2="{agent + _LANE}"/>'
        yield f'<text x="{x + 3:.1f}" y="{top + 12}">{at / 1000:g} s</text>'
        at += every
    yield f'<text x="8" y="{caller + 12}">caller</text><text x="8" y="{agent + 12}">agent</text>'
    for turn in call.turns:
        yield from _bar("caller", turn.caller_start_ms, turn.caller_end_ms, caller, begin, end, scale)
        yield from _bar("agent", turn.agent_start_ms, turn.agent_end_ms, agent, begin, end, scale)
        yield from _wait(turn, agent + _LANE // 2, begin, end, scale)
    keys = [(key.start_ms, key.digit) for key in (*call.media.caller.dtmf, *call.media.agent.dtmf)]
    for moment, sign in [*((each.caller_start_ms, "!") for each in call.barge_ins), *keys]:
        if begin <= moment < end:
            shown = escape(_printable(sign)[:1])
            yield f'<text class="mark" x="{_LEFT + (moment - begin) / scale:.1f}" y="{caller - 4}">{shown}</text>'


def _bar(style: str, since: float, until: float, y: int, begin: float, end: float, scale: float) -> Iterator[str]:
    start, stop = max(since, begin), min(until, end)
    if stop > start:
        x, width = _LEFT + (start - begin) / scale, max(1.0, (stop - start) / scale)
        title = f"<title>{style} {since / 1000:.2f} to {until / 1000:.2f} s</title>"
        yield f'<rect class="{style}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_LANE}" rx="2">{title}</rect>'


def _wait(turn: Turn, y: int, begin: float, end: float, scale: float) -> Iterator[str]:
    """A bracket as long as the caller waited."""
    start, stop = max(turn.caller_end_ms, begin), min(turn.agent_start_ms, end)
    if turn.kind != "response" or stop <= start:
        return
    late = turn.response_latency_ms
    style = "poor" if late >= _POOR_MS else "slow" if late >= _SLOW_MS else "good"
    left, right = (_LEFT + (at - begin) / scale for at in (start, stop))
    path = f"M{left:.1f} {y - 5}v10m0 -5H{right:.1f}"
    yield f'<path class="wait {style}" d="{path}"><title>turn {turn.n}: {late:.0f} ms</title></path>'


def _length(call: Call) -> float:
    if call.answered_at is None or call.ended_at is None:
        return 0.0
    return max(0.0, (call.ended_at - call.answered_at).total_seconds() * 1000)


def _printable(text: str) -> str:
    """Text as XML 1.0 can hold it."""
    return "".join(sign if sign >= " " and not 0xD800 <= ord(sign) <= 0xDFFF and ord(sign) < 0xFFFE else " " for sign in text)
