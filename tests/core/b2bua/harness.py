"""A sidecar's engine between a scripted caller and a scripted edge, on a wire that the test controls.

The parties speak raw SIP and have no transactions of their own: what they get is what the engine sent, retransmissions included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import count
from typing import Self, TypeVar

from sidecar.b2bua import effects as e
from sidecar.b2bua.engine import Engine
from sidecar.b2bua.legs import Placed, PortPairs
from sidecar.b2bua.routes import Route
from sidecar.b2bua.settings import Listener, Settings
from sidecar.clocks import Addr, Mono
from sidecar.identity.digest import Credentials
from sidecar.sip.dialog import Dialog
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.flow import Flow
from sidecar.sip.message import Request, Response, parse, response_to
from sidecar.sip.targets import Target
from sidecar.sip.uri import SipUri
from tests.support.clock import FakeClock
from tests.support.ids import SeqIds
from tests.support.wire import Wire

SIDECAR: Addr = ("192.0.2.1", 5060)
CALLER: Addr = ("192.0.2.10", 5060)
EDGE: Addr = ("192.0.2.20", 5070)
STRANGER: Addr = ("203.0.113.66", 5060)
OFFER = (
    b"v=0\r\no=caller 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 101\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\nb=AS:64\r\na=x-unknown:kept as it is\r\n"
)
ANSWER = (
    b"v=0\r\no=agent 7 7 IN IP4 192.0.2.20\r\ns=-\r\nc=IN IP4 192.0.2.20\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0 101\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=label:agent\r\n"
)
RANDOM = (bytes(range(100, 232)), bytes(range(99, 231)))
"""For keys of SRTP, on leg A and leg B."""
FINGERPRINT = "sha-256 " + ":".join(f"{octet:02X}" for octet in range(32))
SDP_TYPE = ("Content-Type", "application/sdp")
PAST_EVERY_TIMER = 2 * 32.0 + 6.0
"""Seconds after which nothing of a finished call may be left: timer C's CANCEL, then the linger of the last transaction."""
GIVE_UP = 32.0
RELAY = "198.51.100.9"
"""Where a relay outside of the sidecar takes media: from port 20000 on for who speaks to the edge's side, 30000 for the caller's."""
T = TypeVar("T")
Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Heard:
    """One datagram as a party got it."""

    at: float
    data: bytes
    message: Request | Response


def word(message: Request | Response) -> str | int:
    """What a script calls a message: its method or its status."""
    return message.method if isinstance(message, Request) else message.status


