"""What of a body changes on its way to the other leg: a session description's addresses and ports.

Media ports are opened for it first, or a relay outside of this process is asked for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sidecar.b2bua import outcome as o
from sidecar.b2bua.effects import AskRelay, Effect, Leg, MediaDescribed, OpenMedia, other
from sidecar.b2bua.exchange import Exchange
from sidecar.b2bua.legs import Placed, PortPairs
from sidecar.b2bua.origin import Origin
from sidecar.b2bua.securing import Securing, Srtp
from sidecar.clocks import Mono
from sidecar.sip import sdp
from sidecar.sip.message import Request, Response
from sidecar.sip.multipart import find_sdp

Crossed = Callable[[bytes, Sequence[MediaDescribed], Mono], None]
"""Takes the body for the other leg, and what its description says of the sender's media."""
Failed = Callable[[o.Outcome, Mono], None]


@dataclass(frozen=True, slots=True)
class _Wait:
    """Someone who waits for ports."""

    lines: frozenset[int]
    then: Callable[[Mono], None]
    fail: Failed


@dataclass(frozen=True, slots=True)
class _Asked:
    """The question that a relay outside of this process has not answered yet."""

    number: int
    then: Callable[[Placed, Mono], None]
    fail: Failed


class Bodies:
    """The media ports of one call, and the bodies that wait for them."""

    def __init__(self, call: str, emit: Callable[[Effect], None], srtp: Srtp = "pass", *, apart: bool = False) -> None:
        """`apart`: media is relayed outside of this process."""
        self._securing = Securing(srtp)
        self._exchange = Exchange()
        self._apart = apart
        self._asked: _Asked | None = None
        self._number = 0
        self._behind: deque[Callable[[Mono], None]] = deque()
        self._origins: dict[Leg, Origin] = {"A": Origin(), "B": Origin()}
        self.said: dict[Leg, bytes] = {}
        """The description that each leg's party got last."""
        self.ports: dict[int, PortPairs] = {}
        """By index of the m-line. A pair stays open until the call ends, so that a hold or a rejected offer costs no media."""
        self._hosts = ("", "")
        self._call = call
        self._emit = emit
        self._waits: list[_Wait] = []

    def cross(
        self,
        message: Request | Response,
        leg: Leg,
        signalling_host: str,
        own_host: str,
        hosts: tuple[str, str],
        then: Crossed,
        fail: Failed,
        now: Mono,
    ) -> None:
        """Hand `then` the body of a message that came on `leg`: the same octets, but for a description's addresses and ports.

        `signalling_host` is where the sender's messages come from, `own_host` what the other leg is told as media address, `hosts` where
        ports are bound on leg A and leg B. `fail` gets the outcome when the description cannot be relayed or no ports are free.
        """
        if not message.body:
            self._exchange.quiet(message)
            then(b"", (), now)
            return
        if (coding := _coding(message)) is not None:
            fail(o.body_encoded(coding), now)
            return
        try:
            part = find_sdp(message.headers.get("Content-Type"), message.body)
            description = None if part is None else sdp.parse(part.body)
        except sdp.UnusableSdp as error:
            fail(o.sdp_unusable(error.detail), now)
            return
        if part is None or description is None:
            self._exchange.quiet(message)
            then(message.body, (), now)
            return
        active = [line for line in description.media if line.port]
        offers = self._exchange.offers(message, leg)
        try:
            self._securing.heard(leg, active, offers=offers)
        except sdp.UnusableSdp as error:
            fail(o.sdp_unusable(error.detail), now)
            return

        def place(host: str, ports: Mapping[int, tuple[int, int]], at: Mono) -> None:
            rewritten = self._securing.told(description.rewrite(host, ports), other(leg), active, self.ports)
            rewritten = self._origins[other(leg)].told(part.body, rewritten)
            described = [
                MediaDescribed(self._call, leg, line, signalling_host, self._securing.keys(leg, line.index, self.ports.get(line.index)))
                for line in description.media
            ]
            self.said[other(leg)] = rewritten
            then(part.replace(rewritten), described, at)

        if self._apart:
            self._number += 1
            self._asked = _Asked(self._number, lambda placed, at: place(placed.host, placed.ports, at), fail)
            self._emit(AskRelay(self._call, self._number, leg, description.media, offers, hosts, signalling_host))
            return

        def opened(at: Mono) -> None:
            place(own_host, {index: (pair.b if leg == "A" else pair.a) for index, pair in self.ports.items()}, at)

        if hosts != self._hosts:
            # The first offer, or the same one for a target that is reached from another address of ours.
            self._hosts = hosts
            self.ports.clear()
        missing = frozenset(line.index for line in active) - self.ports.keys()
        if not missing:
            opened(now)
            return
        self._waits.append(_Wait(missing, opened, fail))
        for index in sorted(missing):
            self._emit(OpenMedia(self._call, index, hosts))

    # -- a relay outside of this process -----------------------------------------------------------------------------------------------

    @property
    def is_asking(self) -> bool:
        """The relay owes an answer, or a body waits behind one that does."""
        return self._asked is not None or bool(self._behind)

    def in_turn(self, cross: Callable[[Mono], None], now: Mono) -> None:
        """Let something cross when all that came before has: a message must not overtake the description of an earlier one."""
        if self.is_asking:
            self._behind.append(cross)
        else:
            cross(now)

    def answered(self, number: int, placed: Placed | o.Outcome, now: Mono) -> None:
        """The relay answered the question of this number, or there is nobody to answer it."""
        if self._asked is None or self._asked.number != number:
            return
        asked, self._asked = self._asked, None
        if isinstance(placed, o.Outcome):
            asked.fail(placed, now)
        else:
            asked.then(placed, now)
        while self._behind and self._asked is None:
            self._behind.popleft()(now)

    # -- ports of our own --------------------------------------------------------------------------------------------------------------

    def opened(self, m_line: int, ports: PortPairs, now: Mono) -> None:
        """The shell bound the ports of an m-line."""
        self.ports[m_line] = ports
        for wait in self._leaving(lambda wait: wait.lines <= self.ports.keys()):
            wait.then(now)

    def failed(self, m_line: int, detail: str, now: Mono) -> None:
        """The shell found no ports for an m-line."""
        for wait in self._leaving(lambda wait: m_line in wait.lines):
            wait.fail(o.no_ports(detail), now)

    def _leaving(self, chosen: Callable[[_Wait], bool]) -> list[_Wait]:
        leaving = [wait for wait in self._waits if chosen(wait)]
        self._waits = [wait for wait in self._waits if wait not in leaving]
        return leaving


def _coding(message: Request | Response) -> str | None:
    """Under which Content-Encoding a body stands that may hold a description; None when it stands there in the clear."""
    coding = message.headers.get("Content-Encoding")
    if coding is None or coding.strip().lower() == "identity":
        return None
    return coding if (message.content_type or "").startswith(("application/sdp", "multipart/")) else None
