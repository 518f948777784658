"""Small records that a call keeps about its two legs: dialog pairs, and the transactions that it has open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sidecar.b2bua.effects import Leg, MediaDescribed, SetupTimings
from sidecar.b2bua.reliable import Receipts
from sidecar.clocks import Mono
from sidecar.sip.dialog import Dialog
from sidecar.sip.flow import Flow
from sidecar.sip.layer import TxId
from sidecar.sip.message import Request, Response


@dataclass(frozen=True, slots=True)
class PortPairs:
    """What the shell bound for one m-line: (RTP, RTCP) ports on each leg."""

    a: tuple[int, int]
    b: tuple[int, int]
    random: tuple[bytes, bytes] = field(default=(b"", b""), repr=False)
    """For the keys that we send with on leg A and leg B, `sdes.KEY_OCTETS` and `dtls.ICE_OCTETS` each; empty where no SRTP ends here."""
    fingerprint: str = ""
    """Of the certificate that we show in handshakes, as it stands behind `a=fingerprint:`."""

    def randomness(self, leg: Leg) -> bytes:
        """That of one leg."""
        return self.random[0] if leg == "A" else self.random[1]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a relay outside of this process takes one leg's media: its host, and (RTP, RTCP) ports by index of the m-line."""

    host: str
    ports: Mapping[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Negotiated:
    """A session as agreed: what each leg's party said of its media, and the descriptions that they were given."""

    told: dict[tuple[Leg, int], MediaDescribed]
    said: dict[Leg, bytes]


@dataclass(slots=True, eq=False)
class Pair:
    """One dialog on each leg that belong together. A forking edge gives a call several early pairs; one of them is confirmed."""

    a: Dialog
    b: Dialog
    described: Sequence[MediaDescribed] = ()
    """What the edge last said of its media in this pair: the answer of a 2xx without a description is the one that came earlier."""

    def of(self, leg: Leg) -> Dialog:
        """The dialog on `leg`."""
        return self.a if leg == "A" else self.b


@dataclass(slots=True)
class SentAck:
    """An ACK to a 2xx as it left, to be sent again when the 2xx comes again."""

    request: Request
    data: bytes
    flow: Flow
    otherwise: Flow | None
    """As in `Dialling`."""


@dataclass(slots=True, eq=False)
class Dialling:
    """The B leg's INVITE (again after each challenge)."""

    request: Request
    sent_at: Mono
    otherwise: Flow | None = None
    """Where it goes when the transport refuses it: by UDP, what went by TCP for its size alone (RFC 3261 18.1.1)."""
    acks: dict[str, SentAck] = field(default_factory=dict)
    """By the edge's To-tag."""
    offers: dict[str, Response] = field(default_factory=dict)
    """2xx whose description is an offer, since the INVITE had none, by To-tag: their ACK must answer it (RFC 3261 13.2.2.4)."""

    @property
    def is_open(self) -> bool:
        """No final answer that we have dealt with."""
        return not self.acks


@dataclass(slots=True, eq=False)
class Crossing:
    """An in-dialog request on its way from `leg` to the other leg."""

    leg: Leg
    server: TxId
    request: Request
    pair: Pair
    outgoing: Request | None = None
    ack: SentAck | None = None
    offers: dict[str, Response] = field(default_factory=dict)
    """As in `Dialling`."""
    is_answered: bool = False
    """Whoever asked has got a final answer, from the far side or from us."""
    offered: Sequence[MediaDescribed] = ()
    """The request's description, which counts for the media only once the far side has taken it (RFC 3264 8)."""
    otherwise: Flow | None = None
    """As in `Dialling`."""
    others: list[Flow] = field(default_factory=list)
    """Where else its next hop is served, in the order to try (RFC 3263 4.3)."""
    receipts: Receipts = field(default_factory=Receipts)
    """Of an INVITE."""
    before: Negotiated | None = None
    """What was agreed when the offer came, to return to when it is refused (RFC 3261 14.1)."""

    until: Mono | None = None
    """Until when an INVITE may go without a final response (16.6, timer C)."""

    @property
    def is_open(self) -> bool:
        """No final answer that we have dealt with."""
        return self.ack is None


@dataclass(slots=True, eq=False)
class Own:
    """A request of ours that no party asked for: BYE, PRACK, or the refresh of a session."""

    leg: Leg
    dialog: Dialog
    request: Request
    is_open: bool = True
    otherwise: Flow | None = None
    """As in `Dialling`."""
    others: list[Flow] = field(default_factory=list)
    """Where else its next hop is served, in the order to try (RFC 3263 4.3)."""
    ack: SentAck | None = None
    """Of a re-INVITE."""
    offers: dict[str, Response] = field(default_factory=dict)
    """As in `Dialling`; a refresh of ours has an offer, so there are none."""


Role = Dialling | Crossing | Own


@dataclass(slots=True, eq=False)
class Goodbye:
    """What the BYE that ends a leg is to carry."""

    headers: list[tuple[str, str]]
    body: bytes = b""


@dataclass(slots=True, eq=False)
class AwaitedAck:
    """A 2xx to INVITE that left on `leg` and is not acknowledged yet; its ACK crosses to the transaction of `role` on the other leg."""

    leg: Leg
    server: TxId
    cseq: int
    pair: Pair
    role: Dialling | Crossing
    passed: bool = False
    """The other leg has got an ACK already, because the call ended before this one came."""
    goodbye: Goodbye | None = None
    """RFC 3261 15: the callee's side must not send BYE before the ACK (or its timeout), so the wish waits here."""


@dataclass(slots=True)
class Stopwatch:
    """What is measured of a set-up: seconds since the caller's INVITE, each the first time that it happens."""

    started_at: Mono
    to_100: float | None = None
    to_ringing: float | None = None
    to_answer: float | None = None
    auth: float | None = None
    challenged_at: Mono | None = None

    def provisional(self, status: int, now: Mono) -> None:
        """A 1xx came from the edge."""
        if self.to_100 is None:
            self.to_100 = now - self.started_at
        if status == 180 and self.to_ringing is None:
            self.to_ringing = now - self.started_at

    def answered(self, now: Mono) -> None:
        """The 200 came from the edge."""
        if self.to_answer is None:
            self.to_answer = now - self.started_at

    def challenged(self, sent_at: Mono, now: Mono) -> None:
        """A challenge to the INVITE that left at `sent_at` was answered at `now`."""
        self.challenged_at = sent_at if self.challenged_at is None else self.challenged_at
        self.auth = now - self.challenged_at

    def timings(self) -> SetupTimings:
        """For the trace."""
        return SetupTimings(self.to_100, self.to_ringing, self.to_answer, self.auth)
