"""Messages and parties for tests of the SIP core."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from sidecar.clocks import Addr, Mono
from sidecar.sip.events import Output, Send
from sidecar.sip.flow import Flow
from sidecar.sip.layer import TransactionLayer
from sidecar.sip.message import Request, Response, parse, response_to
from sidecar.sip.timing import Timing
from tests.support.clock import FakeClock
from tests.support.ids import SeqIds
from tests.support.wire import Wire

CALLER: Addr = ("192.0.2.1", 5060)
CALLEE: Addr = ("192.0.2.2", 5060)
OUT = Flow("udp", CALLER, CALLEE)
"""The flow as the caller sees it."""
IN = Flow("udp", CALLEE, CALLER)
"""The flow as the callee sees it."""
SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"

T = TypeVar("T")


def request(
    method: str = "INVITE",
    *,
    uri: str = "sip:bob@192.0.2.2",
    to: str = "Bob <sip:bob@biloxi.example>",
    from_: str = "Alice <sip:alice@atlanta.example>;tag=a1",
    call_id: str = "call-1",
    cseq: int = 1,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> Request:
    """A request as a user hands it to the layer: without Via."""
    fixed = [("Max-Forwards", "70"), ("From", from_), ("To", to), ("Call-ID", call_id), ("CSeq", f"{cseq} {method}")]
    contact = [("Contact", "<sip:alice@192.0.2.1>")] if method == "INVITE" else []
    return Request(method, uri, [*fixed, *contact, *headers], body)


def received(
    method: str = "INVITE",
    *,
    via: str = "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK-peer-1;rport",
    flow: Flow = IN,
    **rest: object,
) -> Request:
    """The same as it comes from the wire, through `parse`."""
    made = request(method, **rest)  # type: ignore[arg-type]
    made.headers.prepend("Via", via)
    return parsed_request(made.encode())


def parsed_request(data: bytes) -> Request:
    """Octets that must be a request."""
    message = parse(data)
    assert isinstance(message, Request)
    return message


def parsed_response(data: bytes) -> Response:
    """Octets that must be a response."""
    message = parse(data)
    assert isinstance(message, Response)
    return message


def answer(sent: Request, status: int, tag: str | None = "b1", headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> Response:
    """What the callee answers to a request that came to it, through the wire's octets."""
    return parsed_response(response_to(sent, status, to_tag=tag, headers=headers, body=body).encode())


def of_type(outputs: Iterable[Output], kind: type[T]) -> list[T]:
    """The outputs of one type, in order."""
    return [output for output in outputs if isinstance(output, kind)]


def sends(outputs: Iterable[Output]) -> list[Send]:
    """What was put on the wire."""
    return of_type(outputs, Send)


def summary(outputs: Iterable[Output]) -> list[str]:
    """One word an output: the start of what was sent, or the name of the event."""
    return [_word(output) for output in outputs]


def _word(output: Output) -> str:
    if not isinstance(output, Send):
        return type(output).__name__
    message = output.message
    word = message.method if isinstance(message, Request) else str(message.status)
    return f"{word} again" if output.retransmission else word


class Log:
    """Runs a layer alone through time and notes when it sends and tells what."""

    def __init__(self, layer: TransactionLayer, now: float = 0.0) -> None:
        self.layer = layer
        self.clock = FakeClock(now)
        self.entries: list[tuple[float, str]] = []
        self.outputs: list[Output] = []

    @property
    def now(self) -> Mono:
        """The time."""
        return self.clock.now

    def drain(self, now: Mono | None = None) -> list[Output]:
        """Note what the layer has to say."""
        outputs = self.layer.take()
        self.outputs += outputs
        self.entries += [(round(float(self.clock.now), 6), word) for word in summary(outputs)]
        return outputs

    def run(self, until: float) -> None:
        """Let time pass, every deadline at its very instant."""
        self.drain()
        self.clock.run(until, self.layer, after=self.drain)

    def times(self, word: str) -> list[float]:
        """When `word` was noted."""
        return [at for at, noted in self.entries if noted == word]


def lone(timing: Timing | None = None) -> Log:
    """A layer without a peer, at time 0."""
    return Log(TransactionLayer(SeqIds(), timing or Timing()))


class Party:
    """A layer at one end of a `Wire`. Subclasses act on `handle`."""

    def __init__(self, wire: Wire, address: Addr, peer: Addr, prefix: str, timing: Timing | None = None) -> None:
        self.wire, self.address = wire, address
        self.flow = Flow("udp", address, peer)
        self.ids = SeqIds(prefix)
        self.layer = TransactionLayer(self.ids, timing or Timing())
        self.events: list[Output] = []
        wire.attach(address, self._arrive)

    def _arrive(self, data: bytes, source: Addr, now: Mono) -> None:
        message = parse(data)
        if message is not None:
            self.layer.receive(message, Flow("udp", self.address, source), now)
        self.pump(now)

    def pump(self, now: Mono) -> None:
        """Drain the layer until it has nothing to say."""
        while outputs := self.layer.take():
            for output in outputs:
                if isinstance(output, Send):
                    self.wire.send(output.data, self.address, output.flow.remote, now)
                else:
                    self.events.append(output)
                    self.handle(output, now)

    def handle(self, event: Output, now: Mono) -> None:
        """React to one event."""

    def next_deadline(self) -> Mono | None:
        """The layer's."""
        return self.layer.next_deadline()

    def on_time(self, now: Mono) -> None:
        """The layer's, then drain."""
        self.layer.on_time(now)
        self.pump(now)
