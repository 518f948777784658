"""What the demo shows: the call as it goes on (stderr, on a terminal only) and the findings (stdout)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table
from rich.text import Text

from sidecar.clocks import Mono

if TYPE_CHECKING:
    from sidecar.lab.demo import Result

GOOD_MS = 40.0
"""A measurement further from the truth than this is marked."""
MATCH_MS = 400.0
"""A measured turn belongs to a true one when their ends of speech lie this near to each other."""
PLAIN_WIDTH = 120


class View:
    """Two consoles: progress on stderr, findings on stdout."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._progress = Console(stderr=True, highlight=False)
        self._out = Console(highlight=False)
        if not self._out.is_terminal:
            self._out = Console(highlight=False, width=PLAIN_WIDTH)
        self._status: Status | None = None
        self._answered: Mono | None = None
        self._timers: list[asyncio.TimerHandle] = []

    # -- while it runs -------------------------------------------------------------------------------------------------

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show progress until the block ends; nothing is shown where nobody watches."""
        if not self._progress.is_terminal:
            yield
            return
        try:
            with self._progress.status("") as self._status:
                yield
        finally:
            for timer in self._timers:
                timer.cancel()
            self._status = None

    def step(self, text: str) -> None:
        """What is going on now."""
        if self._status is not None:
            self._status.update(f"{text} …")

    def heard(self, when: Mono, text: str) -> None:
        """Show a line of the call at its time."""
        if self._status is not None:
            delay = max(0.0, when - time.monotonic())
            self._timers.append(asyncio.get_running_loop().call_later(delay, self._line, when, text))

    def _line(self, when: Mono, text: str) -> None:
        who, _, what = text.partition(" ")
        style = "cyan" if who == "caller" else "magenta"
        self._progress.print(f"[dim]{when - self._started:6.1f} s[/]  [{style}]{who}[/] {escape(what)}")
        self.step("the call is on")

    # -- at the end ----------------------------------------------------------------------------------------------------

    def show(self, result: Result) -> None:
        """Print the findings."""
        call = result.call
        if call is None:
            return
        title, body, *_ = [*result.ladder.split("\n\n"), "", ""]
        self._line_out(f"[bold]{escape(title.strip())}[/]")
        self._out.print()
        self._out.print(
            Text(body.rstrip("\n")), no_wrap=True, crop=self._out.is_terminal, overflow="crop" if self._out.is_terminal else "ignore"
        )
        self._turns(call, result)
        self._verdict(call)
        self._media(call)
        self._received(result)
        self._end(call, result)

    def fail(self, line: str) -> None:
        """The one line that says why."""
        self._progress.print(f"[bold red]trunkside demo:[/] {escape(line)}", soft_wrap=True)

    def _line_out(self, markup: str) -> None:
        """One line, left to the terminal to wrap: what is long is for copying."""
        self._out.print(markup, soft_wrap=True)

    def _heading(self, text: str) -> None:
        self._out.print()
        self._line_out(f"[bold]{text}[/]")

    def _turns(self, call: dict[str, Any], result: Result) -> None:
        self._heading("turns: measured on the wire, beside the truth and what the agent claims")
        table = Table(box=None, padding=(0, 2), header_style="dim", show_edge=False, pad_edge=False)
        for name in ("", "truth", "measured", "difference", "±", "agent claims"):
            table.add_column(name, justify="left" if not name else "right", no_wrap=True)
        claims = _claims(result.received)
        turns = [turn for turn in call["turns"] if turn["kind"] == "response"]
        for n, (end, _) in enumerate(result.truth.turns, 1):
            true = result.truth.response_latency_ms[n - 1]
            turn = min(turns, key=lambda t: abs(t["caller_end_ms"] - end), default=None)
            if turn is None or abs(turn["caller_end_ms"] - end) > MATCH_MS:
                table.add_row(f"  turn {n}", f"{true:.0f} ms", "[red]not found[/]", "", "", "")
                continue
            measured = turn["response_latency_ms"]
            claim = claims.get(round(measured, 3))
            table.add_row(f"  turn {n}", f"{true:.0f} ms", f"{measured:.0f} ms", _difference(measured - true),
                          f"{turn['uncertainty_ms']:.0f}", "–" if claim is None else f"{claim:.0f} ms")  # fmt: skip
        if result.truth.greeting_ms is not None:
            greeting = call["timings_ms"]["greeting"]
            _compare(table, "  greeting", result.truth.greeting_ms, greeting)
        measured_stops = [b["latency_ms"] for b in call["barge_ins"] if b["kind"] == "barge_in"]
        for n, true in enumerate(result.truth.barge_in_ms):
            _compare(table, "  barge-in", true, measured_stops[n] if n < len(measured_stops) else None)
        self._out.print(table)
        speech = call["speech"]
        ratio = "–" if speech["talk_ratio"] is None else f"{speech['talk_ratio']:.0%}"
        self._line_out(
            f"  [dim]agent's share of the talk {ratio}, silence {speech['silence_ms'] / 1000:.1f} s, overlap {speech['overlap_ms']:.0f} ms,"
            f" detector {speech['detector']}[/]"
        )

    def _verdict(self, call: dict[str, Any]) -> None:
        verdict = call["verdict"]
        repair = verdict["repair"]
        how = f" by {repair['rule']}, confidence {repair['confidence']:.2f}" if repair else ""
        self._heading(f"identity: {_coloured(verdict['outcome'])}{how}")
        for hop in verdict["hops"]:
            self._line_out(f"  [green]✔[/] {hop['hop']:<9} [dim]{hop['at'][11:23]}[/]  {escape(hop['evidence'])}")
        for finding in verdict["findings"]:
            self._line_out(f"  [yellow]![/] {finding['name']:<9} {escape(finding['detail'])}")

    def _media(self, call: dict[str, Any]) -> None:
        self._heading("media")
        for side in ("caller", "agent"):
            stream = call["media"][side]
            mos = "–" if stream["mos_lq"] is None else f"{stream['mos_lq']:.2f}"
            self._line_out(
                f"  {side:<7} {stream['codec'] or '–'}  {stream['packets']} packets, {stream['lost']} lost ({stream['loss_pct']:.1f} %),"
                f" jitter {stream['jitter_ms']:.1f} ms, MOS-LQ {mos}"
            )
        delay = call["media"]["relay_delay"]
        if delay["p50_us"] is not None and delay["p99_us"] is not None:
            self._line_out(f"  [dim]the sidecar's own delay: p50 {delay['p50_us']:.0f} µs, p99 {delay['p99_us']:.0f} µs[/]")

    def _received(self, result: Result) -> None:
        self._heading("the evaluator received")
        body = result.received
        if body is None:
            self._line_out("  [red]nothing[/]")
            return
        segments = body["transcript_with_tool_calls"]
        measured = sum("wire_response_latency" in (segment.get("metadata") or {}) for segment in segments)
        whole = "trunkside" in (body.get("general_meta_data_raw") or {})
        linked = "[green]linked to the call it dialled[/]" if result.linked else "[red]not linked[/]"
        self._line_out(f"  call_id {escape(body['call_id'])}, sip_call_id {escape(str(body.get('sip_call_id')))}: {linked}")
        self._line_out(
            f"  {len(segments)} segments, {measured} with wire_response_latency; the wire's figures {'inside' if whole else 'missing'}"
        )

    def _end(self, call: dict[str, Any], result: Result) -> None:
        if result.failure is None:
            self._out.print()
            seconds = time.monotonic() - self._started
            self._line_out(f"[bold green]✔ {call['verdict']['outcome']} and accepted[/] [dim]in {seconds:.0f} s[/]")


def _compare(table: Table, name: str, true: float, measured: float | None) -> None:
    if measured is None:
        table.add_row(name, f"{true:.0f} ms", "[red]not found[/]", "", "", "")
    else:
        table.add_row(name, f"{true:.0f} ms", f"{measured:.0f} ms", _difference(measured - true), "", "")


def _difference(ms: float) -> str:
    colour = "green" if abs(ms) <= GOOD_MS else "yellow"
    return f"[{colour}]{ms:+.1f} ms[/]"


def _coloured(outcome: str) -> str:
    return f"[{'green' if outcome in ('linked', 'repaired') else 'red'}]{outcome}[/]"


def _claims(body: dict[str, Any] | None) -> dict[float, float]:
    """What the agent claims, by the wire's figure that control set beside it."""
    found = {}
    for segment in (body or {}).get("transcript_with_tool_calls", []):
        metadata = segment.get("metadata") or {}
        if "wire_response_latency" in metadata and "e2e_latency" in metadata:
            found[round(float(metadata["wire_response_latency"]), 3)] = float(metadata["e2e_latency"])
    return found
