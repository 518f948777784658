"""One UDP address for several processes: one of them reads it and gives each datagram to the process that has its call.

The kernel could spread datagrams by itself (SO_REUSEPORT), but it knows addresses alone: every call through one proxy would meet the same
process, and what the agent's edge says of a call another one. The Call-ID is the same on both legs, so it decides here. All processes send
by the one socket.
"""

from __future__ import annotations

import asyncio
import fcntl
import re
import socket
import termios
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zlib import crc32

from sidecar.clocks import Addr
from sidecar.net.udp import Receive, Refused, SipSocket
from sidecar.sip.flow import Flow

LARGEST = 65535
_CALL_ID = re.compile(rb"(?:^|\n)(?:call-id|i)[ \t]*:([^\r\n]*)\r?\n", re.IGNORECASE)
"""One way to read a line only: whatever anybody sends is looked through in time that its length bounds."""
_AT_ONCE = 64
"""Datagrams that are taken before the event loop sees to anything else."""
_BOOKED = 2
"""Octets that the kernel books for one of an ordinary message."""
READY = b"ready"
"""What a worker says once it serves."""


def worker_of(call_id: bytes, workers: int) -> int:
    """Which of the workers, from 0 on, has the call."""
    return crc32(call_id) % workers


def call_id_of(data: bytes) -> bytes:
    """The Call-ID of a message; empty where there is none."""
    found = _CALL_ID.search(data)
    return found[1].strip(b" \t") if found else b""


@dataclass(frozen=True, slots=True)
class Handed:
    """What a worker is handed."""

    index: int
    """Of the listening socket."""
    peer: Addr
    data: bytes | None
    """None: the kernel said that nothing can be sent to the peer."""


def packed(handed: Handed) -> bytes:
    """As it crosses to the worker."""
    kind = "E" if handed.data is None else "D"
    return f"{kind}{handed.index} {handed.peer[0]} {handed.peer[1]}\n".encode() + (handed.data or b"")


def unpacked(frame: bytes) -> Handed:
    """What crossed."""
    head, _, data = frame.partition(b"\n")
    index, host, port = head[1:].decode().split(" ")
    return Handed(int(index), (host, int(port)), data if head[:1] == b"D" else None)


class SharedSocket(SipSocket):
    """A listening socket that another process reads; this one sends by it."""

    def __init__(self, sock: socket.socket, receive: Receive, refused: Refused) -> None:
        super().__init__(sock, receive, refused)
        self.unsent = 0

    def send(self, data: bytes, flow: Flow) -> None:
        """Put a datagram on the wire. Where the kernel has no room it is lost, as on a full link."""
        try:
            self._sock.sendto(data, flow.remote)
        except BlockingIOError:
            self.unsent += 1
        except OSError:
            self._send_again(data, flow)

    def take(self, handed: Handed) -> None:
        """A datagram came, or an error."""
        flow = Flow("udp", self.local, handed.peer)
        if handed.data is None:
            self.errors += 1
            self._refused(flow)
        else:
            self._receive(handed.data, flow)

    def close(self) -> None:
        """Give up this process's hold on it."""
        self._sock.close()


class Share:
    """A worker's part in the sockets: those that it sends by, and the feed that brings what came."""

    def __init__(self, feed: int, sockets: Sequence[int]) -> None:
        """File descriptors, inherited."""
        self._feed = socket.socket(fileno=feed)
        self._feed.setblocking(False)
        self._inherited = [socket.socket(fileno=number) for number in sockets]
        self.sockets: list[SharedSocket] = []
        self.gone: Callable[[], None] = lambda: None
        """Told when the reading process is no more: no message will come again."""

    def open(self, receive: Receive, refused: Refused) -> list[SharedSocket]:
        """Take what comes, from now on."""
        self.sockets = [SharedSocket(sock, receive, refused) for sock in self._inherited]
        asyncio.get_running_loop().add_reader(self._feed, self._read)
        return self.sockets

    @property
    def waiting(self) -> int:
        """Octets of memory that messages take until they are read here. The sockets are empty: the other process reads them."""
        told = array("i", (0,))
        fcntl.ioctl(self._feed, termios.FIONREAD, told)
        return told[0] * _BOOKED

    def ready(self) -> None:
        """Tell the reading process that this one serves."""
        self._feed.send(READY)

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                frame = self._feed.recv(LARGEST + 256)
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionResetError:
                frame = b""
            if not frame:
                asyncio.get_running_loop().remove_reader(self._feed)
                self.gone()
                return
            handed = unpacked(frame)
            self.sockets[handed.index].take(handed)

    def close(self) -> None:
        """Take nothing more."""
        asyncio.get_running_loop().remove_reader(self._feed)
        self._feed.close()
