"""A sidecar's engine and its traces without sockets: a caller's INVITE goes in, the INVITE that reaches the platform comes out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import count
from typing import Any

from control.contract.call import Call
from control.contract.facts import FACT
from control.contract.fold import fold
from sidecar.b2bua import effects as e
from sidecar.b2bua.engine import Engine, Listener, Settings
from sidecar.b2bua.legs import PortPairs
from sidecar.b2bua.routes import Route
from sidecar.clocks import Addr, Mono, Wall
from sidecar.sip.dialog import Dialog
from sidecar.sip.flow import Flow
from sidecar.sip.message import Request, Response, parse, response_to
from sidecar.sip.uri import SipUri
from sidecar.trace.recorder import Recorder
from tests.support.ids import SeqIds

SIDECAR: Addr = ("192.0.2.1", 5060)
CALLER: Addr = ("192.0.2.10", 5060)
EDGE: Addr = ("192.0.2.20", 5070)
SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.%d\r\ns=-\r\nc=IN IP4 192.0.2.%d\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
OFFER, ANSWER = SDP % (10, 10), SDP % (20, 20)
Headers = Iterable[tuple[str, str]]


@dataclass
class Relayed:
    """A call that reached the edge."""

    id: str
    """The trace id."""
    sent: Request
    arrived: Request
    """The INVITE as the platform's edge got it."""
    caller: Dialog | None = None


class Relay:
    """An engine with the given routes. `now` moves when the test says so; `wall` is the time of day at `now` 0."""

    def __init__(self, *routes: Route, wall: float = 1_700_000_000.0, **settings: object) -> None:
        fixed: dict[str, Any] = {"listeners": (Listener(SIDECAR, SIDECAR),), "routes": routes, "trusted": (ip_network("192.0.2.0/24"),)}
        self.engine = Engine(Settings(**(fixed | settings)), SeqIds("s"))
        self.now = Mono(0.0)
        self.wall = wall
        self.traces: dict[str, list[bytes]] = {}
        self.effects: list[e.Effect] = []
        self._recorders: dict[str, Recorder] = {}
        self._branches = count(1)
        self._ports = count(10_000, 4)

    # -- a call's life ---------------------------------------------------------------------------------------------------------------

    def offer(
        self,
        uri: str,
        *,
        call_id: str,
        caller: str = "sip:+15550100@evaluator.example",
        headers: Headers = (),
        source: Addr = CALLER,
    ) -> list[Request | Response]:
        """The caller's INVITE; returns what left because of it."""
        return self._feed(self._invite(uri, call_id, caller, headers, source), source)

    def call(self, uri: str, **more: Any) -> Relayed:
        """An INVITE that goes through."""
        source = more.pop("source", CALLER)
        sent = self._invite(uri, more["call_id"], more.get("caller", "sip:+15550100@evaluator.example"), more.get("headers", ()), source)
        left = self._feed(sent, source)
        arrived = next(message for message in left if isinstance(message, Request))
        return Relayed(next(reversed(self.traces)), sent, arrived)

    def answer(self, call: Relayed, headers: Headers = ()) -> None:
        """The platform rings and answers; the caller acknowledges."""
        contact = ("Contact", f"<sip:{EDGE[0]}:{EDGE[1]}>")
        self._feed(response_to(call.arrived, 180, to_tag="edge", headers=[contact, *headers]), EDGE)
        typed = [contact, *headers, ("Content-Type", "application/sdp")]
        left = self._feed(response_to(call.arrived, 200, to_tag="edge", headers=typed, body=ANSWER), EDGE)
        final = next(message for message in left if isinstance(message, Response))
        call.caller = Dialog.uac(call.sent, final)
        self._feed(self._sent(call.caller.ack(call.sent.cseq.number)), CALLER)

    def hang_up(self, call: Relayed) -> None:
        """The caller ends an answered call, and the trace is complete."""
        assert call.caller is not None
        left = self._feed(self._sent(call.caller.request("BYE")), CALLER)
        bye = next(message for message in left if isinstance(message, Request))
        self._feed(response_to(bye, 200), EDGE)
        self.traces[call.id].append(self._recorders[call.id].closed(self.now, Wall(self.wall + self.now)))

    # -- what is known of it -----------------------------------------------------------------------------------------------------------

    def facts(self, call: Relayed) -> list[dict[str, Any]]:
        """The trace as it is posted to control."""
        return [json.loads(line) for line in self.traces[call.id]]

    def known(self, call: Relayed) -> Call:
        """The call as its trace tells it."""
        folded = fold(FACT.validate_json(line) for line in self.traces[call.id])
        assert folded is not None
        return folded

    def of(self, kind: type[e.Effect]) -> list[Any]:
        """All effects and facts of a type, in order."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    # -- the machinery -----------------------------------------------------------------------------------------------------------------

    def _invite(self, uri: str, call_id: str, caller: str, headers: Headers, source: Addr) -> Request:
        contact = f"<sip:{source[0]}:{source[1]}>"
        fixed = [
            ("Max-Forwards", "70"), ("From", f"<{caller}>;tag=c{next(self._branches)}"), ("To", f"<{uri}>"), ("Call-ID", call_id),
            ("CSeq", "1 INVITE"), ("Contact", contact), *headers, ("Content-Type", "application/sdp"),
        ]  # fmt: skip
        return self._sent(Request("INVITE", uri, fixed, OFFER), source)

    def _sent(self, request: Request, source: Addr = CALLER) -> Request:
        request.headers.prepend("Via", f"SIP/2.0/UDP {source[0]}:{source[1]};branch=z9hG4bK-c{next(self._branches)}")
        return request

    def _feed(self, message: Request | Response, source: Addr) -> list[Request | Response]:
        self.engine.receive(message.encode(), Flow("udp", SIDECAR, source), self.now)
        left: list[Request | Response] = []
        while effects := self.engine.take():
            for effect in effects:
                self.effects.append(effect)
                match effect:
                    case e.SendSip():
                        out = parse(effect.data)
                        assert out is not None
                        left.append(out)
                    case e.OpenMedia(call, m_line, _):
                        port = next(self._ports)
                        self.engine.media_opened(call, m_line, PortPairs((port, port + 1), (port + 2, port + 3)), self.now)
                    case e.MediaDescribed() | e.Resolve() | e.Refused():
                        pass
                    case _:
                        self._record(effect)
        # 100 Trying goes out at once and tells nothing.
        return [message for message in left if not (isinstance(message, Response) and message.status == 100)]

    def _record(self, fact: e.Fact) -> None:
        recorder = self._recorders.setdefault(fact.call, Recorder(fact.call, "edge-1"))
        line = recorder.record(fact, self.now, Wall(self.wall + self.now))
        if line is not None:
            self.traces.setdefault(fact.call, []).append(line)


def route(platform: str, **more: Any) -> Route:
    """A route to a platform's edge for what is dialled at `<platform>.test`."""
    more.setdefault("platform", platform)
    return Route(platform, SipUri.parse(f"sip:{EDGE[0]}:{EDGE[1]}"), host=f"{platform}.test", **more)
