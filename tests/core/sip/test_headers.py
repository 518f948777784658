"""Header fields keep what was on the wire and are found however they are spelled."""

from __future__ import annotations

import pytest

from sidecar.sip.headers import COMPACT, Folded, Headers, split_list
from tests.support.sip import parsed_request, received

HEAD = received("OPTIONS").encode().removesuffix(b"\r\n\r\n").decode() + "\r\n"


@pytest.mark.parametrize(("compact", "name"), sorted(COMPACT.items()))
def test_compact_form_and_long_form_are_one_header_in_any_case(compact: str, name: str) -> None:
    headers = Headers([(compact, "1"), (name.title(), "2"), (compact.upper(), "3")])
    assert headers.all(name.upper()) == headers.all(compact) == ["1", "2", "3"]


def test_lookup_ignores_case_and_order_is_kept() -> None:
    headers = Headers([("X-B", "1"), ("x-a", "2"), ("X-b", "3")])
    assert headers.get("x-B") == "1"
    assert headers.all("X-B") == ["1", "3"]
    assert headers.items() == [("X-B", "1"), ("x-a", "2"), ("X-b", "3")]
    assert "X-A" in headers
    assert "X-C" not in headers
    assert len(headers) == 3


def test_prepend_set_and_remove() -> None:
    headers = Headers([("Route", "<sip:1>"), ("X", "y"), ("Route", "<sip:2>")])
    headers.prepend("Via", "v")
    headers.set("ROUTE", "<sip:3>")
    assert headers.items() == [("Via", "v"), ("ROUTE", "<sip:3>"), ("X", "y")]
    headers.set("New", "1")
    headers.remove("x")
    headers.remove("absent")
    assert headers.items() == [("Via", "v"), ("ROUTE", "<sip:3>"), ("New", "1")]


def test_a_copy_is_independent() -> None:
    headers = Headers([("A", "1")])
    other = headers.copy()
    other.add("B", "2")
    assert headers.items() == [("A", "1")]


@pytest.mark.parametrize("value", ["a\r\nEvil: 1", "a\nb", "a\rb", "a\0b", "a\r\n folded", "\ud800"])
def test_a_value_that_could_break_out_is_refused_by_every_way_in(value: str) -> None:
    headers = Headers([("A", "1")])
    for way in (headers.add, headers.set, headers.prepend, headers.replace_first):
        with pytest.raises(ValueError, match=r".*"):
            way("A", value)
    with pytest.raises(ValueError, match=r".*"):
        Headers([("A", value)])
    assert headers.items() == [("A", "1")]


@pytest.mark.parametrize("name", ["", "A B", "A:", "A\r\nB", "Ä", "A\0"])
def test_a_name_that_is_no_token_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a header name"):
        Headers().add(name, "x")


def test_an_escaped_nul_passes_because_a_quoted_pair_may_hold_one() -> None:
    headers = Headers()
    headers.add("From", '"NUL:\\\0" <sip:a@b>')
    with pytest.raises(ValueError, match="NUL"):
        headers.add("From", '"NUL:\\\\\0" <sip:a@b>')


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        ("a, b ,c", ["a", "b", "c"]),
        ('"x, y" <sip:a@b>, <sip:c,d@e>', ['"x, y" <sip:a@b>', "<sip:c,d@e>"]),
        ('"quote \\", still" <sip:a@b>,z', ['"quote \\", still" <sip:a@b>', "z"]),
        ('"back\\\\", b', ['"back\\\\"', "b"]),
        (", ,a,,", ["a"]),
        ("", []),
        ('Digest realm="a,b", nonce="c"', ['Digest realm="a,b"', 'nonce="c"']),
    ],
)
def test_lists_are_split_outside_quotes_and_angle_brackets(text: str, elements: list[str]) -> None:
    assert split_list(text) == elements


def test_values_runs_over_all_lines() -> None:
    headers = Headers([("Route", "<sip:1;lr>, <sip:2>"), ("X", "-"), ("Route", "<sip:3>")])
    assert headers.values("route") == ["<sip:1;lr>", "<sip:2>", "<sip:3>"]


def test_a_folded_value_is_offered_unfolded_and_leaves_as_it_came() -> None:
    message = parsed_request(f"{HEAD}Subject: I know you're there,\r\n\t pick up the phone \r\n  and talk!\r\n\r\n".encode())
    value = message.headers.get("subject")
    assert value == "I know you're there, pick up the phone and talk!"
    assert b"Subject: I know you're there,\r\n\t pick up the phone \r\n  and talk!\r\n" in message.encode()


def test_a_folded_value_crosses_to_another_message_byte_for_byte() -> None:
    message = parsed_request(f"{HEAD}X-Note: one\r\n  two\r\n\r\n".encode())
    other = Headers(message.headers.items())
    assert "X-Note: one\r\n  two\r\n" in other.encode(0)


def test_unfolding_leaves_no_line_break_whatever_the_fold_held() -> None:
    assert Folded("a\r\n \r\n\t\r\n b") == "a   b"
    assert Folded("\r\n b") == "b"
