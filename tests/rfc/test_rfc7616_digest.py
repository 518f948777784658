"""RFC 7616 (digest), the examples of RFC 2617, and what RFC 8760 makes of both for SIP."""

from __future__ import annotations

import pytest

from sidecar.clocks import Mono
from sidecar.identity import hashes
from sidecar.identity.auth_params import AuthParams, read
from sidecar.identity.digest import Accepted, Answered, Challenge, Credentials, DigestClient, DigestServer, Malformed, Refusal
from sidecar.sip.headers import Headers
from sidecar.sip.message import Request, Response, parse

PAGE = "/dir/index.html"


def answer(who: Credentials, *challenges: str, uri: str, cnonce: str, method: str = "GET") -> AuthParams:
    response = Response(401, "Unauthorized", Headers(("WWW-Authenticate", challenge) for challenge in challenges), b"")
    answered = DigestClient(who).answer(response, method=method, uri=uri, body=b"", cnonce=cnonce)
    assert isinstance(answered, Answered)
    ((_, value),) = answered.headers
    return read(value)[0]


def test_rfc2617_3_5_example() -> None:
    challenge = (
        'Digest realm="testrealm@host.com", qop="auth,auth-int", '
        'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    given = answer(Credentials("Mufasa", "Circle Of Life"), challenge, uri=PAGE, cnonce="0a4f113b")
    assert given.get("response") == "6629fae49393a05397450978507c4ef1"
    assert (given.get("qop"), given.get("nc"), given.get("opaque")) == ("auth", "00000001", "5ccc069c403ebaf9f0171e9517f40e41")


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [("MD5", "8ca523f5e9506fed4657c9700eebdbec"), ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1")],
)
def test_rfc7616_3_9_1_examples(algorithm: str, expected: str) -> None:
    challenge = (
        f'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, '
        'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
    )
    given = answer(Credentials("Mufasa", "Circle of Life"), challenge, uri=PAGE, cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ")
    assert given.get("response") == expected
    assert given.get("algorithm") == algorithm


def test_rfc7616_3_9_2_example_with_the_values_of_erratum_4897() -> None:
    # The RFC itself prints values made with a truncated SHA-512, which is not SHA-512/256.
    challenge = (
        'Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256, nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", '
        'opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", charset=UTF-8, userhash=true'
    )
    given = answer(
        Credentials("Jäsøn Doe", "Secret, or not?"), challenge, uri="/doe.json", cnonce="NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v"
    )
    assert given.get("username") == "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"
    assert given.get("userhash") == "true"
    assert given.get("response") == "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"


def test_rfc7616_3_3_algorithm_defaults_to_md5_and_unknown_ones_are_ignored() -> None:
    given = answer(
        Credentials("a", "b"), 'Digest realm="r", nonce="n", algorithm=FUTURE-1', 'Digest realm="r", nonce="m"', uri=PAGE, cnonce="c"
    )
    assert given.get("nonce") == "m"
    assert given.get("response") == hashes.response("MD5", username="a", realm="r", password="b", nonce="m", method="GET", uri=PAGE)


def test_rfc7616_3_4_values_are_quoted_as_the_grammar_says() -> None:
    response = Response(
        401, "x", Headers([("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256, opaque="o"')]), b""
    )
    answered = DigestClient(Credentials("a", "b")).answer(response, method="GET", uri=PAGE, body=b"", cnonce="c")
    assert isinstance(answered, Answered)
    ((_, value),) = answered.headers
    assert 'username="a", realm="r", nonce="n", uri="/dir/index.html", response="' in value
    assert value.endswith('", algorithm=SHA-256, cnonce="c", opaque="o", qop=auth, nc=00000001')


def test_rfc7616_3_4_nc_counts_the_requests_sent_with_a_nonce() -> None:
    client = DigestClient(Credentials("a", "b"))
    response = Response(401, "x", Headers([("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth"')]), b"")
    client.answer(response, method="INVITE", uri="sip:x", body=b"", cnonce="c")
    counts = [read(client.authorize("INFO", "sip:x", b"", "c")[0][1])[0].get("nc") for _ in range(15)]
    assert (counts[0], counts[-1]) == ("00000002", "00000010")


def test_rfc8760_2_3_a_server_offers_one_header_an_algorithm_most_preferred_first() -> None:
    headers = DigestServer("r", {}, b"0123456789abcdef").challenge("t", Mono(0.0))
    assert [read(value)[0].get("algorithm") for _, value in headers] == ["SHA-256", "MD5"]


@pytest.mark.parametrize("order", [("MD5", "SHA-256", "SHA-512-256"), ("SHA-512-256", "SHA-256", "MD5")])
def test_rfc8760_2_4_a_client_answers_one_of_several_challenges_the_strongest(order: tuple[str, ...]) -> None:
    challenges = [f'Digest realm="r", nonce="{algorithm}", qop="auth", algorithm={algorithm}' for algorithm in order]
    assert answer(Credentials("a", "b"), *challenges, uri="sip:x", cnonce="c").get("nonce") == "SHA-512-256"


@pytest.mark.parametrize(("algorithm", "length"), [("MD5", 32), ("SHA-256", 64), ("SHA-512-256", 64)])
def test_rfc8760_2_5_the_length_of_the_response_follows_the_algorithm(algorithm: str, length: int) -> None:
    given = answer(Credentials("a", "b"), f'Digest realm="r", nonce="n", algorithm={algorithm}', uri="sip:x", cnonce="c")
    assert len(given.get("response") or "") == length


URI = "sip:agent@edge.example"


def server(**users: str) -> DigestServer:
    return DigestServer('a "front"', users or {"alice": "s3cret"}, b"0123456789abcdef")


def arrived(*headers: tuple[str, str]) -> Request:
    """An INVITE with these headers as it is read from the wire."""
    fixed = [
        ("Via", "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK-1"),
        ("From", "<sip:a@x>;tag=1"),
        ("To", f"<{URI}>"),
        ("Call-ID", "c"),
        ("CSeq", "1 INVITE"),
    ]
    message = parse(Request("INVITE", URI, [*fixed, *headers]).encode())
    assert isinstance(message, Request)
    return message


def signed(who: DigestServer, client: DigestClient) -> tuple[str, str]:
    """The credentials that answer a challenge of `who`."""
    answered = client.answer(
        Response(407, "x", Headers(who.challenge("t", Mono(0.0))), b""), method="INVITE", uri=URI, body=b"", cnonce="c"
    )
    assert isinstance(answered, Answered)
    return answered.headers[0]


@pytest.mark.parametrize("stale", [True, False])
def test_rfc7616_3_3_and_rfc8760_2_6_a_challenge_of_ours_has_qop_and_is_quoted_as_the_grammar_says(stale: bool) -> None:
    for (name, value), algorithm in zip(server().challenge("t", Mono(1.0), stale=stale), ("SHA-256", "MD5"), strict=True):
        assert name == "Proxy-Authenticate"
        (challenge,) = read(value)
        nonce = challenge.raw["nonce"]
        tail = ", stale=true" if stale else ""
        assert value == f'Digest realm="a \\"front\\"", nonce="{nonce}", algorithm={algorithm}, qop="auth"{tail}'


@pytest.mark.parametrize("qop", ["auth-conf,auth", "AUTH , x", "x\\y, auth"])
def test_rfc7616_3_3_unknown_qualities_are_ignored(qop: str) -> None:
    assert answer(Credentials("a", "b"), f'Digest realm="r", nonce="n", qop="{qop}"', uri=URI, cnonce="c").get("qop") == "auth"


@pytest.mark.parametrize("qop", ["auth", "auth-int"])
def test_rfc7616_3_4_the_quality_is_one_that_was_offered_with_cnonce_and_nc(qop: str) -> None:
    given = answer(Credentials("a", "b"), f'Digest realm="r", nonce="n", qop="{qop}"', uri=URI, cnonce="c")
    assert [given.get(name) for name in ("qop", "cnonce", "nc")] == [qop, "c", "00000001"]


def test_rfc7616_3_3_the_domain_of_a_proxys_challenge_means_nothing() -> None:
    client = DigestClient(Credentials("a", "b"))
    challenge = Response(
        407, "x", Headers([("Proxy-Authenticate", 'Digest realm="r", nonce="n", qop="auth", domain="sip:elsewhere"')]), b""
    )
    assert isinstance(client.answer(challenge, method="INVITE", uri=URI, body=b"", cnonce="c"), Answered)
    assert [name for name, _ in client.authorize("BYE", "sip:another@place", b"", "c")] == ["Proxy-Authorization"]


def test_rfc7616_3_4_a_name_in_both_forms_is_an_error() -> None:
    who = server()
    name, value = signed(who, DigestClient(Credentials("alice", "s3cret")))
    both = value.replace('username="alice"', "username=\"alice\", username*=UTF-8''alice")
    verdict = who.check(arrived((name, both)), Mono(0.0))
    assert isinstance(verdict, Malformed)
    assert "username" in verdict.detail
    assert who.check(arrived((name, value)), Mono(0.0)) == Accepted("alice")


@pytest.mark.parametrize("announced", ["", ", charset=UTF-8"])
@pytest.mark.parametrize(
    ("user", "password"), [("Jäsøn Doe", "Schlüssel, „oder“ nicht?"), ("李雷", "密码 1\\2"), ('al"ice', "p:q"), ("a'b%20c", " ")]
)
def test_rfc7616_4_names_and_passwords_of_any_characters(user: str, password: str, announced: str) -> None:
    who = server(**{user: password})
    challenges = [(name, value + announced) for name, value in who.challenge("t", Mono(0.0))]
    client = DigestClient(Credentials(user, password))
    answered = client.answer(Response(407, "x", Headers(challenges), b""), method="INVITE", uri=URI, body=b"", cnonce="c")
    assert isinstance(answered, Answered)
    ((name, value),) = answered.headers
    assert ("username*=" in value) == bool(announced and not user.isascii())
    assert who.check(arrived((name, value)), Mono(0.0)) == Accepted(user)


@pytest.mark.parametrize("name", ["ISO-8859-1''alice", "UTF-8'alice", "alice", "UTF-8''%FF", "UTF-8''"])
def test_rfc7616_3_4_an_extended_name_that_cannot_be_read_is_an_error(name: str) -> None:
    who = server()
    header, value = signed(who, DigestClient(Credentials("alice", "s3cret")))
    assert isinstance(who.check(arrived((header, value.replace('username="alice"', f"username*={name}"))), Mono(0.0)), Malformed)


def test_rfc8760_2_3_and_rfc7616_3_7_no_algorithm_is_offered_twice() -> None:
    algorithms = [read(value)[0].get("algorithm") for _, value in server().challenge("t", Mono(0.0))]
    assert len(set(algorithms)) == len(algorithms)
    assert "SHA-256" in algorithms  # the one that everybody must know


def test_rfc8760_2_6_basic_is_neither_taken_nor_given() -> None:
    who = server()
    basic = ("Proxy-Authorization", 'Basic YWxpY2U6czNjcmV0, realm="a \\"front\\""')
    assert who.check(arrived(basic), Mono(0.0)) == Challenge(False, "no_credentials")
    assert all(value.startswith("Digest ") for _, value in who.challenge("t", Mono(0.0)))
    asked = Response(401, "x", Headers([("WWW-Authenticate", 'Basic realm="r"')]), b"")
    assert isinstance(DigestClient(Credentials("a", "b")).answer(asked, method="INVITE", uri=URI, body=b"", cnonce="c"), Refusal)


@pytest.mark.parametrize(
    ("algorithm", "empty"), [("MD5", "d41d8cd98f00b204e9800998ecf8427e"), ("SHA-256", "e3b0c44298fc1c149afbf4c8996fb924")]
)
def test_rfc8760_2_6_a_message_without_a_body_has_the_hash_of_nothing(algorithm: str, empty: str) -> None:
    assert hashes.digest(algorithm, b"").startswith(empty)
    given = answer(
        Credentials("a", "b"), f'Digest realm="r", nonce="n", qop="auth-int", algorithm={algorithm}', uri=URI, cnonce="c", method="BYE"
    )
    ha1, ha2 = (hashes.digest(algorithm, text.encode()) for text in ("a:r:b", f"BYE:{URI}:{hashes.digest(algorithm, b'')}"))
    assert given.get("response") == hashes.digest(algorithm, f"{ha1}:n:00000001:c:auth-int:{ha2}".encode())
