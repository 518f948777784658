"""SIP over TCP on loopback: reuse, opening on demand, keepalives, and peers that stall, flood or vanish."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import replace

import pytest

from sidecar.net.errors import StartError
from sidecar.net.tcp import StreamLimits
from sidecar.sip.endpoint import Endpoint
from sidecar.sip.flow import Flow
from sidecar.sip.keepalive import StreamTiming
from tests.shell.net.kit import LOOPBACK, answer_to, closed, listen, message, node, raw, until

QUICK = StreamLimits(timing=StreamTiming(setup=0.3, first=0.2, rest=0.2, idle=60.0, ping=(0.05, 0.06), pong=0.1))


@pytest.mark.parametrize("host", LOOPBACK.values(), ids=LOOPBACK)
async def test_a_request_opens_a_connection_and_its_answer_comes_back_on_it(host: str) -> None:
    async with node(listen("tcp", host)) as ours, node(listen("tcp", host)) as theirs:
        ours.transports.send(message(), ours.flow_to(theirs))
        ((data, flow),) = await theirs.inbox.get()
        assert data == message()
        assert flow.local == theirs.addr
        assert flow.remote[0] == host
        theirs.transports.send(answer_to(data), flow)
        ((data, flow),) = await ours.inbox.get()
        assert data == answer_to(message())
        # The flow says where we listen, not the port that the kernel gave to the connection.
        assert flow == ours.flow_to(theirs)
        assert (ours.connections(), theirs.connections()) == ({"tcp made": 1}, {"tcp accepted": 1})


async def test_one_connection_carries_all_that_goes_to_one_place() -> None:
    async with node(listen("tcp")) as ours, node(listen("tcp")) as theirs:
        for number in range(50):
            ours.transports.send(message(f"call-{number}"), ours.flow_to(theirs))
        came = await theirs.inbox.get(50)
        assert [data for data, _ in came] == [message(f"call-{number}") for number in range(50)]
        assert ours.connections() == {"tcp made": 1}


async def test_requests_go_back_by_the_connection_that_the_peer_made() -> None:
    async with node(listen("tcp")) as ours, node(listen("tcp")) as theirs:
        ours.transports.send(message("one"), ours.flow_to(theirs))
        ((_, flow),) = await theirs.inbox.get()
        theirs.transports.send(message("two"), flow)
        ((data, _),) = await ours.inbox.get()
        assert data == message("two")
        assert theirs.connections() == {"tcp accepted": 1}


async def test_without_a_tcp_listener_a_stream_is_still_made() -> None:
    async with node(listen("udp")) as ours, node(listen("tcp")) as theirs:
        ours.transports.send(message(), ours.flow_to(theirs))
        ((data, flow),) = await theirs.inbox.get()
        theirs.transports.send(answer_to(data), flow)
        assert (await ours.inbox.get())[0][1] == ours.flow_to(theirs)


async def test_a_response_whose_connection_is_gone_goes_to_sent_by_on_a_new_one() -> None:  # 18.2.2
    async with node(listen("tcp")) as ours, node(listen("tcp")) as theirs:
        sent = message(sent_by=f"127.0.0.1:{theirs.addr[1]}")
        async with raw(ours.addr) as (_, writer):
            writer.write(sent)
            ((data, flow),) = await ours.inbox.get()
        await until(lambda: not ours.connections())
        ours.transports.send(answer_to(data), flow)
        ((answer, _),) = await theirs.inbox.get()
        assert answer == answer_to(sent)


async def test_a_response_that_names_no_address_is_counted() -> None:
    async with node(listen("tcp")) as ours:
        gone = Flow("tcp", ours.addr, ("127.0.0.1", 9))
        ours.transports.send(answer_to(message(sent_by="phone.example:5060")), gone)
        assert ours.transports.counts["response-without-way"] == 1


async def test_a_closed_port_is_told_at_once() -> None:
    async with node(listen("tcp")) as ours:
        async with node(listen("tcp")) as theirs:
            flow = ours.flow_to(theirs)
        ours.transports.send(message(), flow)
        assert ours.inbox.refused == []  # never from within send
        refused, detail = await ours.inbox.refusal()
        assert refused == flow
        assert "refused" in detail


async def test_a_place_that_does_not_answer_is_given_up_in_time() -> None:
    # A listener whose queue is full drops the SYNs of all others.
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        async with node(listen("tcp"), limits=QUICK) as ours:
            ours.transports.send(message(), Flow("tcp", ours.addr, deaf.getsockname()))
            assert (await ours.inbox.refusal())[1] == "no connection within 0.3 s"
        for filler in fillers:
            filler.close()


async def test_a_peer_that_hangs_up_on_a_request_refuses_it() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server, node(listen("tcp")) as ours:
        flow = Flow("tcp", ours.addr, server.sockets[0].getsockname())
        ours.transports.send(message(), flow)
        assert (await ours.inbox.refusal())[0] == flow


async def test_a_peer_that_hangs_up_after_it_answered_refuses_nothing() -> None:
    async with node(listen("tcp")) as ours:
        async with node(listen("tcp")) as theirs:
            ours.transports.send(message(), ours.flow_to(theirs))
            ((data, flow),) = await theirs.inbox.get()
            theirs.transports.send(answer_to(data), flow)
            await ours.inbox.get()
        await until(lambda: not ours.connections())
        assert ours.inbox.refused == []
        assert ours.transports.counts["closed by the peer"] == 1


async def test_what_a_stale_connection_swallowed_goes_by_a_new_one() -> None:
    seen: list[bytes] = []

    async def reused(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The first connection answers one request and dies with the second."""
        first = not seen
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer_to(seen[-1]))
        if first:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            writer.transport.abort()
        else:
            await reader.read()
            writer.close()

    async with await asyncio.start_server(reused, "127.0.0.1", 0) as server, node(listen("tcp")) as ours:
        flow = Flow("tcp", ours.addr, server.sockets[0].getsockname())
        ours.transports.send(message("one"), flow)
        await ours.inbox.get(1)
        ours.transports.send(message("two"), flow)
        await ours.inbox.get(2)
        assert seen == [message("one"), message("two"), message("two")]
        assert ours.inbox.refused == []


