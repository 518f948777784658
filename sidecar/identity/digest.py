"""Digest authentication as a client, towards an edge (RFC 7616, RFC 8760, RFC 3261 section 22). The other parts are re-exported here.

One `DigestClient` holds what one leg of a call has been challenged with. It is pure: the cnonce of each answer is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote as percent_encode

from sidecar.identity import hashes
from sidecar.identity.auth_params import AuthParams, quote, read_all, read_info, unescape
from sidecar.identity.digest_server import Accepted, Challenge, DigestServer, Malformed
from sidecar.identity.redaction import redact, redact_message
from sidecar.sip.message import Response

__all__ = [
    "Accepted",
    "Answered",
    "Challenge",
    "Credentials",
    "DigestClient",
    "DigestServer",
    "Malformed",
    "Refusal",
    "redact",
    "redact_message",
]

MAX_ATTEMPTS = 3
"""Answers given to the challenges of one request."""
_HEADERS = (("WWW-Authenticate", "Authorization"), ("Proxy-Authenticate", "Proxy-Authorization"))


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and its password."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answered:
    """The request may be sent again, with `headers` in place of all credentials it had."""

    headers: tuple[tuple[str, str], ...] = field(repr=False)
    realm: str
    """Of the challenge that was answered; several are joined by a comma."""
    algorithm: str
    status: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """The challenge is not answered; the edge's response stands. `detail` names the realm and what was wrong, never a secret."""

    kind: Literal["refused", "no_credentials", "unsupported"]
    detail: str
    realm: str = ""
    algorithm: str = ""
    status: int = 0


@dataclass(slots=True)
class _Space:
    """A protection space: who asked (header name, realm), with what, and how often its nonce was used."""

    header: str
    challenge: AuthParams
    algorithm: str
    nonce: str
    """With its escapes, as the echo must repeat it."""
    qop: str | None
    credentials: Credentials
    count: int = 0
    session_cnonce: str = ""

    @property
    def realm(self) -> str:
        return self.challenge.get("realm") or ""

    def renew(self, nonce: str) -> None:
        self.nonce, self.count, self.session_cnonce = nonce, 0, ""


@dataclass(slots=True)
class _Chain:
    """The challenges that one request has met so far."""

    attempts: int = 0
    answered: set[tuple[str, str]] = field(default_factory=set)
    stale: set[tuple[str, str]] = field(default_factory=set)


