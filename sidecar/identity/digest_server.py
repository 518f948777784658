"""Digest authentication as a server, towards callers (RFC 7616, RFC 8760, RFC 3261 section 22).

A nonce proves itself: it carries its time of issue under a keyed hash, so unanswered challenges leave nothing behind here and a flood of
them costs no memory. Only the counts of nonces that were answered correctly are kept, until those nonces expire.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote as percent_decode

from sidecar.clocks import Mono
from sidecar.identity import hashes
from sidecar.identity.auth_params import AuthParams, quote, read_all
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.message import Request
from sidecar.sip.uri import SipUri

Reason = Literal["no_credentials", "unknown_user", "wrong_response", "unprotected", "foreign_nonce", "stale_nonce", "replayed"]

ALGORITHMS = ("SHA-256", "MD5")
"""What is offered, the preferred one first (RFC 8760 section 2.3)."""
_NC = re.compile(r"[0-9a-fA-F]{8}")
_MAX_FIELD = 1024


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request is this user's."""

    user: str


@dataclass(frozen=True, slots=True)
class Challenge:
    """Not (yet) authenticated: answer with `DigestServer.challenge`. `stale`: the password was right, the nonce is used up."""

    stale: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class Malformed:
    """Credentials that cannot be read: 400."""

    detail: str


Verdict = Accepted | Challenge | Malformed


def _same_resource(stated: str, uri: str) -> bool:
    """RFC 7616 3.4.6: credentials count only for what they were made for. User and host decide: proxies change ports and parameters."""
    if stated == uri:
        return True
    try:
        one, other = SipUri.parse(stated), SipUri.parse(uri)
    except MalformedMessage:
        return False
    return (one.user, one.host.lower()) == (other.user, other.host.lower())


def _extended(value: str) -> str:
    """The text of an ext-value in UTF-8 (RFC 5987 section 3.2.1); empty for one that cannot be read."""
    charset, _, rest = value.partition("'")
    _, quoted, escaped = rest.partition("'")
    if charset.upper() != "UTF-8" or not quoted:
        return ""
    try:
        return percent_decode(escaped, errors="strict")
    except UnicodeDecodeError:
        return ""


