"""The contract between a call and the engine that owns it, in both directions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

from sidecar.b2bua.effects import Effect, Leg
from sidecar.b2bua.legs import Pair
from sidecar.b2bua.settings import Settings
from sidecar.b2bua.ways import Ways
from sidecar.clocks import Addr, Mono
from sidecar.sip.dialog import Dialog, DialogKey
from sidecar.sip.flow import Flow
from sidecar.sip.ids import Ids
from sidecar.sip.layer import TransactionLayer, TxId
from sidecar.sip.message import Request, Response
from sidecar.sip.targets import Target

Located = Callable[[Sequence[Target], str, Mono], None]
"""Takes where to send, in the order to try, or nothing and why that is not known."""


class Member(Protocol):
    """What the engine needs of a call: it hands over what arrived for the call's dialogs and transactions."""

    id: str
    is_gone: bool
    """Set by the engine when it forgets the call; the transactions that linger may still need it, the trace hears no more of it."""

    @property
    @abstractmethod
    def is_settled(self) -> bool:
        """The call is over and nothing of it is outstanding on either leg."""

    @abstractmethod
    def on_request(self, leg: Leg, pair: Pair, tx: TxId, request: Request, now: Mono) -> None:
        """A request inside a dialog, on a new server transaction."""

    @abstractmethod
    def on_ack(self, leg: Leg, pair: Pair, ack: Request, now: Mono) -> None:
        """The ACK of a 2xx."""

    @abstractmethod
    def on_cancel(self, tx: TxId, cancel: Request, now: Mono) -> None:
        """CANCEL of the INVITE on server transaction `tx`, which has been answered 200."""

    @abstractmethod
    def on_response(self, tx: TxId, response: Response, again: bool, now: Mono) -> None:
        """A response on a client transaction; `again`: a 2xx to INVITE that came before."""

    @abstractmethod
    def on_timeout(self, tx: TxId, detail: str | None, now: Mono) -> None:
        """A client transaction got no final answer, or (`detail`) the transport refused it; a server one got no ACK to its non-2xx."""

    @abstractmethod
    def on_ack_timeout(self, tx: TxId, now: Mono) -> None:
        """A 2xx to INVITE was never acknowledged."""

    @abstractmethod
    def on_failure_acknowledged(self, tx: TxId) -> None:
        """The ACK to a non-2xx of ours came."""

    @abstractmethod
    def on_terminated(self, tx: TxId) -> None:
        """The layer forgot a transaction."""

    @abstractmethod
    def leg_of(self, local_tag: str | None, remote_tag: str | None) -> Leg | None:
        """On which of the call's legs a message with these tags is, as we see it; None when on neither."""

    @abstractmethod
    def on_time(self, now: Mono) -> None:
        """The deadline has come."""

    @abstractmethod
    def next_deadline(self) -> Mono | None:
        """The call's own deadline, beside those of its transactions."""


class Switchboard(Protocol):
    """What a call needs of the engine."""

    layer: TransactionLayer
    ids: Ids
    ways: Ways
    settings: Settings

    @property
    def ring_limit(self) -> float:
        """Seconds that an edge may ring without a sign of life."""

    def emit(self, effect: Effect) -> None:
        """Queue an effect or a fact."""

    def bind(self, tx: TxId, call: Member, leg: Leg) -> None:
        """From now on, what the layer says of `tx` concerns this leg of this call."""

    def adopt(self, dialog: Dialog, call: Member, pair: Pair, leg: Leg) -> None:
        """From now on, requests inside `dialog` concern this leg of this call."""

    def twin(self, key: DialogKey) -> Dialog | None:
        """The other leg's dialog of the call that has the dialog `key` with us."""

    def wake_at(self, call: Member, due: Mono) -> None:
        """Call `on_time` at `due`, should that still be the call's deadline then."""

    def advertised(self, flow: Flow) -> Addr:
        """Host and port to write into Via, Contact and SDP for this flow."""

    def locate(self, call: Member, uri: str, then: Located, now: Mono) -> None:
        """Where to send for `uri`: at once for an IP address, else when the name servers have answered."""
