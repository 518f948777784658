"""A target by SRV whose first server is down, refuses the connection, or says 503: the call comes about at the second one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.test_transports import clean, media_crossed, quiet
from tests.support.dns_server import DnsServer
from tests.support.product import free_port, loopback, running
from tests.support.sipp import Sipp

pytestmark = pytest.mark.peer

CALLS = 3


@pytest.mark.parametrize(
    ("first", "case"),
    [("udp", "SRV: first port closed"), ("tcp", "SRV: first connection refused"), ("503", "SRV: first says 503")],
)
async def test_the_next_target_takes_the_call(
    tmp_path: Path, first: str, case: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("scenario", (case, f"udp → {'tcp, udp' if first == 'tcp' else 'udp'}", "SIPp + DNS server"))
    one, two = loopback(), loopback()
    port_one, port_two = free_port(one, socket.SOCK_STREAM if first == "tcp" else socket.SOCK_DGRAM), free_port(two)
    async with DnsServer() as names:
        names.add("one.edge.test", "A", one)
        names.add("two.edge.test", "A", two)
        if first == "tcp":
            services = [f'1 {n} "s" "SIP+D2{kind[0].upper()}" "" _sip._{kind}.edge.test.' for n, kind in enumerate(("tcp", "udp"))]
            names.add("edge.test", "NAPTR", *services)
            names.add("_sip._tcp.edge.test", "SRV", f"0 0 {port_one} one.edge.test.")
            names.add("_sip._udp.edge.test", "SRV", f"0 0 {port_two} two.edge.test.")
        else:
            names.add("_sip._udp.edge.test", "SRV", f"0 0 {port_one} one.edge.test.", f"1 0 {port_two} two.edge.test.")
        server = f"{names.addr[0]}:{names.addr[1]}"
        await asyncio.to_thread(_calls, tmp_path, server, (one, port_one) if first == "503" else None, (two, port_two))
        assert names.asked["SRV _sip._udp.edge.test"] == 1, "asked again although it was cached"


def _calls(folder: Path, server: str, unavailable: tuple[str, int] | None, edge: tuple[str, int]) -> None:
    host, own = loopback(), loopback()
    settings = {
        "sip": {"listen": [f"udp://{host}:{free_port(host)}"], "nameservers": [server]},
        "routes": [{"name": "agent", "target": "sip:agent@edge.test"}],
        "control": {"url": "http://127.0.0.1:9"},
        "spool": {"path": "spool"},
        "admin": {"listen": "127.0.0.1:0"},
        "drain": {"deadline_s": 1, "goodbye_s": 1, "flush_s": 0},
    }
    with ExitStack() as stack:
        sidecar = stack.enter_context(running("sidecar", folder / "sidecar", settings))
        address = sidecar.event("ready")["sip"][0].partition("://")[2]
        if unavailable is not None:
            # After its 503 it is left alone, so it hears of one call only.
            stack.callback(Sipp("agent-unavailable", folder, *unavailable, calls=1).stop)
        callee = Sipp("agent", folder, *edge, calls=CALLS, options=["-d", "2000"])
        stack.callback(callee.stop)
        options = ["-r", "1", "-s", "agent", "-d", "2000"]
        dialler = Sipp("caller", folder, own, free_port(own), calls=CALLS, options=options, target=address)
        stack.callback(dialler.stop)
        assert (dialler.wait(25), callee.wait(20)) == (clean(CALLS), clean(CALLS)), (dialler.errors(), callee.errors())
        quiet(sidecar)
        media_crossed(folder, calls=CALLS)
        assert sidecar.faults == []
