"""What the transaction layer hands out: octets to send, and what happened, for its user and for the trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

from sidecar.sip.flow import Flow
from sidecar.sip.message import Request, Response

TxId = NewType("TxId", str)
"""Names one transaction within one layer; never used twice."""


@dataclass(frozen=True, slots=True)
class Send:
    """Put `data` on the wire. `tx` is None for what belongs to no transaction (the ACK of a 2xx, stateless answers)."""

    data: bytes
    flow: Flow
    tx: TxId | None
    retransmission: bool
    message: Request | Response


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A new server transaction; never for ACK and CANCEL. To an INVITE the 100 has already gone out."""

    tx: TxId
    request: Request
    flow: Flow


@dataclass(frozen=True, slots=True)
class AckReceived:
    """An ACK that belongs to no non-2xx final, so it confirms a 2xx: the user finds the dialog and calls `acknowledge`."""

    request: Request
    flow: Flow


@dataclass(frozen=True, slots=True)
class CancelReceived:
    """The caller gives up on the INVITE `tx`, which has no final response yet. The CANCEL itself has been answered 200."""

    tx: TxId
    request: Request


@dataclass(frozen=True, slots=True)
class ResponseReceived:
    """A response to a client transaction, 100 included.

    `retransmission`: a 2xx to INVITE with a To tag that was delivered before; its ACK is due again (13.2.2.4).
    """

    tx: TxId
    response: Response
    flow: Flow
    retransmission: bool


@dataclass(frozen=True, slots=True)
class Absorbed:
    """A message that the layer dealt with alone: a retransmission, the ACK of a non-2xx, the answer to a CANCEL of ours."""

    tx: TxId | None
    message: Request | Response
    flow: Flow


@dataclass(frozen=True, slots=True)
class TimedOut:
    """Timer B, F, or the wait after CANCEL (9.1) ran out on a client transaction; timer H on a server one (no ACK to a non-2xx came)."""

    tx: TxId


@dataclass(frozen=True, slots=True)
class TransportFailed:
    """The transport says that the request of client transaction `tx` cannot arrive."""

    tx: TxId
    detail: str


@dataclass(frozen=True, slots=True)
class AckTimedOut:
    """64*T1 went by without `acknowledge` for a 2xx (13.3.1.4): the dialog should be ended with BYE."""

    tx: TxId


@dataclass(frozen=True, slots=True)
class Terminated:
    """The transaction is gone; its id means nothing any more. Always its last event."""

    tx: TxId


@dataclass(frozen=True, slots=True)
class Stray:
    """A response that matches no transaction; nothing is to be done with it."""

    message: Request | Response
    flow: Flow


Output = (
    Send
    | RequestReceived
    | AckReceived
    | CancelReceived
    | ResponseReceived
    | Absorbed
    | TimedOut
    | TransportFailed
    | AckTimedOut
    | Terminated
    | Stray
)
