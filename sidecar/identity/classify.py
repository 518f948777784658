"""Simulation or production: what a call counts as, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Literal, assert_never

Kind = Literal["simulation", "production"]
Setting = Literal["auto", "always", "never"]
Network = IPv4Network | IPv6Network
_LONGEST = 64
"""Characters of an IP literal with its zone."""


@dataclass(frozen=True, slots=True)
class Classification:
    """What a call counts as. `why` names the rule that decided, in words fit for a log."""

    kind: Kind
    why: str


def classify(
    setting: Setting,
    *,
    correlated: bool,
    source: str | None = None,
    networks: Iterable[Network] = (),
    digest_user: str | None = None,
    digest_users: Collection[str] = (),
) -> Classification:
    """Classify one call.

    The route's `setting` decides when it is `always` or `never`. With `auto` a call is a simulation when it carries a correlation header
    (`correlated`), when `source` (an IP literal) lies in one of the evaluator's `networks`, or when it authenticated as one of
    `digest_users`.
    """
    match setting:
        case "always":
            return Classification("simulation", "the route says always")
        case "never":
            return Classification("production", "the route says never")
        case "auto":
            pass
        case _ as never:
            assert_never(never)
    if correlated:
        return Classification("simulation", "the INVITE carries a correlation header")
    if source is not None and any(within(source, network) for network in networks):
        return Classification("simulation", f"the source {source} is one of the evaluator's networks")
    if digest_user is not None and digest_user in digest_users:
        return Classification("simulation", f"the caller authenticated as {digest_user}")
    return Classification("production", "nothing marks it as a simulation")


def within(source: str, network: Network) -> bool:
    """Whether an IP literal lies in a network. A name, an unreadable address or the other family does not; IPv4 mapped into IPv6 does."""
    # Asked for every message's source; what is longer than any literal is remembered for nobody.
    return len(source) <= _LONGEST and _within(source, network)


@lru_cache(maxsize=4096)
def _within(source: str, network: Network) -> bool:
    try:
        address = ip_address(source.split("%", 1)[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address in network or (mapped is not None and mapped in network)
