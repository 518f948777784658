"""A small user agent over the sidecar's own SIP core: places and takes calls on one UDP socket, with digest on either side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import assert_never, cast

from sidecar.clocks import Addr, Mono
from sidecar.identity.digest import Credentials, DigestClient, Refusal
from sidecar.lab.challenge import Challenge, Gate
from sidecar.lab.sdp import TYPE
from sidecar.net.random_ids import RandomIds
from sidecar.sip import layer as ly
from sidecar.sip.dialog import Dialog, DialogKey, key_of_request
from sidecar.sip.errors import MalformedMessage, OutOfOrder
from sidecar.sip.flow import Flow
from sidecar.sip.headers import Headers
from sidecar.sip.message import Request, Response, parse, response_to
from sidecar.sip.uri import SipUri

DEFAULT_PORT = 5060
MOST_ATTEMPTS = 3
"""INVITEs of one call, challenges included."""


class CallRefused(Exception):
    """The call was not answered. `status` and `reason` as in the final response; 408 for silence, 503 for an unreachable peer."""

    def __init__(self, status: int, reason: str, warning: str | None = None) -> None:
        super().__init__(f"{status} {reason}" + (f" ({warning})" if warning else ""))
        self.status = status
        self.reason = reason
        self.warning = warning


@dataclass(slots=True)
class Call:
    """An answered call, whoever placed it."""

    ua: UserAgent
    dialog: Dialog
    answered: Mono
    local_sdp: bytes
    remote_sdp: bytes
    acknowledged: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    ended_by_us: bool = False
    ended_at: Mono | None = None

    async def bye(self, headers: Iterable[tuple[str, str]] = ()) -> Response | None:
        """Hang up; the answer to the BYE, or None when none came or the other side had hung up already."""
        if self.ended.is_set():
            return None
        self.end(by_us=True)
        return await self.ua.request(self.dialog, "BYE", headers)

    def end(self, *, by_us: bool) -> None:
        """The call is over: no media is due any more."""
        self.ended_by_us, self.ended_at = by_us, Mono(time.monotonic())
        self.dialog.terminate()
        self.ended.set()


@dataclass(slots=True)
class Incoming:
    """An INVITE that waits for an answer."""

    ua: UserAgent
    request: Request
    tx: ly.TxId
    tag: str
    cancelled: bool = False
    answered: bool = False

    def ring(self, status: int = 180, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send a provisional response that forms an early dialog."""
        self.ua.respond(self.tx, self.request, status, self.tag, [("Contact", self.ua.contact), *headers])

    def answer(self, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> Call:
        """Send 200 with `body` as description."""
        self.answered = True
        return self.ua.accept(self, body, headers)

    def reject(self, status: int, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send a final refusal."""
        self.answered = True
        self.ua.respond(self.tx, self.request, status, self.tag, headers)


@dataclass(slots=True)
class Outgoing:
    """A call being placed. Await `answered()`; `provisional` collects the statuses that came on the way."""

    ua: UserAgent
    request: Request
    flow: Flow
    digest: DigestClient
    future: asyncio.Future[Call]
    tx: ly.TxId
    attempts: int = 1
    provisional: list[int] = field(default_factory=list)
    ack: bytes = b""

    async def answered(self) -> Call:
        """The call once it is answered. Raises CallRefused when it is not."""
        return await self.future

    def cancel(self) -> None:
        """Give the call up before it is answered; `answered()` then raises CallRefused, with 487 as a rule."""
        self.ua.cancel(self)


class UserAgent(asyncio.DatagramProtocol):
    """One SIP address. `open` it; `on_invite` hears of each new call that passed the challenge."""

    def __init__(self, on_invite: Callable[[Incoming], None] | None = None, challenge: Challenge | None = None) -> None:
        self.ids = RandomIds()
        self.calls: dict[DialogKey, Call] = {}
        self.malformed = 0
        self.unreachable = 0
        self.gate = Gate(challenge) if challenge is not None else None
        self.on_invite = on_invite
        self._layer = ly.TransactionLayer(self.ids)
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._outgoing: dict[ly.TxId, Outgoing] = {}
        self._incoming: dict[ly.TxId, Incoming] = {}
        self._answered: dict[ly.TxId, Call] = {}
        self._waiting: dict[ly.TxId, asyncio.Future[Response | None]] = {}
        self._pumping = False

    @classmethod
    async def open(
        cls,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        on_invite: Callable[[Incoming], None] | None = None,
        challenge: Challenge | None = None,
    ) -> UserAgent:
        """Listen on UDP. Raises OSError when the port is taken."""
        _, ua = await asyncio.get_running_loop().create_datagram_endpoint(lambda: cls(on_invite, challenge), local_addr=(host, port))
        return ua

    @property
    def address(self) -> Addr:
        """Where this agent listens. Raises RuntimeError before `open`."""
        if self._transport is None:
            raise RuntimeError("the user agent is not open")
        host, port = self._transport.get_extra_info("sockname")[:2]
        return host, port

    @property
    def contact(self) -> str:
        """The Contact header value of this agent."""
        host, port = self.address
        return f"<sip:{host}:{port}>"

    async def close(self) -> None:
        """Free the port and let go of whoever waits."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()
        for waiting in self._waiting.values():
            waiting.cancel()
        for outgoing in self._outgoing.values():
            outgoing.future.cancel()
        await asyncio.sleep(0)  # the loop closes a socket in its next turn

    # -- verbs ---------------------------------------------------------------------------------------------------------

    def dial(
        self,
        uri: str,
        body: bytes,
        *,
        from_uri: str,
        call_id: str,
        headers: Iterable[tuple[str, str]] = (),
        credentials: Credentials | None = None,
        proxy: Addr | None = None,
    ) -> Outgoing:
        """Send an INVITE to `uri`, or to `proxy` on its behalf, and answer what is challenged. The Call-ID stays through it."""
        request = Request(
            "INVITE",
            uri,
            Headers(
                [
                    ("Max-Forwards", "70"),
                    ("From", f"<{from_uri}>;tag={self.ids.tag()}"),
                    ("To", f"<{uri}>"),
                    ("Call-ID", call_id),
                    ("CSeq", "1 INVITE"),
                    ("Contact", self.contact),
                    ("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS"),
                    ("Content-Type", TYPE),
                    *headers,
                ]
            ),
            body,
        )
        flow = self._flow(proxy or address_of(uri))
        tx = self._layer.request(request, flow, self.address, self._now())
        future = asyncio.get_running_loop().create_future()
        self._outgoing[tx] = outgoing = Outgoing(self, request, flow, DigestClient(credentials), future, tx)
        self._pump()
        return outgoing

    def cancel(self, outgoing: Outgoing) -> None:
        """CANCEL a call that is being placed (9.1)."""
        self._layer.cancel(outgoing.tx, self._now())
        self._pump()

    async def request(self, dialog: Dialog, method: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> Response | None:
        """Send a request within `dialog`; its final response, or None when none came."""
        request = dialog.request(method, headers=headers, body=body, contact=None if method == "BYE" else self.contact)
        tx = self._layer.request(request, self._flow(address_of(dialog.next_hop)), self.address, self._now())
        waiting: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
        self._waiting[tx] = waiting
        self._pump()
        return await waiting

    def respond(self, tx: ly.TxId, request: Request, status: int, tag: str | None = None, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Answer a request."""
        self._layer.respond(tx, response_to(request, status, to_tag=tag, headers=headers), self._now())
        self._pump()

    def accept(self, incoming: Incoming, body: bytes, headers: Iterable[tuple[str, str]]) -> Call:
        """Answer an INVITE with 200; the layer repeats it until the ACK comes."""
        response = response_to(
            incoming.request, 200, to_tag=incoming.tag, headers=[("Contact", self.contact), *headers], body=body, content_type=TYPE
        )
        dialog = Dialog.uas(incoming.request, response)
        call = Call(self, dialog, self._now(), body, incoming.request.body)
        self.calls[dialog.key] = self._answered[incoming.tx] = call
        self._incoming.pop(incoming.tx, None)
        self._layer.respond(incoming.tx, response, self._now())
        self._pump()
        return call

    # -- socket and time -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self._transport = cast(asyncio.DatagramTransport, transport)  # not every loop's class says so

    def datagram_received(self, data: bytes, addr: Addr) -> None:
        """Hand one datagram to the layer; what is malformed is counted."""
        flow = self._flow((addr[0], addr[1]))
        try:
            message = parse(data)
            if message is not None:
                self._layer.receive(message, flow, self._now())
        except MalformedMessage:
            self.malformed += 1
        self._pump()

    def error_received(self, exc: Exception) -> None:
        """A peer's port is closed; the transaction's own timer tells whoever waits."""
        self.unreachable += 1

    def _now(self) -> Mono:
        return Mono(time.monotonic())

    def _flow(self, remote: Addr) -> Flow:
        return Flow("udp", self.address, remote)

    def _pump(self) -> None:
        """Perform what the layer wants until it wants nothing, then arm one timer."""
        if self._pumping or self._transport is None or self._transport.is_closing():
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
        due = self._layer.next_deadline()
        self._timer = None if due is None else asyncio.get_running_loop().call_later(max(0.0, due - self._now()), self._fire)

    def _fire(self) -> None:
        self._layer.on_time(self._now())
        self._pump()

    def _perform(self, output: ly.Output) -> None:
        match output:
            case ly.Send(data, flow):
                if self._transport is not None:
                    self._transport.sendto(data, flow.remote)
            case ly.RequestReceived(tx, request, _):
                self._requested(tx, request)
            case ly.ResponseReceived(tx, response, flow, retransmission):
                self._responded(tx, response, flow, retransmission)
            case ly.AckReceived(request, _):
                self._acknowledged(request)
            case ly.CancelReceived(tx, request):
                incoming = self._incoming.get(tx)
                if incoming is not None and not incoming.answered:
                    incoming.cancelled = True
                    incoming.reject(487)
            case ly.TimedOut(tx):
                self._failed(tx, CallRefused(408, "Request Timeout", "no answer"))
            case ly.TransportFailed(tx, detail):
                self._failed(tx, CallRefused(503, "Service Unavailable", detail))
            case ly.AckTimedOut(tx):
                if tx in self._answered:
                    self._answered[tx].end(by_us=True)
            case ly.Terminated(tx):
                for table in (self._incoming, self._answered):
                    table.pop(tx, None)
            case ly.Absorbed() | ly.Stray():
                pass
            case _ as never:
                assert_never(never)

    # -- what came -----------------------------------------------------------------------------------------------------

    def _requested(self, tx: ly.TxId, request: Request) -> None:
        if request.to_tag is not None:
            self._in_dialog(tx, request)
        elif request.method == "OPTIONS":
            self.respond(tx, request, 200, self.ids.tag(), [("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS")])
        elif request.method != "INVITE" or self.on_invite is None:
            self.respond(tx, request, 405, self.ids.tag())
        elif self.gate is not None and (refusal := self.gate.refuse(request, self.ids.token(), self._now())) is not None:
            self.respond(tx, request, refusal.status, self.ids.tag(), refusal.headers)
        else:
            self._incoming[tx] = incoming = Incoming(self, request, tx, self.ids.tag())
            self.on_invite(incoming)

    def _in_dialog(self, tx: ly.TxId, request: Request) -> None:
        call = self.calls.get(key_of_request(request))
        if call is None or call.ended.is_set():
            self.respond(tx, request, 481)
            return
        try:
            call.dialog.accept(request)
        except OutOfOrder as error:
            self.respond(tx, request, error.status)
            return
        if request.method == "BYE":
            self.respond(tx, request, 200)
            call.end(by_us=False)
        elif request.method == "INVITE":
            response = response_to(request, 200, headers=[("Contact", self.contact)], body=call.local_sdp, content_type=TYPE)
            self._answered[tx] = call
            self._layer.respond(tx, response, self._now())
        else:
            self.respond(tx, request, 200)

    def _acknowledged(self, ack: Request) -> None:
        call = self.calls.get(key_of_request(ack))
        for tx, answered in list(self._answered.items()):
            if answered is call:
                self._layer.acknowledge(tx, self._now())
                answered.acknowledged.set()

    def _responded(self, tx: ly.TxId, response: Response, flow: Flow, retransmission: bool) -> None:
        outgoing = self._outgoing.get(tx)
        if outgoing is None:
            waiting = self._waiting.get(tx)
            if waiting is not None and response.status >= 200 and not waiting.done():
                waiting.set_result(response)
                del self._waiting[tx]
        elif response.status < 200:
            outgoing.provisional.append(response.status)
        elif response.status < 300:
            self._confirm(outgoing, response, retransmission)
        elif response.status in (401, 407) and outgoing.attempts < MOST_ATTEMPTS:
            self._authorise(outgoing, response)
        else:
            self._failed(tx, refusal_of(response))

    def _confirm(self, outgoing: Outgoing, response: Response, retransmission: bool) -> None:
        """13.2.2.4: every 2xx is acknowledged, a repeated one with the same ACK."""
        if retransmission:
            self._layer.resend(outgoing.ack, outgoing.flow)
            return
        dialog = Dialog.uac(outgoing.request, response)
        ack_flow = self._flow(address_of(dialog.next_hop))
        outgoing.ack, outgoing.flow = (
            self._layer.send_ack(dialog.ack(outgoing.request.cseq.number), ack_flow, self.address, self._now()),
            ack_flow,
        )
        if not outgoing.future.done():
            call = Call(self, dialog, self._now(), outgoing.request.body, response.body)
            self.calls[dialog.key] = call
            outgoing.future.set_result(call)

    def _authorise(self, outgoing: Outgoing, response: Response) -> None:
        request = outgoing.request
        answer = outgoing.digest.answer(response, method="INVITE", uri=request.uri, body=request.body, cnonce=self.ids.token()[:16])
        if isinstance(answer, Refusal):
            self._failed(outgoing.tx, refusal_of(response))
            return
        headers = Headers(
            [(name, value) for name, value in request.headers.items() if name not in ("Authorization", "Proxy-Authorization")]
        )
        headers.set("CSeq", f"{request.cseq.number + 1} INVITE")
        for name, value in answer.headers:
            headers.add(name, value)
        del self._outgoing[outgoing.tx]
        outgoing.request = Request("INVITE", request.uri, headers, request.body)
        outgoing.attempts += 1
        outgoing.tx = self._layer.request(outgoing.request, outgoing.flow, self.address, self._now())
        self._outgoing[outgoing.tx] = outgoing

    def _failed(self, tx: ly.TxId, error: CallRefused) -> None:
        outgoing = self._outgoing.get(tx)
        if outgoing is not None and not outgoing.future.done():
            outgoing.future.set_exception(error)
        waiting = self._waiting.pop(tx, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


def refusal_of(response: Response) -> CallRefused:
    """A final refusal with the words of its Warning or Reason header (20.43, RFC 3326)."""
    return CallRefused(response.status, response.reason, response.headers.get("Warning") or response.headers.get("Reason"))


def address_of(uri: str) -> Addr:
    """Host and port of a SIP URI whose host is an IP literal: all that a stand-in dials."""
    parsed = SipUri.parse(uri)
    return parsed.host_literal, parsed.port or DEFAULT_PORT
