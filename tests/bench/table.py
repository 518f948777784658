"""Samples by measurement and system, and the tables made of them: medians, spread, and how we stand to each peer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

US = "Trunkside"
PACKETS_A_SECOND = 100
"""Of one call with media, both directions together."""
_MOST, _DEAR = "most calls with media", "CPU a packet, 300 calls"


@dataclass(slots=True)
class Row:
    """One measurement: its samples by system."""

    name: str
    unit: str
    more_is_better: bool
    samples: dict[str, list[float]] = field(default_factory=dict)

    def ratio(self, peer: str) -> float | None:
        """Our median by the peer's."""
        ours, theirs = self.samples.get(US), self.samples.get(peer)
        return median(ours) / median(theirs) if ours and theirs and median(theirs) else None


@dataclass(frozen=True, slots=True)
class Target:
    """What we want to be beside a peer: at most, or at least, so many times its figure."""

    row: str
    peer: str
    factor: float
    bar: str
    """Where a reader sees what stands in the way while it is not met."""
    more: bool = False


_SIGNALLING = "see where the time of a call goes, below: no stage stands out"
_LISTENING = "see where the time of a packet goes, below: the analysis listens to every one"
_FORWARDING = "see where the time of a packet goes, below: the thread that forwards is in the kernel"
TARGETS = (
    Target("most clean calls/s", "Sippy", 8.0, _SIGNALLING, more=True),
    Target("CPU a call at 1000 calls/s", "Kamailio", 0.5, _SIGNALLING),
    Target("added set-up delay p50 at 20 calls/s", "Kamailio", 1.0, _SIGNALLING),
    Target("CPU a packet of the relay with its tap, 300 calls", "rtpengine", 1.0, _FORWARDING),
    Target(_DEAR, "rtpengine", 1.0, _LISTENING),
    Target(_MOST, "rtpengine", 1.5, _FORWARDING, more=True),
)


