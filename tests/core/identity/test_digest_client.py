"""The client towards the edge: what it answers, what it refuses, and what it says about it."""

from __future__ import annotations

import hashlib

import pytest

from sidecar.identity.auth_params import AuthParams, read
from sidecar.identity.digest import Answered, Credentials, DigestClient, Refusal
from tests.core.identity.messages import challenged, ok

URI = "sip:agent@edge.example"
ALICE = Credentials("alice", "s3cret")


def ask(
    client: DigestClient, *challenges: str, status: int = 407, method: str = "INVITE", body: bytes = b"", cnonce: str = "c0"
) -> Answered | Refusal:
    return client.answer(challenged(status, *challenges), method=method, uri=URI, body=body, cnonce=cnonce)


def answered(
    client: DigestClient, *challenges: str, status: int = 407, method: str = "INVITE", body: bytes = b"", cnonce: str = "c0"
) -> Answered:
    answer = ask(client, *challenges, status=status, method=method, body=body, cnonce=cnonce)
    assert isinstance(answer, Answered)
    return answer


def refused(client: DigestClient, *challenges: str, status: int = 407, method: str = "INVITE") -> Refusal:
    answer = ask(client, *challenges, status=status, method=method)
    assert isinstance(answer, Refusal)
    return answer


def only(headers: tuple[tuple[str, str], ...]) -> AuthParams:
    ((_, value),) = headers
    (params,) = read(value)
    return params


def h(text: str, name: str = "md5") -> str:
    return hashlib.new(name, text.encode()).hexdigest()


def test_a_407_with_qop_auth_is_answered() -> None:
    answer = answered(DigestClient(ALICE), 'Digest realm="edge", nonce="n1", opaque="o1", algorithm=MD5, qop="auth,auth-int"')
    assert (answer.realm, answer.algorithm, answer.status) == ("edge", "MD5", 407)
    ((name, value),) = answer.headers
    assert name == "Proxy-Authorization"
    response = h(f"{h('alice:edge:s3cret')}:n1:00000001:c0:auth:{h('INVITE:' + URI)}")
    assert value == (
        f'Digest username="alice", realm="edge", nonce="n1", uri="{URI}", response="{response}", '
        'algorithm=MD5, cnonce="c0", opaque="o1", qop=auth, nc=00000001'
    )


def test_a_401_is_answered_under_its_own_header_name() -> None:
    assert answered(DigestClient(ALICE), 'Digest realm="edge", nonce="n"', status=401).headers[0][0] == "Authorization"


def test_a_challenge_without_qop_gets_the_old_form() -> None:
    params = only(answered(DigestClient(ALICE), 'Digest realm="edge", nonce="n1"').headers)
    assert params.get("response") == h(f"{h('alice:edge:s3cret')}:n1:{h('INVITE:' + URI)}")
    assert not {"qop", "nc", "cnonce", "algorithm", "opaque"} & params.raw.keys()


def test_auth_int_covers_the_body() -> None:
    params = only(answered(DigestClient(ALICE), 'Digest realm="edge", nonce="n", qop="auth-int"', body=b"v=0").headers)
    assert params.get("qop") == "auth-int"
    assert params.get("response") == h(f"{h('alice:edge:s3cret')}:n:00000001:c0:auth-int:{h(f'INVITE:{URI}:' + h('v=0'))}")


@pytest.mark.parametrize(("algorithm", "name"), [("MD5-sess", "md5"), ("SHA-256-sess", "sha256"), ("SHA-512-256-sess", "sha512_256")])
def test_session_algorithms_keep_their_key_as_long_as_the_nonce(algorithm: str, name: str) -> None:
    client = DigestClient(ALICE)
    answered(client, f'Digest realm="edge", nonce="n", qop="auth", algorithm={algorithm}', cnonce="first")
    params = only(client.authorize("BYE", URI, b"", "second"))
    key = h(f"{h('alice:edge:s3cret', name)}:n:first", name)
    assert params.get("cnonce") == "first"
    assert params.get("response") == h(f"{key}:n:00000002:first:auth:{h('BYE:' + URI, name)}", name)


