"""Small records that a call keeps about its two legs: dialog pairs, and the transactions that it has open."""

from __future__ import annotations

from dataclasses import dataclass, field

from sidecar.b2bua.effects import Leg
from sidecar.clocks import Mono
from sidecar.sip.dialog import Dialog
from sidecar.sip.flow import Flow
from sidecar.sip.layer import TxId
from sidecar.sip.message import Request


@dataclass(frozen=True, slots=True)
class PortPairs:
    """What the shell bound for one m-line: (RTP, RTCP) ports on each leg."""

    a: tuple[int, int]
    b: tuple[int, int]


@dataclass(slots=True)
class Pair:
    """One dialog on each leg that belong together. A forking edge gives a call several early pairs; one of them is confirmed."""

    a: Dialog
    b: Dialog

    def of(self, leg: Leg) -> Dialog:
        """The dialog on `leg`."""
        return self.a if leg == "A" else self.b


@dataclass(frozen=True, slots=True)
class SentAck:
    """An ACK to a 2xx as it left, to be sent again when the 2xx comes again."""

    data: bytes
    flow: Flow


@dataclass(slots=True)
class Dialling:
    """The B leg's INVITE (again after each challenge)."""

    request: Request
    sent_at: Mono
    acks: dict[str, SentAck] = field(default_factory=dict)
    """By the edge's To-tag."""


@dataclass(slots=True)
class Crossing:
    """An in-dialog request on its way from `leg` to the other leg."""

    leg: Leg
    server: TxId
    request: Request
    pair: Pair
    outgoing: Request | None = None
    ack: SentAck | None = None


@dataclass(slots=True)
class Own:
    """A request of the sidecar itself, or the far half of one that was answered at once (BYE)."""

    leg: Leg
    pair: Pair
    request: Request


Role = Dialling | Crossing | Own


@dataclass(slots=True)
class AwaitedAck:
    """A 2xx to an INVITE that left on `leg` and is not acknowledged yet; its ACK crosses to `client`'s transaction on the other leg."""

    leg: Leg
    server: TxId
    cseq: int
    client: TxId
    pair: Pair
    role: Dialling | Crossing
