"""Which way a message leaves: from which of our listeners, over which connection, and which targets are better tried last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from ipaddress import ip_address, ip_network

from sidecar.b2bua.settings import Listener
from sidecar.clocks import Mono
from sidecar.sip.dialog import Dialog
from sidecar.sip.endpoint import TRANSPORTS, Endpoint, endpoint_for
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.flow import Flow
from sidecar.sip.message import Request
from sidecar.sip.targets import Target, living_first
from sidecar.sip.uri import SipUri

_PRIVATE = tuple(
    ip_network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7")
)
"""RFC 1918, 6598, 3927, 4193."""
_MOST_AVOIDED = 1024
_WITHOUT_TCP = 600.0
"""Seconds; where a firewall swallows the attempt, each one costs a call some seconds."""
_REST = 120
"""Octets of the start line's constant parts, of our Via, and of what else is added on the way out."""


class Ways:
    """What our listeners allow, and what is known of targets."""

    def __init__(self, listeners: Sequence[Listener], largest_datagram: int) -> None:
        """`largest_datagram`: octets of a request that still goes by UDP."""
        self._largest_datagram = largest_datagram
        self._listeners = {(listener.transport, listener.local): listener for listener in listeners}
        endpoints = [Endpoint(listener.transport, listener.local) for listener in listeners]
        self._endpoints = [endpoint for endpoint in endpoints if endpoint.transport in TRANSPORTS]
        has_udp = any(listener.transport == "udp" for listener in listeners)
        self.transports = tuple(transport for transport in TRANSPORTS if transport != "udp" or has_udp)
        """What we can dial. A connection can be made from any address of ours, a datagram only from a socket that is there."""
        self.families = tuple(dict.fromkeys(endpoint.family for endpoint in self._endpoints))
        """`A`, `AAAA` or both, the first listener's first."""
        self._avoided: OrderedDict[Target, Mono] = OrderedDict()

    def listener(self, flow: Flow) -> Listener:
        """Where the peer of `flow` reaches us: our listener of its transport, else another one at that address."""
        found = self._listeners.get((flow.transport, flow.local))
        if found is None:
            found = next((other for other in self._listeners.values() if other.local == flow.local), None)
        return found or Listener(flow.local, flow.local, flow.transport)

    def flow_to(self, target: Target, like: Flow | None = None) -> Flow | None:
        """The flow to a target: from where `like` is, where that can be, else from a listener that fits. None when there is none."""
        if like is not None and like.transport == target.transport and (":" in like.local[0]) == (":" in target.addr):
            return Flow(target.transport, like.local, target.remote, target.host)
        endpoint = endpoint_for(self._endpoints, target.transport, target.addr)
        return None if endpoint is None else Flow(target.transport, endpoint.addr, target.remote, target.host)

    def sized(self, flow: Flow, request: Request, now: Mono) -> tuple[Flow, Flow | None]:
        """By which flow a request goes that was to go by `flow`, and by which instead if that transport refuses it (18.1.1)."""
        if flow.reliable or octets(request) <= self._largest_datagram:
            return flow, None
        target = _by_tcp(flow)
        longer = None if self._avoided.get(target, now) > now else self.flow_to(target, flow)
        return (flow, None) if longer is None else (longer, flow)

    def avoid_tcp(self, flow: Flow, now: Mono) -> None:
        """The far end of a UDP flow takes no TCP: do not try again for a while."""
        self.avoid(_by_tcp(flow), Mono(now + _WITHOUT_TCP))

    # -- dead targets ------------------------------------------------------------------------------------------------------------------

    def avoid(self, target: Target, until: Mono) -> None:
        """Try `target` after all others until then (RFC 3263 4.3)."""
        self._avoided[target] = until
        self._avoided.move_to_end(target)
        if len(self._avoided) > _MOST_AVOIDED:
            self._avoided.popitem(last=False)

    def forgive(self, target: Target) -> None:
        """It answered."""
        if self._avoided:
            self._avoided.pop(target, None)

    def ordered(self, targets: Sequence[Target], now: Mono) -> Sequence[Target]:
        """The same targets, those that are to be avoided at `now` last."""
        return living_first(targets, self._avoided, now) if self._avoided else targets

    def avoided(self, now: Mono) -> list[str]:
        """The targets that are avoided, in the order in which they failed."""
        return [str(target) for target, until in self._avoided.items() if until > now]


def flow_within(ways: Ways, known: Flow, dialog: Dialog, targets: Sequence[Target], *, is_agent: bool) -> Flow:
    """The flow of a request inside a dialog whose messages went by `known` so far, and whose next hop is `targets`.

    `is_agent`: the other end of `known` is the far user agent itself, no proxy. Behind a NAT it is reached by the connection that it made
    (or the address that its datagrams come from) and by nothing else, whatever its Contact says (RFC 5626, RFC 5923). A connection to the
    next hop's host is used rather than made anew. Nothing known of the next hop, or a private address that a party behind a NAT wrote into
    its Contact although its messages come from elsewhere: the way that messages went so far.
    """
    if not targets:
        return known
    target = targets[0]
    if (target.transport, target.remote) == (known.transport, known.remote):
        return known
    same_host = target.addr == known.remote[0]
    out_of_reach = _is_private(target.addr) and not _is_private(known.remote[0])
    if not known.reliable:
        behind_nat = out_of_reach or (is_agent and not dialog.route_set and not same_host)
        return known if behind_nat else ways.flow_to(target, known) or known
    if (target.transport == known.transport or not _states_transport(dialog.next_hop)) and (
        same_host or (is_agent and not dialog.route_set)
    ):
        return replace(known, peer=known.peer or target.host, anew=target.remote)
    return known if out_of_reach else ways.flow_to(target, known) or known


@lru_cache(maxsize=4096)
def _is_private(host: str) -> bool:
    """Whether an IP literal means something only on one side of a NAT."""
    address = ip_address(host)
    return any(address in network for network in _PRIVATE)


def dialled_from_itself(invite: Request) -> bool:
    """Whether an INVITE comes straight from the user agent whom its Contact names: one hop, and the Contact is that hop."""
    via = invite.headers.values("via")
    try:
        contact = invite.contact
        return len(via) == 1 and contact is not None and SipUri.parse(contact.uri).host.lower() == invite.via.host.lower()
    except MalformedMessage:
        return False


def octets(request: Request) -> int:
    """About how long a request will be on the wire, with the Via that it has not got yet; a few octets too many rather than too few."""
    lines = sum(len(name) + len(value) + 4 for name, value in request.headers.items())
    return len(request.method) + len(request.uri) + lines + len(request.body) + _REST


def _by_tcp(flow: Flow) -> Target:
    return Target("tcp", flow.peer or flow.remote[0], *flow.remote)


def _states_transport(uri: str) -> bool:
    try:
        parsed = SipUri.parse(uri)
    except MalformedMessage:
        return False
    return parsed.secure or bool(parsed.param("transport"))
