"""Debian's rtpengine in user space, on a loopback address of its own."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sidecar.net.rtpengine import bencode
from tests.support.product import free_port, until


@dataclass
class Rtpengine:
    """A running instance."""

    host: str
    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def server(self) -> str:
        """As media.rtpengine.servers names it."""
        return f"udp://{self.host}:{self.port}"

    def ask(self, command: str, **values: str) -> dict[str, object]:
        """The answer to one command; empty while nobody answers."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.5)
            sock.connect((self.host, self.port))
            try:
                sock.send(
                    f"{secrets.token_hex(8)} ".encode()
                    + bencode.encode({"command": command, **{name.replace("_", "-"): value for name, value in values.items()}})
                )
                answer: dict[str, object] = bencode.decode(sock.recv(65535).partition(b" ")[2])
            except (TimeoutError, ConnectionRefusedError):
                return {}
        return answer

    @property
    def calls(self) -> list[str]:
        """Ids of the calls that it has."""
        listed = self.ask("list").get("calls", [])
        assert isinstance(listed, list)
        return [one.decode() for one in listed]

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.process.kill()
        self.process.wait()


def start(folder: Path, host: str, port: int) -> Rtpengine:
    """An instance that answers."""
    binary = shutil.which("rtpengine")
    assert binary is not None, "rtpengine is not installed: Debian has it as rtpengine-daemon"
    folder.mkdir(parents=True, exist_ok=True)
    command = [binary, "--foreground", "--log-stderr", "--log-level=5", "--table=-1", f"--interface={host}", f"--listen-ng={host}:{port}"]
    command += [
        f"--listen-cli={host}:{free_port(host, socket.SOCK_STREAM)}",
        "--config-file=none",
        "--num-threads=1",
        "--port-min=30000",
        "--port-max=31000",
        f"--recording-dir={folder}",
    ]
    with (folder / "log").open("ab") as log:
        running = Rtpengine(host, port, folder, subprocess.Popen(command, stdout=log, stderr=log, cwd=folder))
    until("rtpengine answers", lambda: running.ask("ping") or running.process.poll() is not None)
    assert running.process.poll() is None, (folder / "log").read_text(errors="replace")[-2000:]
    return running


@contextmanager
def rtpengine(folder: Path, host: str) -> Iterator[Rtpengine]:
    """A running instance, gone afterwards."""
    running = start(folder, host, free_port(host))
    try:
        yield running
    finally:
        running.kill()
