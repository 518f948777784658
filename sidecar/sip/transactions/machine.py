"""What the four machines share: states, events, timers, and the step through a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import ClassVar, Final

from sidecar.clocks import Mono
from sidecar.sip.events import Output, Terminated, TxId
from sidecar.sip.flow import Flow
from sidecar.sip.message import Request
from sidecar.sip.timing import Timing


class State(StrEnum):
    """States by their names in the figures."""

    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    ACCEPTED = "accepted"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


class Event(StrEnum):
    """What can happen to a machine: a message, a wish of the transaction's user, a timer."""

    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    FAILURE = "300-699"
    REQUEST = "request again"
    ACK = "ack"
    ACKNOWLEDGED = "acknowledged"
    ABANDONED = "abandoned"
    TRANSPORT_ERROR = "transport error"
    TIMER_A = "A"
    TIMER_B = "B"
    TIMER_D = "D"
    TIMER_E = "E"
    TIMER_F = "F"
    TIMER_G = "G"
    TIMER_H = "H"
    TIMER_I = "I"
    TIMER_J = "J"
    TIMER_K = "K"
    TIMER_L = "L"
    TIMER_M = "M"
    TIMER_CANCEL = "final after cancel"
    TIMER_2XX = "repeat 2xx"
    TIMER_ACK = "wait for ack of 2xx"


Action = Callable[..., None]
"""Called as `action(machine, cause, now)`; `cause` is the message for message events, a string for a transport error, None for timers."""

Table = Mapping[State, Mapping[Event, tuple[State, Action]]]
"""state → event → (next state, what to do). What is not in the table changes nothing."""

NEVER: Final = Mono(math.inf)


def class_of(status: int) -> Event:
    """The event that a response with this status is."""
    if status < 200:
        return Event.PROVISIONAL
    return Event.SUCCESS if status < 300 else Event.FAILURE


class Machine:
    """One transaction: a state, named deadlines, and `out`, where it leaves what is to be sent or told.

    Invariant: a terminated machine has no deadlines and has told `Terminated` (unless it is internal).
    """

    __slots__ = ("deadlines", "flow", "internal", "key", "out", "request", "scheduled", "state", "timing", "tx")
    TRANSITIONS: ClassVar[Table]

    def __init__(self, tx: TxId, request: Request, flow: Flow, timing: Timing, out: list[Output], state: State) -> None:
        self.tx = tx
        self.request = request
        self.flow = flow
        self.timing = timing
        self.out = out
        self.state = state
        self.deadlines: dict[Event, Mono] = {}
        self.internal = False
        """Started by the layer for itself (CANCEL): its user hears nothing of it."""
        self.key: tuple[str, ...] = ()
        """Where the layer files it."""
        self.scheduled = NEVER
        """The deadline under which the layer's heap knows it."""

    def step(self, event: Event, cause: object, now: Mono) -> bool:
        """Let `event` happen. False when it means nothing in this state."""
        row = self.TRANSITIONS[self.state].get(event)
        if row is None:
            return False
        self.state, action = row
        action(self, cause, now)
        if self.state is State.TERMINATED:
            self.deadlines.clear()
            if not self.internal:
                self.out.append(Terminated(self.tx))
        return True

    def next_deadline(self) -> Mono:
        """The earliest deadline, `NEVER` without any."""
        return min(self.deadlines.values(), default=NEVER)

    def on_time(self, now: Mono) -> None:
        """Fire every timer that is due, the earliest first."""
        while self.deadlines:
            event, due = min(self.deadlines.items(), key=lambda item: item[1])
            if due > now:
                return
            del self.deadlines[event]
            self.step(event, None, now)

    def again_at(self, event: Event, delay: float, now: Mono) -> None:
        """Set a timer."""
        self.deadlines[event] = Mono(now + delay)

    def lingering(self, delay: float) -> float:
        """A wait for retransmissions: zero on a reliable transport, which has none."""
        return 0.0 if self.flow.reliable else delay

    def nothing(self, _: object, now: Mono) -> None:
        """The transition is all there is."""
