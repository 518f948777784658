"""HEP export to real receivers on loopback, on both event loops that the sidecar runs on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import uvloop

from sidecar.b2bua import effects as e
from sidecar.clocks import Wall
from sidecar.net.hep import HepExporter, Pace, Server
from sidecar.sip.flow import Flow
from tests.core.trace.calls import CALL, CALL_ID, EPOCH, A, B, request
from tests.core.trace.hep_packet import chunks

Run = Callable[[Coroutine[Any, Any, None]], None]
QUICK = Pace(first_retry=0.01, last_retry=0.05, connect=1.0, flush=1.0)


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a scenario to its end, for at most ten seconds."""

    def bounded(scenario: Coroutine[Any, Any, None]) -> None:
        request.param(asyncio.wait_for(scenario, 10.0))

    return bounded


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something to become true."""
    while not condition():
        await asyncio.sleep(0.005)


class Tcp:
    """A capture server on TCP that cuts the stream into packets by their length."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readexactly(6)
                (length,) = struct.unpack("!H", head[4:])
                self.packets.append(head + await reader.readexactly(length - 6))
        writer.close()

    @contextlib.asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[Tcp]:
        """Listen on loopback; every connection is closed at the end."""
        server = await asyncio.start_server(self.handle, "127.0.0.1", port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self.writers:
                writer.close()
            await asyncio.sleep(0.01)


@contextlib.contextmanager
def udp_socket() -> Any:
    """A bound datagram socket that never blocks."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield sock


@contextlib.asynccontextmanager
async def exporting(server: str, **options: Any) -> AsyncIterator[HepExporter]:
    """A started exporter that is stopped at the end."""
    exporter = HepExporter(server, 2001, pace=options.pop("pace", QUICK), **options)
    await exporter.start()
    try:
        yield exporter
    finally:
        await exporter.stop()


def sip(leg: e.Leg, direction: str, flow: Flow, data: bytes) -> e.Message:
    """A message of the call."""
    return e.Message(CALL, leg, "in" if direction == "in" else "out", flow, data, retransmission=False)


async def received(sock: socket.socket) -> bytes:
    """The next datagram."""
    return await asyncio.get_running_loop().sock_recv(sock, 65535)


def test_both_legs_arrive_over_udp_under_the_caller_s_call_id(run: Run) -> None:
    async def scenario() -> None:
        with udp_socket() as sock:
            async with exporting(f"udp://127.0.0.1:{sock.getsockname()[1]}") as exporter:
                exporter.message(sip("A", "in", A, request("INVITE", 1)), CALL_ID, Wall(EPOCH))
                exporter.message(sip("B", "out", B, request("INVITE", 2)), CALL_ID, Wall(EPOCH + 0.5))
                told = [chunks(await received(sock)) for _ in range(2)]
        assert [each[0x11] for each in told] == [CALL_ID.encode()] * 2
        assert [each[0x0F] for each in told] == [request("INVITE", 1), request("INVITE", 2)]
        assert [each[0x03] for each in told] == [socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.10")]
        assert [int.from_bytes(each[0x0A], "big") for each in told] == [0, 500_000]
        assert {each[0x0C] for each in told} == {(2001).to_bytes(4, "big")}
        assert (exporter.sent, exporter.dropped) == (2, 0)

    run(scenario())


def test_a_stream_keeps_packets_whole_and_stopping_sends_what_waits(run: Run) -> None:
    async def scenario() -> None:
        async with Tcp().listening() as server:
            async with exporting(f"tcp://127.0.0.1:{server.port}") as exporter:
                for n in range(200):
                    exporter.message(sip("A", "in", A, request("INFO", n)), CALL_ID, Wall(EPOCH))
            await until(lambda: len(server.packets) == 200)
        assert [chunks(each)[0x0F] for each in server.packets] == [request("INFO", n) for n in range(200)]
        assert server.connections == 1
        assert exporter.describe() | {"link": "up", "waiting": 0, "sent": 200, "dropped": 0} == exporter.describe()

    run(scenario())


def test_a_broken_connection_is_made_again(run: Run) -> None:
    async def scenario() -> None:
        async with Tcp().listening() as server, exporting(f"tcp://127.0.0.1:{server.port}") as exporter:
            exporter.send(b"HEP3\x00\x07a")
            await until(lambda: len(server.packets) == 1)
            server.writers[0].close()
            await until(lambda: exporter.describe()["link"] == "away" or server.connections == 2)
            exporter.send(b"HEP3\x00\x07b")
            await until(lambda: len(server.packets) == 2)
        assert [each[-1:] for each in server.packets] == [b"a", b"b"]
        assert exporter.reconnects == 1
        assert exporter.dropped == 0

    run(scenario())


def test_an_absent_server_costs_the_oldest_packets_and_nothing_else(run: Run) -> None:
    async def scenario() -> None:
        with socket.socket() as reserved:
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
            port = reserved.getsockname()[1]
            async with exporting(f"tcp://127.0.0.1:{port}", capacity=3) as exporter:
                for letter in b"abcde":
                    exporter.send(b"HEP3\x00\x07" + bytes([letter]))
                await until(lambda: exporter.describe()["link"] == "away")
                assert exporter.describe()["waiting"] == 3
                assert exporter.dropped == 2
                assert exporter.describe()["trouble"]
                reserved.close()
                async with Tcp().listening(port) as server:
                    await until(lambda: len(server.packets) == 3)
        assert [each[-1:] for each in server.packets] == [b"c", b"d", b"e"]

    run(scenario())


def test_a_refused_datagram_marks_the_server_as_away_until_it_is_back(run: Run) -> None:
    async def scenario() -> None:
        with udp_socket() as sock:
            port = sock.getsockname()[1]
        async with exporting(f"127.0.0.1:{port}", pace=Pace(first_retry=0.2, last_retry=0.2), jitter=lambda: 0.0) as exporter:
            exporter.send(b"lost")
            await until(lambda: exporter.describe()["link"] == "away")
            exporter.send(b"kept")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(("127.0.0.1", port))
                sock.setblocking(False)
                assert await received(sock) == b"kept"

    run(scenario())


def test_a_server_that_does_not_read_holds_nobody_up(run: Run) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            exporter = HepExporter(f"tcp://127.0.0.1:{deaf.getsockname()[1]}", 1, capacity=10, pace=Pace(flush=0.1))
            await exporter.start()
            await until(lambda: exporter.describe()["link"] == "up")
            while not exporter.dropped:  # the buffers of both kernels fill up first
                exporter.send(bytes(60_000))
                await asyncio.sleep(0)
            assert exporter.describe()["waiting"] == 10
            began = loop.time()
            await exporter.stop()
            assert loop.time() - began < 2.0
            assert exporter.describe()["waiting"] == 0
            dropped = exporter.dropped
            assert dropped >= 11
            exporter.send(b"late")
            assert exporter.dropped == dropped + 1

    run(scenario())


def test_messages_that_no_packet_can_hold_are_counted(run: Run) -> None:
    async def scenario() -> None:
        with udp_socket() as sock:
            async with exporting(f"udp://127.0.0.1:{sock.getsockname()[1]}") as exporter:
                exporter.message(sip("A", "in", A, b"x" * 65_536), CALL_ID, Wall(EPOCH))
                exporter.send(b"x" * 65_508)
                exporter.message(sip("A", "in", Flow("udp", ("edge.example", 5060), A.remote), b"x"), CALL_ID, Wall(EPOCH))
                exporter.send(b"fits")
                assert await received(sock) == b"fits"
        assert exporter.unfit == 3

    run(scenario())


async def test_stopping_twice_or_without_a_start_is_harmless() -> None:
    exporter = HepExporter("127.0.0.1:9", 1)
    await exporter.stop()
    await exporter.stop()


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("udp://capture.example:9060", Server("udp", "capture.example", 9060)),
        ("TCP://[2001:db8::1]:9061", Server("tcp", "2001:db8::1", 9061)),
        ("capture_server:9062", Server("udp", "capture_server", 9062)),
        ("tcp://192.0.2.1", Server("tcp", "192.0.2.1", 9060)),
    ],
)
def test_server_forms(text: str, server: Server) -> None:
    assert Server.parse(text) == server
    assert Server.parse(str(server)) == server


@pytest.mark.parametrize(
    "text", ["", "tls://h:1", "udp://", "udp://h:port", "udp://h:99999", "udp://h:0", "udp://h/path", "tcp://u@h:1", "udp://[::1"]
)
def test_what_names_no_server_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match=r"^'"):
        Server.parse(text)


@pytest.mark.parametrize("capture_id", [-1, 2**32])
def test_a_capture_id_beyond_32_bits_is_refused_at_once(capture_id: int) -> None:
    with pytest.raises(ValueError, match="32 bits"):
        HepExporter("127.0.0.1:9", capture_id)
