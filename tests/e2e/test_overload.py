"""More calls than the sidecar can carry: what it takes goes well, the rest is told to come again, and afterwards all is as before."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.test_sipp import Bench, bench, clean
from tests.support.product import free_port, until
from tests.support.sipp import SCENARIOS, SPEECH_PACKETS, Sipp

pytestmark = [pytest.mark.peer, pytest.mark.load]

RATE, SECONDS = 800, 8
"""Calls a second: more than twice what a machine of two cores carries, SIPp on both ends included."""
REFUSED = """
  <label id="1"/>
  <send>
    <![CDATA[
      ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0
      [last_Via:]
      [last_From:]
      [last_To:]
      [last_Call-ID:]
      CSeq: 1 ACK
      Max-Forwards: 70
      Content-Length: 0

    ]]>
  </send>
  <label id="2"/>
</scenario>
"""


def scenario(folder: Path) -> Path:
    """The plain caller, who says nothing and takes a 503 for an answer."""
    text = (SCENARIOS / "caller.xml").read_text()
    for old, new in (
        ('  <recv response="200" rtd="invite"', '  <recv response="503" optional="true" next="1"/>\n  <recv response="200" rtd="invite"'),
        ('<exec rtp_stream="speech.ulaw,1,0"/>', '<log message="up"/>'),
        ('<recv response="200" rtd="bye"/>\n</scenario>', '<recv response="200" rtd="bye" next="2"/>' + REFUSED),
    ):
        assert old in text
        text = text.replace(old, new)
    file = folder / "caller-overload.xml"
    file.write_text(text)
    return file


def test_a_flood_is_refused_in_part_live_calls_go_on_and_all_is_well_after_it(tmp_path: Path) -> None:
    with bench(tmp_path) as run, ExitStack() as stack:
        assert run.run("caller", "agent", calls=100) == (clean(100), clean(100))
        run.quiet()
        memory = run.sidecar.memory_kb()
        edge = Sipp("agent", tmp_path, run.edge, run.edge_port, calls=10_000_000)
        stack.callback(edge.stop)
        before = _dial(run, stack, "live", calls=20, rate=20, hold_ms=(SECONDS + 8) * 1000)
        until("the calls that will live through it", lambda: up(run) == 20)
        flood = _dial(run, stack, "flood", calls=RATE * SECONDS, rate=RATE, hold_ms=100, file=scenario(tmp_path))
        flooded = flood.wait(SECONDS + 40)
        engine = run.admin("/v1/state")["engine"]
        lived = before.wait(40)
        assert (lived.successful, lived.failed) == (20, 0)
        assert engine["counts"]["overloaded"] > RATE * SECONDS // 10, "nothing was refused: raise RATE"
        # A call that was let in, and every refusal, came to its end; what SIPp itself gave up on is told apart.
        assert flooded.successful > 0.95 * RATE * SECONDS, (flooded, engine["counts"])
        edge.stop()
        run.quiet()
        assert run.run("caller", "agent", calls=20, rate=10) == (clean(20), clean(20))
        run.quiet()
        assert run.admin("/v1/state")["engine"]["valve"]["share"] == 1.0
        # The callers of the flood said nothing, so these are the calls that lived through it and the ones after it.
        spoken = [media for trace in run.traces().values() if (media := trace[-2].get("media")) and media["caller"]["packets"]]
        assert len(spoken) == 100 + 20 + 20
        assert {(media[side]["packets"], media[side]["lost"]) for media in spoken for side in ("caller", "agent")} == {(SPEECH_PACKETS, 0)}
        assert run.sidecar.memory_kb() - memory < 40 * RATE * SECONDS + 16_384
        assert run.sidecar.faults == []


def up(run: Bench) -> int:
    """Live calls that were answered."""
    return sum(call["answered_at"] is not None for call in run.admin("/v1/calls")["calls"])


def _dial(run: Bench, stack: ExitStack, name: str, *, calls: int, rate: int, hold_ms: int, file: Path | None = None) -> Sipp:
    options = ["-r", str(rate), "-s", "agent", "-d", str(hold_ms), "-l", "20000"]
    folder = run.folder / name
    dialler = Sipp("caller", folder, run.caller, free_port(run.caller), calls=calls, options=options, target=run.sip, file=file)
    stack.callback(dialler.stop)
    return dialler