def test_the_strongest_known_algorithm_is_taken() -> None:
    rest = 'nonce="n", qop="auth"'
    offers = [f'Digest realm="edge", {rest}, algorithm={a}' for a in ("MD5", "SHA-1024", "SHA-256", "SHA-512-256", "SHA-256-sess")]
    assert answered(DigestClient(ALICE), *offers).algorithm == "SHA-512-256"
    assert answered(DigestClient(ALICE), *offers[:3]).algorithm == "SHA-256"
    assert answered(DigestClient(ALICE), ", ".join(offers[:2])).algorithm == "MD5"


def test_other_schemes_in_the_same_line_are_passed_over() -> None:
    assert answered(DigestClient(ALICE), 'Negotiate YII==, Basic realm="x", Digest realm="a, b", nonce="n"').realm == "a, b"


def test_a_401_behind_a_407_gets_both_answers() -> None:
    client = DigestClient(ALICE)
    answered(client, 'Digest realm="proxy", nonce="p", qop="auth"')
    answer = answered(client, 'Digest realm="edge", nonce="e", qop="auth"', status=401)
    assert answer.realm == "edge"
    by_name = {name: read(value)[0] for name, value in answer.headers}
    assert by_name.keys() == {"Authorization", "Proxy-Authorization"}
    assert by_name["Authorization"].get("nc") == "00000001"
    assert by_name["Proxy-Authorization"].get("nc") == "00000002"


def test_two_realms_in_one_response_are_both_answered() -> None:
    answer = answered(DigestClient(ALICE), 'Digest realm="a", nonce="1"', 'Digest realm="b", nonce="2"')
    assert [read(value)[0].get("realm") for _, value in answer.headers] == ["a", "b"]
    assert answer.realm == "a, b"


def test_each_realm_sees_its_own_credentials() -> None:
    client = DigestClient(ALICE, {"b": Credentials("bob", "x")})
    answer = answered(client, 'Digest realm="a", nonce="1"', 'Digest realm="b", nonce="2"')
    assert [read(value)[0].get("username") for _, value in answer.headers] == ["alice", "bob"]


@pytest.mark.parametrize("second", ["n1", "n2"])
def test_a_second_challenge_without_stale_means_refused(second: str) -> None:
    client = DigestClient(ALICE)
    answered(client, 'Digest realm="edge", nonce="n1", qop="auth"')
    refusal = refused(client, f'Digest realm="edge", nonce="{second}", qop="auth"')
    assert (refusal.kind, refusal.realm, refusal.algorithm, refusal.status) == ("refused", "edge", "MD5", 407)
    assert refusal.detail == 'credentials of user "alice" refused by realm "edge"'
    assert "s3cret" not in repr((client, refusal, ALICE))


def test_a_stale_nonce_is_answered_once_with_the_new_one() -> None:
    client = DigestClient(ALICE)
    answered(client, 'Digest realm="edge", nonce="n1", qop="auth"')
    params = only(answered(client, 'Digest realm="edge", nonce="n2", qop="auth", stale=TRUE').headers)
    assert (params.get("nonce"), params.get("nc")) == ("n2", "00000001")
    assert refused(client, 'Digest realm="edge", nonce="n3", qop="auth", stale=true').kind == "refused"


def test_wrong_credentials_after_a_stale_nonce_are_refused() -> None:
    client = DigestClient(ALICE)
    answered(client, 'Digest realm="edge", nonce="n1"')
    answered(client, 'Digest realm="edge", nonce="n2", stale=true')
    assert refused(client, 'Digest realm="edge", nonce="n3"').kind == "refused"


