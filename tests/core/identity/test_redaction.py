"""No digest response reaches a trace."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.identity.digest import redact, redact_message

SECRET = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"


def message(*headers: str) -> str:
    return "\r\n".join(["INVITE sip:a@b SIP/2.0", "Call-ID: c1", *headers, "Subject: x", "", "v=0\r\n"])


def test_only_the_response_is_masked() -> None:
    before = message(
        f'Authorization: Digest username="alice", nonce="n", uri="sip:a@b", response="{SECRET}", cnonce="c", qop=auth, nc=00000001'
    )
    assert redact_message(before) == before.replace(SECRET, "redacted")


@pytest.mark.parametrize(
    "header",
    [
        f'AUTHORIZATION: Digest response="{SECRET}"',
        f'proxy-authorization : digest realm="a",Response = {SECRET}',
        f'Proxy-Authorization: Digest realm="a",\r\n response=\r\n\t"{SECRET}",\r\n qop=auth',
        f'Authorization:\r\n Digest realm="a, response=b", response="{SECRET}"',
        f'Authorization: Digest opaque="response=", response="{SECRET}"',
        f'Authorization: Digest opaque="x\\", response="{SECRET}"',
        f'Authorization: Digest opaque="never closed, response="{SECRET}"',
        f"Authorization: Basic {SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"Authorization: {SECRET}",
        f"Authorization: {SECRET}=",
        f'Authentication-Info: rspauth="{SECRET}", nextnonce="n2"',
        f'Proxy-Authentication-Info: qop=auth, rspauth="{SECRET}"',
    ],
)
def test_every_spelling_is_caught(header: str) -> None:
    out = redact_message(message(header))
    assert SECRET not in out
    assert "redacted" in out
    assert out.endswith("Subject: x\r\n\r\nv=0\r\n")
    assert out.startswith("INVITE sip:a@b SIP/2.0\r\nCall-ID: c1\r\n")


def test_folded_credentials_keep_their_other_lines() -> None:
    before = message(f'Authorization: Digest realm="a",\r\n\tresponse="{SECRET}",\r\n  qop=auth')
    assert redact_message(before) == before.replace(SECRET, "redacted")


def test_a_message_inside_a_body_is_redacted_too() -> None:
    before = "NOTIFY sip:a@b SIP/2.0\r\nCall-ID: c\r\n\r\nINVITE sip:a@b SIP/2.0\r\nAuthorization: Digest response=" + SECRET + "\r\n"
    assert SECRET not in redact_message(before)


def test_challenges_and_everything_else_stay() -> None:
    text = message('WWW-Authenticate: Digest realm="authorization: x", nonce="n"', "X-Note: response=abc")
    assert redact_message(text) == text
    assert redact_message("OPTIONS sip:x SIP/2.0\r\n\r\n") == "OPTIONS sip:x SIP/2.0\r\n\r\n"


def test_a_single_value() -> None:
    assert redact(f'Digest username="a", response="{SECRET}"') == 'Digest username="a", response="redacted"'
    assert redact("Bearer abc") == "Bearer redacted"


@given(st.text(alphabet='Dd igestresponse="\\,=\t', max_size=60))
def test_whatever_stands_around_it_the_secret_goes(noise: str) -> None:
    assert SECRET not in redact_message(message(f'Authorization: Digest {noise}, response="{SECRET}"'))


def test_keys_of_media_are_redacted_wherever_they_stand() -> None:  # RFC 4568 9.1, RFC 4567 3.1
    key = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
    lines = (
        f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}|2^20|1:4 FEC_ORDER=FEC_SRTP",
        f"a=crypto:2 F8_128_HMAC_SHA1_80 inline:{key}|2^20|1:4;inline:{key}|2^20|2:4",
        f"A=CRYPTO:3 AES_256_CM_HMAC_SHA1_80 INLINE:{key}==",
        f"a=key-mgmt:mikey {key}",
        f"k=base64:{key}",
    )
    text = "INVITE sip:a@b SIP/2.0\r\nContent-Disposition: session;handling=inline\r\n\r\nv=0\r\n" + "\r\n".join(lines) + "\r\n"
    out = redact_message(text)
    assert key not in out
    assert "inline:redacted|2^20|1:4 FEC_ORDER=FEC_SRTP\r\n" in out
    assert "handling=inline\r\n" in out
    assert out.count("redacted") == 6
