"""`calls show`: one call, from what it is to why it went so."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from control.client import ladder as drawing
from control.client import look, timeline
from control.contract.answers import Ladder, Messages
from control.contract.call import BargeInKind, Call, Percentiles, Stream, Turn

MOST_TURNS = 24
"""Turns that are shown unless all are asked for: the slowest."""
_BARGE_INS: dict[BargeInKind, str] = {
    "barge_in": "barge-in",
    "slow": "slow barge-in",
    "failed": "failed barge-in",
    "backchannel": "backchannel",
    "terminal_overlap": "overlap at the end",
}
_GOOD_ENDS = frozenset({"completed", "hung-up", "cancelled", "drained"})


def show(console: Console, call: Call, ladder: Ladder, *, every_turn: bool) -> None:
    """Print the whole of it."""
    ascii_only = console.options.ascii_only
    _heading(console, call)
    _verdict(console, call)
    _section(console, "signalling")
    for line in drawing.draw(ladder, max(55, console.width), drawing.ASCII if ascii_only else drawing.UNICODE):
        console.print(line, no_wrap=True, overflow="ignore", crop=False)
    _speech(console, call, every_turn=every_turn, ascii_only=ascii_only)
    _media(console, call)


def show_messages(console: Console, messages: Messages) -> None:
    """Print the text of every message."""
    for message in messages.messages:
        ends = (message.remote, message.local) if message.direction == "in" else (message.local, message.remote)
        console.print()
        again = "  (retransmission)" if message.retransmission else ""
        title = f"{message.elapsed_ms / 1000:.3f} s  {message.leg}  {ends[0]} → {ends[1]}  {message.transport}{again}"
        console.print(Text(look.plain(title), "bold"), soft_wrap=True)
        for line in message.text.rstrip().splitlines():
            console.print(Text("  " + look.plain(line)), soft_wrap=True)


def _section(console: Console, name: str) -> None:
    console.print()
    console.print(Text(name, "bold"))


def _heading(console: Console, call: Call) -> None:
    _line(console, Text.assemble(look.outcome(call), "  ", (look.plain(call.id), "bold"), f"  {call.kind}, {call.direction}"))
    fields = [
        ("from", call.from_),
        ("to", call.to + (f"  (recipient {call.recipient})" if call.recipient else "")),
        ("Call-ID", call.sip_call_id),
        ("agent's leg", ", ".join(each for each in call.b_leg_call_ids if each != call.sip_call_id)),
        ("route", f"{call.route or look.NONE} on {call.sidecar or look.NONE}, platform {call.platform}"),
        ("began", look.moment(call.started_at) + _timings(call)),
    ]
    rows = [(Text(f"  {name}", "dim"), Text(look.plain(value))) for name, value in fields if value]
    _grid(console, [*rows, (Text("  ended", "dim"), _ended(call))])
    if not call.complete:
        _line(console, Text("  the trace is not complete: figures may still change", "yellow"))


def _timings(call: Call) -> str:
    told = call.timings_ms
    named = (("ringing", told.to_ringing), ("answered", told.to_answer), ("first agent RTP", told.to_first_agent_rtp))
    found = [f"{name} after {value:.0f} ms" for name, value in named if value is not None]
    return "".join(f", {each}" for each in found) + (f" ({told.auth:.0f} ms on digest)" if told.auth else "")


def _ended(call: Call) -> Text:
    if call.ended_at is None:
        return Text("not yet", "bold green")
    took = look.duration(call)
    after = f" after {look.seconds(took)}" if took is not None and call.answered_at is not None else ""
    fine = call.reason in _GOOD_ENDS
    why = look.plain(call.cause or call.reason or "no reason is known")
    return Text.assemble(look.status(call), f" by {call.ended_by}{after}: ", (why, "" if fine else "bold red"))


def _verdict(console: Console, call: Call) -> None:
    verdict, repair = call.verdict, call.verdict.repair
    if verdict.outcome == "not_applicable" and not verdict.hops and not verdict.findings:
        return
    _section(console, "identity")
    hops = {hop.hop: hop for hop in reversed(verdict.hops)}
    rows: list[tuple[Text, ...]] = []
    for name in ("received", "carried", "echoed", "accepted"):
        hop = hops.get(name)
        if hop is None:
            rows.append((Text(f"  · {name}", "dim"), Text(), Text("not seen", "dim")))
            continue
        at = hop.at.astimezone().strftime("%H:%M:%S")
        rows.append((Text.assemble(("  ✔ ", "green"), name), Text(at, "dim"), Text(look.plain(hop.evidence))))
    _grid(console, rows)
    if repair is not None:
        said = f"the report said {repair.reported!r}" if repair.reported else "the report said nothing"
        _line(console, Text(f"  ~ repaired by {repair.rule}, confidence {repair.confidence:.2f}: {look.plain(said)}", "yellow"))
    for finding in verdict.findings:
        _line(console, Text.assemble(("  ! ", "yellow"), f"{finding.name}: {look.plain(finding.detail)}"))
    if verdict.candidates:
        _line(console, Text(f"  ? the report fits {', '.join(verdict.candidates)}", "red"))


def _speech(console: Console, call: Call, *, every_turn: bool, ascii_only: bool) -> None:
    if not call.turns and not call.barge_ins:
        return
    _section(console, "turns")
    for line in timeline.lanes(call, console.width, ascii_only):
        console.print(line, no_wrap=True, overflow="ignore", crop=False)
    console.print()
    shown: Sequence[Turn] = call.turns
    if not every_turn and len(shown) > MOST_TURNS:
        slowest = sorted(call.turns, key=lambda turn: -turn.response_latency_ms)[:MOST_TURNS]
        shown = sorted(slowest, key=lambda turn: turn.n)
        console.print(Text(f"the slowest {MOST_TURNS} of {len(call.turns)} turns; all of them with --all", "dim"))
    if shown:
        console.print(timeline.turns(shown, console.width, ascii_only))
    for each in call.barge_ins:
        stopped = "the agent went on" if each.latency_ms is None else f"agent silent after {each.latency_ms:.0f} ms"
        _line(console, Text.assemble(("   ! ", "yellow"), f"{_BARGE_INS[each.kind]} at {each.caller_start_ms / 1000:.2f} s: {stopped}"))
    speech = call.speech
    sums = [f"response {_figures(speech.response_latency_ms)}"]
    sums += [f"greeting {call.timings_ms.greeting:.0f} ms"] if call.timings_ms.greeting is not None else []
    sums += [f"agent's share {speech.talk_ratio:.0%}"] if speech.talk_ratio is not None else []
    sums += [f"overlap {speech.overlap_ms:.0f} ms"] if speech.overlap_ms else []
    sums += [f"dead air {speech.dead_air}×"] if speech.dead_air else []
    sums.append(f"detector {speech.detector}")
    _line(console, Text("  " + ", ".join(sums), "dim"))
    if call.reported.difference_ms:
        differences = call.reported.difference_ms
        mean = sum(differences) / len(differences)
        _line(
            console,
            Text(f"  the agent reported {len(differences)} of these latencies: on average {mean:+.0f} ms less than the wire", "dim"),
        )


def _figures(told: Percentiles) -> str:
    named = (("p50", told.p50), ("p90", told.p90), ("p95", told.p95), ("max", told.max))
    return " ".join([*(f"{name} {value:.0f}" for name, value in named if value is not None), f"(n {told.n})"])


def _media(console: Console, call: Call) -> None:
    parties: list[tuple[str, str, Stream]] = [
        ("caller", look.CALLER, call.media.caller),
        ("agent", look.AGENT, call.media.agent),
    ]
    heard = [each for each in parties if each[2].packets or each[2].codec]
    if not heard:
        return
    _section(console, "media")
    table = Table(box=None, padding=(0, 1), pad_edge=False, show_edge=False, header_style="dim")
    for name in ("sent by", "codec", "packets", "lost", "jitter ms", "MOS-LQ", "DTMF"):
        table.add_column(name, justify="left" if name in ("sent by", "codec", "DTMF") else "right", no_wrap=True)
    for name, style, stream in heard:
        mos = look.NONE if stream.mos_lq is None else f"{stream.mos_lq:.2f}"
        lost = Text(f"{stream.lost} ({stream.loss_pct:.1f} %)", "red" if stream.loss_pct >= 1 else "")
        digits = look.plain("".join(each.digit for each in stream.dtmf))
        cells: list[str | Text] = [stream.codec or look.NONE, str(stream.packets), lost, f"{stream.jitter_ms:.1f}", mos, digits]
        table.add_row(Text(name, style), *cells)
    console.print(table)
    delay = call.media.relay_delay
    extra = [f"the sidecar's own delay p50 {delay.p50_us:.0f} µs, p99 {delay.p99_us:.0f} µs"] if delay.p50_us and delay.p99_us else []
    extra += [f"packets refused from a stranger: {call.media.refused}"] if call.media.refused else []
    extra += [f"packets not analysed: {call.media.tap_dropped}"] if call.media.tap_dropped else []
    if extra:
        _line(console, Text("  " + ", ".join(extra), "dim"))
    for line in _kept(call):
        _line(console, Text("  " + line, "dim"))


def _kept(call: Call) -> list[str]:
    """What `calls export` and the API have of it besides figures, and whether the evaluator got it."""
    recording, capture, upload = call.media.recording, call.media.capture, call.recording_upload
    found = []
    if recording is not None:
        found.append(f"recorded as {recording.format}, {recording.seconds:.1f} s{', cut short' if recording.cut else ''}")
    if upload is not None:
        found.append(look.plain(f"the recording's upload to the evaluator: {upload.state}, {upload.detail}"))
    if capture is not None:
        found.append(f"captured for the pcap: {capture.packets} packets{', cut short' if capture.cut else ''}")
    return found


def _grid(console: Console, rows: Sequence[tuple[Text, ...]]) -> None:
    """Columns, of which the last one wraps."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for place in range(len(rows[0])):
        table.add_column(no_wrap=place < len(rows[0]) - 1, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _line(console: Console, text: Text) -> None:
    """A line; where it does not fit it goes on under its own text."""
    indent = len(text.plain) - len(text.plain.lstrip())
    rows = text.wrap(console, max(20, console.width - indent)) if len(text.plain) > console.width else [text]
    for n, row in enumerate(rows):
        row.rstrip()
        console.print(Text(" " * (indent + 2 if n else 0)) + row, no_wrap=True, overflow="ignore", crop=False)
