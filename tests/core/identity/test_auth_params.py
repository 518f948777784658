"""Challenges as they come on the wire: commas, escapes, several in one line, schemes nobody knows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.identity.auth_params import quote, read, read_info, unescape


def told(value: str) -> list[tuple[str, dict[str, str]]]:
    return [(challenge.scheme, {name: challenge.get(name) or "" for name in challenge.raw}) for challenge in read(value)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('Digest realm="a, b", nonce="n"', [("Digest", {"realm": "a, b", "nonce": "n"})]),
        (r'Digest realm="say \"hi\" \\ bye"', [("Digest", {"realm": 'say "hi" \\ bye'})]),
        ('DIGEST REALM = "a" ,  stale=TRUE,algorithm=MD5', [("DIGEST", {"realm": "a", "stale": "TRUE", "algorithm": "MD5"})]),
        (
            'Digest realm="a", nonce="1", Digest realm="b", nonce="2"',
            [("Digest", {"realm": "a", "nonce": "1"}), ("Digest", {"realm": "b", "nonce": "2"})],
        ),
        ('Basic realm="x", Digest realm="a"', [("Basic", {"realm": "x"}), ("Digest", {"realm": "a"})]),
        ('Negotiate YII/x+y==, Digest realm="a"', [("Negotiate", {}), ("Digest", {"realm": "a"})]),
        ('Bearer, Digest realm="a"', [("Bearer", {}), ("Digest", {"realm": "a"})]),
        ('Digest realm="a", realm="b"', [("Digest", {"realm": "a"})]),
        ('Digest realm="a"\r\n  , nonce="n"', [("Digest", {"realm": "a", "nonce": "n"})]),
        ('Digest realm="never closed', [("Digest", {"realm": "never closed"})]),
        ('Digest ,, realm="" ,', [("Digest", {"realm": ""})]),
        ("", []),
        ('="x"', []),
    ],
)
def test_challenges_are_read(value: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert told(value) == expected


def test_an_echo_keeps_the_escapes_that_were_sent() -> None:
    assert read(r'Digest opaque="a\b\"c"')[0].raw["opaque"] == r"a\b\"c"


def test_authentication_info_is_a_bare_list() -> None:
    assert read_info('nextnonce="n2", qop=auth').get("nextnonce") == "n2"


@given(st.text())
def test_quoting_is_undone_by_unescaping(text: str) -> None:
    assert unescape(quote(text)[1:-1]) == text
    assert read(f"Digest realm={quote(text)}")[0].get("realm") == text


@given(st.text(alphabet='Digest realm="\\,= \r\n;x\udcff', max_size=80))
def test_no_value_raises(value: str) -> None:
    for challenge in read(value):
        assert challenge.scheme
