"""Server transactions: INVITE (RFC 3261 17.2.1, RFC 6026 7.1) and all others (17.2.2)."""

from __future__ import annotations

from typing import ClassVar

from sidecar.clocks import Mono
from sidecar.sip.events import Absorbed, AckReceived, AckTimedOut, Output, Send, TimedOut, TxId
from sidecar.sip.flow import Flow
from sidecar.sip.message import Request, Response
from sidecar.sip.timing import Timing
from sidecar.sip.transactions.machine import Event, Machine, State, Table, class_of


class _Server(Machine):
    """A server transaction. `flow` is where requests come from, `back` where responses go (18.2.2)."""

    __slots__ = ("back", "last", "merged")

    def __init__(self, tx: TxId, request: Request, flow: Flow, back: Flow, timing: Timing, out: list[Output], state: State) -> None:
        super().__init__(tx, request, flow, timing, out, state)
        self.back = back
        self.last: Send | None = None
        """The most recent response, as it is sent again."""
        self.merged: tuple[str, ...] = ()
        """Where the layer files it to recognise a merged request (8.2.2.2)."""

    @property
    def local_tag(self) -> str | None:
        """To tag of the most recent response; None before there is one with a tag."""
        return None if self.last is None else self.last.message.to_tag

    def respond(self, response: Response, now: Mono) -> None:
        """A response of the user; one that comes too late is discarded (17.2.1, 17.2.2)."""
        self.step(class_of(response.status), response, now)

    def _send(self, response: Response, now: Mono) -> None:
        data = response.encode()
        self.last = Send(data, self.back, self.tx, retransmission=True, message=response)
        self.out.append(Send(data, self.back, self.tx, retransmission=False, message=response))

    def _send_last(self) -> None:
        if self.last is not None:
            self.out.append(self.last)

    def _absorb(self, request: Request, now: Mono) -> None:
        self.out.append(Absorbed(self.tx, request, self.flow))

    def _repeat(self, request: Request, now: Mono) -> None:
        self._absorb(request, now)
        self._send_last()


