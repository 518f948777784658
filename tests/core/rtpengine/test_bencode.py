"""Bencoding as the NG protocol has it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.net.rtpengine import bencode

VALUES = st.recursive(
    st.integers() | st.binary(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(VALUES)
def test_what_was_encoded_is_read_back(value: Any) -> None:
    assert bencode.decode(bencode.encode(value)) == value


def test_a_command_looks_as_documented() -> None:
    assert bencode.encode({"command": "ping", "flags": ["a", 1]}) == b"d7:command4:ping5:flagsl1:ai1eee"


def test_keys_need_no_order_in_an_answer() -> None:
    assert bencode.decode(b"d3:sdp2:v=6:result2:oke") == {"sdp": b"v=", "result": b"ok"}


def test_what_has_no_encoding_is_no_command() -> None:
    with pytest.raises(TypeError):
        bencode.encode({"rate": 1.5})


@pytest.mark.parametrize(
    "data", [b"", b"d", b"5:abc", b"i1", b"ixe", b"l1:a", b"di1e1:ae", b"d1:ae", b"1:ab", b"-1:a", b"x", b"l" * 50 + b"e" * 50, b"9" * 5000]
)
def test_what_is_no_value_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(bencode.Malformed):
        bencode.decode(data)


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_any_octets_are_a_value_or_malformed(data: bytes) -> None:
    try:
        bencode.decode(data)
    except bencode.Malformed:
        return
