"""Softphones of PyPI packages, each a process: commands in, events out, a tone as microphone, what it hears in a WAV file."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.support.product import free_port, until

RATE = 8000
_HEADER = 44
"""Octets of a WAV file before its samples."""


class Softphone:
    """One running phone. `events` is what it has told so far."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, uri: str) -> None:
        self.process = process
        self.folder = folder
        self.uri = uri
        self.events: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            self.events.append(json.loads(text))

    def command(self, command: str, **fields: object) -> None:
        """Have it do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"command": command, **fields}).encode() + b"\n")
        self.process.stdin.flush()

    def told(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """Its events of one kind, with these values."""
        return [found for found in list(self.events) if found["event"] == event and fields.items() <= found.items()]

    def wait_for(self, event: str, count: int = 1, **fields: object) -> dict[str, Any]:
        """The `count`th event of a kind, waiting for it."""
        try:
            until(f"{self.uri}: {event} {fields}", lambda: len(self.told(event, **fields)) >= count, 20)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.events}") from error
        return self.told(event, **fields)[count - 1]

    def heard(self, tone: int) -> int:
        """How many half seconds of a tone it has heard, to 50 Hz."""
        octets = (self.folder / "heard.wav").read_bytes()[_HEADER:]  # the header's own lengths are written at the end
        samples = struct.unpack(f"<{len(octets) // 2}h", octets[: len(octets) // 2 * 2])
        return sum(_pitch(samples[start : start + RATE // 2]) == tone for start in range(0, len(samples) - RATE // 2 + 1, RATE // 2))

    def stop(self) -> None:
        """End it; it says goodbye to its calls."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(5)
        if self.process.stdout is not None:
            self.process.stdout.close()


def _pitch(samples: tuple[int, ...]) -> int:
    """Of half a second, to 50 Hz; 0 where there is next to nothing."""
    crossings = sum((one < 0) != (other < 0) for one, other in pairwise(samples))
    loud = sum(value * value for value in samples) / len(samples) > 1000**2
    return round(crossings * RATE / len(samples) / 2 / 50) * 50 if loud else 0


@contextmanager
def softphone(program: str, folder: Path, host: str, user: str, *, transport: str = "udp", **settings: object) -> Iterator[Softphone]:
    """A phone that runs `tests.support.<program>`, ready, at `host`. It answers by itself."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port(host, socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM)
    values = {"host": host, "port": port, "user": user, "folder": str(folder), "transport": transport, **settings}
    with (folder / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", f"tests.support.{program}", json.dumps(values)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    phone = Softphone(process, folder, f"sip:{user}@{host}:{port};transport={transport}")
    try:
        until(f"{program} is ready", lambda: phone.told("ready") or process.poll() is not None, 20)
        assert process.poll() is None, (folder / "stderr").read_text(errors="replace")[-3000:]
        yield phone
    finally:
        phone.stop()
