"""Programs that tests call as their judges."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


def tool(name: str) -> str:
    """The program of this name, beside Python's own or on the path. Raises AssertionError: a judge that is missing has not agreed."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found is not None, f"{name} is not there: `make test` installs it"
    return found


def run(name: str, *arguments: str, given: bytes = b"", seconds: float = 60.0) -> str:
    """What the program says on stdout. Raises AssertionError with what it says on stderr unless it ends with 0."""
    ran = subprocess.run([tool(name), *arguments], input=given, capture_output=True, timeout=seconds, check=False)
    said = f"{ran.stdout.decode(errors='replace')} {ran.stderr.decode(errors='replace')}"
    assert ran.returncode == 0, f"{name} ended with {ran.returncode}: {said}"
    return ran.stdout.decode(errors="replace")
