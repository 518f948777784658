"""What is known of a call as one HTML file that needs nothing else: no script, no font, no picture from anywhere.

Pure: call and trace in, text out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import get_args

from control.api import timeline_svg
from control.api.ladder_svg import render_svg
from control.contract import facts as f
from control.contract.answers import Span
from control.contract.call import Call, HopName, Percentiles, ReportedTurn, Stream
from control.contract.redact import redact_correlation, token_of

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Content-Security-Policy of the file: SIP messages are a stranger's text, so nothing in it may run or load."""
_MOST_SPANS = 300
_STYLE = """
:root{color-scheme:light dark;--text:#1b1f24;--ground:#fff;--dim:#57606a;--line:#d8dee4;--sunk:#f6f8fa;--good:#1a7f37;--bad:#cf222e;
--slow:#9a6700;--caller:#0969da;--agent:#8250df}
@media screen and (prefers-color-scheme:dark){:root{--text:#e6edf3;--ground:#0f1318;--dim:#9da7b3;--line:#30363d;--sunk:#1a2029;
--good:#4ac26b;--bad:#ff7b72;--slow:#e3b341;--caller:#79b8ff;--agent:#bc9bf8}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--text);background:var(--ground);max-width:60rem;margin:2rem auto;padding:0 1rem;
overflow-wrap:break-word}
h1{font-size:1.4rem;overflow-wrap:anywhere}h2{font-size:1.1rem;margin-top:2rem;border-bottom:1px solid var(--line)}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
pre{background:var(--sunk);padding:.6rem;overflow-x:auto;font-size:12px}.wide{overflow-x:auto}.wide svg{display:block}
.outcome{font-weight:bold}.dim{color:var(--dim)}
.linked,.repaired{color:var(--good)}.missing,.conflict,.unlinked,.cause{color:var(--bad)}
.chain{list-style:none;display:flex;flex-wrap:wrap;gap:.5rem;padding:0}
.chain li{flex:1 1 12rem;border-top:3px solid var(--good);padding:.4rem .2rem;overflow-wrap:anywhere}.chain .gap{border-color:var(--line)}
td{overflow-wrap:anywhere}summary{overflow-wrap:anywhere}
svg>rect:first-of-type{fill:var(--ground)}svg text{fill:var(--text)}svg text.dim,svg text.media{fill:var(--dim)}
svg .axis,svg .life{stroke:var(--line)}svg .arrow{stroke:var(--caller)}svg .head,svg rect.caller{fill:var(--caller)}
svg rect.agent,svg text.speech{fill:var(--agent)}svg .rule,svg .good{stroke:var(--good)}svg .rules{fill:var(--good)}
svg .slow{stroke:var(--slow)}svg .poor{stroke:var(--bad)}svg .mark{fill:var(--bad)}
@media (max-width:40rem){th,td{padding:.25rem .3rem}}
@media print{details>*{display:block}}
"""


def render(call: Call, trace: Iterable[f.Fact], spans: Sequence[Span] = ()) -> str:
    """The file. `spans` are the agent's own. Digest responses are redacted by the sidecar, correlation tokens here."""
    facts = list(trace)
    token = token_of(facts)
    sections = [
        _heading(call),
        _section("Identity", _chain(call)),
        _section("Findings", _table([("Finding", ""), ("Detail", "")], [[each.name, each.detail] for each in call.verdict.findings])),
        _section("Turns", _wide("Who spoke when", timeline_svg.render(call)) + _turns(call)),
        _section("The agent's own trace", _spans(spans)),
        _section("Interruptions by the caller", _barge_ins(call)),
        _section("Media", _media(call)),
        _section("Ladder", _wide("Both legs", render_svg(call, facts))),
        _section("Messages", "".join(_message(fact, token) for fact in facts if isinstance(fact, f.SipMessage))),
        _section("For programs", _json(call)),
    ]
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
        f'<meta name="viewport" content="width=device-width"><title>Call {_safe(call.id)}</title><style>{_STYLE}</style>'
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body><main>\n{"".join(sections)}</main></body></html>\n'


