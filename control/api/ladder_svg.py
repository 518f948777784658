"""A call's ladder as a drawing (SVG 1.1) and as the source of a sequence diagram (Mermaid)."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import assert_never

from control.api.ladder import Arrow, Note, Rule, Step, foot, steps, title
from control.contract import facts as f
from control.contract.call import Call

_COLUMNS = (130, 430, 730)
_NAMES = ("caller", "trunkside", "agent")
_WIDTH = 860
_ROW = 22
_TOP = 86
_LABEL = 44
"""Characters of a label that fit between two columns."""
_STYLE = (
    "text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#1b1f24}"
    ".dim{fill:#57606a}.name{font-weight:bold}.life{stroke:#d0d7de}.arrow{stroke:#0969da;stroke-width:1.4}"
    ".head{fill:#0969da}.rule{stroke:#1a7f37;stroke-dasharray:5 4}.rules{fill:#1a7f37}.media{fill:#57606a}.speech{fill:#8250df}"
)


def render_svg(call: Call, trace: Iterable[f.Fact]) -> str:
    """The drawing, complete in itself: no script, no reference to anything outside."""
    found = steps(call, trace)
    end = _TOP + _ROW * (len(found) + 1)
    tail = foot(call)
    height = end + 24 + 16 * len(tail)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>{_safe(f'Ladder of call {call.id}')}</title><style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        *(_words(12, 20 + 16 * n, line, "dim") for n, line in enumerate(title(call))),
        *(_words(x, _TOP - 22, name, "name", anchor="middle") for x, name in zip(_COLUMNS, _NAMES, strict=True)),
        *(f'<line class="life" x1="{x}" y1="{_TOP - 14}" x2="{x}" y2="{end}"/>' for x in _COLUMNS),
        *(_draw(step, _TOP + _ROW * (n + 1)) for n, step in enumerate(found)),
        *(_words(12, end + 24 + 16 * n, line, "dim") for n, line in enumerate(tail)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _draw(step: Step, y: int) -> str:
    at = _words(90, y, f"{step.ms:.1f}", "dim", anchor="end")
    match step:
        case Arrow():
            return at + _draw_arrow(step, y)
        case Rule(_, text):
            line = f'<line class="rule" x1="{_COLUMNS[0]}" y1="{y + 5}" x2="{_COLUMNS[-1]}" y2="{y + 5}"/>'
            return at + line + _words(_COLUMNS[1] + 6, y, text, "rules")
        case Note(_, mark, text):
            return at + _words(_COLUMNS[0] + 8, y, text, "media" if mark == "*" else "speech")
        case _ as never:
            assert_never(never)


def _draw_arrow(arrow: Arrow, y: int) -> str:
    left, right = (_COLUMNS[0], _COLUMNS[1]) if arrow.leg == "A" else (_COLUMNS[1], _COLUMNS[2])
    tip, back = (right, -8) if arrow.rightward else (left, 8)
    line = f'<line class="arrow" x1="{left}" y1="{y + 5}" x2="{right}" y2="{y + 5}"/>'
    head = f'<path class="head" d="M{tip} {y + 5}l{back} -4v8z"/>'
    return line + head + _words((left + right) // 2, y, arrow.label[:_LABEL], "", anchor="middle")


def _words(x: int, y: int, text: str, style: str, *, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" class="{style}" text-anchor="{anchor}" xml:space="preserve">{_safe(text)}</text>'


def _safe(text: str) -> str:
    """Text as XML 1.0 can hold it."""
    return escape("".join(sign if sign >= " " and not 0xD800 <= ord(sign) <= 0xDFFF and ord(sign) < 0xFFFE else " " for sign in text))


def render_mermaid(call: Call, trace: Iterable[f.Fact]) -> str:
    """A `sequenceDiagram`, as issue trackers and wikis draw it."""
    lines = ["sequenceDiagram", *(f"  participant {name}" for name in _NAMES)]
    for step in steps(call, trace):
        match step:
            case Arrow():
                ends = _NAMES[:2] if step.leg == "A" else _NAMES[1:]
                sender, receiver = ends if step.rightward else ends[::-1]
                lines.append(f"  {sender}->>{receiver}: {_mermaid(step.label)}")
            case Rule(_, text) | Note(_, _, text):
                lines.append(f"  Note over caller,agent: {_mermaid(text)}")
            case _ as never:
                assert_never(never)
    return "\n".join(lines) + "\n"


def _mermaid(text: str) -> str:
    """Text without what the diagram's grammar takes for its own: line ends, semicolons, `#` and `<`."""
    safe = "".join(f"#{ord(sign)};" if sign in '#;<>"&' else max(sign, " ") for sign in text)
    return safe.strip() or "?"
