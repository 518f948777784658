"""Agent edges that each have one thing wrong with them, over the transport of choice."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

from sidecar.clocks import Addr
from sidecar.net.tls import TlsSettings
from sidecar.net.transport import Transports
from sidecar.sip.endpoint import Endpoint
from sidecar.sip.flow import Flow
from sidecar.sip.message import Request, Response, parse, response_to
from tests.support.product import loopback

TAG = "edge"
Behaviour = Callable[[Request, "Edge"], Iterable[Response]]


@dataclass
class Edge:
    """Answers every request as its behaviour says."""

    behave: Behaviour
    requests: list[Request] = field(default_factory=list)
    addr: Addr = ("", 0)
    media: Addr = ("", 0)
    transport: str = "udp"
    heard: list[bytes] = field(default_factory=list)
    """RTP packets."""

    @property
    def methods(self) -> list[str]:
        """What came, retransmissions left out."""
        return list(dict.fromkeys(f"{request.cseq.number} {request.method}" for request in self.requests))

    @property
    def contact(self) -> tuple[str, str]:
        """Its own Contact."""
        return "Contact", f"<sip:agent@{self.addr[0]}:{self.addr[1]}>"

    def answer(self, request: Request, sdp: bytes) -> Response:
        """A 200 that describes media."""
        headers = [self.contact, ("Server", "edge/1")]
        return response_to(request, 200, to_tag=TAG, headers=headers, body=sdp, content_type="application/sdp")

    def sdp(self, formats: str = "0 101", *maps: str, port: int | None = None, direction: str = "sendrecv") -> bytes:
        """A description of audio at the media port."""
        host = self.media[0]
        lines = (
            "v=0",
            f"o=- 1 1 IN IP4 {host}",
            "s=-",
            f"c=IN IP4 {host}",
            "t=0 0",
            f"m=audio {self.media[1] if port is None else port} RTP/AVP {formats}",
            *(maps or ("a=rtpmap:101 telephone-event/8000",)),
            f"a={direction}",
        )
        return ("\r\n".join(lines) + "\r\n").encode()


def good(request: Request, edge: Edge) -> Iterable[Response]:
    """Takes every call."""
    match request.method:
        case "INVITE":
            yield response_to(request, 100)
            yield response_to(request, 180, to_tag=TAG)
            yield edge.answer(request, edge.sdp())
        case "OPTIONS":
            yield response_to(request, 200, to_tag=TAG, headers=[("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS"), ("Server", "edge/1")])
        case "ACK":
            pass
        case _:
            yield response_to(request, 200, to_tag=TAG)


def on_invite(behave: Behaviour) -> Behaviour:
    """`good` but for INVITE."""
    return lambda request, edge: behave(request, edge) if request.method == "INVITE" else good(request, edge)


@contextlib.asynccontextmanager
async def running(
    behave: Behaviour = good,
    transport: str = "udp",
    settings: TlsSettings | None = None,
    *,
    talks: bool = True,
    at: Addr | None = None,
) -> AsyncIterator[Edge]:
    """An edge, on a loopback address of its own unless told `at` which.

    Its media port hears, and answers each packet with one if it `talks`.
    """
    edge = Edge(behave, transport=transport)
    transports: Transports

    def received(data: bytes, flow: Flow) -> None:
        request = parse(data)
        if isinstance(request, Request):
            edge.requests.append(request)
            for response in edge.behave(request, edge):
                transports.send(response.encode(), flow)

    transports = Transports(received, lambda _flow, _why: None, settings=settings or TlsSettings())
    host, port = at or (loopback(), 0)
    echo = _Echo(edge, talks)
    media, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: echo, local_addr=(host, 0))
    try:
        await transports.open([Endpoint(transport, (host, port))])
        edge.addr = transports.local[0].addr
        edge.media = media.get_extra_info("sockname")[:2]
        yield edge
    finally:
        media.close()
        await transports.aclose()


class _Echo(asyncio.DatagramProtocol):
    def __init__(self, edge: Edge, talks: bool) -> None:
        self._edge = edge
        self._talks = talks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # not every loop's class says so

    def datagram_received(self, data: bytes, addr: Addr) -> None:
        self._edge.heard.append(data)
        if self._talks:
            self._transport.sendto(data, addr)


@contextlib.contextmanager
def silent() -> Iterator[Addr]:
    """A UDP port that takes everything and says nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((loopback(), 0))
        yield sock.getsockname()


def closed() -> Addr:
    """A port that nobody listens on."""
    host = loopback()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
    return host, port
