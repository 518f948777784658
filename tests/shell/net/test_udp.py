"""SIP over UDP behind the same `send`: both families, and datagrams that do not arrive."""

from __future__ import annotations

import socket

import pytest

from sidecar.net.errors import StartError
from sidecar.sip.endpoint import Endpoint
from sidecar.sip.flow import Flow
from sidecar.sip.message import parse
from tests.shell.net.kit import LOOPBACK, listen, message, node


@pytest.mark.parametrize("host", LOOPBACK.values(), ids=LOOPBACK)
async def test_a_datagram_goes_there_and_back(host: str) -> None:
    async with node(listen("udp", host)) as ours, node(listen("udp", host)) as theirs:
        ours.transports.send(message("one", "UDP"), ours.flow_to(theirs))
        ((data, flow),) = await theirs.inbox.get()
        assert (data, flow) == (message("one", "UDP"), theirs.flow_to(ours))
        theirs.transports.send(b"back", flow)
        assert await ours.inbox.get() == [(b"back", ours.flow_to(theirs))]


async def test_the_largest_datagram_is_taken_whole() -> None:  # 18.1.1
    async with node(listen("udp")) as ours, node(listen("udp")) as theirs:
        bare = len(message("one", "UDP", body=b"x" * 60_000)) - 60_000
        largest = message("one", "UDP", body=b"x" * (65_507 - bare))
        ours.transports.send(largest, ours.flow_to(theirs))
        ((data, _),) = await theirs.inbox.get()
        assert (len(data), data) == (65_507, largest)
    parsed = parse(largest)
    assert parsed is not None
    assert len(parsed.body) == 65_507 - bare


@pytest.mark.parametrize("host", LOOPBACK.values(), ids=LOOPBACK)
async def test_a_closed_port_is_told_and_the_others_go_on(host: str) -> None:
    async with node(listen("udp", host)) as ours, node(listen("udp", host)) as theirs:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind((host, 0))
            closed = Flow("udp", ours.addr, gone.getsockname()[:2])
        for _ in range(3):
            ours.transports.send(message(), closed)
            ours.transports.send(message(), ours.flow_to(theirs))
        assert await ours.inbox.refusal() == (closed, "unreachable")
        assert len(await theirs.inbox.get(3)) == 3
        assert {flow for flow, _ in ours.inbox.refused} == {closed}


async def test_what_the_kernel_refuses_is_told_from_a_turn_of_its_own() -> None:
    async with node(listen("udp")) as ours, node(listen("udp")) as theirs:
        ours.transports.send(b"x" * 70_000, ours.flow_to(theirs))
        assert ours.inbox.refused == []
        assert await ours.inbox.refusal() == (ours.flow_to(theirs), "unreachable")


async def test_a_flow_of_no_listener_is_told() -> None:
    async with node(listen("tcp")) as ours, node(listen("udp")) as theirs:
        ours.transports.send(message(), ours.flow_to(theirs))
        assert await ours.inbox.refusal() == (ours.flow_to(theirs), "no UDP listener for this address")


async def test_a_taken_port_is_named() -> None:
    async with node(listen("udp")) as ours:
        with pytest.raises(StartError, match=rf"cannot listen on udp://127\.0\.0\.1:{ours.addr[1]} for SIP: .*in use"):
            async with node(Endpoint("udp", ours.addr)):
                pass
