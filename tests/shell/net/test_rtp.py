"""Media between two parties on real sockets: forwarded both ways, tapped with the kernel's time, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sidecar.clocks import Addr
from sidecar.media.tap import Ring
from sidecar.net.clock import mono
from sidecar.net.rtp import MediaLine, NoPorts, PortPool

HOST = "127.0.0.1"


@contextmanager
def party() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind((HOST, 0))
        bound.setblocking(False)
        yield bound


def packet(sequence: int) -> bytes:
    return b"\x80\x00" + sequence.to_bytes(2, "big") + bytes(8) + bytes([sequence % 256]) * 160


def pool(pairs: int) -> PortPool:
    with party() as probe:
        low = min(probe.getsockname()[1], 64000) & ~1
    return PortPool(low, low + 2 * pairs)


def connect(line: MediaLine, caller: socket.socket, agent: socket.socket) -> None:
    line.relay.negotiated("A", caller.getsockname(), None, HOST)
    line.relay.negotiated("B", agent.getsockname(), None, HOST)


async def received(party: socket.socket) -> tuple[bytes, Addr]:
    loop, there = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(party, there.set)
    try:
        await asyncio.wait_for(there.wait(), 5)
    finally:
        loop.remove_reader(party)
    data, source = party.recvfrom(2048)
    return data, (source[0], source[1])


async def test_packets_cross_both_ways_from_the_port_of_the_other_leg() -> None:
    line = MediaLine(pool(40), (HOST, HOST), asyncio.get_running_loop(), None)
    with party() as caller, party() as agent:
        connect(line, caller, agent)
        for sequence in range(3):
            caller.sendto(packet(sequence), (HOST, line.ports("A")[0]))
            assert await received(agent) == (packet(sequence), (HOST, line.ports("B")[0]))
            agent.sendto(packet(sequence + 100), (HOST, line.ports("B")[0]))
            assert await received(caller) == (packet(sequence + 100), (HOST, line.ports("A")[0]))
        line.close()


async def test_the_tap_is_told_when_the_kernel_took_a_packet_not_when_it_was_read() -> None:
    ring = Ring(10)
    line = MediaLine(pool(40), (HOST, HOST), asyncio.get_running_loop(), ring)
    with party() as caller, party() as agent:
        connect(line, caller, agent)
        caller.sendto(packet(1), (HOST, line.ports("A")[0]))
        arrived = mono()
        await asyncio.sleep(0)
        deadline = mono() + 0.2
        while mono() < deadline:
            pass  # the event loop is held up
        assert await received(agent) == (packet(1), (HOST, line.ports("B")[0]))
        [(leg, data, arrival)] = ring.drain()
        assert (leg, data) == ("A", packet(1))
        assert abs(arrival - arrived) < 0.1
        line.close()


async def test_rtcp_crosses_on_the_next_port_and_is_not_tapped() -> None:
    ring = Ring(10)
    line = MediaLine(pool(40), (HOST, HOST), asyncio.get_running_loop(), ring)
    with party() as caller, party() as agent, party() as agent_rtcp:
        line.relay.negotiated("A", caller.getsockname(), caller.getsockname(), HOST)
        line.relay.negotiated("B", agent.getsockname(), agent_rtcp.getsockname(), HOST)
        caller.sendto(b"\x80\xc9\x00\x01abcd", (HOST, line.ports("A")[1]))
        assert await received(agent_rtcp) == (b"\x80\xc9\x00\x01abcd", (HOST, line.ports("B")[1]))
        assert ring.drain() == []
        line.close()


async def test_many_calls_at_once_do_not_mix_and_give_everything_back() -> None:
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


async def test_an_exhausted_range_says_which_one_it_was() -> None:
    ports = pool(1)
    with pytest.raises(NoPorts, match=f"{ports.range[0]}–{ports.range[1]}; widen media.ports"):
        MediaLine(ports, (HOST, HOST), asyncio.get_running_loop(), None)
    assert ports.free == 1, "the one pair that was there went back"
