"""The user agent of one verification: one transport, one transaction layer, and a queue of events for each request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import assert_never

from sidecar.clocks import Addr, Mono
from sidecar.net.clock import mono
from sidecar.net.random_ids import RandomIds
from sidecar.net.tls import TlsSettings
from sidecar.net.transport import Transports
from sidecar.sip import layer as ly
from sidecar.sip.endpoint import Endpoint
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.flow import Flow
from sidecar.sip.message import Request, Response, parse, response_to
from sidecar.sip.targets import Target
from sidecar.sip.uri import bracketed

USER_AGENT = "trunkside-verify"
ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS"
Event = ly.ResponseReceived | ly.TimedOut | ly.TransportFailed
Events = asyncio.Queue[Event]


class Caller:
    """Talks to one target. `open` it, and `close` it whatever happened."""

    def __init__(self, target: Target, settings: TlsSettings, *, secure: bool = False) -> None:
        """`secure`: a sips: URI is dialled."""
        self.ids = RandomIds()
        self.target = target
        self.hung_up = asyncio.Event()
        """The other side sent a BYE."""
        self._layer = ly.TransactionLayer(self.ids)
        self._transports = Transports(self._received, self._refused, settings=settings)
        self._events: dict[ly.TxId, Events] = {}
        self._acks: dict[tuple[str, str], tuple[bytes, Flow]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._pumping = False
        self._call_id = ""
        self._secure = secure

    async def open(self, local: str) -> None:
        """Take a port at `local`. Raises StartError."""
        # A connection that we make carries both directions; TLS could not be listened on without a certificate.
        transport = "udp" if self.target.transport == "udp" else "tcp"
        await self._transports.open([Endpoint(transport, (local, 0))])

    async def close(self) -> None:
        """Free the port."""
        if self._timer is not None:
            self._timer.cancel()
        await self._transports.aclose()

    @property
    def address(self) -> Addr:
        """Where we listen."""
        return self._transports.local[0].addr

    @property
    def contact(self) -> str:
        """Our Contact, as a header value."""
        host, port = self.address
        # 8.1.1.8: who dials a sips: URI is to be reached by one.
        scheme = "sips" if self._secure else "sip"
        transport = "" if self._secure or self.target.transport == "udp" else f";transport={self.target.transport}"
        return f"<{scheme}:{USER_AGENT}@{bracketed(host)}:{port}{transport}>"

    def flow(self, remote: Addr | None = None) -> Flow:
        """The way to the target, or over the same transport to another address."""
        return Flow(self.target.transport, self.address, remote or self.target.remote)

    # -- verbs -------------------------------------------------------------------------------------------------------------------------

    def request(self, request: Request, flow: Flow | None = None) -> tuple[ly.TxId, Events]:
        """Send a request; its responses, or why there are none, arrive in the queue."""
        if request.method == "INVITE":
            self._call_id = request.call_id
        tx = self._layer.request(request, flow or self.flow(), self.address, mono())
        queue = self._events[tx] = Events()
        self._pump()
        return tx, queue

    async def ask(self, request: Request, within: float, flow: Flow | None = None) -> Response | str:
        """The final response to a request other than INVITE, or in words why none came; "" when nothing came in time."""
        _, queue = self.request(request, flow)
        try:
            async with asyncio.timeout(within):
                while True:
                    match await queue.get():
                        case ly.ResponseReceived(_, response):
                            if response.status >= 200:
                                return response
                        case ly.TransportFailed(_, detail):
                            return detail
                        case ly.TimedOut():
                            return ""
        except TimeoutError:
            return ""

    def acknowledge(self, ack: Request, response: Response, flow: Flow) -> None:
        """Send the ACK of a 2xx, and again whenever that 2xx comes again (13.2.2.4)."""
        data = self._layer.send_ack(ack, flow, self.address, mono())
        self._acks[response.call_id, response.to_tag or ""] = (data, flow)
        self._pump()

    def cancel(self, tx: ly.TxId) -> None:
        """Give up an INVITE (9.1)."""
        self._layer.cancel(tx, mono())
        self._pump()

    # -- from the network --------------------------------------------------------------------------------------------------------------

    def _received(self, data: bytes, flow: Flow) -> None:
        try:
            message = parse(data)
        except MalformedMessage:
            return  # nobody whose call this is would send it; a retransmission or a time-out follows
        if message is not None:
            self._layer.receive(message, flow, mono())
            self._pump()

    def _refused(self, flow: Flow, detail: str) -> None:
        self._layer.transport_failed(flow, mono(), detail)
        self._pump()

    def _fire(self) -> None:
        self._layer.on_time(mono())
        self._pump()

    def _pump(self) -> None:
        """Perform what the layer wants, then one timer for its next deadline."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while outputs := self._layer.take():
                for output in outputs:
                    self._perform(output)
        finally:
            self._pumping = False
        if self._timer is not None:
            self._timer.cancel()
        due: Mono | None = self._layer.next_deadline()
        self._timer = None if due is None else asyncio.get_running_loop().call_later(max(due - mono(), 0.0), self._fire)

    def _perform(self, output: ly.Output) -> None:
        match output:
            case ly.Send(data, flow):
                self._transports.send(data, flow, self.target.host)
            case ly.ResponseReceived(tx, response, _, True):
                known = self._acks.get((response.call_id, response.to_tag or ""))
                if known is not None:
                    self._layer.resend(*known)
            case ly.ResponseReceived(tx) | ly.TimedOut(tx) | ly.TransportFailed(tx):
                if tx in self._events:
                    self._events[tx].put_nowait(output)
            case ly.RequestReceived(tx, request, _):
                self._layer.respond(tx, self._answer(request), mono())
            case ly.Terminated(tx):
                self._events.pop(tx, None)
            case ly.AckReceived() | ly.AckTimedOut() | ly.CancelReceived() | ly.Absorbed() | ly.Stray():
                pass
            case _ as never:
                assert_never(never)

    def _answer(self, request: Request) -> Response:
        """The call is over in a moment: a BYE is taken, another offer is put off, and nobody may call in."""
        if request.to_tag is None:
            return response_to(request, 200 if request.method == "OPTIONS" else 405, to_tag=self.ids.tag(), headers=[("Allow", ALLOW)])
        if request.call_id != self._call_id:
            return response_to(request, 481)
        if request.method == "BYE":
            self.hung_up.set()
        return response_to(request, 491 if request.method in ("INVITE", "UPDATE") else 200)


def options(uri: str, caller: Caller, from_user: str, headers: Iterable[tuple[str, str]] = ()) -> Request:
    """An OPTIONS outside of any dialog (11.1)."""
    return outside("OPTIONS", uri, caller, from_user, caller.ids.token(), 1, (("Accept", "application/sdp"), *headers))


def outside(method: str, uri: str, caller: Caller, from_user: str, call_id: str, cseq: int, headers: Iterable[tuple[str, str]]) -> Request:
    """A request outside of any dialog, with a fresh From tag."""
    own = bracketed(caller.address[0])
    return Request(
        method,
        uri,
        [
            ("Max-Forwards", "70"),
            ("From", f"<sip:{from_user}@{own}>;tag={caller.ids.tag()}"),
            ("To", f"<{uri}>"),
            ("Call-ID", call_id),
            ("CSeq", f"{cseq} {method}"),
            ("Contact", caller.contact),
            ("User-Agent", USER_AGENT),
            *headers,
        ],
    )