class Party:
    """One end of a call. Its messages carry exactly what the script says."""

    def __init__(self, bench: Bench, addr: Addr, name: str) -> None:
        self.bench, self.addr, self.name = bench, addr, name
        self.inbox: list[Heard] = []
        self.all: list[Heard] = []
        self.dialog: Dialog | None = None
        self.asked = Request("NONE", "sip:nobody@192.0.2.1")
        """What `ask` sent last."""
        self._branches = count(1)
        bench.wire.attach(addr, self._hear)

    def _hear(self, data: bytes, source: Addr, now: Mono) -> None:
        assert source == SIDECAR
        message = parse(data)
        assert message is not None
        heard = Heard(float(now), data, message)
        self.all.append(heard)
        if not (isinstance(message, Response) and message.status == 100):
            self.inbox.append(heard)

    # -- hearing -----------------------------------------------------------------------------------------------------------------------

    def expect(self, what: str | int, within: float = 1.0) -> Heard:
        """The next message (but for 100), which must be `what`."""
        self.bench.run_while(lambda: not self.inbox, within)
        got = [word(heard.message) for heard in self.inbox]
        assert got[:1] == [what], f"{self.name} expected {what}, got {got}"
        return self.inbox.pop(0)

    def request(self, method: str, within: float = 1.0) -> Request:
        """The next message, a request."""
        message = self.expect(method, within).message
        assert isinstance(message, Request)
        return message

    def response(self, status: int, within: float = 1.0) -> Response:
        """The next message, a response."""
        message = self.expect(status, within).message
        assert isinstance(message, Response)
        return message

    def hears_nothing(self, seconds: float = 0.2) -> None:
        """Nothing comes for a while."""
        self.bench.run(seconds)
        assert [word(heard.message) for heard in self.inbox] == []

    def times(self, what: str | int) -> list[float]:
        """When messages of one kind arrived, without the wire's delay, from the first party's first word on."""
        return [round(heard.at - self.bench.wire.delay, 6) for heard in self.all if word(heard.message) == what]

    # -- speaking ----------------------------------------------------------------------------------------------------------------------

    def via(self) -> str:
        """A Via with a branch of its own."""
        return f"SIP/2.0/UDP {self.addr[0]}:{self.addr[1]};branch=z9hG4bK-{self.name}-{next(self._branches)};rport"

    def contact(self) -> str:
        """Where this party wants to be reached."""
        return f"<sip:{self.name}@{self.addr[0]}:{self.addr[1]}>"

    def send(self, message: Request | Response | bytes, source: Addr | None = None) -> None:
        """Put a message on the wire to the sidecar."""
        data = message if isinstance(message, bytes) else message.encode()
        self.bench.wire.send(data, source or self.addr, SIDECAR, self.bench.clock.now)

    def reply(
        self,
        request: Request,
        status: int,
        *,
        reason: str | None = None,
        tag: str | None = None,
        headers: Headers = (),
        body: bytes = b"",
        contact: str | None = None,
    ) -> Response:
        """Answer a request that came in. A body is a session description unless `headers` say otherwise."""
        kept = list(headers)
        if request.method in ("INVITE", "UPDATE") and 100 < status < 300:
            kept.insert(0, ("Contact", contact or self.contact()))
        if body and not any(name.lower() == "content-type" for name, _ in kept):
            kept.append(SDP_TYPE)
        answer = response_to(request, status, reason, to_tag=tag or f"{self.name}-1", headers=kept, body=body)
        if request.method == "INVITE" and request.to_tag is None and status // 100 == 2:
            self.dialog = Dialog.uas(request, answer)
        self.send(answer)
        return answer

    def join(self, invite: Request, answer: Response) -> None:
        """Take the dialog that a response to this party's INVITE stands for as the current one."""
        self.dialog = Dialog.uac(invite, answer)

    def join_as_callee(self, invite: Request, tag: str) -> None:
        """Take the dialog of an earlier answer with `tag` as the current one."""
        self.dialog = Dialog.uas(invite, response_to(invite, 180, to_tag=tag))

    def ask(
        self, method: str, *, headers: Headers = (), body: bytes = b"", contact: str | None = None, source: Addr | None = None
    ) -> Request:
        """Send a request inside the dialog."""
        self.asked = self.build(method, headers=headers, body=body, contact=contact)
        self.send(self.asked, source)
        return self.asked

    def build(self, method: str, *, headers: Headers = (), body: bytes = b"", contact: str | None = None) -> Request:
        """The next request inside the dialog, unsent."""
        assert self.dialog is not None
        refreshes = method in ("INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER")
        kept = list(headers)
        if body and not any(name.lower() == "content-type" for name, _ in kept):
            kept.append(SDP_TYPE)
        made = self.dialog.request(method, headers=kept, body=body, contact=contact or (self.contact() if refreshes else None))
        made.headers.prepend("Via", self.via())
        return made

    def ack(self, invite: Request, answer: Response, *, headers: Headers = (), body: bytes = b"") -> Request:
        """ACK a final response: inside the dialog for a 2xx, with the INVITE's Via for the others."""
        if answer.status < 300:
            if invite.to_tag is None:
                self.dialog = Dialog.uac(invite, answer)
            assert self.dialog is not None
            kept = [*headers, *([SDP_TYPE] if body else [])]
            made = self.dialog.ack(invite.cseq.number, headers=kept, body=body)
            made.headers.prepend("Via", self.via())
        else:
            made = self._like("ACK", invite)
            made.headers.set("To", answer.headers.get("To") or "")
        self.send(made)
        return made

    def cancel(self, invite: Request, headers: Headers = ()) -> Request:
        """CANCEL an INVITE of this party's."""
        made = self._like("CANCEL", invite, headers)
        self.send(made)
        return made

    def _like(self, method: str, invite: Request, headers: Headers = ()) -> Request:
        same = [
            (name, value) for name, value in invite.headers.items() if name in ("Via", "From", "To", "Call-ID", "Max-Forwards", "Route")
        ]
        return Request(method, invite.uri, [*same, ("CSeq", f"{invite.cseq.number} {method}"), *headers])


