"""What time does to one connection: keepalives (RFC 5626 3.5.1 and 4.4.1), and an end to those that stall or fall silent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sidecar.clocks import Mono


class Due(StrEnum):
    """What is due. All but PING close the connection; the value is then the reason, as metrics and traces say it."""

    SETUP = "handshake-stalled"
    FIRST = "no-message"
    REST = "message-stalled"
    IDLE = "idle"
    PING = "ping"
    PONG = "no-pong"


@dataclass(frozen=True, slots=True)
class StreamTiming:
    """Seconds."""

    setup: float = 5.0
    """For the connection and the TLS handshake together, where we open it; for the handshake, where the peer does."""
    first: float = 32.0
    """From there to a stranger's first whole message."""
    rest: float = 32.0
    """From the first octet of a message to its last: 64·T1, after which its transaction would be over anyway."""
    idle: float = 3600.0
    """Without a message. Longer than any call is held: a caller behind a NAT cannot be reached but by the connection it made."""
    ping: tuple[float, float] = (25.0, 30.0)
    """Between two pings, drawn anew each time (RFC 5626 4.4.1) so that a thousand connections do not ping at once."""
    pong: float = 10.0
    """For the answer to a ping (RFC 5626 4.4.1)."""


class StreamWatch:
    """The deadlines of one connection.

    A ping that stays unanswered ends the connection only if the peer has answered one before: a peer that knows nothing of RFC 5626 ignores
    CRLFs (7.5) and is alive all the same. Whether its host is there is then TCP's to find out.
    """

    def __init__(self, timing: StreamTiming, *, pings: bool, draw: Callable[[], float], now: Mono) -> None:
        """`pings`: whether we are the client of the connection; `draw` gives numbers in [0, 1)."""
        self._timing = timing
        self._pings = pings
        self._draw = draw
        self._pongs_known = False
        self._deadlines: dict[Due, Mono] = {Due.SETUP: Mono(now + timing.setup)}

    def established(self, now: Mono) -> None:
        """Octets can flow."""
        del self._deadlines[Due.SETUP]
        if self._pings:
            self._again(Due.IDLE, self._timing.idle, now)
            self._plan_ping(now)
        else:
            self._again(Due.FIRST, self._timing.first, now)

    def heard(self, now: Mono, *, message: bool, pong: bool, pending: bool) -> None:
        """Octets came: whether a whole message or a pong was among them, and whether a part of a message is left over."""
        self._deadlines.pop(Due.PONG, None)  # whatever it says, it lives
        self._pongs_known |= pong
        if message:
            self._deadlines.pop(Due.FIRST, None)
            self._deadlines.pop(Due.REST, None)
            self._again(Due.IDLE, self._timing.idle, now)
        if pending and Due.REST not in self._deadlines:
            self._again(Due.REST, self._timing.rest, now)
        elif not pending:
            self._deadlines.pop(Due.REST, None)

    def sent(self, now: Mono) -> None:
        """A message left."""
        if Due.IDLE in self._deadlines:
            self._again(Due.IDLE, self._timing.idle, now)

    def next_deadline(self) -> Mono:
        """When `due` has something to say."""
        return min(self._deadlines.values())

    def due(self, now: Mono) -> Due | None:
        """What is due at `now`, one at a time. After a PING the next one is planned."""
        due, at = min(self._deadlines.items(), key=lambda item: item[1])
        if at > now:
            return None
        if due is Due.PING:
            self._plan_ping(now)
            if self._pongs_known and Due.PONG not in self._deadlines:
                self._again(Due.PONG, self._timing.pong, now)
        return due

    def _plan_ping(self, now: Mono) -> None:
        low, high = self._timing.ping
        self._again(Due.PING, low + (high - low) * self._draw(), now)

    def _again(self, due: Due, delay: float, now: Mono) -> None:
        self._deadlines[due] = Mono(now + delay)
