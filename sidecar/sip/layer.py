"""The transaction layer: matches messages to transactions, keeps their time, tells its user what is new (RFC 3261 17, 18; 3581; 6026)."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import count
from typing import Final

from sidecar.clocks import Addr, Mono
from sidecar.sip.events import Absorbed as Absorbed
from sidecar.sip.events import AckReceived as AckReceived
from sidecar.sip.events import AckTimedOut as AckTimedOut
from sidecar.sip.events import CancelReceived as CancelReceived
from sidecar.sip.events import Output as Output
from sidecar.sip.events import RequestReceived as RequestReceived
from sidecar.sip.events import ResponseReceived as ResponseReceived
from sidecar.sip.events import Send as Send
from sidecar.sip.events import Stray as Stray
from sidecar.sip.events import Terminated as Terminated
from sidecar.sip.events import TimedOut as TimedOut
from sidecar.sip.events import TransportFailed as TransportFailed
from sidecar.sip.events import TxId as TxId
from sidecar.sip.fields import Via
from sidecar.sip.flow import Flow
from sidecar.sip.ids import MAGIC_COOKIE, Ids
from sidecar.sip.message import Request, Response, parse, response_to
from sidecar.sip.reject import answer_once as answer_once
from sidecar.sip.reject import reject as reject
from sidecar.sip.routing import default_port, stamp_via, way_back
from sidecar.sip.timing import Timing
from sidecar.sip.transactions.client import ClientInvite, ClientOther
from sidecar.sip.transactions.machine import NEVER, Event, State, class_of
from sidecar.sip.transactions.server import ServerInvite, ServerOther

Client = ClientInvite | ClientOther
Server = ServerInvite | ServerOther
Key = tuple[str, ...]
_COOKIE_KEY: Final = 4
"""Length of a server key that rests on the branch; one for a peer of RFC 2543 is longer and leaves the To tag to be compared."""
# 9.2: a CANCEL is matched as if it had the method of the request that it cancels, and that may be any.
_CANCELLABLE: Final = (
    "INVITE",
    "BYE",
    "INFO",
    "MESSAGE",
    "NOTIFY",
    "OPTIONS",
    "PRACK",
    "PUBLISH",
    "REFER",
    "REGISTER",
    "SUBSCRIBE",
    "UPDATE",
)


class TransactionLayer:
    """Every mutation is followed by `take()` and a look at `next_deadline()`.

    Invariant: a transaction is in `_by_tx`, and under its key in `_clients` or `_servers`, from its start until its `Terminated` is told.
    """

    def __init__(self, ids: Ids, timing: Timing = Timing()) -> None:  # noqa: B008 – a frozen value
        self._ids = ids
        self._timing = timing
        self._out: list[Output] = []
        self._clients: dict[Key, Client] = {}
        self._servers: dict[Key, Server] = {}
        self._by_tx: dict[TxId, Client | Server] = {}
        self._ongoing: dict[Key, TxId] = {}
        self._heap: list[tuple[Mono, int, Client | Server]] = []
        self._numbers = count(1)

    # -- from the network ------------------------------------------------------------------------------------------------------------

    def receive(self, message: Request | Response, flow: Flow, now: Mono) -> None:
        """One parsed message. The top Via of a request is stamped with where it came from (18.2.1, RFC 3581 4) before anything else."""
        if isinstance(message, Response):
            self._receive_response(message, flow, now)
            return
        stamp_via(message, flow)
        if message.method == "ACK":
            self._receive_ack(message, flow, now)
            return
        key = server_key(message, message.method)
        known = self._servers.get(key)
        if known is not None and (len(key) == _COOKIE_KEY or known.request.to_tag == message.to_tag):
            known.step(Event.REQUEST, message, now)
            self._settle(known)
        elif message.method == "CANCEL":
            self._receive_cancel(message, key, flow, now)
        else:
            self._receive_new(message, key, flow, now)

    def _receive_new(self, request: Request, key: Key, flow: Flow, now: Mono) -> None:
        merged: Key = ()
        if request.to_tag is None:
            # 8.2.2.2: the same request by another path, while the first one is still being worked on.
            merged = (request.call_id, request.from_tag or "", str(request.cseq))
            other = self._by_tx.get(self._ongoing.get(merged, TxId("")))
            if other is not None and other.state in (State.TRYING, State.PROCEEDING):
                machine = self._serve(request, key, flow)
                machine.internal = True
                machine.respond(response_to(request, 482, to_tag=self._ids.tag()), now)
                self._settle(machine)
                return
        machine = self._serve(request, key, flow)
        if merged:
            machine.merged = merged
            self._ongoing[merged] = machine.tx
        if request.method == "INVITE":
            # 17.2.1 allows 200 ms; at once spares the caller its first retransmission.
            machine.respond(response_to(request, 100), now)
        self._out.append(RequestReceived(machine.tx, request, flow))

    def _receive_ack(self, request: Request, flow: Flow, now: Mono) -> None:
        machine = self._servers.get(server_key(request, "INVITE"))
        if machine is None or not _acknowledges(machine, request):
            self._out.append(AckReceived(request, flow))
            return
        machine.step(Event.ACK, request, now)
        self._settle(machine)

    def _receive_cancel(self, request: Request, key: Key, flow: Flow, now: Mono) -> None:
        target = self._cancelled(request)
        machine = self._serve(request, key, flow)
        machine.internal = True
        if target is None:
            machine.respond(response_to(request, 481, to_tag=self._ids.tag()), now)
        else:
            # 9.2: one To tag for the responses to the CANCEL and to the request, and it has effect only before a final response.
            machine.respond(response_to(request, 200, to_tag=target.local_tag or self._ids.tag()), now)
            if isinstance(target, ServerInvite) and target.state is State.PROCEEDING:
                self._out.append(CancelReceived(target.tx, request))
        self._settle(machine)

    def _receive_response(self, response: Response, flow: Flow, now: Mono) -> None:
        via = response.via
        machine = self._clients.get((via.branch or "", response.cseq.method))
        # 18.1.2: a Via that we did not write, and 8.1.3.3: more Vias than ours, mean that the response is not for us.
        if machine is None or not _same_sender(machine.via, via) or len(response.headers.values("via")) != 1:
            self._out.append(Stray(response, flow))
            return
        machine.receive(response, class_of(response.status), now)
        if isinstance(machine, ClientInvite):
            self._send_cancel(machine, now)
        self._settle(machine)

    def knows(self, request: Request, flow: Flow) -> bool:
        """Whether a request belongs to one that is being, or was just, answered here: its retransmission, its CANCEL, its ACK."""
        stamp_via(request, flow)
        match request.method:
            case "ACK":
                return server_key(request, "INVITE") in self._servers
            case "CANCEL":
                return server_key(request, "CANCEL") in self._servers or self._cancelled(request) is not None
            case method:
                return server_key(request, method) in self._servers

    def _cancelled(self, request: Request) -> Server | None:
        return next((found for method in _CANCELLABLE if (found := self._servers.get(server_key(request, method)))), None)

    # -- from the user ---------------------------------------------------------------------------------------------------------------

    def request(self, request: Request, flow: Flow, sent_by: Addr, now: Mono) -> TxId:
        """Start a client transaction with a copy of `request` under a fresh Via.

        ValueError for ACK and CANCEL, which have verbs of their own.
        """
        if request.method in ("ACK", "CANCEL"):
            raise ValueError(f"{request.method} is no transaction of its own")
        sent = self._with_via(request, flow, sent_by)
        return self._start(sent, flow, now).tx

    def send_ack(self, ack: Request, flow: Flow, sent_by: Addr, now: Mono) -> bytes:
        """Send the ACK of a 2xx, which belongs to no transaction (13.2.2.4); the octets that come back can be sent again by `resend`."""
        sent = self._with_via(ack, flow, sent_by)
        data = sent.encode()
        self._out.append(Send(data, flow, None, retransmission=False, message=sent))
        return data

    def resend(self, data: bytes, flow: Flow) -> None:
        """Send again what `send_ack` gave back, because its 2xx came again."""
        message = parse(data)
        if message is not None:
            self._out.append(Send(data, flow, None, retransmission=True, message=message))

    def cancel(self, tx: TxId, now: Mono, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Give up an INVITE of ours (9.1): with the first provisional response at the earliest, not at all after a final one.

        The transaction still ends with its final response, or with TimedOut 64*T1 after the CANCEL. `headers` (Reason) are added to it.
        """
        machine = self._by_tx.get(tx)
        if isinstance(machine, ClientInvite):
            machine.wish_cancel(headers)
            self._send_cancel(machine, now)
            self._settle(machine)

    def respond(self, tx: TxId, response: Response, now: Mono) -> None:
        """Answer a request. What comes after a final response or for a transaction that is gone is discarded (17.2.1).

        A 2xx to INVITE is repeated until `acknowledge`, at most for 64*T1.
        """
        machine = self._by_tx.get(tx)
        if isinstance(machine, ServerInvite | ServerOther):
            machine.respond(response, now)
            self._settle(machine)

    def abandon(self, tx: TxId) -> None:
        """Forget a request that is no INVITE without an answer, because any answer would come too late (RFC 4320 4.2)."""
        machine = self._by_tx.get(tx)
        if isinstance(machine, ServerOther):
            machine.step(Event.ABANDONED, None, NEVER)
            self._settle(machine)

    def acknowledge(self, tx: TxId, now: Mono) -> None:
        """The ACK of the 2xx to INVITE `tx` has come."""
        machine = self._by_tx.get(tx)
        if machine is not None:
            machine.step(Event.ACKNOWLEDGED, None, now)
            self._settle(machine)

    def transport_failed(self, flow: Flow, now: Mono, detail: str = "unreachable") -> None:
        """The transport says that `flow.remote` cannot be reached: every client transaction that waits on it ends with TransportFailed."""
        waiting = [
            machine
            for machine in self._clients.values()
            if machine.flow.transport == flow.transport and flow.remote in (machine.flow.remote, machine.flow.anew)
        ]
        for machine in waiting:
            machine.step(Event.TRANSPORT_ERROR, detail, now)
            self._settle(machine)

    # -- time and output -------------------------------------------------------------------------------------------------------------

    def on_time(self, now: Mono) -> None:
        """Fire what is due at `now`."""
        while (due := self.next_deadline()) is not None and due <= now:
            _, _, machine = heapq.heappop(self._heap)
            machine.scheduled = NEVER
            machine.on_time(now)
            self._settle(machine)

    def next_deadline(self) -> Mono | None:
        """When `on_time` is due next; None when nothing is pending."""
        while self._heap:
            due, _, machine = self._heap[0]
            if machine.scheduled == due and machine.next_deadline() == due:
                return due
            # The timer was cleared or its transaction is gone: heap entries are not taken out when that happens, but here.
            heapq.heappop(self._heap)
            if machine.scheduled == due:
                machine.scheduled = NEVER
                self._schedule(machine)
        return None

    @property
    def pending(self) -> int:
        """How many transactions there are, those included that wait for retransmissions only."""
        return len(self._by_tx)

    def take(self) -> list[Output]:
        """All outputs since the last call, in order."""
        if not self._out:
            return []
        out = self._out.copy()
        self._out.clear()  # the machines hold on to this very list
        return out

    @property
    def give_up(self) -> float:
        """Seconds after which a request without an answer has failed."""
        return self._timing.give_up

    def describe(self) -> dict[str, dict[str, int]]:
        """How many transactions are in which state, by machine, and how many deadlines are kept. Empty inner dicts mean idle."""
        counts: dict[str, dict[str, int]] = {"client_invite": {}, "client_other": {}, "server_invite": {}, "server_other": {}}
        for machine in self._by_tx.values():
            states = counts[_KINDS[type(machine)]]
            states[machine.state.value] = states.get(machine.state.value, 0) + 1
        return counts

    # -- book-keeping ----------------------------------------------------------------------------------------------------------------

    def _with_via(self, request: Request, flow: Flow, sent_by: Addr) -> Request:
        sent = request.copy()
        host, port = sent_by
        via = Via(flow.transport.upper(), host, port, (("branch", self._ids.branch()), ("rport", None)))
        sent.headers.prepend("Via", str(via))
        return sent

    def _start(self, request: Request, flow: Flow, now: Mono, internal: bool = False) -> Client:
        tx = TxId(f"c{next(self._numbers)}")
        machine: Client
        if request.method == "INVITE":
            machine = ClientInvite(tx, request, flow, self._timing, self._out, now)
        else:
            machine = ClientOther(tx, request, flow, self._timing, self._out, now)
        machine.internal = internal
        machine.key = (machine.via.branch or "", request.method)
        self._clients[machine.key] = machine
        self._by_tx[tx] = machine
        self._schedule(machine)
        return machine

    def _serve(self, request: Request, key: Key, flow: Flow) -> Server:
        tx = TxId(f"s{next(self._numbers)}")
        back = way_back(request.via, flow)
        kind = ServerInvite if request.method == "INVITE" else ServerOther
        machine = kind(tx, request, flow, back, self._timing, self._out)
        machine.key = key
        self._servers[key] = machine
        self._by_tx[tx] = machine
        return machine

    def _send_cancel(self, machine: ClientInvite, now: Mono) -> None:
        request = machine.cancel(now)
        if request is not None:
            self._start(request, machine.flow, now, internal=True)

    def _settle(self, machine: Client | Server) -> None:
        """After every step: file the machine's deadline, or forget the machine."""
        if machine.state is not State.TERMINATED:
            self._schedule(machine)
            return
        if self._by_tx.pop(machine.tx, None) is None:
            return
        if isinstance(machine, ClientInvite | ClientOther):
            self._clients.pop(machine.key, None)
            return
        if self._servers.get(machine.key) is machine:
            del self._servers[machine.key]
        if machine.merged and self._ongoing.get(machine.merged) == machine.tx:
            del self._ongoing[machine.merged]

    def _schedule(self, machine: Client | Server) -> None:
        due = machine.next_deadline()
        # A later deadline than the filed one waits until the filed one comes up.
        if due < machine.scheduled:
            machine.scheduled = due
            heapq.heappush(self._heap, (due, next(self._numbers), machine))


