"""Kamailio with the configuration that is shipped for a pool of sidecars."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NETWORK = Path(__file__).parents[2] / "configs" / "network"


def start(folder: Path, host: str, port: int, sidecars: Sequence[str]) -> subprocess.Popen[bytes]:
    """The shipped configuration, with a test's addresses; in a process group of its own, since Kamailio is many processes."""
    binary = shutil.which("kamailio") or "/usr/sbin/kamailio"
    assert Path(binary).exists(), "Kamailio is not installed: Debian has it as kamailio"
    folder.mkdir(parents=True, exist_ok=True)
    text = (NETWORK / "dispatcher.list").read_text(encoding="utf-8")
    for shipped, real in zip(("127.0.0.1:5062", "127.0.0.1:5064"), sidecars, strict=True):
        assert shipped in text
        text = text.replace(shipped, real)
    (folder / "dispatcher.list").write_text(text)
    command = [binary, "-f", str(NETWORK / "kamailio.cfg"), "-DD", "-E", "-m", "64", "-M", "8", "-Y", str(folder)]
    # One process reads: of two, one may overtake the other with a 200 behind its 180, which UDP allows anyway and SIPp's callers do not.
    command += ["-n", "1"]
    command += ["-A", f"SIP_LISTEN=udp:{host}:{port}", "-A", f'DISPATCHER_LIST="{folder}/dispatcher.list"', "-A", "PROBE_SECONDS=1"]
    with (folder / "kamailio.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


@contextmanager
def dispatcher(folder: Path, host: str, port: int, sidecars: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The same, ended afterwards."""
    process = start(folder, host, port, sidecars)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)