@dataclass(slots=True)
class DigestServer:
    """Challenges callers and checks what they answer. ACK and CANCEL must not be challenged (RFC 3261 section 22.1)."""

    realm: str
    users: Mapping[str, str] = field(repr=False)
    """Password by user name."""
    secret: bytes = field(repr=False)
    """Random octets that sign the nonces; at least 16. Fresh ones at each start make old nonces foreign, which is harmless."""
    lifetime: float = 300.0
    """Seconds for which a nonce is taken."""
    proxy: bool = True
    """True: 407 and Proxy-Authenticate. False: 401 and WWW-Authenticate."""
    _counts: dict[str, tuple[int, Mono]] = field(default_factory=dict, repr=False)
    """Highest nc of each nonce answered correctly, with the nonce's expiry, oldest first."""

    @property
    def status(self) -> int:
        """What to answer a request that is not authenticated."""
        return 407 if self.proxy else 401

    def challenge(self, token: str, now: Mono, *, stale: bool = False) -> tuple[tuple[str, str], ...]:
        """Headers of a fresh challenge, one for each algorithm. `token` is new and random for each call."""
        nonce = self._nonce(token, now)
        name = "Proxy-Authenticate" if self.proxy else "WWW-Authenticate"
        flag = ", stale=true" if stale else ""
        return tuple(
            (name, f'Digest realm={quote(self.realm)}, nonce="{nonce}", algorithm={algorithm}, qop="auth"{flag}')
            for algorithm in ALGORITHMS
        )

    def check(self, request: Request, now: Mono) -> Verdict:
        """Judge the credentials of a request. An accepted answer uses up its nc, so the same octets are refused the second time."""
        name = "Proxy-Authorization" if self.proxy else "Authorization"
        ours = [c for c in read_all(request.headers.all(name)) if c.scheme.lower() == "digest" and c.get("realm") == self.realm]
        if not ours:
            return Challenge(False, "no_credentials")
        if len(ours) > 1:
            return Malformed(f"{len(ours)} sets of credentials for one realm")
        return self._check(ours[0], request, now)

    def describe(self) -> dict[str, object]:
        """What the admin page shows."""
        return {"realm": self.realm, "users": len(self.users), "live_nonces": len(self._counts)}

    def _check(self, given: AuthParams, request: Request, now: Mono) -> Verdict:
        values = {name: given.get(name) or "" for name in ("username", "nonce", "uri", "response", "nc", "cnonce", "qop")}
        if (extended := given.raw.get("username*")) is not None:
            # RFC 7616 3.4: whoever states both may mean either.
            values["username"] = "" if "username" in given.raw else _extended(extended)
        missing = [name for name in ("username", "nonce", "uri", "response") if not values[name]]
        if missing:
            return Malformed(f"credentials without {' and '.join(missing)}")
        if any(len(value) > _MAX_FIELD for value in values.values()):
            return Malformed("credentials with an overlong value")
        if not _same_resource(values["uri"], request.uri):
            return Malformed("credentials made for another URI")
        algorithm = hashes.known(given.get("algorithm"))
        if algorithm not in ALGORITHMS or values["qop"].lower() != "auth" or not values["cnonce"]:
            # Without qop there is no nc, and so nothing that tells a replay from the original.
            return Challenge(False, "unprotected")
        if not _NC.fullmatch(values["nc"]) or values["nc"] == "00000000":
            return Malformed("credentials without a nonce count of eight hex digits")
        issued = self._issued(values["nonce"])
        if issued is None:
            return Challenge(False, "foreign_nonce")
        password = self.users.get(values["username"])
        expected = hashes.response(
            algorithm,
            username=values["username"],
            realm=self.realm,
            # An unknown user costs the same work as a known one, so the time taken does not tell them apart.
            password=password if password is not None else "",
            nonce=values["nonce"],
            method=request.method,
            uri=values["uri"],
            qop=values["qop"],
            nc=values["nc"],
            cnonce=values["cnonce"],
        )
        right = hmac.compare_digest(expected.encode(), values["response"].lower().encode("utf-8", "surrogateescape"))
        if password is None:
            return Challenge(False, "unknown_user")
        if not right:
            return Challenge(False, "wrong_response")
        return self._count(values["username"], values["nonce"], int(values["nc"], 16), Mono(issued + self.lifetime), now)

    def _count(self, user: str, nonce: str, nc: int, expires: Mono, now: Mono) -> Verdict:
        # Oldest first: an entry that expires early behind one that expires late stays one lifetime longer, and no call walks the whole map.
        while self._counts and (oldest := next(iter(self._counts.items())))[1][1] < now:
            del self._counts[oldest[0]]
        if expires < now:
            return Challenge(True, "stale_nonce")
        # RFC 7616 3.3 lets nc only rise; requests that overtook each other are told to take a fresh nonce.
        if nc <= self._counts.get(nonce, (0, expires))[0]:
            return Challenge(True, "replayed")
        self._counts[nonce] = (nc, expires)
        return Accepted(user)

    def _nonce(self, token: str, issued: Mono) -> str:
        # Short: over UDP a stranger's challenge must not be longer than its request. 64 random bits within a millisecond are unique.
        text = f"{round(issued * 1000):x}.{token[:16]}"
        return f"{text}.{self._sign(text)}"

    def _issued(self, nonce: str) -> Mono | None:
        """When a nonce of ours was issued; None for anything else."""
        text, _, signature = nonce.rpartition(".")
        given = signature.encode("utf-8", "surrogateescape")
        if not text or not hmac.compare_digest(self._sign(text).encode(), given):
            return None
        return Mono(int(text.partition(".")[0], 16) / 1000)

    def _sign(self, text: str) -> str:
        signature = hmac.digest(self.secret, f"{self.realm}\n{text}".encode("utf-8", "surrogateescape"), "sha256")
        return base64.urlsafe_b64encode(signature[:16]).rstrip(b"=").decode()
