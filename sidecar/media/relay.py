"""Where a packet of one media line goes: symmetric latching with a source lock.

A party is believed about where it wants media until its first packet shows where it really is (RFC 4961; behind a NAT the two differ).
That source is then locked, and nothing else reaches the peer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, Literal

from sidecar.clocks import Addr

Leg = Literal["A", "B"]
"""A faces the caller, B faces the agent."""
RTP: Final = 0
RTCP: Final = 1
Component = Literal[0, 1]
_LAST_PORT: Final = 65535
_LONGEST_LITERAL: Final = 64
"""Characters, the zone of an IPv6 address included."""
_NOWHERE: Final = ("0.0.0.0", "::", "")  # noqa: S104 - RFC 3264 8.4: the old way to hold, not an address to bind


@dataclass(slots=True)
class _End:
    """One component of one leg."""

    negotiated: Addr | None = None
    latched: Addr | None = None
    destination: Addr | None = None
    accepted: int = 0
    refused: int = 0
    undeliverable: int = 0
    passed: int = 0
    """Forwarded on a path, without a question."""


@dataclass(frozen=True, slots=True)
class Path:
    """From where to where one component of one leg passes without a question. `final`: no other source can become the right one."""

    source: Addr
    destination: Addr
    final: bool


class Relay:
    """Both legs of one media line. Never holds a packet, never waits; a call of `receive` costs about a microsecond."""

    def __init__(self) -> None:
        self._ends: Final = {leg: (_End(), _End()) for leg in ("A", "B")}
        self._hosts: Final[dict[Leg, str]] = {"A": "", "B": ""}
        # (leg, component) → its own end and the peer's: one look-up on the fast path
        self._paths: Final = {
            (leg, component): (self._ends[leg][component], self._ends[other][component])
            for leg, other in (("A", "B"), ("B", "A"))
            for component in (RTP, RTCP)
        }

    @property
    def refused(self) -> int:
        """Packets from a source that was neither negotiated nor latched."""
        return sum(end.refused for ends in self._ends.values() for end in ends)

    def negotiated(self, leg: Leg, rtp: Addr | None, rtcp: Addr | None, signalling_host: str) -> None:
        """Take what the party of `leg` said in its SDP; None for `rtp` means that it wants no media.

        `rtcp` None stands for the port after RTP's (RFC 3550 11). `signalling_host` is where its SIP comes from. Said again without change
        (a session refresh) the lock stays; a changed address unlocks it. A party that named no IP address, or no port that there is, is
        answered once it has sent.
        """
        if rtp is not None and (rtp[0] in _NOWHERE or rtp[1] == 0):
            rtp = None
        if rtcp is None and rtp is not None:
            rtcp = (rtp[0], rtp[1] + 1)
        rtp, rtcp = (None if addr is None else (_spelled(addr[0]), addr[1]) for addr in (rtp, rtcp))
        self._hosts[leg] = _spelled(signalling_host)
        for end, address in zip(self._ends[leg], (rtp, rtcp if rtp is not None else None), strict=True):
            if address != end.negotiated or end.destination is None:
                end.latched = None
            end.negotiated = address
            end.destination = end.latched if address is not None and end.latched is not None else _reachable(address)

    def receive(self, leg: Leg, component: Component, data: bytes, addr: Addr) -> Addr | None:
        """Where to send `data` that came from `addr` on `leg`; None where its source is refused or the other leg has no destination yet."""
        end, peer = self._paths[leg, component]
        if addr != end.latched and not self._latch(leg, end, addr):
            end.refused += 1
            return None
        end.accepted += 1
        if peer.destination is None:
            peer.undeliverable += 1
        return peer.destination

    def admits(self, leg: Leg, component: Component, addr: Addr) -> bool:
        """Whether a packet from `addr` would be let pass. Locks nothing."""
        end = self._ends[leg][component]
        return addr == end.latched or self._fits(leg, end, addr)

    def destination(self, leg: Leg, component: Component) -> Addr | None:
        """Where the party of a leg gets packets now; None where that is not known."""
        return self._ends[leg][component].destination

    def path(self, leg: Leg, component: Component) -> Path | None:
        """How packets of a leg pass until `negotiated` or a packet from another source changes it; None while each must be asked about."""
        end, peer = self._paths[leg, component]
        if end.latched is None or peer.destination is None:
            return None
        return Path(end.latched, peer.destination, final=end.latched == end.negotiated)

    def forwarded(self, leg: Leg, component: Component, packets: int) -> None:
        """So many packets of a leg passed on its path so far, which `receive` was not asked about."""
        self._paths[leg, component][0].passed = packets

    def _latch(self, leg: Leg, end: _End, addr: Addr) -> bool:
        """Lock `addr` as the source of `end`, or say no.

        The negotiated address may take the lock from a guess made by host alone: otherwise the last packets of an earlier call,
        still coming from another port of the same media server, would shut this call's party out.
        """
        if not self._fits(leg, end, addr):
            return False
        end.latched = end.destination = addr
        return True

    def _fits(self, leg: Leg, end: _End, addr: Addr) -> bool:
        if end.negotiated is None:
            return False
        if addr != end.negotiated and (end.latched is not None or addr[0] not in (end.negotiated[0], self._hosts[leg])):
            return False
        return end.latched != end.negotiated

    def describe(self) -> dict[str, object]:
        """Addresses and counts, by leg and component."""
        return {
            leg: {
                name: {
                    "negotiated": end.negotiated,
                    "latched": end.latched,
                    "accepted": end.accepted + end.passed,
                    "refused": end.refused,
                    "undeliverable": end.undeliverable,
                }
                for name, end in zip(("rtp", "rtcp"), ends, strict=True)
            }
            for leg, ends in self._ends.items()
        }


def _spelled(host: str) -> str:
    """An IP literal as the kernel writes it (RFC 5952); a name as it is."""
    return _literal(host) or host


@lru_cache(maxsize=4096)
def _literal_of(host: str) -> str | None:
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def _literal(host: str) -> str | None:
    """The same; None for a name. A name may have any length, so it is remembered only where it could be a literal."""
    return _literal_of(host) if len(host) <= _LONGEST_LITERAL else None


def _reachable(addr: Addr | None) -> Addr | None:
    """`addr` where a datagram can be sent to it: names are not looked up for media."""
    if addr is None or not 0 < addr[1] <= _LAST_PORT:
        return None
    return None if _literal(addr[0]) is None else addr