class ServerInvite(_Server):
    """17.2.1 with RFC 6026. It also repeats the user's 2xx until `ACKNOWLEDGED` (13.3.1.4), so that its user keeps no timers."""

    __slots__ = ("interval",)

    def __init__(self, tx: TxId, request: Request, flow: Flow, back: Flow, timing: Timing, out: list[Output]) -> None:
        super().__init__(tx, request, flow, back, timing, out, State.PROCEEDING)
        self.interval = timing.t1

    def _accept(self, response: Response, now: Mono) -> None:
        self._send(response, now)
        self.again_at(Event.TIMER_ACK, self.timing.give_up, now)
        self.again_at(Event.TIMER_L, self.timing.timer_l, now)
        # 13.3.1.4: on any transport, because a proxy between may be on another.
        self.again_at(Event.TIMER_2XX, self.interval, now)

    def _accept_again(self, _: None, now: Mono) -> None:
        self._send_last()
        self.interval = min(2 * self.interval, self.timing.t2)
        self.again_at(Event.TIMER_2XX, self.interval, now)

    def _acknowledged(self, _: None, now: Mono) -> None:
        self.deadlines.pop(Event.TIMER_2XX, None)
        self.deadlines.pop(Event.TIMER_ACK, None)

    def _unacknowledged(self, _: None, now: Mono) -> None:
        self.deadlines.pop(Event.TIMER_2XX, None)
        self.out.append(AckTimedOut(self.tx))

    def _pass_ack(self, request: Request, now: Mono) -> None:
        self.out.append(AckReceived(request, self.flow))

    def _reject(self, response: Response, now: Mono) -> None:
        self._send(response, now)
        if not self.flow.reliable:
            self.again_at(Event.TIMER_G, self.timing.timer_g, now)
        self.again_at(Event.TIMER_H, self.timing.timer_h, now)

    def _reject_again(self, _: None, now: Mono) -> None:
        self._send_last()
        self.interval = min(2 * self.interval, self.timing.t2)
        self.again_at(Event.TIMER_G, self.interval, now)

    def _confirm(self, request: Request, now: Mono) -> None:
        self.deadlines.clear()
        self._absorb(request, now)
        self.again_at(Event.TIMER_I, self.lingering(self.timing.timer_i), now)

    def _time_out(self, _: None, now: Mono) -> None:
        if not self.internal:
            self.out.append(TimedOut(self.tx))

    # Figure 7, with the Accepted state of RFC 6026 7.1.
    TRANSITIONS: ClassVar[Table] = {
        State.PROCEEDING: {
            Event.REQUEST: (State.PROCEEDING, _Server._repeat),
            Event.PROVISIONAL: (State.PROCEEDING, _Server._send),
            Event.SUCCESS: (State.ACCEPTED, _accept),
            Event.FAILURE: (State.COMPLETED, _reject),
            Event.ACK: (State.PROCEEDING, _Server._absorb),
        },
        State.ACCEPTED: {
            Event.REQUEST: (State.ACCEPTED, _Server._absorb),
            Event.SUCCESS: (State.ACCEPTED, _Server._send),
            Event.TIMER_2XX: (State.ACCEPTED, _accept_again),
            Event.ACK: (State.ACCEPTED, _pass_ack),
            Event.ACKNOWLEDGED: (State.ACCEPTED, _acknowledged),
            Event.TIMER_ACK: (State.ACCEPTED, _unacknowledged),
            Event.TIMER_L: (State.TERMINATED, Machine.nothing),
        },
        State.COMPLETED: {
            Event.REQUEST: (State.COMPLETED, _Server._repeat),
            Event.TIMER_G: (State.COMPLETED, _reject_again),
            Event.ACK: (State.CONFIRMED, _confirm),
            Event.TIMER_H: (State.TERMINATED, _time_out),
        },
        State.CONFIRMED: {
            Event.REQUEST: (State.CONFIRMED, _Server._absorb),
            Event.ACK: (State.CONFIRMED, _Server._absorb),
            Event.TIMER_I: (State.TERMINATED, Machine.nothing),
        },
        State.TERMINATED: {},
    }


class ServerOther(_Server):
    """17.2.2: any method but INVITE and ACK."""

    __slots__ = ()

    def __init__(self, tx: TxId, request: Request, flow: Flow, back: Flow, timing: Timing, out: list[Output]) -> None:
        super().__init__(tx, request, flow, back, timing, out, State.TRYING)

    def _complete(self, response: Response, now: Mono) -> None:
        self._send(response, now)
        self.again_at(Event.TIMER_J, self.lingering(self.timing.timer_j), now)

    # Figure 8; RFC 4320 4.2 leaves a request unanswered rather than send a 408.
    TRANSITIONS: ClassVar[Table] = {
        State.TRYING: {
            Event.REQUEST: (State.TRYING, _Server._absorb),
            Event.ABANDONED: (State.TERMINATED, Machine.nothing),
            Event.PROVISIONAL: (State.PROCEEDING, _Server._send),
            Event.SUCCESS: (State.COMPLETED, _complete),
            Event.FAILURE: (State.COMPLETED, _complete),
        },
        State.PROCEEDING: {
            Event.REQUEST: (State.PROCEEDING, _Server._repeat),
            Event.ABANDONED: (State.TERMINATED, Machine.nothing),
            Event.PROVISIONAL: (State.PROCEEDING, _Server._send),
            Event.SUCCESS: (State.COMPLETED, _complete),
            Event.FAILURE: (State.COMPLETED, _complete),
        },
        State.COMPLETED: {
            Event.REQUEST: (State.COMPLETED, _Server._repeat),
            Event.TIMER_J: (State.TERMINATED, Machine.nothing),
        },
        State.TERMINATED: {},
    }
