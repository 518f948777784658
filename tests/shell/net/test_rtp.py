"""Media between two parties on real sockets: forwarded both ways, tapped with the kernel's time, and nothing left behind."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sidecar.clocks import Addr
from sidecar.media.tap import Ring
from sidecar.native.forwarder import Forwarder, Owner, Packet
from sidecar.net.clock import mono
from sidecar.net.rtp import MediaLine, NoPorts, PortPool

HOST = "127.0.0.1"
Pool = Callable[[int], PortPool]


@contextmanager
def party() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind((HOST, 0))
        bound.setblocking(False)
        yield bound


def packet(sequence: int) -> bytes:
    return b"\x80\x00" + sequence.to_bytes(2, "big") + bytes(8) + bytes([sequence % 256]) * 160


@pytest.fixture(params=["event loop", "native thread"])
async def pool(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[int], PortPool]]:
    """Makes port pools whose lines are forwarded in the one way or in the other."""
    loop = asyncio.get_running_loop()
    forwarder = Forwarder() if request.param == "native thread" else None
    if forwarder is not None:
        loop.add_reader(forwarder.notice, forwarder.settle)

    def make(pairs: int) -> PortPool:
        with party() as probe:
            low = min(probe.getsockname()[1], 64000) & ~1
        return PortPool(low, low + 2 * pairs, forwarder)

    yield make
    if forwarder is not None:
        loop.remove_reader(forwarder.notice)
        forwarder.stop()


def tapped(ports: PortPool, ring: Ring) -> list[tuple[str, bytes, float]]:
    """What the tap has been given by now."""
    if ports.forwarder is not None:
        ports.forwarder.gather()
    return list(ring.drain())


def connect(line: MediaLine, caller: socket.socket, agent: socket.socket) -> None:
    line.negotiated("A", caller.getsockname(), None, HOST)
    line.negotiated("B", agent.getsockname(), None, HOST)


async def received(party: socket.socket) -> tuple[bytes, Addr]:
    loop, there = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(party, there.set)
    try:
        await asyncio.wait_for(there.wait(), 5)
    finally:
        loop.remove_reader(party)
    data, source = party.recvfrom(2048)
    return data, (source[0], source[1])


async def test_packets_cross_both_ways_from_the_port_of_the_other_leg(pool: Pool) -> None:
    line = MediaLine(pool(40), (HOST, HOST), asyncio.get_running_loop(), None)
    with party() as caller, party() as agent:
        connect(line, caller, agent)
        for sequence in range(3):
            caller.sendto(packet(sequence), (HOST, line.ports("A")[0]))
            assert await received(agent) == (packet(sequence), (HOST, line.ports("B")[0]))
            agent.sendto(packet(sequence + 100), (HOST, line.ports("B")[0]))
            assert await received(caller) == (packet(sequence + 100), (HOST, line.ports("A")[0]))
        line.close()


async def test_the_tap_is_told_when_the_kernel_took_a_packet_not_when_it_was_read(pool: Pool) -> None:
    ring = Ring(10)
    ports = pool(40)
    line = MediaLine(ports, (HOST, HOST), asyncio.get_running_loop(), ring)
    with party() as caller, party() as agent:
        connect(line, caller, agent)
        caller.sendto(packet(1), (HOST, line.ports("A")[0]))
        arrived = mono()
        await asyncio.sleep(0)
        deadline = mono() + 0.2
        while mono() < deadline:
            pass  # the event loop is held up
        assert await received(agent) == (packet(1), (HOST, line.ports("B")[0]))
        [(leg, data, arrival)] = tapped(ports, ring)
        assert (leg, data) == ("A", packet(1))
        assert abs(arrival - arrived) < 0.1
        line.close()


async def test_rtcp_crosses_on_the_next_port_and_is_tapped_too(pool: Pool) -> None:
    ring = Ring(10)
    ports = pool(40)
    line = MediaLine(ports, (HOST, HOST), asyncio.get_running_loop(), ring)
    with party() as caller, party() as agent, party() as agent_rtcp:
        line.negotiated("A", caller.getsockname(), caller.getsockname(), HOST)
        line.negotiated("B", agent.getsockname(), agent_rtcp.getsockname(), HOST)
        caller.sendto(b"\x80\xc9\x00\x01abcd", (HOST, line.ports("A")[1]))
        assert await received(agent_rtcp) == (b"\x80\xc9\x00\x01abcd", (HOST, line.ports("B")[1]))
        assert [(leg, data) for leg, data, _ in tapped(ports, ring)] == [("A", b"\x80\xc9\x00\x01abcd")]
        line.close()


async def test_many_calls_at_once_do_not_mix_and_give_everything_back(pool: Pool) -> None:
    loop = asyncio.get_running_loop()
    files = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    ports = pool(400)
    free = ports.free
    lines = [MediaLine(ports, (HOST, HOST), loop, None) for _ in range(100)]
    with party() as caller, party() as agent:
        for line in lines:
            connect(line, caller, agent)
        for number, line in enumerate(lines):
            caller.sendto(packet(number), (HOST, line.ports("A")[0]))
        got = dict([await received(agent) for _ in lines])
        assert got == {packet(number): (HOST, line.ports("B")[0]) for number, line in enumerate(lines)}
        for line in lines[::2] + lines[1::2]:
            line.close()
    assert ports.free == free
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/fd")) == files
    again = MediaLine(ports, (HOST, HOST), loop, None)  # the first socket after the last one went
    with party() as caller, party() as agent:
        connect(again, caller, agent)
        caller.sendto(packet(7), (HOST, again.ports("A")[0]))
        assert (await received(agent))[0] == packet(7)
    again.close()


async def test_an_exhausted_range_says_which_one_it_was(pool: Pool) -> None:
    ports = pool(1)
    with pytest.raises(NoPorts, match=f"{ports.range[0]}–{ports.range[1]}; widen media.ports"):
        MediaLine(ports, (HOST, HOST), asyncio.get_running_loop(), None)
    assert ports.free == 1, "the one pair that was there went back"


async def test_a_third_address_reaches_nobody_before_and_after_the_lock(pool: Pool) -> None:
    ring, ports = Ring(100), pool(40)
    line = MediaLine(ports, (HOST, HOST), asyncio.get_running_loop(), ring)
    with party() as caller, party() as agent, party() as stranger:
        stranger.connect((HOST, line.ports("A")[0]))
        stranger.send(packet(66))  # before anything was negotiated
        await settled(ports, lambda: line.refused == 1)
        connect(line, caller, agent)
        agent.sendto(packet(200), (HOST, line.ports("B")[0]))
        assert (await received(caller))[0] == packet(200)
        caller.sendto(packet(1), (HOST, line.ports("A")[0]))
        assert (await received(agent))[0] == packet(1)
        for _ in range(5):
            stranger.send(packet(66))
        await settled(ports, lambda: line.refused == 6)
        caller.sendto(packet(2), (HOST, line.ports("A")[0]))
        assert (await received(agent))[0] == packet(2)
        assert [data for _, data, _ in tapped(ports, ring)] == [packet(200), packet(1), packet(2)]
        line.close()
    assert line.refused == 6


async def test_a_party_that_moves_is_followed_once_it_has_said_so(pool: Pool) -> None:
    line = MediaLine(pool(40), (HOST, HOST), asyncio.get_running_loop(), None)
    with party() as caller, party() as agent, party() as elsewhere:
        connect(line, caller, agent)
        for sequence in range(3):
            agent.sendto(packet(sequence), (HOST, line.ports("B")[0]))
            assert (await received(caller))[0] == packet(sequence)
        line.negotiated("A", elsewhere.getsockname(), None, HOST)
        for sequence in range(3, 6):
            agent.sendto(packet(sequence), (HOST, line.ports("B")[0]))
            assert (await received(elsewhere))[0] == packet(sequence)
            elsewhere.sendto(packet(sequence), (HOST, line.ports("A")[0]))
            assert (await received(agent))[0] == packet(sequence)
        line.negotiated("A", None, None, HOST)  # refused media: the agent's packets have nowhere to go
        agent.sendto(packet(9), (HOST, line.ports("B")[0]))
        await asyncio.sleep(0)
        line.close()
        with pytest.raises(BlockingIOError):
            elsewhere.recv(2048)


async def test_packets_that_came_before_the_lock_are_not_overtaken(pool: Pool) -> None:
    ring, ports = Ring(1000), pool(40)
    line = MediaLine(ports, (HOST, HOST), asyncio.get_running_loop(), ring)
    with party() as caller, party() as agent:
        agent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        connect(line, caller, agent)
        for sequence in range(200):
            caller.sendto(packet(sequence), (HOST, line.ports("A")[0]))
        assert [(await received(agent))[0] for _ in range(200)] == [packet(sequence) for sequence in range(200)]
        line.close()
    taken = tapped(ports, ring)
    arrivals = [arrival for _, _, arrival in taken]
    assert [data for _, data, _ in taken] == [packet(sequence) for sequence in range(200)]
    # Two clocks are read for each packet, so that neighbours may change places by as long as a busy processor keeps us waiting in between.
    assert all(later > earlier - 0.05 for earlier, later in pairwise(arrivals))
    assert line.delays
    assert min(line.delays) >= 0.0


def test_a_path_opens_though_its_packets_keep_coming_and_none_is_overtaken() -> None:
    forwarder, asked, copies = Forwarder(), list[bytes](), list[bytes]()
    with party() as near, party() as far, party() as caller, party() as agent, party() as stranger:

        def decide(asked_about: Packet) -> None:
            asked.append(asked_about.data)
            far.sendto(asked_about.data, agent.getsockname())
            if len(asked) == 1:  # more of them come while this one is decided upon
                for sender, sequence in ((caller, 1), (stranger, 50), (caller, 2)):
                    sender.sendto(packet(sequence), near.getsockname())
                put_by(near, forwarder, path)

        def decided() -> None:
            if len(asked) == 1:
                forwarder.open(path, caller.getsockname(), agent.getsockname(), final=False)

        slot = forwarder.own(Owner(decide, decided, lambda packets: copies.extend(data for _, data, _ in packets)))
        path = forwarder.add(near, far, slot, 0, tapped=True)
        caller.sendto(packet(0), near.getsockname())
        put_by(near, forwarder, path)
        forwarder.settle()
        caller.sendto(packet(3), near.getsockname())
        put_by(near, forwarder, path)
        assert [agent.recv(2048) for _ in range(4)] == [packet(sequence) for sequence in range(4)]
        forwarder.settle()  # only what a stranger sent is left
        assert asked == [packet(0), packet(50)]
        assert copies == [packet(1), packet(2), packet(3)]
        assert forwarder.remove(path).accepted == 3
        forwarder.stop()


def put_by(sock: socket.socket, forwarder: Forwarder, path: int) -> None:
    """Wait until the thread has dealt with what came: it reads under the lock that a look at the figures takes."""
    until = mono() + 5
    while int.from_bytes(fcntl.ioctl(sock, termios.FIONREAD, bytes(4)), sys.byteorder):
        assert mono() < until
    forwarder.figures(path)


async def test_what_was_sent_before_the_end_arrives(pool: Pool) -> None:
    """The last packets of a call are forwarded although its BYE has overtaken them."""
    ring, ports = Ring(1000), pool(40)
    line = MediaLine(ports, (HOST, HOST), asyncio.get_running_loop(), ring)
    with party() as caller, party() as agent:
        agent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        connect(line, caller, agent)
        for sequence in range(100):
            caller.sendto(packet(sequence), (HOST, line.ports("A")[0]))
        line.close()
        assert [(await received(agent))[0] for _ in range(100)] == [packet(sequence) for sequence in range(100)]
    assert len(tapped(ports, ring)) == 100


async def settled(ports: PortPool, check: Callable[[], bool]) -> None:
    """Wait until the line has noticed what was sent."""
    async with asyncio.timeout(5):
        while not check():
            await asyncio.sleep(0.01)


async def test_a_party_that_names_no_address_costs_the_other_calls_nothing(pool: Pool) -> None:
    ports = pool(40)
    odd, good = (MediaLine(ports, (HOST, HOST), asyncio.get_running_loop(), None) for _ in range(2))
    with party() as caller, party() as agent, party() as other_caller, party() as other_agent:
        odd.negotiated("A", caller.getsockname(), None, HOST)
        odd.negotiated("B", ("media.invalid", 6000), (HOST, 70000), HOST)
        connect(good, other_caller, other_agent)
        for sequence in range(3):
            caller.sendto(packet(sequence), (HOST, odd.ports("A")[0]))
            caller.sendto(packet(sequence), (HOST, odd.ports("A")[1]))
            other_caller.sendto(packet(sequence), (HOST, good.ports("A")[0]))
            assert (await received(other_agent))[0] == packet(sequence)
        agent.sendto(packet(9), (HOST, odd.ports("B")[0]))
        assert (await received(caller))[0] == packet(9)
        caller.sendto(packet(10), (HOST, odd.ports("A")[0]))
        assert (await received(agent))[0] == packet(10)
        odd.close()
        good.close()


async def test_a_line_whose_sockets_cannot_be_watched_gives_everything_back(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's limit of watches is reached at the third of four sockets."""
    ports = pool(40)
    if ports.forwarder is None:
        pytest.skip("the event loop reports no such limit")
    free, watch, left = ports.free, Forwarder.add, iter((True, True))

    def add(*arguments: Any, **options: Any) -> int:
        if next(left, False):
            return watch(*arguments, **options)
        raise OSError("the system watches no more sockets")

    monkeypatch.setattr(Forwarder, "add", add)
    with pytest.raises(NoPorts, match="watches no more sockets"):
        MediaLine(ports, (HOST, HOST), asyncio.get_running_loop(), None)
    assert ports.free == free
    monkeypatch.undo()
    line = MediaLine(ports, (HOST, HOST), asyncio.get_running_loop(), None)
    with party() as caller, party() as agent:
        connect(line, caller, agent)
        caller.sendto(packet(1), (HOST, line.ports("A")[0]))
        assert (await received(agent))[0] == packet(1)
        line.close()


_PRIORITIES = """
import json, os, time
from sidecar.native.forwarder import Forwarder, Owner, Packet
forwarder = Forwarder()
for _ in range(200):  # the thread has just begun
    threads = sorted(os.listdir("/proc/self/task"), key=int)
    priorities = [os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in threads]
    if priorities[0] != priorities[-1]:
        break
    time.sleep(0.01)
print(json.dumps([priorities, open(f"/proc/self/task/{threads[-1]}/comm").read().strip()]))
"""


def test_the_forwarding_thread_stands_before_the_rest_of_its_process_wherever_that_stands() -> None:
    done = subprocess.run(["nice", "-n", "3", sys.executable, "-c", _PRIORITIES], capture_output=True, text=True, check=True)
    (main, *_, forwarding), name = json.loads(done.stdout)
    assert name == "trunkside-media"  # as `top -H` shows it
    assert (main, forwarding - main) == (min(19, os.getpriority(os.PRIO_PROCESS, 0) + 3), -10 if _may_be_preferred() else 0)


def _may_be_preferred() -> bool:
    """CAP_SYS_NICE."""
    (held,) = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff")]
    return bool(int(held, 16) >> 23 & 1)
