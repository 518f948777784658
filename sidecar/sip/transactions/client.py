"""Client transactions: INVITE (RFC 3261 17.1.1, RFC 6026 7.2) and all others (17.1.2)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

from sidecar.clocks import Mono
from sidecar.sip.events import Absorbed, Output, ResponseReceived, Send, TimedOut, TransportFailed, TxId
from sidecar.sip.flow import Flow
from sidecar.sip.headers import Headers
from sidecar.sip.message import Request, Response
from sidecar.sip.timing import Timing
from sidecar.sip.transactions.machine import Event, Machine, State, Table

# 9.1 and 17.1.1.3: what CANCEL and the ACK of a non-2xx take over from the INVITE, Via (the top one alone) and CSeq apart.
_TAKEN_OVER: Final = frozenset(("route", "from", "to", "call-id", "max-forwards"))


def derived(request: Request, method: str, to: str | None = None) -> Request:
    """The CANCEL or ACK that goes with `request`: same Request-URI, top Via (so the same branch), From, Call-ID, Route and CSeq number.

    `to` replaces To where it is given.
    """
    headers = Headers([("Via", str(request.via))])
    for key, name, value in request.headers.lines():
        if key in _TAKEN_OVER:
            headers.add(name, to if key == "to" and to is not None else value)
    if "max-forwards" not in headers:
        headers.add("Max-Forwards", "70")
    headers.add("CSeq", f"{request.cseq.number} {method}")
    return Request(method, request.uri, headers)


class _Client(Machine):
    """A client transaction: its request as octets, and the interval of its retransmissions."""

    __slots__ = ("data", "interval", "via")

    def __init__(self, tx: TxId, request: Request, flow: Flow, timing: Timing, out: list[Output], state: State) -> None:
        super().__init__(tx, request, flow, timing, out, state)
        self.data = request.encode()
        self.via = request.via
        self.interval = timing.t1
        out.append(Send(self.data, flow, tx, retransmission=False, message=request))

    def receive(self, response: Response, event: Event, now: Mono) -> None:
        """A response that matches this transaction."""
        if not self.step(event, response, now):
            self._absorb(response, now)

    def _send_again(self) -> None:
        self.out.append(Send(self.data, self.flow, self.tx, retransmission=True, message=self.request))

    def _absorb(self, response: Response, now: Mono) -> None:
        self.out.append(Absorbed(self.tx, response, self.flow))

    def _deliver(self, response: Response, now: Mono) -> None:
        if self.internal:
            self._absorb(response, now)
        else:
            self.out.append(ResponseReceived(self.tx, response, self.flow, retransmission=False))

    def _time_out(self, _: None, now: Mono) -> None:
        if not self.internal:
            self.out.append(TimedOut(self.tx))

    def _fail(self, detail: str, now: Mono) -> None:
        if not self.internal:
            self.out.append(TransportFailed(self.tx, detail))


class ClientInvite(_Client):
    """17.1.1.2 with RFC 6026: a ring may last for ever, an accepted INVITE keeps hearing 2xx for timer M."""

    __slots__ = ("_accepted_tags", "_ack", "cancel_headers")

    def __init__(self, tx: TxId, request: Request, flow: Flow, timing: Timing, out: list[Output], now: Mono) -> None:
        super().__init__(tx, request, flow, timing, out, State.CALLING)
        self.cancel_headers: list[tuple[str, str]] | None = None
        """The wish to cancel, until the first provisional response lets the CANCEL go (9.1)."""
        self._ack: Send | None = None
        self._accepted_tags: set[str | None] = set()
        if not flow.reliable:
            self.again_at(Event.TIMER_A, timing.timer_a, now)
        self.again_at(Event.TIMER_B, timing.timer_b, now)

    def wish_cancel(self, headers: Iterable[tuple[str, str]]) -> None:
        """Note that the user gives up, once, unless a final response has come."""
        if self.state in (State.CALLING, State.PROCEEDING) and Event.TIMER_CANCEL not in self.deadlines and self.cancel_headers is None:
            self.cancel_headers = list(headers)

    def cancel(self, now: Mono) -> Request | None:
        """The CANCEL that is due, once; from here the final response has 64*T1 to come (9.1)."""
        if self.cancel_headers is None or self.state is not State.PROCEEDING:
            return None
        request = derived(self.request, "CANCEL")
        for name, value in self.cancel_headers:
            request.headers.add(name, value)
        self.cancel_headers = None
        self.again_at(Event.TIMER_CANCEL, self.timing.give_up, now)
        return request

    def _resend(self, _: None, now: Mono) -> None:
        self._send_again()
        self.interval *= 2
        self.again_at(Event.TIMER_A, self.interval, now)

    def _ring(self, response: Response, now: Mono) -> None:
        # A and B run only in Calling: from here on the callee may take its time.
        self.deadlines.pop(Event.TIMER_A, None)
        self.deadlines.pop(Event.TIMER_B, None)
        self._deliver(response, now)

    def _accept(self, response: Response, now: Mono) -> None:
        if Event.TIMER_M not in self.deadlines:
            self.deadlines.clear()
            self.again_at(Event.TIMER_M, self.timing.timer_m, now)
        # Another tag is another fork's dialog, the same tag a 2xx whose ACK was lost (13.2.2.4).
        again = response.to_tag in self._accepted_tags
        self._accepted_tags.add(response.to_tag)
        self.out.append(ResponseReceived(self.tx, response, self.flow, retransmission=again))

    def _reject(self, response: Response, now: Mono) -> None:
        self.deadlines.clear()
        ack = derived(self.request, "ACK", to=response.headers.get("to"))
        self._ack = Send(ack.encode(), self.flow, self.tx, retransmission=True, message=ack)
        self.out.append(Send(self._ack.data, self.flow, self.tx, retransmission=False, message=ack))
        self._deliver(response, now)
        self.again_at(Event.TIMER_D, self.lingering(self.timing.timer_d), now)

    def _ack_again(self, response: Response, now: Mono) -> None:
        self._absorb(response, now)
        if self._ack is not None:
            self.out.append(self._ack)

    # Figure 5, with the Accepted state of RFC 6026 7.2.
    TRANSITIONS: ClassVar[Table] = {
        State.CALLING: {
            Event.TIMER_A: (State.CALLING, _resend),
            Event.PROVISIONAL: (State.PROCEEDING, _ring),
            Event.SUCCESS: (State.ACCEPTED, _accept),
            Event.FAILURE: (State.COMPLETED, _reject),
            Event.TIMER_B: (State.TERMINATED, _Client._time_out),
            Event.TRANSPORT_ERROR: (State.TERMINATED, _Client._fail),
        },
        State.PROCEEDING: {
            Event.PROVISIONAL: (State.PROCEEDING, _Client._deliver),
            Event.SUCCESS: (State.ACCEPTED, _accept),
            Event.FAILURE: (State.COMPLETED, _reject),
            Event.TIMER_CANCEL: (State.TERMINATED, _Client._time_out),
            # No transport error: the INVITE has arrived, and its final response may come by another connection (18.2.2).
        },
        State.ACCEPTED: {
            Event.SUCCESS: (State.ACCEPTED, _accept),
            Event.TIMER_M: (State.TERMINATED, Machine.nothing),
        },
        State.COMPLETED: {
            Event.FAILURE: (State.COMPLETED, _ack_again),
            Event.TIMER_D: (State.TERMINATED, Machine.nothing),
            Event.TRANSPORT_ERROR: (State.TERMINATED, Machine.nothing),  # the user has its final response already
        },
        State.TERMINATED: {},
    }


class ClientOther(_Client):
    """17.1.2.2: any method but INVITE and ACK."""

    __slots__ = ()

    def __init__(self, tx: TxId, request: Request, flow: Flow, timing: Timing, out: list[Output], now: Mono) -> None:
        super().__init__(tx, request, flow, timing, out, State.TRYING)
        if not flow.reliable:
            self.again_at(Event.TIMER_E, timing.timer_e, now)
        self.again_at(Event.TIMER_F, timing.timer_f, now)

    def _resend(self, _: None, now: Mono) -> None:
        self._send_again()
        self.interval = min(2 * self.interval, self.timing.t2) if self.state is State.TRYING else self.timing.t2
        self.again_at(Event.TIMER_E, self.interval, now)

    def _complete(self, response: Response, now: Mono) -> None:
        self.deadlines.clear()
        self._deliver(response, now)
        self.again_at(Event.TIMER_K, self.lingering(self.timing.timer_k), now)

    # Figure 6.
    TRANSITIONS: ClassVar[Table] = {
        State.TRYING: {
            Event.TIMER_E: (State.TRYING, _resend),
            Event.PROVISIONAL: (State.PROCEEDING, _Client._deliver),
            Event.SUCCESS: (State.COMPLETED, _complete),
            Event.FAILURE: (State.COMPLETED, _complete),
            Event.TIMER_F: (State.TERMINATED, _Client._time_out),
            Event.TRANSPORT_ERROR: (State.TERMINATED, _Client._fail),
        },
        State.PROCEEDING: {
            Event.TIMER_E: (State.PROCEEDING, _resend),
            Event.PROVISIONAL: (State.PROCEEDING, _Client._deliver),
            Event.SUCCESS: (State.COMPLETED, _complete),
            Event.FAILURE: (State.COMPLETED, _complete),
            Event.TIMER_F: (State.TERMINATED, _Client._time_out),
            Event.TRANSPORT_ERROR: (State.TERMINATED, _Client._fail),
        },
        State.COMPLETED: {
            Event.TIMER_K: (State.TERMINATED, Machine.nothing),
        },
        State.TERMINATED: {},
    }
