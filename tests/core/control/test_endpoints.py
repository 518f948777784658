"""Media addresses as agents state them, beside those of a call."""

from __future__ import annotations

import pytest

from control.contract.endpoints import same_address

KNOWN = ("10.0.0.5:4000", "[2001:db8::5]:4002")


@pytest.mark.parametrize(
    "stated",
    ["10.0.0.5:4000", " 10.0.0.5:04000", "10.0.0.5", "4000", "[2001:DB8:0::5]:4002", "[2001:db8::5]", "4002"],
)
def test_an_address_is_known_by_host_and_port_or_by_one_of_them(stated: str) -> None:
    assert same_address(stated, KNOWN)


@pytest.mark.parametrize("stated", ["10.0.0.5:4002", "10.0.0.6", "5", "[2001:db8::6]", "", ":", "name:4000"])
def test_another_one_is_not(stated: str) -> None:
    assert not same_address(stated, KNOWN)