async def test_a_peer_that_never_reads_is_dropped_and_counted() -> None:
    async with node(listen("tcp"), limits=replace(StreamLimits(), unsent=200_000)) as ours, raw(ours.addr) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(message())
        ((_, flow),) = await ours.inbox.get()
        for number in range(1000):
            ours.transports.send(message(f"call-{number}", body=b"x" * 10_000), flow)
            if not ours.connections():
                break
            await asyncio.sleep(0)
        assert (await ours.inbox.refusal()) == (flow, "unread")
        assert ours.transports.counts["unread"] == 1


async def test_what_waits_for_a_connection_is_bounded() -> None:
    async with node(listen("tcp"), limits=replace(StreamLimits(), unsent=20_000)) as ours, node(listen("tcp")) as theirs:
        flow = ours.flow_to(theirs)
        for number in range(3):
            ours.transports.send(message(f"call-{number}", body=b"x" * 10_000), flow)
        assert (await ours.inbox.refusal()) == (flow, "unread")


async def test_pings_are_answered() -> None:
    async with node(listen("tcp")) as ours, raw(ours.addr) as (reader, writer):
        writer.write(b"\r\n\r\n" + message() + b"\r\n\r\n")
        assert await asyncio.wait_for(reader.readexactly(4), 5) == b"\r\n\r\n"
        assert len(ours.inbox.received) == 1


