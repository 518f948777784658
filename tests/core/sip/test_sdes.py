"""SRTP keys in descriptions (RFC 4568), by its own examples."""

from __future__ import annotations

import base64

import pytest

from sidecar.sip import sdes
from sidecar.sip.sdes import Crypto

KEY = bytes(range(30))
INLINE = base64.b64encode(KEY).decode()
BODY = (
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\na=sendrecv\r\n"
    b"m=video 4002 RTP/AVPF 96\r\na=rtpmap:96 VP8/90000\r\n"
)


@pytest.mark.parametrize(
    "value",
    [
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE}",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE}|2^20",
        f"1 aes_cm_128_hmac_sha1_80  inline:{INLINE}|2^31 WSH=64",
    ],
)
def test_what_can_be_used_is_read(value: str) -> None:
    assert sdes.read([value]) == [Crypto(1, "AES_CM_128_HMAC_SHA1_80", KEY)]


@pytest.mark.parametrize(
    "value",
    [
        f"1 F8_128_HMAC_SHA1_80 inline:{INLINE}",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE[:-4]}",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE}|2^20|1:4",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE}|1:4",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE} UNENCRYPTED_SRTP",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE};inline:{INLINE}",
        "1 AES_CM_128_HMAC_SHA1_80 inline:====",
        "",
    ],
)
def test_what_would_change_how_packets_look_is_left_out(value: str) -> None:
    assert sdes.read([value]) == []


def test_own_lines_are_read_back_and_no_two_suites_share_a_key() -> None:  # 6.1
    lines = sdes.offered(bytes(i % 251 for i in range(sdes.KEY_OCTETS)))
    assert [line.suite for line in lines] == list(sdes.SUITES)
    assert len({line.key for line in lines}) == len(lines)
    assert sdes.read([line.line().decode().removeprefix("a=crypto:") for line in lines]) == lines


def test_profiles_and_keys_are_written_and_every_other_line_stays() -> None:
    plain = sdes.rewrite(BODY, {0: []})
    assert plain == BODY.replace(b"RTP/SAVP 0", b"RTP/AVP 0").replace(b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n", b"")
    keyed = sdes.rewrite(plain, {0: [Crypto(3, "AES_CM_128_HMAC_SHA1_80", KEY)], 1: [Crypto(1, "AES_CM_128_HMAC_SHA1_32", KEY)]})
    audio, video = (f"a=crypto:{tag} AES_CM_128_HMAC_SHA1_{bits} inline:{INLINE}\r\n".encode() for tag, bits in ((3, 80), (1, 32)))
    assert keyed == plain.replace(b"RTP/AVP 0", b"RTP/SAVP 0").replace(b"m=video", audio + b"m=video").replace(b"AVPF", b"SAVPF") + video
    assert sdes.rewrite(keyed, {0: [], 1: []}) == plain
    assert sdes.rewrite(BODY, {}) == BODY


def test_a_key_is_not_shown() -> None:
    assert INLINE not in repr(Crypto(1, "AES_CM_128_HMAC_SHA1_80", KEY))
    assert str(KEY) not in repr(sdes.Keys("AES_CM_128_HMAC_SHA1_80", KEY, KEY))
