"""The session of a call: descriptions on their way between the legs, and what is agreed (RFC 3264)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sidecar.b2bua import outcome as o
from sidecar.b2bua.bodies import Bodies, Crossed, Failed
from sidecar.b2bua.effects import Leg, MediaDescribed, Renegotiated
from sidecar.b2bua.legs import Negotiated, Placed, PortPairs
from sidecar.b2bua.outgoing import Outgoing
from sidecar.clocks import Mono
from sidecar.sip.message import Request, Response
from sidecar.sip.multipart import find_sdp

State = Literal["setup", "answered", "ended"]


class Negotiating(Outgoing):
    """The part of a call that knows its media. The attributes are set by `Call`."""

    state: State
    bodies: Bodies
    told: dict[tuple[Leg, int], MediaDescribed]
    """What the shell knows of each leg's m-lines."""

    @property
    def is_over(self) -> bool:
        """Signalling is decided, whatever may still be outstanding."""
        return self.state == "ended"

    def cross_body(self, message: Request | Response, leg: Leg, then: Crossed, fail: Failed, now: Mono) -> None:
        """Hand `then` the body for the other leg; see `Bodies.cross`."""
        self.bodies.in_turn(lambda at: self._cross_body(message, leg, then, fail, at), now)

    def _cross_body(self, message: Request | Response, leg: Leg, then: Crossed, fail: Failed, now: Mono) -> None:
        a, b = self.flows["A"], self.flows.get("B", self.flows["A"])
        if self.is_over:
            # No media is opened for a call that is over: an answer that came late crosses without its description.
            described = find_sdp(message.headers.get("Content-Type"), message.body) is not None
            then(b"" if described else message.body, (), now)
        else:
            own_host = self.board.advertised(b if leg == "A" else a)[0]
            self.bodies.cross(message, leg, self.flows[leg].remote[0], own_host, (a.local[0], b.local[0]), then, fail, now)

    def media_opened(self, m_line: int, ports: PortPairs, now: Mono) -> None:
        """The shell bound the ports of an m-line."""
        self.bodies.opened(m_line, ports, now)

    def media_failed(self, m_line: int, detail: str, now: Mono) -> None:
        """The shell found no ports."""
        self.bodies.failed(m_line, detail, now)

    def relay_answered(self, number: int, placed: Placed | o.Outcome, now: Mono) -> None:
        """The relay outside of this process answered, or failed to."""
        self.bodies.answered(number, placed, now)

    @property
    def is_settled(self) -> bool:
        """As in `Outgoing`; and no body waits for a relay."""
        return super().is_settled and not self.bodies.is_asking

    def tell_media(self, described: Sequence[MediaDescribed]) -> None:
        """Tell the shell where media goes from now on, as far as that is new. Nobody need be told of a line that was never live."""
        for fact in described:
            key = (fact.leg, fact.line.index)
            known = self.told.get(key)
            if not self.is_over and known != fact and (known is not None or fact.line.port):
                self.told[key] = fact
                self.emit(fact)

    def negotiated(self) -> Negotiated:
        """The session as it is agreed now."""
        return Negotiated(dict(self.told), dict(self.bodies.said))

    def renegotiate(self, before: Negotiated) -> None:
        """Return to what was agreed `before`."""
        self.bodies.said = dict(before.said)
        self.tell_media([fact for key, fact in before.told.items() if self.told.get(key) != fact])
        self.settle_relay()

    def settle_relay(self) -> None:
        """A relay outside of this process hears of offers before they are taken, and of branches before one answers."""
        if self.board.settings.relayed_apart and not self.is_over:
            self.emit(Renegotiated(self.id))

    def said_to(self, leg: Leg) -> bytes | None:
        """The description that the party on `leg` last got from us."""
        return self.bodies.said.get(leg)