class Bench:
    """Engine, wire, clock and both parties. Media ports are handed out at once, in order from 10000 on.

    With `relay_after` media is relayed elsewhere, and the relay answers after so many seconds.
    """

    def __init__(
        self,
        *,
        target: str = "sip:agent@192.0.2.20:5070",
        credentials: Credentials | None = None,
        host: str = "192.0.2.1",
        route: dict[str, object] | None = None,
        names: dict[str, str | tuple[Target, ...] | None] | None = None,
        ports: int = 100,
        wire: Wire | None = None,
        relay_after: float | None = None,
        **settings: object,
    ) -> None:
        self.clock = FakeClock()
        self.wire = wire or Wire()
        self.names = names or {}
        self.free_ports = ports
        self.relay_after = relay_after
        self.relaying: list[tuple[Mono, e.AskRelay]] = []
        dialled = Route("agent", SipUri.parse(target), host=host, credentials=credentials, **(route or {}))  # type: ignore[arg-type]
        fixed = {"listeners": (Listener(SIDECAR, SIDECAR),), "routes": (dialled,), "trusted": (ip_network("192.0.2.0/24"),)}
        settings = {"relayed_apart": relay_after is not None} | settings
        self.relay = RELAY
        """Where the relay takes media."""
        self.engine = Engine(Settings(**(fixed | settings)), SeqIds("s"))  # type: ignore[arg-type]
        self.effects: list[tuple[float, e.Effect]] = []
        self.wire.attach(SIDECAR, self._arrive)
        self.caller = Party(self, CALLER, "caller")
        self.edge = Party(self, EDGE, "edge")

    # -- time --------------------------------------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> Self:
        """Let time pass."""
        self.clock.run(self.clock.now + seconds, self.wire, self)
        return self

    def run_while(self, condition: object, within: float) -> None:
        """Let time pass deadline by deadline while `condition()` holds, at most `within` seconds."""
        limit = self.clock.now + within
        while condition():  # type: ignore[operator]
            due = min((d for d in (self.wire.next_deadline(), self.next_deadline()) if d is not None), default=None)
            if due is None or due > limit:
                return
            self.clock.run(max(due, self.clock.now), self.wire, self)

    def next_deadline(self) -> Mono | None:
        """The engine's, or the relay's."""
        deadlines = [due for due, _ in self.relaying]
        if (own := self.engine.next_deadline()) is not None:
            deadlines.append(own)
        return min(deadlines, default=None)

    def on_time(self, now: Mono) -> None:
        """The engine's and the relay's, then what follows."""
        self.engine.on_time(now)
        for due, asked in list(self.relaying):
            if due <= now:
                self.relaying.remove((due, asked))
                self._relay(asked, now)
        self.pump()

    # -- effects -----------------------------------------------------------------------------------------------------------------------

    def _arrive(self, data: bytes, source: Addr, now: Mono) -> None:
        self.engine.receive(data, Flow("udp", SIDECAR, source), now)
        self.pump()

    def pump(self) -> None:
        """Do what the engine wants done."""
        now = self.clock.now
        while effects := self.engine.take():
            for effect in effects:
                self.effects.append((float(now), effect))
                match effect:
                    case e.SendSip(data, flow):
                        self.wire.send(data, flow.local, flow.remote, now)
                    case e.OpenMedia(call, m_line, _):
                        self._open(call, m_line, now)
                    case e.AskRelay():
                        assert effect.call not in [asked.call for _, asked in self.relaying], "one question at a time"
                        self.relaying.append((Mono(now + (self.relay_after or 0.0)), effect))
                    case e.Resolve(token) if (host := SipUri.parse(token).host) in self.names:
                        self.engine.resolved(token, self.found(token, self.names[host]), "no such name", now)
                    case _:
                        pass

    def _open(self, call: str, m_line: int, now: Mono) -> None:
        if self.free_ports <= 0:
            self.engine.media_failed(call, m_line, "no RTP port pair is free", now)
            return
        base = 10000 + 4 * (100 - self.free_ports)
        self.free_ports -= 1
        self.engine.media_opened(call, m_line, PortPairs((base, base + 1), (base + 2, base + 3), RANDOM, FINGERPRINT), now)

    def _relay(self, asked: e.AskRelay, now: Mono) -> None:
        if self.free_ports <= 0:
            self.engine.relay_failed(asked.call, asked.number, "no media relay takes the call", now)
            return
        base = 20000 if asked.leg == "A" else 30000
        ports = {line.index: (base + 2 * line.index, base + 2 * line.index + 1) for line in asked.lines if line.port}
        self.engine.relay_answered(asked.call, asked.number, Placed(self.relay, ports), now)

    def resolve(self, host: str | None) -> None:
        """Answer the last question for a name."""
        token = self.facts(e.Resolve)[-1].token
        self.engine.resolved(token, self.found(token, host), "no such name", self.clock.now)
        self.pump()

    @staticmethod
    def found(token: str, host: str | tuple[Target, ...] | None) -> tuple[Target, ...]:
        """The answer of name servers that know these targets, or one address, or none, for each name."""
        if isinstance(host, tuple):
            return host
        uri = SipUri.parse(token)
        return () if host is None else (Target("udp", uri.host, host, uri.port or 5060),)

    def facts(self, kind: type[T]) -> list[T]:
        """Every effect or fact of one type, in order."""
        return [effect for _, effect in self.effects if isinstance(effect, kind)]

    def fact(self, kind: type[T]) -> T:
        """The only effect or fact of a type."""
        found = self.facts(kind)
        assert len(found) == 1, f"{len(found)} of {kind.__name__}"
        return found[0]

    def ladder(self) -> list[str]:
        """The messages of the trace, one short word each, in order."""
        words = []
        for fact in self.facts(e.Message):
            message = parse(fact.data)
            assert message is not None
            arrow = "->" if (fact.leg == "A") == (fact.direction == "in") else "<-"
            words.append(f"{fact.leg} {arrow} {word(message)}" + (" again" if fact.retransmission else ""))
        return words

    # -- scenes ------------------------------------------------------------------------------------------------------------------------

    def invite(
        self,
        *,
        headers: Headers = (),
        body: bytes = OFFER,
        uri: str = "sip:agent@192.0.2.1",
        call_id: str = "abc@192.0.2.10",
        number: int = 17,
        from_tag: str = "caller-tag",
        forwards: str | None = "70",
        contact: str | None = "",
        source: Party | None = None,
    ) -> Request:
        """The caller's INVITE, sent. An empty `contact` is the sender's own; None leaves the header out."""
        who = source or self.caller
        kept = list(headers)
        if body and not any(name == "Content-Type" for name, _ in kept):
            kept.append(SDP_TYPE)
        fixed = [
            ("Via", who.via()),
            ("Max-Forwards", forwards),
            ("From", f'Alice <sip:alice@caller.example>;tag={from_tag};x="1"'),
            ("To", f"<{uri}>"),
            ("Call-ID", call_id),
            ("CSeq", f"{number} INVITE"),
            ("Contact", who.contact() if contact == "" else contact),
        ]
        made = Request("INVITE", uri, [*((name, value) for name, value in fixed if value is not None), *kept], body)
        who.send(made)
        return made

    def ringing(self, **invite: object) -> tuple[Request, Request]:
        """A call that rings: the caller's INVITE and what the edge got."""
        sent = self.invite(**invite)  # type: ignore[arg-type]
        got = self.edge.request("INVITE")
        self.edge.reply(got, 180)
        self.caller.response(180)
        return sent, got

    def answered(self, **invite: object) -> tuple[Request, Request]:
        """A call that is up, ACK included."""
        sent, got = self.ringing(**invite)
        self.edge.reply(got, 200, body=ANSWER)
        self.caller.ack(sent, self.caller.response(200))
        self.edge.request("ACK")
        return sent, got

    def hang_up(self, who: Party, headers: Headers = ()) -> Request:
        """One side ends the call and the other agrees. Returns the BYE as the other side got it."""
        other = self.edge if who is self.caller else self.caller
        who.ask("BYE", headers=headers)
        got = other.request("BYE")
        other.reply(got, 200)
        who.response(200)
        return got

    def over(self) -> None:
        """What must hold after every scenario: each call told once that it ended, then once that it is gone, and nothing is left."""
        self.run(PAST_EVERY_TIMER)
        told = [
            effect for _, effect in self.effects if not isinstance(effect, e.SendSip | e.OpenMedia | e.AskRelay | e.Resolve | e.Refused)
        ]
        for call in dict.fromkeys(fact.call for fact in told):
            mine = [fact for fact in told if fact.call == call]
            kinds = [type(fact) for fact in mine]
            assert kinds[0] is e.Started
            assert kinds.count(e.Started) == kinds.count(e.Ended) == kinds.count(e.Gone) == 1, kinds
            assert kinds[-1] is e.Gone, kinds
            media_after = [kind for kind in kinds[kinds.index(e.Ended) :] if kind in (e.MediaDescribed, e.Answered)]
            assert media_after == []
        state = self.engine.describe()
        assert {name: state[name] for name in ("calls", "dialogs", "lookups", "bound_transactions")} == {
            "calls": 0,
            "dialogs": 0,
            "lookups": 0,
            "bound_transactions": 0,
        }
        assert not any(state["transactions"].values()), state["transactions"]  # type: ignore[attr-defined]
        assert self.engine.next_deadline() is None
        self._nothing_secret_crossed()
        for _, source, _, data in self.wire.sent:
            if source == SIDECAR:
                assert faults(data) == [], data

    def _nothing_secret_crossed(self) -> None:
        for _, source, dest, data in self.wire.sent:
            if source == SIDECAR and dest == CALLER:
                assert b"Authorization" not in data


