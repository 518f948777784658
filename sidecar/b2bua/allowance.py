"""What somebody costs who has not proved who it is: a bounded number of answers for each source, and a bounded number of sources.

A source spends a token for each message that comes to nothing (a challenge, a refusal, octets that are no SIP), and gets them back with
time, or at once by proving who it is. Without tokens it is not read, unless it is the other end of a call.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import ip_address

from sidecar.clocks import Mono

EXCHANGE = 2
"""Tokens that an honest caller spends before it has proved who it is: the INVITE without credentials and the ACK of its 407."""
_MOST_SOURCES = 4096
_MOST_PEERS = 4096


@dataclass(frozen=True, slots=True)
class Allowance:
    """Tokens of one source."""

    burst: int = 100
    per_s: float = 5.0


class Tokens:
    """Invariant: neither table holds more than its limit; what was heard longest ago goes first."""

    def __init__(self, most: int = _MOST_SOURCES) -> None:
        self._most = most
        self._spent: OrderedDict[str, tuple[float, Mono]] = OrderedDict()
        """Tokens spent by source, and as of when. Who is not here has spent none."""
        self._peers: OrderedDict[str, None] = OrderedDict()

    def hears(self, host: str, allowance: Allowance, now: Mono) -> bool:
        """Whether to read what comes from `host`."""
        return host in self._peers or self._left(_source(host), allowance, now) >= 1

    def spend(self, host: str, allowance: Allowance, now: Mono) -> float | None:
        """Take a token of `host`: how many are left, None when there was none to take."""
        source = _source(host)
        left = self._left(source, allowance, now) - 1
        if left < 0:
            return None
        self._note(source, allowance.burst - left, now)
        return left

    def repay(self, host: str, allowance: Allowance, now: Mono) -> None:
        """`host` proved who it is: give back what the way there cost."""
        source = _source(host)
        if source in self._spent:
            self._note(source, max(0.0, allowance.burst - self._left(source, allowance, now) - EXCHANGE), now)

    def spoken_with(self, host: str) -> None:
        """A call's message went to `host`: its other end is read, whoever else may be behind that address."""
        self._peers[host] = None
        self._peers.move_to_end(host)
        if len(self._peers) > _MOST_PEERS:
            self._peers.popitem(last=False)

    def describe(self) -> dict[str, int]:
        """Sizes, for the admin API."""
        return {"sources": len(self._spent), "peers": len(self._peers)}

    def _left(self, source: str, allowance: Allowance, now: Mono) -> float:
        spent, at = self._spent.get(source, (0.0, now))
        return allowance.burst - max(0.0, spent - (now - at) * allowance.per_s)

    def _note(self, source: str, spent: float, now: Mono) -> None:
        self._spent[source] = (spent, now)
        self._spent.move_to_end(source)
        if len(self._spent) > self._most:
            self._spent.popitem(last=False)


def _source(host: str) -> str:
    """Who is behind an IP literal: in IPv6 one customer has at least 64 bits of addresses to send from."""
    if ":" not in host:
        return host
    return ip_address(host.partition("%")[0]).packed[:8].hex()