def _heading(call: Call) -> str:
    verdict, repair = call.verdict, call.verdict.repair
    how = f" by {repair.rule}, confidence {repair.confidence:.2f}; the report said {repair.reported or 'nothing'}" if repair else ""
    facts = [
        ("Call-ID", call.sip_call_id),
        ("On the agent's leg", ", ".join(call.b_leg_call_ids)),
        ("From, to", f"{call.from_} → {call.to}"),
        ("Kind", f"{call.kind}, {call.direction}, route {call.route or '-'}, sidecar {call.sidecar or '-'}"),
        ("Began", call.started_at.isoformat()),
        ("Answered", call.answered_at.isoformat() if call.answered_at else "no"),
        ("Ended", f"{call.ended_at.isoformat()} by {call.ended_by}: {call.cause or call.reason}" if call.ended_at else "not yet"),
        ("Final status", str(call.status) if call.status is not None else "-"),
        *_kept(call),
    ]
    rows = "".join(f"<tr><th>{_safe(name)}</th><td>{_safe(value)}</td></tr>" for name, value in facts)
    outcome = f'<span class="outcome {verdict.outcome}">{_safe(verdict.outcome.replace("_", " "))}</span>'
    provisional = "" if call.complete else '<p class="dim">The trace is not complete: figures may still change.</p>'
    return f"<h1>Call {_safe(call.id)}</h1><p>Verdict: {outcome}{_safe(how)}</p>{_why(call)}{provisional}<table>{rows}</table>"


def _kept(call: Call) -> list[tuple[str, str]]:
    """What there is besides this file."""
    recording, capture, upload = call.media.recording, call.media.capture, call.recording_upload
    found = []
    if recording is not None:
        cut = ", cut short" if recording.cut else ""
        found.append(("Recording", f"{recording.format}, {recording.seconds:.1f} s{cut}, SHA-256 {recording.sha256}"))
    if upload is not None:
        found.append(("Its upload to the evaluator", f"{upload.state}: {upload.detail}"))
    if capture is not None:
        cut = ", cut short" if capture.cut else ""
        found.append(("Captured", f"{capture.packets} packets of RTP and RTCP{cut}, SHA-256 {capture.sha256}"))
    return found


def _why(call: Call) -> str:
    """What stands between this call and a good one, in a sentence; nothing for a good one."""
    if call.status is not None and call.status >= 300:
        return f'<p class="cause">Not answered: {call.status} by {call.ended_by}. {_safe(call.cause or call.reason or "")}</p>'
    if call.reason == "interrupted":
        return f'<p class="cause">{_safe(call.cause or "The sidecar died during the call.")}</p>'
    return ""


def _chain(call: Call) -> str:
    """The four hops in their order, also those that nothing is known of: the first gap is where the id was lost."""
    seen = {hop.hop: hop for hop in reversed(call.verdict.hops)}
    if not seen and call.verdict.outcome == "not_applicable":
        return ""
    items = []
    for name in get_args(HopName):
        hop = seen.get(name)
        if hop is None:
            items.append(f'<li class="gap"><b>{name}</b><br><span class="dim">not seen</span></li>')
        else:
            at = f"{hop.at:%H:%M:%S}.{hop.at.microsecond // 1000:03}"
            items.append(f'<li><b>{name}</b> <span class="dim">{at}</span><br>{_safe(hop.evidence)}</li>')
    return f'<ol class="chain">{"".join(items)}</ol>'


def _json(call: Call) -> str:
    """The call object, as the API gives it."""
    text = call.model_dump_json(by_alias=True, indent=1)
    return f'<details><summary>The call object as JSON</summary><pre id="call-json">{_safe(text)}</pre></details>'


def _turns(call: Call) -> str:
    heads = [("Turn", "n"), ("Kind", ""), ("Caller speaks", "n"), ("Agent speaks", "n"), ("Response", "n"), ("First sound", "n")]
    told = {each.turn: each for each in call.reported.turns if each.e2e_latency_ms is not None}
    heads += [("SDK says", "n"), ("Wire − SDK", "n")] if told else []
    rows = [
        [
            str(turn.n),
            turn.kind.replace("_", " ") + (", interrupted" if turn.interrupted else ""),
            f"{turn.caller_start_ms:.0f}–{turn.caller_end_ms:.0f}",
            f"{turn.agent_start_ms:.0f}–{turn.agent_end_ms:.0f}",
            f"{turn.response_latency_ms:.0f} ± {turn.uncertainty_ms:.0f}",
            "-" if turn.first_audio_ms is None else f"{turn.first_audio_ms:.0f}",
            *(_said(told.get(turn.n)) if told else ()),
        ]
        for turn in call.turns
    ]
    if not rows:
        return ""
    note = (
        "Milliseconds of call time; 0 is the answer leaving the sidecar. "
        f"Response latency: {_figures(call.speech.response_latency_ms)}. Detector: {call.speech.detector}."
    )
    return f'<p class="dim">{_safe(note)}</p>{_table(heads, rows)}'


