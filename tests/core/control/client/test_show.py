"""One call in a terminal, beyond what its drawings tell."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from control.client.show import show
from control.contract.answers import Ladder
from control.contract.call import Call, Capture, Recording, RecordingUpload
from tests.core.control.client.calls import call


def told(shown: Call) -> str:
    text = StringIO()
    show(Console(file=text, width=120, color_system=None), shown, Ladder(call=shown.id, answered_ms=None, steps=[]), every_turn=False)
    return text.getvalue()


def test_what_is_kept_of_a_call_is_told_with_its_way_to_the_evaluator() -> None:
    shown = call("c1", 700.0)
    assert "recorded" not in told(shown)
    shown.media.recording = Recording(format="ogg", seconds=60.04, bytes=1, sha256="00", cut=True)
    shown.media.capture = Capture(packets=6000, bytes=1, sha256="00")
    shown.recording_upload = RecordingUpload(state="refused", detail="403 \x1b[31mForbidden", delivery=7)
    text = told(shown)
    assert "recorded as ogg, 60.0 s, cut short\n" in text
    assert "captured for the pcap: 6000 packets\n" in text
    assert "the recording's upload to the evaluator: refused, 403 \N{REPLACEMENT CHARACTER}[31mForbidden\n" in text