async def test_we_ping_what_we_opened_and_drop_it_when_pongs_stop() -> None:
    pongs = 2

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(pongs):
            assert await reader.readexactly(4) == b"\r\n\r\n"
            writer.write(b"\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(peer, "127.0.0.1", 0) as server, node(listen("tcp"), limits=QUICK) as ours:
        flow = Flow("tcp", ours.addr, server.sockets[0].getsockname())
        ours.transports.send(message(), flow)
        assert await ours.inbox.refusal() == (flow, "no-pong")


async def test_a_peer_that_knows_no_pings_keeps_its_connection() -> None:
    got = asyncio.Event()

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.readuntil(b"\r\n\r\n")
        writer.write(answer_to(data))
        for _ in range(4):
            await reader.readexactly(4)
        got.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(peer, "127.0.0.1", 0) as server, node(listen("tcp"), limits=QUICK) as ours:
        ours.transports.send(message(), Flow("tcp", ours.addr, server.sockets[0].getsockname()))
        await asyncio.wait_for(got.wait(), 5)
        assert ours.connections() == {"tcp made": 1}


@pytest.mark.parametrize(
    ("first", "reason"), [(b"", "no-message"), (message() + message()[:40], "message-stalled"), (b"\r\n\r\n", "no-message")]
)
async def test_strangers_that_stall_are_sent_away(first: bytes, reason: str) -> None:
    async with node(listen("tcp"), limits=QUICK) as ours, raw(ours.addr) as (reader, writer):
        writer.write(first)
        await closed(reader)
        await until(lambda: not ours.connections())
        assert ours.transports.counts[reason] == 1


async def test_what_cannot_be_framed_is_handed_over_and_may_be_answered_before_the_end() -> None:
    async with node(listen("tcp")) as ours, raw(ours.addr) as (reader, writer):
        whole = message()
        bare = whole.replace(b"Content-Length: 0\r\n", b"")

        def answered(head: bytes, error: object, flow: Flow) -> None:
            ours.transports.send(b"SIP/2.0 400 Bad Request\r\n\r\n", flow)

        ours.transports._malformed = answered
        writer.write(whole + bare)
        assert await closed(reader) == b"SIP/2.0 400 Bad Request\r\n\r\n"
        assert len(ours.inbox.received) == 1
        assert ours.transports.counts["malformed"] == 1


async def test_noise_is_closed_without_a_word() -> None:
    async with node(listen("tcp")) as ours, raw(ours.addr) as (reader, writer):
        writer.write(b"\x16\x03\x01\x02\x00")
        assert await closed(reader) == b""
        assert ours.inbox.malformed == []


async def test_connections_are_bounded_per_source_and_in_all() -> None:
    limits = replace(StreamLimits(), connections=3, per_source=2)
    async with node(listen("tcp"), limits=limits) as ours:
        async with raw(ours.addr), raw(ours.addr), raw(ours.addr) as (third, _):
            assert await closed(third) == b""
            await until(lambda: ours.transports.counts["too-many-connections"] == 1)
            assert ours.connections() == {"tcp accepted": 2}
        await until(lambda: not ours.connections())
        async with raw(ours.addr) as (reader, writer):
            writer.write(b"\r\n\r\n")
            assert await asyncio.wait_for(reader.readexactly(2), 5) == b"\r\n"


async def test_a_reset_is_an_end_like_another() -> None:
    async with node(listen("tcp")) as ours:
        with socket.create_connection(ours.addr) as peer:
            peer.sendall(message())
            await ours.inbox.get()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await until(lambda: not ours.connections())
        assert ours.transports.describe()["connections"] == {}


async def test_a_taken_port_is_named() -> None:
    async with node(listen("tcp")) as ours:
        taken = Endpoint("tcp", ours.addr)
        with pytest.raises(StartError, match=rf"cannot listen on tcp://127\.0\.0\.1:{ours.addr[1]} for SIP: .*in use"):
            async with node(listen("udp"), taken):
                pass


async def test_one_port_serves_udp_and_tcp_in_both_families() -> None:
    async with node(listen("udp")) as ours:
        port = ours.addr[1]
        async with node(Endpoint("tcp", ("127.0.0.1", port)), Endpoint("tcp", ("::1", port)), Endpoint("udp", ("::1", port))) as more:
            shown = [str(endpoint) for endpoint in more.transports.local]
            assert shown == [f"tcp://127.0.0.1:{port}", f"tcp://[::1]:{port}", f"udp://[::1]:{port}"]


async def test_every_address_of_both_families_can_be_listened_on() -> None:
    async with node(listen("tcp", "0.0.0.0")) as ours:
        port = ours.addr[1]
        async with node(Endpoint("tcp", ("::", port)), Endpoint("udp", ("::", port)), Endpoint("udp", ("0.0.0.0", port))):
            async with raw(("127.0.0.1", port)) as (_, writer):
                writer.write(message())
                ((_, flow),) = await ours.inbox.get()
            assert flow.local == ("0.0.0.0", port)
            assert flow.remote[0] == "127.0.0.1"


async def test_what_was_sent_leaves_before_the_end() -> None:
    async with node(listen("tcp")) as theirs:
        async with node(listen("tcp")) as ours:
            ours.transports.send(message("one"), ours.flow_to(theirs))
            await theirs.inbox.get(1)
            ours.transports.send(message("two", body=b"x" * 60_000), ours.flow_to(theirs))
        assert len(await theirs.inbox.get(2)) == 2
        assert ours.inbox.refused == []


async def test_the_end_does_not_wait_for_one_that_never_reads() -> None:
    async with node(listen("tcp")) as ours, raw(ours.addr) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(message())
        ((_, flow),) = await ours.inbox.get()
        for number in range(60):
            ours.transports.send(message(f"call-{number}", body=b"x" * 60_000), flow)
            await asyncio.sleep(0)
        async with asyncio.timeout(3):
            await ours.transports.aclose()
