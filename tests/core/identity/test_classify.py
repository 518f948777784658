"""Simulation or production."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from sidecar.identity.classify import Kind, Setting, classify, within

NETWORKS = (ip_network("203.0.113.0/24"), ip_network("2001:db8::/32"))


@pytest.mark.parametrize(
    ("setting", "correlated", "source", "user", "kind", "why"),
    [
        ("always", False, None, None, "simulation", "route"),
        ("never", True, "203.0.113.5", "tuner", "production", "route"),
        ("auto", True, None, None, "simulation", "correlation"),
        ("auto", False, "203.0.113.5", None, "simulation", "203.0.113.5"),
        ("auto", False, "::ffff:203.0.113.5", None, "simulation", "network"),
        ("auto", False, "2001:db8::7", None, "simulation", "network"),
        ("auto", False, "198.51.100.1", None, "production", "nothing"),
        ("auto", False, "not an address", None, "production", "nothing"),
        ("auto", False, None, "tuner", "simulation", "tuner"),
        ("auto", False, None, "alice", "production", "nothing"),
        ("auto", False, None, None, "production", "nothing"),
    ],
)
def test_the_first_rule_that_fits_decides(
    setting: Setting, correlated: bool, source: str | None, user: str | None, kind: Kind, why: str
) -> None:
    told = classify(setting, correlated=correlated, source=source, networks=NETWORKS, digest_user=user, digest_users={"tuner"})
    assert told.kind == kind
    assert why in told.why


def test_a_scoped_address_lies_in_its_network() -> None:
    assert within("fe80::1%eth0", ip_network("fe80::/10"))
    assert not within("10.0.0.1", ip_network("fe80::/10"))