def faults(data: bytes) -> list[str]:
    """What RFC 3261 section 20 (tables 2 and 3) forbids or misses in a message that left."""
    try:
        message = parse(data)
    except MalformedMessage:
        return []  # the answer to what was malformed repeats it
    if message is None:
        return []
    headers = message.headers
    wanted = {"Via", "From", "To", "Call-ID", "CSeq"}
    if isinstance(message, Request):
        wanted |= {"Max-Forwards"}
        unwanted = {"BYE": {"Contact"}, "CANCEL": {"Contact", "Require", "Proxy-Require"}}.get(message.method, set())
    else:
        wanted |= _OF_STATUS.get(message.status, set())
        unwanted = {"Max-Forwards"}
    if message.cseq.method == "INVITE" and (isinstance(message, Request) or message.status // 100 == 2):
        wanted |= {"Contact"}
    if message.body:
        wanted |= {"Content-Type"}
    found = [f"{name} is missing" for name in wanted if name not in headers] + [f"{name} is there" for name in unwanted if name in headers]
    if isinstance(message, Response) and message.status == 415 and not any(name in headers for name in ("Accept", "Accept-Encoding")):
        found.append("nothing says what is accepted")
    if headers.all("Content-Length") != [str(len(data.partition(b"\r\n\r\n")[2]))]:
        found.append("Content-Length is not the body's")
    if isinstance(message, Request) and not (message.via.branch or "").startswith("z9hG4bK"):
        found.append("the branch has no cookie")
    for name in ("From", "To", "Contact"):
        bare = [value for value in headers.all(name) if "<" not in value]
        if any(sign in value.partition(";")[0] for value in bare for sign in ",?"):
            found.append(f"{name} needs angle brackets")
    return found


_OF_STATUS: dict[int, set[str]] = {
    401: {"WWW-Authenticate"},
    405: {"Allow"},
    407: {"Proxy-Authenticate"},
    420: {"Unsupported"},
    421: {"Require"},
    422: {"Min-SE"},
}
"""What a status is nothing without (RFC 3261 21.4, RFC 4028 6)."""


def header_lines(data: bytes) -> Iterator[str]:
    """The header lines of a message as they stand on the wire."""
    yield from data.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
