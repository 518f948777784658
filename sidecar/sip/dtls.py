"""SRTP whose keys come of a DTLS handshake on the media path (RFC 5763, RFC 5764): what descriptions say of it. Nothing here encrypts.

We are a lite ICE agent (RFC 8445 section 2.5) for parties that check connectivity: one candidate, answers and no questions.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

HASHES: Final = ("sha-256", "sha-384", "sha-512")
"""Of certificates, those that still prove something (RFC 8122 section 5)."""
PROFILE: Final = "UDP/TLS/RTP/SAVPF"
"""What we offer: the one that every WebRTC endpoint takes (RFC 8834 section 4.2)."""
_UFRAG_OCTETS, _PWD_OCTETS = 6, 18
ICE_OCTETS: Final = _UFRAG_OCTETS + _PWD_OCTETS
"""Randomness for the ICE credentials of one leg of one m-line."""
_FINGERPRINT: Final = re.compile(r"(\S+)[ \t]+((?:[0-9A-F]{2}:)*[0-9A-F]{2})[ \t]*", re.IGNORECASE)
_LINES: Final = re.compile(rb"a=(?:fingerprint|setup|tls-id|identity|connection)(?::|\s*$)", re.IGNORECASE)
_MUX: Final = re.compile(rb"a=rtcp(?:-mux|-mux-only|:.*)?\s*$", re.IGNORECASE)
_PROTO: Final = re.compile(rb"(m=\S+[ \t]+\S+[ \t]+)\S+")
_HIGHEST_PRIORITY: Final = 2130706431
"""Of the only candidate (RFC 8445 section 5.1.2.1): a host's, component 1."""


@dataclass(frozen=True, slots=True)
class Ice:
    """The credentials of both ends: who asks names both, and proves that it knows our password."""

    ufrag: str
    pwd: str = field(repr=False)
    their_ufrag: str


@dataclass(frozen=True, slots=True)
class Dtls:
    """How one leg's media is encrypted: with keys that a handshake gives whose other end shows a certificate of these fingerprints."""

    fingerprints: tuple[tuple[str, bytes], ...]
    """Of hashes that we know; the certificate must fit each."""
    client: bool
    """We begin."""
    ice: Ice | None = None
    """Null: the party does not check connectivity."""


def used(proto: str) -> bool:
    """Whether a profile is SRTP with keys of a handshake."""
    return proto.upper() in ("UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF")


def fingerprints(values: Sequence[str]) -> tuple[tuple[str, bytes], ...]:
    """The usable ones of what stands behind `a=fingerprint:`."""
    found = []
    for value in values:
        match = _FINGERPRINT.fullmatch(value)
        if match is not None and match[1].lower() in HASHES:
            found.append((match[1].lower(), bytes.fromhex(match[2].replace(":", ""))))
    return tuple(found)


def is_client(setup: str, *, offer: bool) -> bool:
    """Whether we begin, by the party's `a=setup` (RFC 4145 section 4, RFC 5763 section 5): who may choose is the answerer."""
    return {"active": False, "passive": True}.get(setup, offer)


def own_ice(random: bytes) -> tuple[str, str]:
    """Our user fragment and password out of the last `ICE_OCTETS` of a leg's randomness; base64 has the characters of both."""
    part = random[-ICE_OCTETS:]
    return base64.b64encode(part[:_UFRAG_OCTETS]).decode(), base64.b64encode(part[_UFRAG_OCTETS:]).decode()


def lines(fingerprint: str, setup: str, ice: tuple[str, str] | None, host: str, port: int) -> list[bytes]:
    """The attributes of an m-line, without their ends. `ice` None: the party does not check connectivity, or cannot be told an address."""
    told = [f"a=fingerprint:{fingerprint}", f"a=setup:{setup}", "a=rtcp-mux"]
    if ice is not None and _is_address(host):
        candidate = f"a=candidate:1 1 udp {_HIGHEST_PRIORITY} {host} {port} typ host"
        told += [f"a=ice-ufrag:{ice[0]}", f"a=ice-pwd:{ice[1]}", candidate, "a=end-of-candidates"]
    return [line.encode("ascii") for line in told]


def without(body: bytes, muxed: frozenset[int]) -> bytes:
    """A description with nothing of the far party's handshakes in it; the m-lines of `muxed` say nothing about RTCP's port either."""
    out, index = [], -1
    for line in re.split(rb"(?<=\n)", body):
        index += line.startswith(b"m=")
        if not _LINES.match(line) and not (index in muxed and _MUX.match(line)):
            out.append(line)
    return b"".join(out)


def rewrite(body: bytes, protos: Mapping[int, str], attributes: Mapping[int, Sequence[bytes]]) -> bytes:
    """A description whose m-lines, by index, have these profiles, and these attributes at their end. With ICE it says that we are lite."""
    end = b"\r\n" if b"\r\n" in body else b"\n"
    out: list[bytes] = []
    index, parts = -1, [part for part in re.split(rb"(?<=\n)", body) if part]
    if parts and not parts[-1].endswith(b"\n"):
        parts[-1] += end
    lite = [b"a=ice-lite" + end] if any(line.startswith(b"a=ice-ufrag") for told in attributes.values() for line in told) else []
    for part in parts:
        if part.startswith(b"m="):
            out += lite if index < 0 else [line + end for line in attributes.get(index, ())]
            index += 1
            if index in protos:
                part = _PROTO.sub(lambda head: head[1] + protos[index].encode("ascii"), part, count=1)  # noqa: B023 - called at once
        out.append(part)
    out += [line + end for line in attributes.get(index, ())]
    return b"".join(out)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
