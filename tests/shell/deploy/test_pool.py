"""configs/pool: what is shipped for several hosts loads, and rtpengine starts with its file."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from control.config import ControlConfig
from sidecar.config import SidecarConfig
from sidecar.doctor import faults_of
from tests.support.product import free_port, loopback, until
from tests.support.rtpengine import Rtpengine

POOL = Path(__file__).parents[3] / "configs" / "pool"


def shipped(name: str, secrets: Path) -> dict[str, Any]:
    """A file with its secrets in a folder that is there."""
    text = (POOL / name).read_text(encoding="utf-8")
    for secret in ("sidecar-token", "people-token", "evaluator-key"):
        (secrets / secret).write_text(f"{secret} that is long enough to be one\n")
    (secrets / "secret-key").write_text("T" * 43 + "=\n")
    for file in secrets.iterdir():
        file.chmod(0o600)
    loaded: dict[str, Any] = yaml.safe_load(text.replace("/etc/trunkside/secrets", str(secrets)))
    return loaded


def test_a_sidecar_of_the_pool_has_no_fault_and_its_relays_are_the_shipped_ones(tmp_path: Path) -> None:
    config = SidecarConfig(**shipped("sidecar.yaml", tmp_path))
    assert [fault for fault in faults_of(config) if fault.severity == "error"] == []
    listened = next(
        line.split("=")[1].strip() for line in (POOL / "rtpengine.conf").read_text().splitlines() if line.startswith("listen-ng")
    )
    assert config.media.rtpengine is not None
    assert f"udp://{listened}" in config.media.rtpengine.servers


def test_a_control_of_the_pool_is_one_of_several_on_postgresql(tmp_path: Path) -> None:
    config = ControlConfig(**shipped("control.yaml", tmp_path))
    assert config.database.startswith("postgresql+asyncpg://")
    assert [sorted(token.scopes) for token in config.tokens] == [["sidecar"], ["operate", "read"]]


@pytest.mark.peer
def test_rtpengine_takes_its_file(tmp_path: Path) -> None:
    binary = shutil.which("rtpengine")
    assert binary is not None, "rtpengine is not installed: Debian has it as rtpengine-daemon"
    host = loopback()
    port = free_port(host)
    file = tmp_path / "rtpengine.conf"
    file.write_text((POOL / "rtpengine.conf").read_text().replace("10.0.0.21:2223", f"{host}:{port}").replace("10.0.0.21", host))
    command = [
        binary,
        "--foreground",
        "--log-stderr",
        f"--config-file={file}",
        f"--listen-cli={host}:{free_port(host, socket.SOCK_STREAM)}",
    ]
    with (tmp_path / "log").open("wb") as log:
        engine = Rtpengine(host, port, tmp_path, subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path))
    try:
        until("it answers", lambda: engine.ask("ping") or engine.process.poll() is not None)
        assert engine.process.poll() is None, (tmp_path / "log").read_text()
    finally:
        engine.kill()
