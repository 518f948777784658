"""SIP over WebSocket on loopback (RFC 7118), with a client that shares no code with the server."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from sidecar.net.tcp import StreamLimits
from sidecar.sip.flow import Flow
from sidecar.sip.keepalive import StreamTiming
from tests.shell.net.kit import LOOPBACK, Node, answer_to, closed, listen, message, node, raw, until
from tests.shell.net.test_tls import Authority

SIP = [Subprotocol("sip")]


def address(theirs: Node) -> str:
    host, port = theirs.addr
    return f"ws://[{host}]:{port}/" if ":" in host else f"ws://{host}:{port}/"


def source(client: ClientConnection, transport: str, theirs: Node) -> Flow:
    host, port = client.local_address[:2]
    return Flow(transport, theirs.addr, (host, port))


@pytest.mark.parametrize("host", LOOPBACK.values(), ids=LOOPBACK)
async def test_messages_go_both_ways_whole_and_a_ping_is_answered(host: str) -> None:
    async with node(listen("ws", host)) as theirs, connect(address(theirs), subprotocols=SIP) as client:
        assert client.subprotocol == "sip"
        asked = message("one", "WS", sent_by="df7jal23ls0d.invalid", body=b"x" * 50_000)
        await client.send(asked.decode())
        await client.send(message("two", "WS", body=b"\xff\xfe"))
        came = await theirs.inbox.get(2)
        flow = source(client, "ws", theirs)
        assert came == [(asked, flow), (message("two", "WS", body=b"\xff\xfe"), flow)]
        theirs.transports.send(answer_to(asked), flow)
        theirs.transports.send(message("back", "WS", body=b"\xff"), flow)
        assert await client.recv() == answer_to(asked).decode()
        assert await client.recv() == message("back", "WS", body=b"\xff")
        await client.send("\r\n\r\n")
        assert await client.recv() == "\r\n"
        assert theirs.connections() == {"ws accepted": 1}
    assert len(theirs.inbox.received) == 2


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({}, 400),
        ({"subprotocols": [Subprotocol("mqtt")]}, 400),
        ({"subprotocols": SIP, "origin": Origin("https://elsewhere.example")}, 403),
    ],
)
async def test_who_speaks_another_protocol_or_comes_from_a_foreign_page_is_sent_away(options: dict[str, object], status: int) -> None:
    async with node(listen("ws")) as theirs:
        with pytest.raises(InvalidStatus) as refused:
            await connect(address(theirs), **options)  # type: ignore[arg-type]
        assert refused.value.response.status_code == status
        assert theirs.connections() == {}


async def test_pages_of_the_listeners_own_address_may_connect_and_those_of_a_name_that_leads_here_may_not() -> None:
    async with node(listen("ws")) as theirs:
        own = Origin(address(theirs).replace("ws://", "http://").rstrip("/"))
        async with connect(address(theirs), subprotocols=SIP, origin=own) as client:
            await client.send(message("one", "WS").decode())
            assert await theirs.inbox.get()
        host, port = theirs.addr
        with pytest.raises(InvalidStatus):
            await connect(f"ws://localhost:{port}/", host=host, subprotocols=SIP, origin=Origin(f"http://localhost:{port}"))


async def test_what_is_meant_for_a_websocket_that_is_gone_is_refused() -> None:
    async with node(listen("ws")) as theirs:
        async with connect(address(theirs), subprotocols=SIP) as client:
            await client.send(message("one", "WS").decode())
            ((data, flow),) = await theirs.inbox.get()
        await until(lambda: theirs.connections() == {})
        theirs.transports.send(answer_to(data), flow)
        theirs.transports.send(message("back", "WS"), flow)
        assert await theirs.inbox.refusal() == (flow, "its WebSocket is gone")
        assert theirs.transports.counts["websocket-gone"] == 2


async def test_a_message_that_is_too_long_ends_the_connection() -> None:
    async with node(listen("ws")) as theirs, connect(address(theirs), subprotocols=SIP, max_size=None) as client:
        await client.send("x" * 70_000)
        with pytest.raises(ConnectionClosed):
            await client.recv()
        await until(lambda: theirs.connections() == {})


async def test_connections_that_become_no_websocket_are_bounded_in_number_and_in_time() -> None:
    few = StreamLimits(connections=2, timing=StreamTiming(first=0.2))
    async with node(listen("ws"), limits=few) as theirs, raw(theirs.addr) as (silent, _), raw(theirs.addr) as (slow, half):
        half.write(b"GET / HTTP/1.1\r\nHost:")
        async with raw(theirs.addr) as (third, _):
            assert await closed(third) == b""
        assert (await closed(silent), await closed(slow)) == (b"", b"")
        async with connect(address(theirs), subprotocols=SIP) as client:
            await asyncio.sleep(1)
            await client.send(message("one", "WS").decode())
            await theirs.inbox.get()


async def test_handshakes_that_stall_are_bounded_in_number_for_each_source_and_in_time(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    few = StreamLimits(per_source=2, timing=StreamTiming(setup=2.0))
    trust = ssl.create_default_context(cafile=str(authority.file))
    settings = authority.settings("127.0.0.1")
    async with (
        node(listen("wss"), settings=settings, limits=few) as theirs,
        raw(theirs.addr) as (mute, _),
        raw(theirs.addr) as (half, hello),
    ):
        hello.write(b"\x16\x03\x01\x02\x00\x01")
        async with raw(theirs.addr) as (third, _), asyncio.timeout(0.5):
            assert await third.read() == b"", "sent away long before the handshakes of others are given up"
        uri = address(theirs).replace("ws://", "wss://")
        async with connect(uri, subprotocols=SIP, ssl=trust, local_addr=("127.0.0.2", 0)) as another:
            await another.send(message("zero", "WSS").decode())
            await theirs.inbox.get()
        assert (await closed(mute), await closed(half)) == (b"", b"")
        async with connect(uri, subprotocols=SIP, ssl=trust) as client:
            await client.send(message("one", "WSS").decode())
            await theirs.inbox.get(2)


async def test_stopping_ends_what_is_open() -> None:
    async with node(listen("ws")) as theirs:
        client = await connect(address(theirs), subprotocols=SIP)
        await client.send(message("one", "WS").decode())
        await theirs.inbox.get()
        await asyncio.wait_for(theirs.transports.aclose(), 5)
        with pytest.raises(ConnectionClosed):
            await client.recv()


async def test_over_tls_with_a_certificate_that_is_renewed(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    settings = authority.settings("127.0.0.1")
    trust = ssl.create_default_context(cafile=str(authority.file))
    async with node(listen("wss"), settings=settings) as theirs:
        uri = address(theirs).replace("ws://", "wss://")

        async def shown() -> tuple[ClientConnection, bytes]:
            client = await connect(uri, subprotocols=SIP, ssl=trust)
            stream = client.transport.get_extra_info("ssl_object")
            return client, stream.getpeercert(binary_form=True)

        first, before = await shown()
        authority.settings("127.0.0.1")
        theirs.transports.reload()
        second, after = await shown()
        assert before != after
        for number, client in enumerate((first, second), 1):
            await client.send(message(str(number), "WSS").decode())
            data, flow = (await theirs.inbox.get(number))[-1]
            assert flow == source(client, "wss", theirs)
            theirs.transports.send(answer_to(data), flow)
            assert await client.recv() == answer_to(data).decode()
            await client.close()
