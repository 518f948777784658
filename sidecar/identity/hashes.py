"""The digest computation (RFC 7616 section 3.4; the form without qop is RFC 2069's, kept by RFC 3261 section 22.4)."""

from __future__ import annotations

import hashlib
from typing import Final

STRENGTH: Final = ("SHA-512-256", "SHA-512-256-sess", "SHA-256", "SHA-256-sess", "MD5", "MD5-sess")
"""The algorithms known here, strongest first (RFC 8760 section 2.3)."""
_HASHES: Final = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
_BY_NAME: Final = {name.upper(): name for name in STRENGTH}


def known(name: str | None) -> str | None:
    """The canonical name of an algorithm, MD5 when none is stated (RFC 7616 section 3.3); None for an unknown one."""
    algorithm = "MD5" if name is None else _BY_NAME.get(name.strip().upper())
    # A build of the hash library may come without SHA-512/256.
    return algorithm if algorithm and _HASHES[algorithm.removesuffix("-sess")] in hashlib.algorithms_available else None


def digest(algorithm: str, data: bytes) -> str:
    """Lower-case hex of the hash behind a known `algorithm`."""
    return hashlib.new(_HASHES[algorithm.removesuffix("-sess")], data, usedforsecurity=False).hexdigest()


def response(
    algorithm: str,
    *,
    username: str,
    realm: str,
    password: str,
    nonce: str,
    method: str,
    uri: str,
    qop: str | None = None,
    nc: str = "",
    cnonce: str = "",
    session_cnonce: str | None = None,
    body: bytes = b"",
) -> str:
    """The `response` value. `nc` is the eight hex digits as sent; `session_cnonce` the cnonce that opened a -sess session."""
    ha1 = digest(algorithm, _octets(f"{username}:{realm}:{password}"))
    if algorithm.endswith("-sess"):
        ha1 = digest(algorithm, _octets(f"{ha1}:{nonce}:{cnonce if session_cnonce is None else session_cnonce}"))
    a2 = f"{method}:{uri}:{digest(algorithm, body)}" if qop == "auth-int" else f"{method}:{uri}"
    middle = f"{nonce}:{nc}:{cnonce}:{qop}" if qop else nonce
    return digest(algorithm, _octets(f"{ha1}:{middle}:{digest(algorithm, _octets(a2))}"))


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
