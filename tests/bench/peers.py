"""The peers that are measured beside us: Debian's SIPp, Kamailio and rtpengine, and Sippy in a virtual environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
SIPPY = ROOT / ".venv-bench" / "bin" / "b2bua_simple"
SIPPY_RELEASE = "sippy==2.5.0"
PACKAGES = {"sipp": "sip-tester", "kamailio": "kamailio", "rtpengine": "rtpengine-daemon", "gcc": "gcc", "taskset": "util-linux"}
_POLICY = Path("/usr/sbin/policy-rc.d")


class NoPeer(Exception):
    """A peer is missing and cannot be installed. The text says what to do."""


def install(programs: list[str], *, sippy: bool) -> None:
    """Install what is missing of `programs`, and Sippy if asked for. Raises NoPeer."""
    missing = [PACKAGES[program] for program in programs if shutil.which(program) is None]
    if missing:
        _install_debian(missing)
    if sippy and not SIPPY.exists():
        sys.stderr.write(f"installing {SIPPY_RELEASE} …\n")
        folder = SIPPY.parents[1]
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", SIPPY_RELEASE])


def _install_debian(packages: list[str]) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NoPeer(f"please install these Debian packages: {' '.join(packages)}")
    sys.stderr.write(f"installing {' '.join(packages)} …\n")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_daemons():
        _run(["apt-get", "update", "-qq"], environment)
        _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], environment)


@contextmanager
def _no_daemons() -> Iterator[None]:
    """Debian starts a daemon as it installs it, unless this file says no; one that was here already stays as it is."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoPeer(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()[-500:]}")
