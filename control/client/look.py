"""How things look in a terminal: one console for all, signs and colours by meaning, figures with their units."""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Iterable
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from control.client.bounds import Check
from control.contract.call import Call

PIPED_WIDTH = 160
"""Columns where nobody looks: enough that nothing is cut off."""
CALLER, AGENT = "cyan", "magenta"
OUTCOMES = {
    "linked": ("✔", "green"),
    "repaired": ("✔", "yellow"),
    "pending": ("…", "dim"),
    "not_applicable": ("·", "dim"),
    "missing": ("✗", "red"),
    "conflict": ("✗", "red"),
    "unlinked": ("✗", "red"),
}
NONE = "–"


_PLAIN_SIGNS = {"✔": "+", "✗": "x", "–": "-", "…": "~", "±": "+-", "µ": "u", "→": "->", "·": ".", "╵": "'", "━": "=", "×": "x"}


def _plain_signs(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: what stands for our own signs where there is no Unicode, and `?` for a stranger's."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN_SIGNS.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


def console() -> Console:
    """Stdout, which never fails for want of a sign. Colours on a terminal alone; rich itself heeds NO_COLOR (no-color.org)."""
    codecs.register_error("plain-signs", _plain_signs)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="plain-signs")
    seen = Console(highlight=False, emoji=False, markup=False)
    return seen if seen.is_terminal else Console(highlight=False, emoji=False, markup=False, width=PIPED_WIDTH)


def plain(text: str) -> str:
    """What a stranger sent, without what a terminal would take for a command."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def warn(line: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"trunkside: {plain(line)}\n")


def say(line: str) -> None:
    """One line on stderr that is no warning."""
    sys.stderr.write(f"{plain(line)}\n")


def checks(to: Console, made: Iterable[Check]) -> None:
    """A line for each bound that is kept, and for each breach of one that is not."""
    for check in made:
        if not check.breaches:
            to.print(Text.assemble(("✔ ", "green"), f"{check.name}: ", (check.found, "dim")), soft_wrap=True)
        for breach in check.breaches:
            to.print(Text.assemble(("✗ ", "red"), plain(breach)), soft_wrap=True)


def outcome(call: Call) -> Text:
    """The verdict in its colour."""
    sign, colour = OUTCOMES.get(call.verdict.outcome, ("?", "red"))
    return Text.assemble((f"{sign} ", colour), (call.verdict.outcome.replace("_", " "), colour))


def status(call: Call) -> Text:
    """The final status, or what goes on."""
    if call.status is None or (call.ended_at is None and call.status == 200):
        return Text("live" if call.ended_at is None else NONE, "bold green" if call.ended_at is None else "dim")
    return Text(str(call.status), "green" if call.status < 300 else "red")


def milliseconds(value: float | None) -> str:
    """`820`, without a unit: for columns whose head has it."""
    return NONE if value is None else f"{value:.0f}"


def seconds(value: float) -> str:
    """`12.4 s`, `3 m 05 s`, `1 h 02 m`: as exact as it is worth reading."""
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    return f"{whole // 60} m {whole % 60:02} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02} m"


def duration(call: Call) -> float | None:
    """Seconds from the answer (or, unanswered, from the INVITE) to the end."""
    if call.ended_at is None:
        return None
    return max(0.0, (call.ended_at - (call.answered_at or call.started_at)).total_seconds())


def clock(at: datetime) -> str:
    """Local time, since a person remembers when a call was by the clock on the wall; the day only where it is not today."""
    local = at.astimezone()
    today = datetime.now(UTC).astimezone().date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%m-%d %H:%M" if local.year == today.year else "%Y-%m-%d")


def moment(at: datetime) -> str:
    """Day and local time, with the offset."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S%z")


def worst_loss(call: Call) -> float | None:
    """Percent, of the worse direction; None when no packet came."""
    heard = [stream.loss_pct for stream in (call.media.caller, call.media.agent) if stream.packets]
    return max(heard, default=None)
