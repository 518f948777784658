"""What is measured, each started alone on the test core: a direct wire, Kamailio, Sippy, and Trunkside with its traces on."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.bench import peers
from tests.bench.machine import LOAD_CORE, TEST_CORE, pinned
from tests.support.product import free_port

HOST = "127.0.0.1"
_PATIENCE = 20.0
_FILES = 60000


@dataclass(frozen=True, slots=True)
class Running:
    """A system that answers SIP."""

    name: str
    port: int
    """Where callers send."""
    pid: int | None
    """None for the direct wire, which costs nothing."""
    ready_s: float
    """From its start to its first answer."""
    routed: bool
    """Whether ACK and BYE go to the peer's Contact by the routes; else they go to the system itself."""


System = Callable[[Path, int], AbstractContextManager[Running]]
"""Starts a system in a folder of its own, before an agent at a port of the loopback."""


@contextmanager
def direct(folder: Path, agent: int) -> Iterator[Running]:
    """No system at all: what the load tools and the kernel take by themselves."""
    yield Running("direct", agent, None, 0.0, True)


@contextmanager
def kamailio(folder: Path, agent: int) -> Iterator[Running]:
    """Kamailio as a transaction-stateful, record-routing proxy with one worker."""
    port = free_port(HOST)
    text = (Path(__file__).parent / "kamailio.cfg").read_text()
    config = folder / "kamailio.cfg"
    config.write_text(text.replace("%address%", f"{HOST}:{port}").replace("%agent%", f"{HOST}:{agent}"))
    command = ["kamailio", "-f", str(config), "-DD", "-E", "-m", "512", "-M", "64"]
    with _started("Kamailio", command, folder, port, routed=True) as running:
        yield running


@contextmanager
def sippy(folder: Path, agent: int) -> Iterator[Running]:
    """Sippy's plain B2BUA."""
    port = free_port(HOST)
    command = [str(peers.SIPPY), "-f", "-l", HOST, "-p", str(port), "-n", f"{HOST}:{agent}"]
    with _started("Sippy", command, folder, port, routed=False, environment={"SIPLOG_BEND": "none"}) as running:
        yield running


@contextmanager
def trunkside(folder: Path, agent: int, program: list[str] | None = None) -> Iterator[Running]:
    """The sidecar as users run it; every fact goes through the spool to a control that takes it. `program`: what starts it instead."""
    with ExitStack() as stack:
        sink = subprocess.Popen(
            pinned(LOAD_CORE, [sys.executable, "-m", "tests.bench.facts_sink"]), cwd=peers.ROOT, stdout=subprocess.PIPE, text=True
        )
        stack.callback(_stop, sink)
        assert sink.stdout is not None
        control = int(sink.stdout.readline())
        port = free_port(HOST)
        settings = {
            "sip": {"listen": [f"udp://{HOST}:{port}"]},
            "routes": [{"name": "agent", "target": f"sip:agent@{HOST}:{agent}"}],
            "media": {"ports": [30000, 61000]},
            "control": {"url": f"http://{HOST}:{control}"},
            "spool": {"path": str(folder / "spool")},
            "admin": {"listen": f"{HOST}:{free_port(HOST, socket.SOCK_STREAM)}"},
        }
        config = folder / "sidecar.yaml"
        config.write_text(yaml.safe_dump(settings))
        command = [sys.executable, "-m", *(program or ["sidecar.cli"]), "sidecar", "--config", str(config)]
        yield stack.enter_context(_started("Trunkside", command, folder, port, routed=False))


SYSTEMS: dict[str, System] = {"direct": direct, "Kamailio": kamailio, "Sippy": sippy, "Trunkside": trunkside}


@contextmanager
def _started(
    name: str, command: list[str], folder: Path, port: int, *, routed: bool, environment: dict[str, str] | None = None
) -> Iterator[Running]:
    """A process on the test core from its start to its end."""
    if shutil.which(command[0]) is None:
        raise peers.NoPeer(f"{command[0]} is not installed")
    limited = ["sh", "-c", f'ulimit -n {_FILES} 2>/dev/null || ulimit -n "$(ulimit -Hn)"; exec "$@"', "sh", *command]
    with (folder / f"{name}.log").open("wb") as log:
        begin = time.monotonic()
        process = subprocess.Popen(
            pinned(TEST_CORE, limited),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(peers.ROOT), **(environment or {})},
        )
    try:
        _answers(process, port, folder / f"{name}.log")
        yield Running(name, port, process.pid, time.monotonic() - begin, routed)
    finally:
        _stop(process)


def _answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Ask until the first answer to OPTIONS comes, whatever it says."""
    deadline = time.monotonic() + _PATIENCE
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.bind((HOST, 0))
        asking.settimeout(0.01)
        own = asking.getsockname()[1]
        for n in range(1_000_000):
            message = (
                f"OPTIONS sip:ping@{HOST}:{port} SIP/2.0\r\nVia: SIP/2.0/UDP {HOST}:{own};branch=z9hG4bKready{own}n{n}\r\n"
                f"From: <sip:bench@{HOST}:{own}>;tag={n}\r\nTo: <sip:ping@{HOST}:{port}>\r\nCall-ID: ready{own}-{n}@{HOST}\r\n"
                f"CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContact: <sip:bench@{HOST}:{own}>\r\nContent-Length: 0\r\n\r\n"
            )
            try:
                asking.sendto(message.encode(), (HOST, port))
                if asking.recv(4096).startswith(b"SIP/2.0 "):
                    return
            except (TimeoutError, ConnectionRefusedError):
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                raise peers.NoPeer(f"{process.args!r} does not answer: {log.read_text(errors='replace')[-1000:]}")


def _stop(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """End it: kindly, then not."""
    process.terminate()
    try:
        process.wait(8)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
