"""What a process that holds passwords leaves behind when something goes wrong: no value of a variable, and no memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.product import free_port, loopback, running

SECRET = "correct-horse-battery-staple"
FAILS = """
import sys
from {module} import {setup}
import structlog
{setup}()
class Holder:
    def __init__(self, password): self.password = password
    def __repr__(self): return self.password
def inner(password, holder):
    local = [password]
    raise ValueError("it went wrong")
try:
    inner(sys.argv[1], Holder(sys.argv[1]))
except ValueError:
    structlog.get_logger().exception("failed")
"""


@pytest.mark.parametrize(("module", "setup"), [("sidecar.logs", "configure"), ("control.app", "setup_logging")])
def test_a_traceback_in_the_log_shows_where_and_no_values(module: str, setup: str) -> None:
    code = FAILS.format(module=module, setup=setup)  # without the secret: a traceback may show lines of the source
    done = subprocess.run([sys.executable, "-c", code, SECRET], capture_output=True, text=True, check=True, timeout=60)
    assert "it went wrong" in done.stderr
    assert "inner" in done.stderr
    assert SECRET not in done.stderr


def test_no_core_dump_holds_the_memory_of_a_sidecar_or_of_its_analysis(tmp_path: Path) -> None:
    host = loopback()
    settings = {
        "sip": {"listen": [f"udp://{host}:0"]},
        "routes": [{"name": "agent", "target": f"sip:agent@{host}:5070", "username": "a", "password": SECRET}],
        "control": {"url": f"http://{host}:1"},
        "admin": {"listen": f"{host}:{free_port(host)}"},
        "fleet": {"enabled": False},
    }
    with running("sidecar", tmp_path, settings) as sidecar:
        own = sidecar.process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        assert children
        for pid in (str(own), *children):
            limits = Path(f"/proc/{pid}/limits").read_text()
            assert next(line for line in limits.splitlines() if line.startswith("Max core file size")).split()[4:6] == ["0", "0"]
            assert int(Path(f"/proc/{pid}/coredump_filter").read_text(), 16) == 0
        # Nor does what it says of itself, or the command line that everybody on the machine can read.
        assert SECRET not in Path(f"/proc/{own}/cmdline").read_text()
        assert SECRET not in str(sidecar.events)
