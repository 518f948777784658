"""The server towards callers, answered by our own client: what it accepts and what it challenges again."""

from __future__ import annotations

import dataclasses

import pytest

from sidecar.clocks import Mono
from sidecar.identity.digest import Accepted, Answered, Challenge, Credentials, DigestClient, DigestServer, Malformed
from sidecar.sip.headers import Headers
from sidecar.sip.message import Request, Response
from tests.core.identity.messages import request

URI = "sip:agent@edge.example"


def server(*, proxy: bool = True) -> DigestServer:
    return DigestServer("front", {"alice": "s3cret"}, b"0123456789abcdef", lifetime=60.0, proxy=proxy)


def signed(who: DigestServer, client: DigestClient, now: float, *, method: str = "INVITE", token: str = "t1") -> Request:
    """A request that answers a challenge which `who` issued at `now`."""
    challenge = Response(who.status, "x", Headers(who.challenge(token, Mono(now))), b"")
    answer = client.answer(challenge, method=method, uri=URI, body=b"", cnonce="c")
    assert isinstance(answer, Answered)
    return request(*answer.headers, method=method, uri=URI)


def alice(password: str = "s3cret") -> DigestClient:
    return DigestClient(Credentials("alice", password))


def edited(message: Request, old: str, new: str) -> Request:
    (name, value) = next(item for item in message.headers.items() if "uthorization" in item[0])
    assert old in value
    return request((name, value.replace(old, new)), method=message.method)


def test_both_algorithms_are_offered_the_stronger_first() -> None:
    headers = server().challenge("t1", Mono(0.0))
    assert [name for name, _ in headers] == ["Proxy-Authenticate", "Proxy-Authenticate"]
    assert [value.split("algorithm=")[1].split(",")[0] for _, value in headers] == ["SHA-256", "MD5"]
    assert all("stale" not in value for _, value in headers)
    assert all(value.endswith("stale=true") for _, value in server().challenge("t1", Mono(0.0), stale=True))


@pytest.mark.parametrize("proxy", [True, False])
def test_the_right_password_is_accepted(proxy: bool) -> None:
    who = server(proxy=proxy)
    assert who.check(signed(who, alice(), 0.0), Mono(1.0)) == Accepted("alice")


def test_md5_is_accepted_too() -> None:
    who = server()
    challenge = Response(407, "x", Headers(who.challenge("t", Mono(0.0))[1:]), b"")
    answer = alice().answer(challenge, method="INVITE", uri=URI, body=b"", cnonce="c")
    assert isinstance(answer, Answered)
    assert answer.algorithm == "MD5"
    assert who.check(request(*answer.headers), Mono(0.0)) == Accepted("alice")


def test_no_credentials_wrong_password_and_unknown_user_are_challenged_alike() -> None:
    who = server()
    assert who.check(request(), Mono(0.0)) == Challenge(False, "no_credentials")
    assert who.check(signed(who, alice("wrong"), 0.0), Mono(0.0)) == Challenge(False, "wrong_response")
    assert who.check(signed(who, DigestClient(Credentials("mallory", "")), 0.0), Mono(0.0)) == Challenge(False, "unknown_user")


def test_an_answer_for_another_method_is_wrong() -> None:
    who = server()
    (header,) = [item for item in signed(who, alice(), 0.0).headers.items() if item[0] == "Proxy-Authorization"]
    assert who.check(request(header, method="BYE"), Mono(0.0)) == Challenge(False, "wrong_response")


def test_the_same_octets_twice_are_a_replay() -> None:
    who = server()
    first = signed(who, alice(), 0.0)
    assert who.check(first, Mono(1.0)) == Accepted("alice")
    assert who.check(first, Mono(1.1)) == Challenge(True, "replayed")


def test_the_next_count_of_the_same_nonce_is_accepted_a_lower_one_is_not() -> None:
    who, client = server(), alice()
    first = signed(who, client, 0.0)
    second, third = (request(*client.authorize("INVITE", URI, b"", "c")) for _ in range(2))
    assert who.check(first, Mono(1.0)) == Accepted("alice")
    assert who.check(third, Mono(1.0)) == Accepted("alice")
    assert who.check(second, Mono(1.0)) == Challenge(True, "replayed")


def test_a_nonce_past_its_lifetime_is_stale_only_under_the_right_password() -> None:
    who = server()
    assert who.check(signed(who, alice(), 0.0), Mono(60.5)) == Challenge(True, "stale_nonce")
    assert who.check(signed(who, alice("wrong"), 0.0), Mono(60.5)) == Challenge(False, "wrong_response")


def test_a_nonce_of_another_server_or_a_forged_one_is_foreign() -> None:
    other = dataclasses.replace(server(), secret=b"fedcba9876543210")
    assert server().check(signed(other, alice(), 0.0), Mono(0.0)) == Challenge(False, "foreign_nonce")
    assert server().check(edited(signed(server(), alice(), 0.0), 'nonce="0.', 'nonce="9.'), Mono(0.0)) == Challenge(False, "foreign_nonce")
    assert server().check(edited(signed(server(), alice(), 0.0), 'nonce="', 'nonce="\udcff'), Mono(0.0)) == Challenge(
        False, "foreign_nonce"
    )


def test_an_answer_without_replay_protection_is_not_taken() -> None:
    assert server().check(edited(signed(server(), alice(), 0.0), ", qop=auth", ""), Mono(0.0)) == Challenge(False, "unprotected")
    assert server().check(edited(signed(server(), alice(), 0.0), "SHA-256", "SHA-1"), Mono(0.0)) == Challenge(False, "unprotected")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('uri="', 'xuri="', "uri"),
        ('username="alice"', 'username=""', "username"),
        ("nc=00000001", "nc=1", "nonce count"),
        ("nc=00000001", "nc=00000000", "nonce count"),
        ('cnonce="c"', f'cnonce="{"c" * 2000}"', "overlong"),
    ],
)
def test_unreadable_credentials_are_malformed(old: str, new: str, said: str) -> None:
    verdict = server().check(edited(signed(server(), alice(), 0.0), old, new), Mono(0.0))
    assert isinstance(verdict, Malformed)
    assert said in verdict.detail


def test_two_answers_for_our_realm_are_malformed_and_one_for_another_realm_is_passed_by() -> None:
    who = server()
    (header,) = [item for item in signed(who, alice(), 0.0).headers.items() if item[0] == "Proxy-Authorization"]
    assert isinstance(who.check(request(header, header), Mono(0.0)), Malformed)
    elsewhere = (header[0], header[1].replace('"front"', '"elsewhere"'))
    assert who.check(request(elsewhere, header), Mono(0.0)) == Accepted("alice")
    assert who.check(request(elsewhere), Mono(0.0)) == Challenge(False, "no_credentials")


def test_a_flood_of_challenges_leaves_nothing_behind_and_used_nonces_expire() -> None:
    who = server()
    for number in range(1000):
        who.challenge(f"t{number}", Mono(0.0))
    assert who.describe()["live_nonces"] == 0
    for number in range(5):
        assert who.check(signed(who, alice(), float(number), token=f"t{number}"), Mono(number)) == Accepted("alice")
    assert who.describe()["live_nonces"] == 5
    assert who.check(signed(who, alice(), 100.0, token="late"), Mono(100.0)) == Accepted("alice")
    assert who.describe()["live_nonces"] == 1


def test_no_secret_in_the_representation() -> None:
    assert "s3cret" not in repr(server())
    assert "0123456789abcdef" not in repr(server())
