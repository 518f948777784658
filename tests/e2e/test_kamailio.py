"""Kamailio between SIPp and the sidecar on both legs, over UDP, TCP and TLS; and as the outbound proxy of an agent that dials out."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.e2e.test_transports import HOLD_MS, clean, media_crossed, quiet, traces
from tests.support.kamailio import PASSWORD, USER, Certificates, kamailio
from tests.support.product import free_port, loopback, running
from tests.support.sipp import Figures, Sipp

pytestmark = pytest.mark.peer

CALLS = 5
TRANSPORTS = ("udp", "tcp", "tls")


def kind(transport: str) -> int:
    return socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM


def issued(authority: trustme.CA, folder: Path, *names: str) -> Certificates:
    """A certificate for these names, with its key and its authority, in files."""
    folder.mkdir(parents=True, exist_ok=True)
    leaf = authority.issue_cert(*names)
    files = Certificates(folder / "chain.pem", folder / "key.pem", folder / "ca.pem")
    files.chain.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(files.key)
    authority.cert_pem.write_to_path(files.ca)
    return files


def sidecar_settings(host: str, ports: dict[str, int], files: Certificates, route: dict[str, Any]) -> dict[str, Any]:
    return {
        "sip": {
            "listen": [f"{transport}://{host}:{port}" for transport, port in ports.items()],
            "tls": {"certificate": str(files.chain), "key": str(files.key), "ca": str(files.ca), "clients": "required"},
        },
        "routes": [route],
        "control": {"url": "http://127.0.0.1:9"},
        "spool": {"path": "spool"},
        "admin": {"listen": "127.0.0.1:0"},
        "drain": {"deadline_s": 1, "goodbye_s": 1, "flush_s": 0},
    }


def all_well(*figures: Figures) -> bool:
    """Every call came about. Over three hops of UDP a busy machine takes longer than T1, so retransmissions do not count here."""
    return all(replace(found, retransmissions=0) == clean(CALLS) for found in figures)


@pytest.mark.parametrize(
    ("caller", "agent", "near", "far"),
    [
        *(("caller", "agent", near, far) for near in TRANSPORTS for far in TRANSPORTS),
        *(("caller-hung-up-on", "agent-hangs-up", transport, transport) for transport in TRANSPORTS),
    ],
)
def test_calls_through_a_proxy_on_both_sides(
    tmp_path: Path, caller: str, agent: str, near: str, far: str, record_property: Callable[[str, object], None]
) -> None:
    """`near` and `far` are the transports between Kamailio and the sidecar on leg A and leg B. INVITE and BYE are challenged on leg B."""
    record_property("scenario", (f"{caller}, record-routed, INVITE and BYE challenged", f"{near} → {far}", "Kamailio + SIPp"))
    authority = trustme.CA()
    host, proxy, evaluator, edge = (loopback() for _ in range(4))
    ports = {transport: free_port(host, kind(transport)) for transport in TRANSPORTS}
    proxy_ports = {transport: free_port(proxy, kind(transport)) for transport in TRANSPORTS}
    edge_port = free_port(edge)
    route = {
        "name": "agent",
        "target": f"sip:agent@{proxy}:{proxy_ports[far]};transport={far}",
        "username": USER,
        "password": PASSWORD,
    }
    with ExitStack() as stack:
        settings = sidecar_settings(host, ports, issued(authority, tmp_path / "sidecar-tls", host), route)
        sidecar = stack.enter_context(running("sidecar", tmp_path / "sidecar", settings))
        proxied = kamailio(
            tmp_path / "kamailio",
            proxy,
            proxy_ports,
            sidecar=host,
            caller=evaluator,
            front=f"sip:{host}:{ports[near]};transport={near}",
            onward=f"sip:{edge}:{edge_port}",
            challenges=True,
            certificates=issued(authority, tmp_path / "kamailio-tls", proxy),
        )
        stack.enter_context(proxied)
        callee = Sipp(agent, tmp_path, edge, edge_port, calls=CALLS, options=["-d", str(HOLD_MS)])
        stack.callback(callee.stop)
        options = ["-r", "10", "-s", "agent", "-d", str(HOLD_MS)]
        target = f"{proxy}:{proxy_ports['udp']}"
        dialler = Sipp(caller, tmp_path, evaluator, free_port(evaluator), calls=CALLS, options=options, target=target)
        stack.callback(dialler.stop)

        assert all_well(dialler.wait(25), callee.wait(20)), (dialler.errors(), callee.errors())
        quiet(sidecar)
        media_crossed(tmp_path, calls=CALLS)
        for trace in traces(tmp_path):
            used = {(fact["leg"], fact["transport"]) for fact in trace if fact["kind"] == "sip_message"}
            assert used == {("A", near), ("B", far)}
            assert [fact["result"] for fact in trace if fact["kind"] == "authentication"][:1] == ["answered"]
        assert sidecar.faults == []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_kamailio_as_the_agents_outbound_proxy(tmp_path: Path, transport: str, record_property: Callable[[str, object], None]) -> None:
    """The agent dials a host on the allow list; the INVITE goes to the proxy, which finds itself in Route and goes by the Request-URI."""
    record_property("scenario", ("outbound, by a proxy in Route", f"udp → {transport}", "Kamailio + SIPp"))
    authority = trustme.CA()
    host, proxy, agent, evaluator = (loopback() for _ in range(4))
    ports = {name: free_port(host, kind(name)) for name in TRANSPORTS}
    proxy_ports = {name: free_port(proxy, kind(name)) for name in TRANSPORTS}
    evaluator_port = free_port(evaluator)
    route = {
        "name": "out",
        "direction": "outbound",
        "target": f"sip:{proxy}:{proxy_ports[transport]};transport={transport};lr",
        "allow": [evaluator],
    }
    with ExitStack() as stack:
        settings = sidecar_settings(host, ports, issued(authority, tmp_path / "sidecar-tls", host), route)
        sidecar = stack.enter_context(running("sidecar", tmp_path / "sidecar", settings))
        files = issued(authority, tmp_path / "kamailio-tls", proxy)
        stack.enter_context(kamailio(tmp_path / "kamailio", proxy, proxy_ports, sidecar=host, certificates=files))
        callee = Sipp("agent", tmp_path, evaluator, evaluator_port, calls=CALLS, options=["-d", str(HOLD_MS)])
        stack.callback(callee.stop)
        # -rsa: SIPp sends to the sidecar, its Request-URI names the evaluator.
        options = ["-r", "10", "-s", "sim-1", "-d", str(HOLD_MS), "-rsa", f"{host}:{ports['udp']}"]
        target = f"{evaluator}:{evaluator_port}"
        dialler = Sipp("caller", tmp_path, agent, free_port(agent), calls=CALLS, options=options, target=target)
        stack.callback(dialler.stop)
        assert all_well(dialler.wait(25), callee.wait(20)), (dialler.errors(), callee.errors())
        quiet(sidecar)
        media_crossed(tmp_path, calls=CALLS)
        assert sidecar.faults == []
