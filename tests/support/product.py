"""The product as its users run it: `trunkside sidecar` and `trunkside control` as processes, on loopback addresses of their own."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import yaml

PATIENCE = 30.0
"""Seconds for a process to be ready, on a busy machine."""
_PORTS = range(21000, 30000)
"""Above what the tests let phones take for RTP, below the sidecar's own and those that the kernel gives to connections."""


def loopback() -> str:
    """A loopback address that nothing else uses at present, so that port ranges of several tests never meet."""
    return f"127.{random.randint(16, 239)}.{random.randint(0, 255)}.{random.randint(1, 254)}"


def free_port(host: str, kind: int = socket.SOCK_DGRAM, *, run: int = 1) -> int:
    """The first of `run` ports in a row that are free on `host` now, and that nobody takes unasked before the process that they are for has
    started. Raises RuntimeError when none is found."""
    for first in random.sample(range(_PORTS.start, _PORTS.stop - run + 1), 100):
        if all(_is_free(host, port, kind) for port in range(first, first + run)):
            return first
    raise RuntimeError(f"no {run} free ports in a row on {host} in {_PORTS}")


def _is_free(host: str, port: int, kind: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


@dataclass
class Product:
    """A running half. `events` are its log lines so far."""

    process: subprocess.Popen[bytes]
    events: list[dict[str, Any]] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)
    """Lines on stderr that are no JSON."""
    _seen: threading.Condition = field(default_factory=threading.Condition)
    _reader: threading.Thread | None = None

    def read(self) -> None:
        """Follow stderr until it ends."""
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            text = raw.decode(errors="replace").rstrip()
            with self._seen:
                try:
                    self.events.append(json.loads(text))
                except ValueError:
                    self.plain.append(text)
                self._seen.notify_all()

    def start_reading(self) -> None:
        """Follow stderr in a thread: a full pipe would stop the process."""
        self._reader = threading.Thread(target=self.read, daemon=True)
        self._reader.start()

    def event(self, name: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """The first log line with this event, waiting for it. Raises AssertionError when it does not come."""
        with self._seen:
            if not self._seen.wait_for(lambda: self._find(name) or self.process.poll() is not None, seconds) or not self._find(name):
                raise AssertionError(
                    f"no {name!r} within {seconds:g} s; status {self.process.poll()}; {self.events[-5:]} {self.plain[-20:]}"
                )
        found = self._find(name)
        assert found is not None
        return found

    def _find(self, name: str) -> dict[str, Any] | None:
        return next((event for event in self.events if event.get("event") == name), None)

    @property
    def faults(self) -> list[Any]:
        """What a healthy run never says: errors, and anything that is not a structured line."""
        return [event for event in self.events if event.get("level") in ("error", "critical")] + self.plain

    def memory_kb(self) -> int:
        """Resident memory, with that of the processes it started."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return sum(_resident_kb(pid) for pid in (str(self.process.pid), *children))

    def open_files(self) -> int:
        """File descriptors, sockets included."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.process.kill()
        self.process.wait()
        self._finish()

    def stop(self, seconds: float = PATIENCE) -> int:
        """SIGTERM, and the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._finish()
        return status

    def _finish(self) -> None:
        if self._reader is not None:
            self._reader.join(5.0)
        if self.process.stderr is not None:
            self.process.stderr.close()


def _resident_kb(pid: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def command(half: str, config: Path) -> list[str]:
    """What starts a half with the interpreter of the tests."""
    return [sys.executable, "-m", "sidecar.cli", half, "--config", str(config)]


@contextmanager
def running(half: str, folder: Path, settings: dict[str, Any], prefix: Sequence[str] = ()) -> Iterator[Product]:
    """`sidecar` or `control` with these settings, ready, in `folder`; stopped at the end if it still runs.

    `prefix` is a command to run it with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / f"{half}.yaml"
    config.write_text(yaml.safe_dump(settings))
    process = subprocess.Popen([*prefix, *command(half, config)], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    product = Product(process)
    product.start_reading()
    try:
        product.event("ready")
        yield product
    finally:
        product.stop()


def refused(half: str, folder: Path, settings: dict[str, Any] | str) -> subprocess.CompletedProcess[str]:
    """The outcome of a start that is expected to fail."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / f"{half}.yaml"
    config.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))
    return subprocess.run(command(half, config), cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)


def get_json(url: str) -> Any:
    """A GET's JSON body, also of an error answer."""
    try:
        with urlopen(url, timeout=10) as response:
            return json.load(response)
    except HTTPError as error:
        with error:
            return json.load(error)


def until(what: str, check: Any, seconds: float = PATIENCE) -> Any:
    """The first true result of `check()`. Raises AssertionError naming `what` when none comes."""
    deadline = time.monotonic() + seconds
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)
