"""What SRTP that ends at the sidecar costs: `python -m tests.bench.srtp`. CPU of this process for a relayed packet, by how it is moved.

One media line between real sockets on loopback, a child process at both ends of it. The figure holds receiving, relaying, sending and the
offer to the tap; of the native thread, that thread and the gathering of its copies.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import socket
import struct
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Final

import uvloop
from pylibsrtp import Policy, Session

from sidecar.media.relay import Leg
from sidecar.media.tap import Ring
from sidecar.native.forwarder import Forwarder
from sidecar.net.rtp import MediaLine, PortPool
from sidecar.sip.sdes import SUITES, Keys

HOST: Final = "127.0.0.1"
PACKETS: Final = 20_000
PER_SECOND: Final = 4_000
SUITE: Final = "AES_CM_128_HMAC_SHA1_80"


def keys() -> Keys:
    """Of one leg."""
    return Keys(SUITE, os.urandom(SUITES[SUITE]), os.urandom(SUITES[SUITE]))


def party(pipe: Connection, key: bytes | None) -> None:
    """Sends G.711 from one socket and counts what comes to another; its sockets' ports, then the relay's port, then the count."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sends, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hears:
        for sock in (sends, hears):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            sock.bind((HOST, 0))
            sock.setblocking(False)
        pipe.send((sends.getsockname()[1], hears.getsockname()[1]))
        to = (HOST, pipe.recv())
        seal: Callable[[bytes], bytes] = bytes
        if key is not None:
            seal = Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=Policy.SRTP_PROFILE_AES128_CM_SHA1_80)).protect
        packets = [seal(struct.pack("!BBHII", 0x80, 0, n & 0xFFFF, n * 160, 7) + bytes(160)) for n in range(PACKETS)]
        got, begun = 0, time.monotonic()
        for number, packet in enumerate(packets):
            while time.monotonic() < begun + number / PER_SECOND:
                time.sleep(0.001)
            sends.sendto(packet, to)
            got += _drained(hears)
        time.sleep(0.5)
        pipe.send(got + _drained(hears))


def _drained(sock: socket.socket) -> int:
    count = 0
    while True:
        try:
            sock.recv(2048)
        except BlockingIOError:
            return count
        count += 1


async def cost(*, native: bool, shields: dict[Leg, Keys]) -> tuple[float, int]:
    """Microseconds of CPU a packet, and how many came through."""
    loop, ring = asyncio.get_running_loop(), Ring(4000)
    forwarder = Forwarder() if native else None
    if forwarder is not None:
        loop.add_reader(forwarder.notice, forwarder.settle)
    line = MediaLine(PortPool(40_000, 40_400, forwarder), (HOST, HOST), loop, ring, secured=bool(shields))
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=party, args=(theirs, shields["A"].theirs if "A" in shields else None))
    child.start()
    sends, hears = await asyncio.to_thread(ours.recv)
    line.negotiated("A", (HOST, sends), None, HOST)
    line.negotiated("B", (HOST, hears), None, HOST)
    for leg, each in shields.items():
        line.secure(leg, each)
    ours.send(line.ports("A")[0])
    await asyncio.sleep(0.5)
    before = time.process_time()
    while not ours.poll():
        await asyncio.sleep(0.2)
        if forwarder is not None:
            forwarder.gather()
        ring.drain()
    used, got = time.process_time() - before, ours.recv()
    line.close()
    child.join()
    if forwarder is not None:
        loop.remove_reader(forwarder.notice)
        forwarder.stop()
    return used / max(1, got) * 1e6, got


def main() -> None:
    """One JSON object a line."""
    ways: dict[str, tuple[bool, dict[Leg, Keys]]] = {
        "RTP, native thread": (True, {}),
        "RTP, event loop": (False, {}),
        "SRTP to RTP": (False, {"A": keys()}),
        "SRTP to SRTP": (False, {"A": keys(), "B": keys()}),
    }
    for name, (native, shields) in ways.items():
        figure, got = uvloop.run(cost(native=native, shields=shields))
        print(json.dumps({"way": name, "cpu_us": round(figure, 1), "sent": PACKETS, "relayed": got}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
