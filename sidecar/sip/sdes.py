"""Keys of SRTP in session descriptions (RFC 4568): read, chosen and written. Nothing here encrypts."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

SUITES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "AEAD_AES_256_GCM": 44,
        "AEAD_AES_128_GCM": 28,
        "AES_CM_128_HMAC_SHA1_80": 30,
        "AES_CM_128_HMAC_SHA1_32": 30,
    }
)
"""Octets of master key and salt (RFC 4568 6.2, RFC 7714 14.2), the suites in the order in which we offer them."""
KEY_OCTETS: Final = sum(SUITES.values())
"""Randomness that one leg of one m-line needs: each suite that is offered has a key of its own (RFC 4568 6.1)."""
_CRYPTO: Final = re.compile(
    r"(\d{1,9})[ \t]+(\S+)[ \t]+inline:([A-Za-z0-9+/]+={0,2})((?:\|[^\s;|]+){0,2})((?:[ \t]+\S+)*)[ \t]*", re.IGNORECASE
)
_MEDIA: Final = re.compile(rb"(m=\S+[ \t]+\S+[ \t]+)(\S+)")
_KEYED: Final = re.compile(rb"a=(?:crypto|key-mgmt):", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Crypto:
    """One `a=crypto` line: master key and salt end to end."""

    tag: int
    suite: str
    key: bytes = field(repr=False)

    def line(self) -> bytes:
        """As it is written."""
        return b"a=crypto:%d %s inline:%s" % (self.tag, self.suite.encode("ascii"), base64.b64encode(self.key))


@dataclass(frozen=True, slots=True)
class Keys:
    """How one leg's media is encrypted: the key that its party sends with, and the one that we send to it with."""

    suite: str
    theirs: bytes = field(repr=False)
    ours: bytes = field(repr=False)


def read(values: Sequence[str]) -> list[Crypto]:
    """The lines that can be used, in their writer's order; `values` is what stands behind `a=crypto:`.

    Left out are suites that are not in `SUITES`, keys of another length or with an MKI, and any session parameter but WSH, since each of
    the others changes how packets look (6.3).
    """
    found = []
    for value in values:
        match = _CRYPTO.fullmatch(value)
        if match is None or any(":" in part for part in match[4].split("|")):
            continue
        if any(not parameter.upper().startswith("WSH=") for parameter in match[5].split()):
            continue
        suite = match[2].upper()
        try:
            key = base64.b64decode(match[3], validate=True)
        except binascii.Error:
            continue
        if len(key) == SUITES.get(suite):
            found.append(Crypto(int(match[1]), suite, key))
    return found


def own_keys(random: bytes) -> dict[str, bytes]:
    """A key for each suite out of `KEY_OCTETS` random octets."""
    keys, at = {}, 0
    for suite, octets in SUITES.items():
        keys[suite] = random[at : at + octets]
        at += octets
    return keys


def offered(random: bytes) -> list[Crypto]:
    """All suites, each with its key."""
    return [Crypto(tag, suite, key) for tag, (suite, key) in enumerate(own_keys(random).items(), 1)]


def secure(proto: str) -> bool:
    """Whether a profile is SRTP with its keys in the description; DTLS-SRTP is not: see `sidecar.sip.dtls`."""
    return proto.upper() in ("RTP/SAVP", "RTP/SAVPF")


def rewrite(body: bytes, media: Mapping[int, Sequence[Crypto]]) -> bytes:
    """A description whose m-lines, by index, become RTP/SAVP with these lines, or RTP/AVP where there are none. Other lines stay."""
    out: list[bytes] = []
    index, lines = -1, re.split(rb"(?<=\n)", body)
    end = b"\r\n" if b"\r\n" in body else b"\n"
    for line in lines:
        if line.startswith(b"m=") or not line:
            out += _keys(media.get(index), end)
        if line.startswith(b"m="):
            index += 1
            if index in media:
                line = _MEDIA.sub(lambda head: head[1] + _profile(head[2], bool(media[index])), line, count=1)  # noqa: B023 - called at once
        elif index in media and _KEYED.match(line):
            continue
        out.append(line)
    if lines and lines[-1]:
        out += _keys(media.get(index), end)
    return b"".join(out)


def _keys(cryptos: Sequence[Crypto] | None, end: bytes) -> list[bytes]:
    return [crypto.line() + end for crypto in cryptos or ()]


def _profile(proto: bytes, is_secure: bool) -> bytes:
    plain = proto.upper().removeprefix(b"UDP/TLS/").replace(b"SAVP", b"AVP")
    return plain.replace(b"AVP", b"SAVP") if is_secure else plain
