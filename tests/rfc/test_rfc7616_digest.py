"""RFC 7616 (digest), the examples of RFC 2617, and what RFC 8760 makes of both for SIP."""

from __future__ import annotations

import pytest

from sidecar.clocks import Mono
from sidecar.identity import hashes
from sidecar.identity.auth_params import AuthParams, read
from sidecar.identity.digest import Answered, Credentials, DigestClient, DigestServer
from sidecar.sip.headers import Headers
from sidecar.sip.message import Response

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