_KINDS: Final = {ClientInvite: "client_invite", ClientOther: "client_other", ServerInvite: "server_invite", ServerOther: "server_other"}


def server_key(request: Request, method: str) -> Key:
    """What 17.2.3 matches a request by, taking it for one with `method`.

    The branch and sent-by of the top Via, or for a peer of RFC 2543 the whole request.
    """
    via = request.via
    branch = via.branch
    # RFC 4475 3.2.1: the cookie alone identifies nothing.
    if branch is not None and branch.startswith(MAGIC_COOKIE) and branch != MAGIC_COOKIE:
        return branch, via.host.lower(), str(via.port or ""), method
    return request.uri, request.from_tag or "", request.call_id, str(request.cseq.number), str(via), method


def _acknowledges(machine: Server, ack: Request) -> bool:
    """17.2.3: without the magic cookie an ACK matches only with the To tag of the response that it acknowledges."""
    return len(machine.key) == _COOKIE_KEY or machine.local_tag == ack.to_tag


def _same_sender(ours: Via, theirs: Via) -> bool:
    """Whether a response carries the sent-by that we wrote; a default port may have come or gone on the way."""
    default = default_port(ours.transport.lower())
    return ours.host.lower() == theirs.host.lower() and (ours.port or default) == (theirs.port or default)