class Results:
    """Everything measured in one run."""

    def __init__(self, machine: str) -> None:
        self.machine = machine
        self.rows: dict[str, Row] = {}
        self.remarks: list[str] = []
        self.sections: list[tuple[str, str]] = []
        """Title and text of what has a form of its own."""
        self._foreign: list[float] = []
        self._stale: set[tuple[str, str]] = set()
        """Rows and systems whose samples are of an earlier run."""

    def dump(self) -> str:
        """Everything, for a later run of other parts to be added to."""
        rows = [[row.name, row.unit, row.more_is_better, row.samples] for row in self.rows.values()]
        kept = {"machine": self.machine, "rows": rows, "remarks": self.remarks, "sections": self.sections, "foreign": self._foreign}
        return json.dumps(kept, indent=1)

    def take(self, text: str, *, add: bool) -> None:
        """Begin with what earlier runs measured; rows that are measured now begin anew unless `add`. Another machine's are no use here."""
        kept = json.loads(text)
        if kept["machine"].partition(", load")[0] != self.machine.partition(", load")[0]:
            return
        self.rows = {name: Row(name, unit, more, samples) for name, unit, more, samples in kept["rows"]}
        self._stale = set() if add else {(name, system) for name, row in self.rows.items() for system in row.samples}
        self.sections = [(title, body) for title, body in kept["sections"]]
        self.remarks = kept["remarks"]
        self._foreign = kept["foreign"]

    def section(self, title: str, text: str) -> None:
        """What has a form of its own, in place of an earlier one."""
        self.sections = [*((other, body) for other, body in self.sections if other != title), (title, text)]

    def add(self, name: str, unit: str, system: str, value: float, *, more_is_better: bool = False) -> None:
        """One more sample."""
        row = self.rows.setdefault(name, Row(name, unit, more_is_better))
        if (name, system) in self._stale:
            self._stale.discard((name, system))
            row.samples[system] = []
        row.samples.setdefault(system, []).append(value)

    def remark(self, sentence: str) -> None:
        """Something that a reader of the figures must know."""
        if sentence not in self.remarks:
            self.remarks.append(sentence)

    def note_foreign(self, share: float) -> None:
        """The share of the test core that something else had while a sample was taken."""
        self._foreign.append(share)

    def lines(self) -> Iterator[tuple[str, str, str, str]]:
        """Measurement, system, median with spread, ratio: what the tables show."""
        for row in self.rows.values():
            for system, samples in row.samples.items():
                spread = f"{_short(min(samples))}–{_short(max(samples))}" if len(samples) > 1 else "one sample"
                ratio = row.ratio(system) if system != US else None
                better = None if ratio is None else (ratio > 1) is row.more_is_better
                judged = "" if ratio is None else f"Trunkside × {ratio:.2f}, {'better' if better else 'worse'}"
                yield row.name, system, f"{_short(median(samples))} {row.unit} ({spread})", judged

    def text(self) -> str:
        """A table for a terminal."""
        lines = [("measurement", "system", "median (spread)", "beside it"), *self.lines()]
        widths = [max(len(line[i]) for line in lines) for i in range(4)]
        out, before = [], ""
        for line in lines:
            shown = ("" if line[0] == before else line[0], *line[1:])
            before = line[0]
            out.append("  ".join(cell.ljust(width) for cell, width in zip(shown, widths, strict=True)).rstrip())
        return "\n".join([*out, "", *self._notes(), *(f"\n{title}\n{text}" for title, text in self.sections)])

    def markdown(self) -> str:
        """The same for a README: one table with the systems as columns."""
        systems = list(dict.fromkeys(system for row in self.rows.values() for system in row.samples))
        peers = [system for system in systems if system not in (US, "direct")]
        head = ["", *systems, *(f"Trunkside : {peer}" for peer in peers)]
        out = [
            "# Beside its peers",
            "",
            "Written by `make bench`; a part is measured anew with `make bench ARGS=NAME`, as `setup`, `cost`, `rate`, `media` or `relay`.",
            f"Measured on {self.machine}. Medians, in brackets the spread; in each row the systems took turns.",
            "",
            _line(head),
            _line(["---"] * len(head)),
        ]
        for row in self.rows.values():
            cells = [f"{row.name} ({row.unit})"]
            for system in systems:
                samples = row.samples.get(system)
                cells.append("–" if not samples else f"{_short(median(samples))} ({_short(min(samples))}–{_short(max(samples))})")
            ratios = [row.ratio(peer) for peer in peers]
            out.append(_line([*cells, *("–" if ratio is None else f"{ratio:.2f}" for ratio in ratios)]))
        out += ["", *self._targets()]
        sections = (f"\n### {title}\n\n```\n{text}\n```" for title, text in self.sections)
        return "\n".join([*out, "", *(f"- {note}" for note in self._notes()), *sections, ""])

    def _targets(self) -> Iterator[str]:
        """What we want to be, and what we are."""
        yield _line(["target", "measured", ""])
        yield _line(["---"] * 3)
        for target in TARGETS:
            row = self.rows.get(target.row)
            ratio = None if row is None else row.ratio(target.peer)
            wanted = f"{target.row}: at {'least' if target.more else 'most'} {target.factor:g} × {target.peer}'s"
            if ratio is None:
                yield _line([wanted, "–", f"not reached: {target.bar}" if row is not None and US not in row.samples else "not measured"])
            else:
                met = ratio >= target.factor if target.more else ratio <= target.factor
                yield _line([wanted, f"{ratio:.2f} ×", "met" if met else f"not met: {target.bar}"])

    def _overload(self) -> Iterator[str]:
        """What the most calls with media would take, where that is more than the one core has."""
        most, dear = (self.rows[name].samples.get(US) if name in self.rows else None for name in (_MOST, _DEAR))
        cores = median(most) * PACKETS_A_SECOND * median(dear) / 1e6 if most and dear else 0.0
        if most and cores > 1:
            yield (
                f"{median(most):.0f} calls with media would take {cores:.1f} cores: on the one, the packets are relayed, the analysis "
                "hears what it has time for, and a call says how many of its packets were not heard"
            )

    def _notes(self) -> list[str]:
        notes = [*self.remarks, *self._overload()]
        if self._foreign:
            usual, worst = 100 * median(self._foreign), 100 * max(self._foreign)
            notes.append(f"the test core gave something else {usual:.0f} % of its time (at worst {worst:.0f} %)")
        return notes


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _short(value: float) -> str:
    """Three figures that count, no exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.01 else f"{value:.4f}"