class DigestClient:
    """Answers the challenges that one leg of a call meets.

    Call `authorize` for each new request and put what it gives on it; call `answer` for each 401 or 407; call `settle` with other final
    responses, so that a next nonce is learnt.
    """

    def __init__(self, credentials: Credentials | None, by_realm: Mapping[str, Credentials] | None = None) -> None:
        """`by_realm` has credentials for particular realms, so that each hop sees its own; `credentials` serve all others."""
        self._credentials = credentials
        self._by_realm = dict(by_realm or {})
        self._spaces: dict[tuple[str, str], _Space] = {}
        self._chains: dict[str, _Chain] = {}
        self._last: dict[str, tuple[tuple[str, str], ...]] = {}

    def rekey(self, credentials: Credentials) -> None:
        """Answer with other credentials from now on: the password was changed while the call lives. Challenges met before stay known."""
        self._credentials = credentials
        self._chains.clear()

    def authorize(self, method: str, uri: str, body: bytes, cnonce: str) -> tuple[tuple[str, str], ...]:
        """Headers for a new request, from the challenges met before (RFC 7616 section 3.6); empty when there were none."""
        self._chains.pop(method, None)
        return self._credentials_for(method, uri, body, cnonce)

    def answer(self, response: Response, *, method: str, uri: str, body: bytes, cnonce: str) -> Answered | Refusal:
        """Answer a 401 or 407 to a request. `uri` is its Request-URI, `body` its body (qop auth-int), `cnonce` fresh and random.

        Credentials given earlier for other realms are repeated, since a request may pass several hops that each ask (RFC 3261 22.3).
        """
        offers = _offers(response)
        if not offers:
            return Refusal("unsupported", f"{response.status} came without a digest challenge", status=response.status)
        chain = self._chains.setdefault(method, _Chain())
        spaces: list[_Space] = []
        for key, challenges in offers.items():
            space = self._judge(chain, key, challenges, response.status)
            if isinstance(space, Refusal):
                return space
            spaces.append(space)
        chain.attempts += 1
        for space in spaces:
            self._spaces[space.header, space.realm] = space
        headers = self._credentials_for(method, uri, body, cnonce)
        realms = ", ".join(dict.fromkeys(space.realm for space in spaces))
        return Answered(headers, realms, ", ".join(dict.fromkeys(space.algorithm for space in spaces)), response.status)

    def settle(self, response: Response, *, method: str) -> None:
        """Learn from a response that is no challenge: the next nonce (RFC 7616 section 3.5), and that the credentials were taken."""
        self._chains.pop(method, None)
        for info, answer in (("Authentication-Info", "Authorization"), ("Proxy-Authentication-Info", "Proxy-Authorization")):
            for value in response.headers.all(info):
                fresh = read_info(value).raw.get("nextnonce")
                # The header names no realm; it can be attributed only where one realm was answered.
                spaces = [space for space in self._spaces.values() if space.header == answer]
                if fresh and len(spaces) == 1:
                    spaces[0].renew(fresh)

    def sent(self, method: str) -> tuple[tuple[str, str], ...]:
        """The credentials last made for `method`. The ACK of a 2xx repeats those of its INVITE (RFC 3261 section 22.1)."""
        return self._last.get(method, ())

    def describe(self) -> dict[str, object]:
        """Realms with algorithm and nonce count; nothing secret."""
        return {f"{s.header} {s.realm}": {"algorithm": s.algorithm, "qop": s.qop, "nonce_count": s.count} for s in self._spaces.values()}

    def _judge(self, chain: _Chain, key: tuple[str, str], challenges: list[AuthParams], status: int) -> _Space | Refusal:
        """What to answer to the challenges of one realm, or why not."""
        header, realm = key
        credentials = self._by_realm.get(realm, self._credentials)
        usable = _strongest(challenges)
        if usable is None:
            asked = ", ".join(dict.fromkeys(_asked(challenge) for challenge in challenges))
            return Refusal("unsupported", f'realm "{realm}" asks for what is not known here: {asked}', realm, asked, status)
        challenge, algorithm, qop = usable
        if credentials is None:
            return Refusal("no_credentials", f'realm "{realm}" asks for credentials and none are configured', realm, algorithm, status)
        nonce = challenge.raw.get("nonce", "")
        stale = (challenge.get("stale") or "").lower() == "true"
        before = self._spaces.get(key)
        refused = f'credentials of user "{credentials.username}" refused by realm "{realm}"'
        if key in chain.answered and not stale:
            return Refusal("refused", refused, realm, algorithm, status)
        if before is not None and before.nonce == nonce and not stale:
            return Refusal("refused", f"{refused}: the nonce that was answered came again", realm, algorithm, status)
        if stale and key in chain.stale:
            return Refusal("refused", f"{refused}: a fresh nonce was called stale at once", realm, algorithm, status)
        if chain.attempts >= MAX_ATTEMPTS:
            return Refusal("refused", f"{refused}: gave up after {MAX_ATTEMPTS} attempts", realm, algorithm, status)
        if stale and before is not None:
            chain.stale.add(key)
        chain.answered.add(key)
        if before is not None and before.nonce == nonce:
            # Called stale and offered again: counting on keeps the server's replay protection content.
            before.challenge, before.algorithm, before.qop = challenge, algorithm, qop
            return before
        return _Space(header, challenge, algorithm, nonce, qop, credentials)

    def _credentials_for(self, method: str, uri: str, body: bytes, cnonce: str) -> tuple[tuple[str, str], ...]:
        self._last[method] = tuple((space.header, _credentials(space, method, uri, body, cnonce)) for space in self._spaces.values())
        return self._last[method]


