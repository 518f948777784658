"""baresip as a phone without a sound card: a WAV file as its microphone, what it hears in WAV files, commands over its control port."""

from __future__ import annotations

import json
import math
import shutil
import socket
import struct
import subprocess
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.support.product import free_port, loopback, until

RATE = 8000
_HEADER = 44
"""Octets of a WAV file before its samples."""

_CONFIG = """
poll_method epoll
sip_listen {host}:{port}
rtp_ports 10000-20000
sip_transports {transport}
call_local_timeout 60
call_max_calls 4
audio_player {player}
audio_source aufile,{microphone}
audio_alert {player}
ausrc_srate {rate}
auplay_srate {rate}
ausrc_channels 1
auplay_channels 1
audio_level no
net_interface {host}
snd_path {folder}
ctrl_tcp_listen {control[0]}:{control[1]}
module_path {modules}
module stdio.so
module g711.so
module aubridge.so
module aufile.so
module sndfile.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
"""


class Phone:
    """One running baresip."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, control: socket.socket, uri: str) -> None:
        self.process = process
        self.folder = folder
        self.uri = uri
        self.events: list[dict[str, Any]] = []
        self._control = control
        self._buffer = b""

    def command(self, name: str, params: str = "") -> None:
        """Say a command as its keyboard would."""
        text = json.dumps({"command": name, "params": params, "token": name}).encode()
        self._control.sendall(f"{len(text)}:".encode() + text + b",")

    def read(self) -> None:
        """Take what it has told by now."""
        self._control.setblocking(False)
        try:
            while data := self._control.recv(65536):
                self._buffer += data
        except BlockingIOError:
            pass
        finally:
            self._control.setblocking(True)
        while b":" in self._buffer:
            length, _, rest = self._buffer.partition(b":")
            if len(rest) <= int(length):
                return
            self.events.append(json.loads(rest[: int(length)]))
            self._buffer = rest[int(length) + 1 :]

    def heard(self, kind: str) -> list[dict[str, Any]]:
        """Its events of one type so far."""
        self.read()
        return [event for event in self.events if event.get("type") == kind]

    def wait_for(self, kind: str, count: int = 1) -> dict[str, Any]:
        """The `count`th event of a type, waiting for it."""
        until(f"{self.uri}: {kind}", lambda: len(self.heard(kind)) >= count, 15)
        return self.heard(kind)[count - 1]

    def tones(self) -> list[int]:
        """Which pitch it heard in each whole second, to 50 Hz; 0 where it heard next to nothing."""
        pitches = []
        for file in sorted(self.folder.glob("dump-*-dec.wav")):
            octets = file.read_bytes()[_HEADER:]  # the header's own lengths are written at the end
            samples = struct.unpack(f"<{len(octets) // 2}h", octets[: len(octets) // 2 * 2])
            for start in range(0, len(samples) - RATE + 1, RATE):
                second = samples[start : start + RATE]
                crossings = sum((one < 0) != (other < 0) for one, other in pairwise(second))
                loud = sum(value * value for value in second) / RATE > 1000**2
                pitches.append(round(crossings / 2 / 50) * 50 if loud else 0)
        return pitches


@contextmanager
def baresip(folder: Path, host: str, user: str, *, transport: str = "udp", tone: float = 400.0) -> Iterator[Phone]:
    """A phone at `host` that answers by itself, and whose microphone hears a tone of `tone` Hz. Its RTP comes from the host's own address,
    so on loopback that must be 127.0.0.1."""
    binary = shutil.which("baresip")
    assert binary is not None, "baresip is not installed: Debian has it as baresip-core"
    folder.mkdir(parents=True, exist_ok=True)
    microphone = folder / "microphone.wav"
    _write_tone(microphone, tone)
    # It takes the next port for TLS, wanted or not.
    port = free_port(host, socket.SOCK_STREAM, run=2)
    control = (own := loopback()), free_port(own, socket.SOCK_STREAM)
    modules = next(path for path in (Path("/usr/lib/baresip/modules"), *Path("/usr/lib").glob("*/baresip/modules")) if path.exists())
    values = {"host": host, "port": port, "transport": transport, "microphone": microphone, "rate": RATE, "folder": folder}
    (folder / "config").write_text(_CONFIG.format(**values, control=control, modules=modules, player="aubridge,nobody"))
    uri = f"sip:{user}@{host}:{port};transport={transport}"
    (folder / "accounts").write_text(f"<{uri}>;regint=0;answermode=auto;audio_codecs=PCMU/8000/1\n")
    (folder / "contacts").write_text("")
    with (folder / "baresip.log").open("wb") as log:
        process = subprocess.Popen([binary, "-f", str(folder)], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        with _connected(process, folder, control) as connection:
            yield Phone(process, folder, connection, uri)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _connected(process: subprocess.Popen[bytes], folder: Path, address: tuple[str, int]) -> socket.socket:
    deadline = time.monotonic() + 20
    while True:
        assert process.poll() is None, (folder / "baresip.log").read_text(errors="replace")[-3000:]
        try:
            return socket.create_connection(address, 1)
        except OSError:
            assert time.monotonic() < deadline, (folder / "baresip.log").read_text(errors="replace")[-3000:]
            time.sleep(0.05)


def _write_tone(path: Path, tone: float) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(b"".join(struct.pack("<h", int(9000 * math.sin(2 * math.pi * tone * n / RATE))) for n in range(RATE * 30)))
