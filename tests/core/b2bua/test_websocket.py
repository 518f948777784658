"""A caller that came by WebSocket: what is for it goes by its stream, and its own name is looked up nowhere (RFC 7118)."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.b2bua.settings import Listener
from sidecar.clocks import Addr
from sidecar.sip.flow import Flow
from sidecar.sip.message import Request, Response, parse, response_to
from tests.core.b2bua.harness import ANSWER, OFFER, SIDECAR, Bench
from tests.core.b2bua.types import Make

SOURCE: Addr = ("192.0.2.10", 50123)
NAME = "df7jal23ls0d.invalid"


def heard(bench: Bench, flow: Flow) -> list[Request | Response]:
    """What left by the stream, 100 left out."""
    messages = [parse(effect.data) for effect in bench.facts(e.SendSip) if effect.flow == flow]
    return [message for message in messages if message is not None and getattr(message, "status", 0) != 100]


@pytest.mark.parametrize(("transport", "scheme"), [("ws", "sip"), ("wss", "sip"), ("wss", "sips")])
def test_a_client_on_a_websocket_is_only_reached_by_it(make: Make, transport: str, scheme: str) -> None:
    stream = Flow(transport, ("192.0.2.1", 8443), SOURCE)
    bench = make(listeners=(Listener(SIDECAR, SIDECAR), Listener(stream.local, stream.local, transport)))

    def tell(message: Request | Response) -> None:
        if isinstance(message, Request):
            message.headers.prepend("Via", f"SIP/2.0/{transport.upper()} {NAME};branch=z9hG4bK-{message.cseq.number}{message.method}")
        bench.engine.receive(message.encode(), stream, bench.clock.now)
        bench.pump()

    headers = [
        ("Max-Forwards", "70"),
        ("From", f"<sip:alice@{NAME}>;tag=1"),
        ("To", "<sip:agent@192.0.2.1>"),
        ("Call-ID", "w"),
        ("CSeq", "1 INVITE"),
        ("Contact", f"<sip:alice@{NAME};transport=ws>"),
        ("Content-Type", "application/sdp"),
    ]
    invite = Request("INVITE", f"{scheme}:agent@192.0.2.1", headers, OFFER)
    tell(invite)
    bench.edge.reply(bench.edge.request("INVITE"), 200, body=ANSWER)
    bench.run(0.1)
    (answer,) = heard(bench, stream)
    assert answer.headers.get("Contact") == f"<{scheme}:agent@192.0.2.1:8443;transport=ws>"
    ack = [("Max-Forwards", "70"), ("From", headers[1][1]), ("To", answer.headers.get("To") or ""), ("Call-ID", "w"), ("CSeq", "1 ACK")]
    tell(Request("ACK", "sip:agent@192.0.2.1:8443;transport=ws", ack))
    bench.edge.request("ACK")
    bench.edge.ask("BYE")
    bench.edge.response(200)
    bye = heard(bench, stream)[-1]
    assert isinstance(bye, Request)
    assert (bye.method, bye.uri) == ("BYE", f"sip:alice@{NAME};transport=ws")
    assert (bye.via.transport, bye.via.host, bye.via.port) == (transport.upper(), "192.0.2.1", 8443)
    tell(response_to(bye, 200))
    assert bench.facts(e.Resolve) == []