def _offers(response: Response) -> dict[tuple[str, str], list[AuthParams]]:
    """The digest challenges of a response by (header of the answer, realm). Other schemes are passed over."""
    offers: dict[tuple[str, str], list[AuthParams]] = {}
    for asked, answer in _HEADERS:
        for challenge in read_all(response.headers.all(asked)):
            if challenge.scheme.lower() == "digest":
                offers.setdefault((answer, challenge.get("realm") or ""), []).append(challenge)
    return offers


def _strongest(challenges: list[AuthParams]) -> tuple[AuthParams, str, str | None] | None:
    """The strongest challenge that can be met, with its algorithm and quality of protection (None: the form of RFC 2069)."""
    met: list[tuple[int, AuthParams, str, str | None]] = []
    for challenge in challenges:
        algorithm = hashes.known(challenge.get("algorithm"))
        offered = challenge.get("qop")
        options = [option.strip().lower() for option in (offered or "").split(",")]
        qop = next((known for known in ("auth", "auth-int") if known in options), None)
        if algorithm is None or "nonce" not in challenge.raw or (qop is None and any(options)):
            continue
        met.append((hashes.STRENGTH.index(algorithm), challenge, algorithm, qop))
    return min(met, key=lambda candidate: candidate[0])[1:] if met else None


def _asked(challenge: AuthParams) -> str:
    if "nonce" not in challenge.raw:
        return "a digest without nonce"
    return f"{challenge.get('algorithm') or 'MD5'} qop={challenge.get('qop') or 'none'}"


def _credentials(space: _Space, method: str, uri: str, body: bytes, cnonce: str) -> str:
    """The value of an Authorization header. Which values are quoted follows RFC 3261 section 25.1."""
    space.count += 1
    # RFC 7616 3.4.2: the session key is made once a nonce, with the cnonce of its first use. Keeping that cnonce suits every server.
    space.session_cnonce = space.session_cnonce or cnonce
    in_session = space.algorithm.endswith("-sess")
    own = space.session_cnonce if in_session else cnonce
    nc = f"{space.count:08x}"
    value = hashes.response(
        space.algorithm,
        username=space.credentials.username,
        realm=space.realm,
        password=space.credentials.password,
        nonce=unescape(space.nonce),
        method=method,
        uri=uri,
        qop=space.qop,
        nc=nc,
        cnonce=own,
        body=body,
    )
    raw = space.challenge.raw
    parts = [*_username(space), f'realm="{raw.get("realm", "")}"', f'nonce="{space.nonce}"', f"uri={quote(uri)}", f'response="{value}"']
    if "algorithm" in raw:
        parts.append(f"algorithm={raw['algorithm'].strip()}")
    if space.qop or in_session:
        parts.append(f"cnonce={quote(own)}")
    if "opaque" in raw:
        parts.append(f'opaque="{raw["opaque"]}"')
    if space.qop:
        parts += [f"qop={space.qop}", f"nc={nc}"]
    return "Digest " + ", ".join(parts)


def _username(space: _Space) -> list[str]:
    """The user name: hashed where the server wants that, else in the extended form when it is not ASCII (RFC 7616 section 3.4.4)."""
    name = space.credentials.username
    if (space.challenge.get("userhash") or "").lower() == "true":
        hashed = hashes.digest(space.algorithm, f"{name}:{space.realm}".encode("utf-8", "surrogateescape"))
        return [f'username="{hashed}"', "userhash=true"]
    if not name.isascii() and (space.challenge.get("charset") or "").upper() == "UTF-8":
        return ["username*=UTF-8''" + percent_encode(name, safe="!#$&+-.^_`|~", errors="surrogateescape")]
    return [f"username={quote(name)}"]
