"""A caller on a WebSocket (RFC 7118), as a browser's SIP library speaks: its name leads nowhere, all that is for it comes by its stream."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from sidecar.sip.dialog import Dialog
from sidecar.sip.message import Request, Response, parse, response_to
from tests.e2e.test_kamailio import issued
from tests.e2e.test_transports import quiet, traces
from tests.support.product import free_port, loopback, running, until
from tests.support.sipp import Sipp

pytestmark = pytest.mark.peer

TRANSPORTS = ("ws", "wss")
NAME = "df7jal23ls0d.invalid"
OFFER = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %d RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"


class Caller:
    """One call of a WebSocket client."""

    def __init__(self, stream: ClientConnection, transport: str, number: str) -> None:
        self._stream = stream
        self._transport = transport
        headers = [
            ("Max-Forwards", "70"),
            ("From", f"<sip:alice@{NAME}>;tag={os.urandom(4).hex()}"),
            ("To", f"<{number}>"),
            ("Call-ID", os.urandom(8).hex()),
            ("CSeq", "1 INVITE"),
            ("Contact", f"<sip:alice@{NAME};transport=ws>"),
            ("Content-Type", "application/sdp"),
        ]
        self.invite = Request("INVITE", number, headers, OFFER % free_port("127.0.0.1"))

    def send(self, message: Request | Response) -> None:
        if isinstance(message, Request):
            message.headers.prepend("Via", f"SIP/2.0/{self._transport} {NAME};branch=z9hG4bK{os.urandom(8).hex()}")
        self._stream.send(message.encode().decode())

    def hear(self, what: str | int) -> Request | Response:
        """The next message of a kind; provisional ones that are not asked for are passed over."""
        while True:
            message = parse(str(self._stream.recv(10)).encode())
            assert message is not None
            found = message.method if isinstance(message, Request) else message.status
            if found == what:
                return message
            assert isinstance(found, int), found
            assert found < 200, found

    def dial(self) -> Dialog:
        """A call that is up."""
        self.send(self.invite)
        answer = self.hear(200)
        assert isinstance(answer, Response)
        dialog = Dialog.uac(self.invite, answer)
        self.send(dialog.ack(1))
        return dialog


def test_callers_on_websockets_and_an_agent_on_udp(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """A call that the agent hangs up, so its BYE must find the stream, and one that the caller hangs up; over ws and over wss."""
    host, edge = loopback(), loopback()
    edge_port = free_port(edge)
    files = issued(trustme.CA(), tmp_path / "tls", host)
    settings = {
        "sip": {
            "listen": [
                *(f"{transport}://{host}:{free_port(host, socket.SOCK_STREAM)}" for transport in TRANSPORTS),
                f"udp://{host}:{free_port(host)}",
            ],
            "tls": {"certificate": str(files.chain), "key": str(files.key)},
        },
        "routes": [{"name": "agent", "target": f"sip:agent@{edge}:{edge_port}"}],
        "control": {"url": "http://127.0.0.1:9"},
        "spool": {"path": "spool"},
        "admin": {"listen": "127.0.0.1:0"},
        "drain": {"deadline_s": 1, "goodbye_s": 1, "flush_s": 0},
    }
    with ExitStack() as stack:
        sidecar = stack.enter_context(running("sidecar", tmp_path / "sidecar", settings))
        for transport, uri in zip(TRANSPORTS, sidecar.event("ready")["sip"], strict=False):
            record_property("scenario", ("call, the agent or the caller hangs up", f"{transport} → udp", "websockets → SIPp"))
            trust = ssl.create_default_context(cafile=str(files.ca)) if transport == "wss" else None
            stream = stack.enter_context(connect(uri, subprotocols=[Subprotocol("sip")], ssl=trust))
            number = f"sip:agent@{uri.partition('://')[2]};transport=ws"

            agent = Sipp("agent-hangs-up", tmp_path / transport, edge, edge_port, calls=1, options=["-d", "300"])
            waiting(stack, agent, edge, edge_port)
            caller = Caller(stream, transport.upper(), number)
            caller.dial()
            bye = caller.hear("BYE")
            assert isinstance(bye, Request)
            assert (bye.uri, bye.via.transport) == (f"sip:alice@{NAME};transport=ws", transport.upper())
            caller.send(response_to(bye, 200))
            assert agent.wait(15).successful == 1

            agent = Sipp("agent", tmp_path / transport, edge, edge_port, calls=1)
            waiting(stack, agent, edge, edge_port)
            caller = Caller(stream, transport.upper(), number)
            dialog = caller.dial()
            assert dialog.remote_target == number
            caller.send(dialog.request("BYE"))
            caller.hear(200)
            assert agent.wait(15).successful == 1
        quiet(sidecar)
        used = [{(fact["leg"], fact["transport"]) for fact in trace if fact["kind"] == "sip_message"} for trace in traces(tmp_path)]
        assert sorted(map(sorted, used)) == [[("A", transport), ("B", "udp")] for transport in ("ws", "ws", "wss", "wss")]
        assert sidecar.faults == []


def waiting(stack: ExitStack, agent: Sipp, host: str, port: int) -> None:
    """Go on once the agent listens."""
    stack.callback(agent.stop)
    until("the agent listens", lambda: taken(host, port))


def taken(host: str, port: int) -> bool:
    """Whether somebody else has a UDP port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False