def test_no_more_than_three_answers_for_one_request() -> None:
    client = DigestClient(ALICE)
    for realm in "abc":
        answered(client, f'Digest realm="{realm}", nonce="n"')
    assert "3 attempts" in refused(client, 'Digest realm="d", nonce="n"').detail


def test_no_credentials_and_unknown_algorithms_have_their_own_kinds() -> None:
    refusal = refused(DigestClient(None), 'Digest realm="edge", nonce="n"')
    assert refusal.kind == "no_credentials"
    assert '"edge"' in refusal.detail
    assert refused(DigestClient(ALICE), 'Digest realm="edge", nonce="n", algorithm=SHA-1024').kind == "unsupported"
    assert refused(DigestClient(ALICE), 'Digest realm="edge", nonce="n", qop="auth-conf"').kind == "unsupported"
    assert refused(DigestClient(ALICE), 'Digest realm="edge"').kind == "unsupported"
    assert refused(DigestClient(ALICE), 'Basic realm="edge"').kind == "unsupported"
    assert refused(DigestClient(ALICE)).kind == "unsupported"


def test_later_requests_carry_the_credentials_and_count_on() -> None:
    client = DigestClient(ALICE)
    assert client.authorize("INVITE", URI, b"", "c") == ()
    first = answered(client, 'Digest realm="edge", nonce="n", qop="auth"')
    assert client.sent("INVITE") == first.headers
    assert only(client.authorize("BYE", URI, b"", "c")).get("nc") == "00000002"
    assert only(client.authorize("INVITE", URI, b"", "c")).get("nc") == "00000003"
    assert client.sent("ACK") == ()


def test_the_next_nonce_is_used_when_told() -> None:
    client = DigestClient(ALICE)
    answered(client, 'Digest realm="edge", nonce="n1", qop="auth"')
    client.settle(ok(("Proxy-Authentication-Info", 'nextnonce="n2", qop=auth')), method="INVITE")
    params = only(client.authorize("BYE", URI, b"", "c"))
    assert (params.get("nonce"), params.get("nc")) == ("n2", "00000001")


def test_a_new_request_may_be_challenged_anew() -> None:
    client = DigestClient(ALICE)
    answered(client, 'Digest realm="edge", nonce="n1"')
    client.authorize("INVITE", URI, b"", "c")
    assert answered(client, 'Digest realm="edge", nonce="n2"').realm == "edge"
    assert refused(client, 'Digest realm="edge", nonce="n3"').kind == "refused"


def test_the_very_nonce_that_was_used_coming_again_is_a_refusal_also_later() -> None:
    client = DigestClient(ALICE)
    answered(client, 'Digest realm="edge", nonce="n1"')
    client.settle(ok(), method="INVITE")
    client.authorize("BYE", URI, b"", "c")
    assert refused(client, 'Digest realm="edge", nonce="n1"', method="BYE").kind == "refused"


def test_values_with_quotes_cannot_break_out_of_the_header() -> None:
    client = DigestClient(Credentials('al"ice\\', "p"))
    params = only(answered(client, r'Digest realm="a \"b\", c", nonce="n\"1", opaque="x\y"').headers)
    assert (params.get("username"), params.get("realm"), params.get("nonce")) == ('al"ice\\', 'a "b", c', 'n"1')
    assert params.raw["opaque"] == r"x\y"


def test_a_name_beyond_ascii_goes_in_the_extended_form_where_utf8_is_announced() -> None:
    client = DigestClient(Credentials("Jäsøn Doe", "p"))
    params = only(answered(client, 'Digest realm="a", nonce="n", charset=UTF-8').headers)
    assert params.get("username*") == "UTF-8''J%C3%A4s%C3%B8n%20Doe"
    assert "username" not in params.raw


def test_describe_shows_no_secret() -> None:
    client = DigestClient(ALICE)
    answered(client, 'Digest realm="edge", nonce="n", qop="auth"')
    assert client.describe() == {"Proxy-Authorization edge": {"algorithm": "MD5", "qop": "auth", "nonce_count": 1}}