def _said(each: ReportedTurn | None) -> tuple[str, str]:
    """The SDK's own figure for a turn, and how much longer the wire says it took."""
    if each is None or each.e2e_latency_ms is None:
        return "-", "-"
    return f"{each.e2e_latency_ms:.0f}", "-" if each.difference_ms is None else f"{each.difference_ms:+.0f}"


def _spans(spans: Sequence[Span]) -> str:
    if not spans:
        return ""
    heads = [("Turn", "n"), ("Span", ""), ("Of", ""), ("Begins, ms", "n"), ("Lasts, ms", "n"), ("Status", "")]
    rows = [
        [str(s.turn or "-"), s.name, s.service or "-", f"{s.start_ms:.0f}", f"{s.duration_ms:.0f}", "" if s.status == "unset" else s.status]
        for s in spans[:_MOST_SPANS]
    ]
    left = f" The first {_MOST_SPANS} of {len(spans)}." if len(spans) > _MOST_SPANS else ""
    note = f"As the agent's own clock has them, beside the turns of the wire.{left}"
    return f'<p class="dim">{_safe(note)}</p>{_table(heads, rows)}'


def _figures(told: Percentiles) -> str:
    named = [
        (name, value) for name, value in (("p50", told.p50), ("p90", told.p90), ("p95", told.p95), ("max", told.max)) if value is not None
    ]
    return ", ".join([f"n {told.n}", *(f"{name} {value:.0f} ms" for name, value in named)])


def _barge_ins(call: Call) -> str:
    rows = [
        [each.kind.replace("_", "-"), f"{each.caller_start_ms:.0f}", "-" if each.latency_ms is None else f"{each.latency_ms:.0f}"]
        for each in call.barge_ins
    ]
    return _table([("Kind", ""), ("Caller begins, ms", "n"), ("Agent silent after, ms", "n")], rows)


def _media(call: Call) -> str:
    heads = [("Sent by", ""), ("Codec", ""), ("Packets", "n"), ("Lost", "n"), ("Jitter, ms", "n"), ("MOS-LQ", "n")]
    parties: list[tuple[str, Stream]] = [("caller", call.media.caller), ("agent", call.media.agent)]
    rows = [
        [
            name,
            s.codec or "-",
            str(s.packets),
            f"{s.lost} ({s.loss_pct:.2f} %)",
            f"{s.jitter_ms:.1f}",
            "-" if s.mos_lq is None else f"{s.mos_lq:.2f}",
        ]
        for name, s in parties
        if s.codec is not None or s.packets
    ]
    return _table(heads, rows)


def _message(message: f.SipMessage, token: str | None) -> str:
    first = message.text.split("\n", 1)[0].strip()
    ends = (message.remote, message.local) if message.direction == "in" else (message.local, message.remote)
    line = f"{message.elapsed_ms:.1f} ms  {message.leg}  {ends[0]} → {ends[1]}  {message.transport}  {first}"
    again = "  (retransmission)" if message.retransmission else ""
    return f"<details><summary>{_safe(line + again)}</summary><pre>{_safe(redact_correlation(message.text, token))}</pre></details>"


def _section(name: str, content: str) -> str:
    return f"<h2>{_safe(name)}</h2>{content}\n" if content else ""


def _wide(name: str, content: str) -> str:
    """What keeps its size on a small screen and is scrolled there, by keyboard too."""
    return f'<div class="wide" role="group" tabindex="0" aria-label="{_safe(name)}">{content}</div>' if content else ""


def _table(heads: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f'<th class="{style}">{_safe(name)}</th>' for name, style in heads)
    body = "".join(
        "<tr>" + "".join(f'<td class="{style}">{_safe(cell)}</td>' for cell, (_, style) in zip(row, heads, strict=True)) + "</tr>"
        for row in rows
    )
    return _wide("Table", f"<table><tr>{head}</tr>{body}</table>")


def _safe(text: str) -> str:
    return escape("".join(sign if sign in "\r\n\t" or sign >= " " else "\ufffd" for sign in text))
