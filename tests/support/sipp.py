"""SIPp as a caller and as an agent's edge: bounded in time, and its own statistics read back."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.speech_file import write_speech

SCENARIOS = Path(__file__).parents[1] / "e2e" / "sipp"
SPEECH_PACKETS = 75
"""RTP packets that each side sends in a call: 1.5 s at 20 ms."""


@dataclass(frozen=True)
class Figures:
    """The last line of SIPp's statistics."""

    successful: int
    failed: int
    retransmissions: int
    unexpected: int
    """Messages that belonged to no call, or to one that was over."""
    causes: tuple[str, ...]
    """Which kinds of failure were counted."""


class Sipp:
    """One SIPp process running one scenario of tests/e2e/sipp in `folder`."""

    def __init__(
        self,
        scenario: str,
        folder: Path,
        host: str,
        port: int,
        *,
        calls: int,
        options: Sequence[str] = (),
        target: str = "",
        scenarios: Path = SCENARIOS,
        file: Path | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        """Start it; `calls` is after how many it ends by itself. `target`: host:port for a caller; `file`: a scenario kept elsewhere.

        `scenarios` is where it is looked for by name, `prefix` a command to run SIPp with.
        """
        binary = shutil.which("sipp")
        assert binary is not None, "SIPp is not installed: Debian has it as sip-tester"
        self.name = scenario
        self.folder = folder / scenario
        self.folder.mkdir(parents=True, exist_ok=True)
        write_speech(self.folder / "speech.ulaw", SPEECH_PACKETS)
        self._statistics = self.folder / "statistics.csv"
        arguments = [*prefix, binary, *([target] if target else []), "-sf", str(file or scenarios / f"{scenario}.xml")]
        arguments += ["-i", host, "-p", str(port), "-mi", host, "-m", str(calls), "-nostdin"]
        arguments += [
            "-trace_stat",
            "-stf",
            str(self._statistics),
            "-fd",
            "1",
            "-trace_err",
            "-error_file",
            str(self.folder / "errors.log"),
        ]
        arguments += ["-trace_logs", "-log_file", str(self.folder / "log.txt")]
        with (self.folder / "output.txt").open("wb") as output:
            self.process = subprocess.Popen([*arguments, *options], cwd=self.folder, stdout=output, stderr=subprocess.STDOUT)

    def wait(self, seconds: float) -> Figures:
        """The figures once all its calls are over. Raises AssertionError when they are not in time."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            raise AssertionError(f"SIPp {self.name} was not done within {seconds:g} s: {self.figures()} {self.errors()}") from None
        return self.figures()

    def stop(self) -> None:
        """End it now."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def errors(self) -> str:
        """The beginning of what it complained about."""
        file = self.folder / "errors.log"
        return file.read_text(errors="replace")[:2000] if file.exists() else ""

    def figures(self) -> Figures:
        """What it counted so far."""
        with self._statistics.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter=";"))
        last = rows[-1]
        return Figures(
            successful=int(last["SuccessfulCall(C)"]),
            failed=int(last["FailedCall(C)"]),
            retransmissions=int(last["Retransmissions(C)"]),
            unexpected=int(last["OutOfCallMsgs(C)"]) + int(last["DeadCallMsgs(C)"]),
            causes=tuple(key[:-3] for key, value in last.items() if key.startswith("Failed") and key.endswith("(C)") and int(value)),
        )
