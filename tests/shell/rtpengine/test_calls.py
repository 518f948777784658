"""Calls in Debian's rtpengine: descriptions, copies, counts, and instances that fall silent, are full, or forget."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sidecar.b2bua.effects import AskRelay, Leg
from sidecar.clocks import Addr
from sidecar.media.tap import Ring
from sidecar.media.wire import Flow, Wire
from sidecar.net.rtp import PortPool
from sidecar.net.rtpengine.call import RelayedCall, RelayFailed
from sidecar.net.rtpengine.commands import Interfaces
from sidecar.net.rtpengine.pool import Pool
from sidecar.sip import sdp
from tests.support.product import free_port, loopback
from tests.support.rtpengine import Rtpengine, rtpengine, start

pytestmark = pytest.mark.peer


class Party:
    """A socket that sends numbered packets and remembers those that come."""

    def __init__(self, host: str, ssrc: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.ssrc, self.number = ssrc, 0
        self.addr: Addr = self.socket.getsockname()

    def send(self, to: Addr, payload_type: int = 0) -> None:
        self.number += 1
        header = struct.pack("!BBHII", 0x80, payload_type, self.number, self.number * 160, self.ssrc)
        self.socket.sendto(header + bytes(160), to)

    def heard(self) -> list[tuple[int, int]]:
        """(sequence number, payload type) of what has come."""
        packets: list[tuple[int, int]] = []
        while True:
            try:
                data = self.socket.recv(2000)
            except BlockingIOError:
                return packets
            packets.append((struct.unpack("!H", data[2:4])[0], data[1]))


@pytest.fixture
def parties() -> Iterator[tuple[Party, Party]]:
    host = loopback()
    made = Party(host, 0xA), Party(host, 0xB)
    yield made
    for party in made:
        party.socket.close()


class Calls:
    """A pool and calls in it, as a session has them."""

    def __init__(self, *servers: str, timeout: float = 0.5) -> None:
        self.pool = Pool(servers, timeout=timeout, period=60.0, interfaces=Interfaces())
        self.ports = PortPool(30000, 30400)
        self.ring = Ring(1000)
        self.found: list[tuple[str, str]] = []
        self.made: list[RelayedCall] = []

    def call(self, name: str) -> RelayedCall:
        self.made.append(RelayedCall(name, self.pool, self.ports, self.ring, lambda *found: self.found.append(found)))
        return self.made[-1]

    async def close(self) -> None:
        """End every call."""
        for call in self.made:
            await call.close()
        self.pool.close()


@asynccontextmanager
async def calls(*servers: str, timeout: float = 0.5) -> AsyncIterator[Calls]:
    made = Calls(*servers, timeout=timeout)
    await made.pool.open()
    try:
        yield made
    finally:
        await made.close()


def said(call: str, leg: Leg, party: Party, *, offer: bool, payload_type: int = 0) -> AskRelay:
    host, port = party.addr
    body = f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP {payload_type}\r\n"
    return AskRelay(call, 1, leg, sdp.parse(body.encode()).media, offer, (host, host), host)


async def set_up(call: RelayedCall, name: str, caller: Party, agent: Party) -> tuple[Addr, Addr]:
    """Where the caller and the agent are to send."""
    to_edge = await call.ask(said(name, "A", caller, offer=True))
    to_caller = await call.ask(said(name, "B", agent, offer=False))
    for leg, party in (("A", caller), ("B", agent)):
        call.told(leg, said(name, leg, party, offer=True).lines[0])  # type: ignore[arg-type]
    return (to_caller.host, to_caller.ports[0][0]), (to_edge.host, to_edge.ports[0][0])


async def until(what: str, check: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not check():
            await asyncio.sleep(0.01)


async def test_media_crosses_and_its_copy_comes_with_what_was_counted(tmp_path: Path, parties: tuple[Party, Party]) -> None:
    caller, agent = parties
    with rtpengine(tmp_path, loopback()) as engine:
        async with calls(engine.server) as made:
            call = made.call("c1")
            call.wire = Wire(100)
            near, far = await set_up(call, "c1", caller, agent)
            assert (call.local("A"), call.local("B")) == (near, far)
            for _ in range(20):
                caller.send(near)
                agent.send(far, 101)
                await asyncio.sleep(0.005)
            await until("the copies", lambda: len(made.ring) == 40)
            assert [caller.heard(), agent.heard()] == [[(n, 101) for n in range(1, 21)], [(n, 0) for n in range(1, 21)]]
            copied = made.ring.drain()
            assert [
                len([1 for leg, data, _ in copied if leg == wanted and data[11] == ssrc]) for wanted, ssrc in (("A", 0xA), ("B", 0xB))
            ] == [20, 20]
            ways = {flow for flow, _, _ in call.wire.drain()}
            assert ways == {Flow("A", caller.addr, near, far, agent.addr), Flow("B", agent.addr, far, near, caller.addr)}
            assert [at for _, _, at in copied] == sorted(at for _, _, at in copied)
            await call.close()
            assert (call.counted.packets, call.refused, call.missed, made.found) == (40, 0, 0, [])
            assert (engine.calls, made.ports.free) == ([], 200)


async def test_strangers_reach_nobody_and_are_counted(tmp_path: Path, parties: tuple[Party, Party]) -> None:
    caller, agent = parties
    stranger = Party(loopback(), 0xC)
    with rtpengine(tmp_path, loopback()) as engine:
        async with calls(engine.server) as made:
            call = made.call("c1")
            near, far = await set_up(call, "c1", caller, agent)
            caller.send(near)
            stranger.send(near)
            await until("the copies", lambda: len(made.ring) == 2)
            agent.send(far)
            await until("the copy", lambda: len(made.ring) == 3)
            assert (caller.heard(), stranger.heard()) == ([(1, 0)], []), "nobody takes a call away from whom its description names"
            await asyncio.sleep(4.1)  # an address is certain after three seconds; its clock has whole ones
            caller.send(near)
            await until("the copy", lambda: len(made.ring) == 4)
            stranger.send(near)
            caller.send(near)
            await until("the copy", lambda: len(made.ring) == 5)
            await call.close()
            assert agent.heard() == [(1, 0), (1, 0), (2, 0), (3, 0)]
            assert (call.refused, call.missed) == (1, 0)
    stranger.socket.close()


async def test_what_a_refused_offer_changed_is_put_back(tmp_path: Path, parties: tuple[Party, Party]) -> None:
    caller, agent = parties
    elsewhere = Party(caller.addr[0], 0xA)
    with rtpengine(tmp_path, loopback()) as engine:
        async with calls(engine.server) as made:
            call = made.call("c1")
            _, far = await set_up(call, "c1", caller, agent)
            await call.ask(said("c1", "A", elsewhere, offer=True))
            assert call.is_stale
            await call.restore()
            assert not call.is_stale
            agent.send(far)
            await until("the packet", lambda: len(made.ring) == 1)
            assert (caller.heard(), elsewhere.heard()) == ([(1, 0)], [])
            await call.close()
    elsewhere.socket.close()


async def test_a_delayed_offer_is_the_agents(tmp_path: Path, parties: tuple[Party, Party]) -> None:
    caller, agent = parties
    with rtpengine(tmp_path, loopback()) as engine:
        async with calls(engine.server) as made:
            call = made.call("c1")
            to_caller = await call.ask(said("c1", "B", agent, offer=True))
            to_edge = await call.ask(said("c1", "A", caller, offer=False))
            caller.send((to_caller.host, to_caller.ports[0][0]))
            agent.send((to_edge.host, to_edge.ports[0][0]))
            await until("both copies", lambda: len(made.ring) == 2)
            assert (caller.heard(), agent.heard()) == ([(1, 0)], [(1, 0)])
            assert sorted(leg for leg, _, _ in made.ring.drain()) == ["A", "B"]


async def test_media_follows_the_branch_that_answers_and_not_the_one_that_rang_last(tmp_path: Path, parties: tuple[Party, Party]) -> None:
    caller, one = parties
    two = Party(one.addr[0], 0xC)
    with rtpengine(tmp_path, loopback()) as engine:
        async with calls(engine.server) as made:
            call = made.call("c1")
            near, far = await set_up(call, "c1", caller, one)
            await call.ask(said("c1", "B", two, offer=False))
            call.told("B", said("c1", "B", two, offer=True).lines[0])
            call.told("B", said("c1", "B", one, offer=True).lines[0])  # it answers, without a description of its own
            assert call.is_stale
            await call.restore()
            caller.send(near)
            one.send(far)
            await until("both copies", lambda: len(made.ring) == 2)
            assert (caller.heard(), one.heard(), two.heard()) == ([(1, 0)], [(1, 0)], [])
    two.socket.close()


async def test_a_hold_by_address_is_one_and_ends(tmp_path: Path, parties: tuple[Party, Party]) -> None:
    caller, agent = parties
    with rtpengine(tmp_path, loopback()) as engine:
        async with calls(engine.server) as made:
            call = made.call("c1")
            _, far = await set_up(call, "c1", caller, agent)
            on_hold = said("c1", "A", caller, offer=True)
            await call.ask(replace(on_hold, lines=tuple(replace(line, address="0.0.0.0") for line in on_hold.lines)))
            await call.ask(said("c1", "B", agent, offer=False))
            agent.send(far)
            await until("the copy", lambda: len(made.ring) == 1)
            assert caller.heard() == []
            await call.ask(said("c1", "A", caller, offer=True))
            await call.ask(said("c1", "B", agent, offer=False))
            agent.send(far)
            await until("the copy", lambda: len(made.ring) == 2)
            assert caller.heard() == [(2, 0)]


async def test_the_agents_offer_may_change_codec_and_address(tmp_path: Path, parties: tuple[Party, Party]) -> None:
    caller, agent = parties
    moved = Party(agent.addr[0], 0xB)
    with rtpengine(tmp_path, loopback()) as engine:
        async with calls(engine.server) as made:
            call = made.call("c1")
            await set_up(call, "c1", caller, agent)
            placed = await call.ask(said("c1", "B", moved, offer=True, payload_type=8))
            answered = await call.ask(said("c1", "A", caller, offer=False, payload_type=8))
            caller.send((placed.host, placed.ports[0][0]), 8)
            moved.send((answered.host, answered.ports[0][0]), 8)
            await until("both copies", lambda: len(made.ring) == 2)
            assert (moved.heard(), caller.heard(), agent.heard()) == ([(1, 8)], [(1, 8)], [])
            await call.close()
    moved.socket.close()


async def test_new_calls_go_round_and_past_an_instance_that_died(tmp_path: Path, parties: tuple[Party, Party]) -> None:
    with rtpengine(tmp_path / "1", loopback()) as one, rtpengine(tmp_path / "2", loopback()) as two:
        async with calls(one.server, two.server) as made:
            first = [made.call(f"c{n}") for n in range(4)]
            for n, call in enumerate(first):
                await set_up(call, f"c{n}", *parties)
            assert [len(one.calls), len(two.calls)] == [2, 2]
            lost: list[str] = []
            made.pool.lost = lambda server: lost.append(server.name)
            one.kill()
            for n in range(4, 8):
                await set_up(made.call(f"c{n}"), f"c{n}", *parties)
            assert (len(two.calls), lost) == (6, [one.server])
            orphan = next(call for call in first if call.server is not None and call.server.name == one.server)
            placed = await orphan.ask(said("c9", "A", parties[0], offer=True))
            assert placed.host == two.host, "a party that renews the session finds it on another"
            assert [name for name, _ in made.found] == ["media_relay_moved"]
            again = start(tmp_path / "1", one.host, one.port)
            try:
                await made.pool.look()
                assert [server.is_up for server in made.pool.servers] == [True, True]
            finally:
                again.kill()


async def test_an_instance_that_was_restarted_in_a_call_is_told(tmp_path: Path, parties: tuple[Party, Party]) -> None:
    with rtpengine(tmp_path, loopback()) as engine:
        async with calls(engine.server) as made:
            call = made.call("c1")
            await set_up(call, "c1", *parties)
            engine.kill()
            again = start(tmp_path, engine.host, engine.port)
            try:
                await call.close()
            finally:
                again.kill()
            assert [name for name, _ in made.found] == ["media_relay_lost"]
            assert "started anew" in made.found[0][1]
            assert made.ports.free == 200


async def test_where_none_answers_the_call_is_refused_in_words(parties: tuple[Party, Party]) -> None:
    host = loopback()
    gone = [f"udp://{host}:{free_port(host)}" for _ in range(2)]
    async with calls(*gone, timeout=0.2) as made:
        with pytest.raises(RelayFailed, match="no media relay takes the call: udp://"):
            await made.call("c1").ask(said("c1", "A", parties[0], offer=True))
        assert [server["up"] for server in made.pool.describe()] == [False, False]


@contextmanager
def deaf(engine: Rtpengine, times: int) -> Iterator[str]:
    """A way to an instance that loses the first `times` questions and as many answers."""
    lost = {"questions": times, "answers": times}

    def passed(what: str, data: bytes) -> bytes | None:
        lost[what] -= 1
        return data if lost[what] < 0 else None

    with between(engine, passed) as server:
        yield server


@contextmanager
def between(engine: Rtpengine, passed: Callable[[str, bytes], bytes | None]) -> Iterator[str]:
    """A way to an instance. `passed` says what becomes of one of its "questions" or "answers"."""
    front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    front.bind((loopback(), 0))
    front.setblocking(False)
    back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    back.connect((engine.host, engine.port))
    back.setblocking(False)
    loop = asyncio.get_running_loop()
    asker: list[Addr] = []

    def forward() -> None:
        data, source = front.recvfrom(65535)
        asker[:] = [source]
        if (going := passed("questions", data)) is not None:
            back.send(going)

    def answer() -> None:
        if (going := passed("answers", back.recv(65535))) is not None:
            front.sendto(going, asker[0])

    loop.add_reader(front, forward)
    loop.add_reader(back, answer)
    try:
        yield "udp://{}:{}".format(*front.getsockname())
    finally:
        for sock in (front, back):
            loop.remove_reader(sock)
            sock.close()


async def test_a_call_is_forgotten_even_where_its_counts_are_refused(tmp_path: Path, parties: tuple[Party, Party]) -> None:
    def passed(what: str, data: bytes) -> bytes:
        return data.replace(b"7:command5:query", b"7:command5:qwery") if what == "questions" else data

    with rtpengine(tmp_path, loopback()) as engine, between(engine, passed) as server:
        async with calls(server) as made:
            call = made.call("c1")
            await set_up(call, "c1", *parties)
            await call.close()
            assert [name for name, _ in made.found] == ["media_relay_lost"]
            assert (engine.calls, made.ports.free) == ([], 200)


async def test_a_lost_question_and_a_lost_answer_are_made_good(tmp_path: Path, parties: tuple[Party, Party]) -> None:
    with rtpengine(tmp_path, loopback()) as engine, deaf(engine, 1) as server:
        made = Calls(server)
        await made.pool.servers[0].open()
        call = made.call("c1")
        await set_up(call, "c1", *parties)
        assert engine.calls == ["c1"], "asked three times, done once"
        await made.close()
