"""Who may do what: bearer tokens with scopes, and the senders of reports."""

from __future__ import annotations

import hmac
import ipaddress
import json
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

import sqlalchemy as sa
import structlog
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from control.api.limits import Failures
from control.api.problems import REQUEST_ID, Problem
from control.audit import Actor
from control.clock import now_us
from control.config import SCOPES, ControlConfig, Scope, is_loopback, split_address
from control.errors import StartupError
from control.store import Store
from control.store.schema import tokens
from control.store.vault import Vault
from control.tokens import digest

log = structlog.get_logger()

_REFRESH_S = 1.0
_MOST_PROVEN = 4096
_MAPPED = "\n"
"""Begins a sealed credential that belongs to a token of ours. No header can carry it, so no sender's key looks so."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """The evaluator's credentials behind a token."""

    workspace: str
    agent: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a request comes from: a token of ours, or nobody in particular where none is asked for."""

    name: str
    scopes: frozenset[str]
    mapping: Mapping | None = None
    sidecars: tuple[str, ...] = ()
    """The sidecars that it speaks for, as patterns; none: any."""

    def must_speak_for(self, sidecar: str) -> None:
        """Raises Problem 403 for a sidecar that this token is not for."""
        if self.sidecars and not any(fnmatchcase(sidecar, each.replace("[", "[[]")) for each in self.sidecars):
            raise Problem(403, f"this token speaks for the sidecars {', '.join(self.sidecars)}, not for {sidecar[:128]}")


@dataclass(frozen=True, slots=True)
class Reporter:
    """On whose behalf a report comes: with the evaluator's own key, or with a token, which may have credentials of its own."""

    key: str | None = None
    token: Identity | None = None


@dataclass(frozen=True, slots=True)
class _Attempt:
    source: str
    digest: str


ANYBODY = Identity("anonymous", frozenset(SCOPES))


class Access:
    """The tokens of configuration and store. Without any, everybody may do everything, and control listens on loopback alone.

    Invariant: once a token exists, no request passes without one, also after the last was revoked.
    """

    def __init__(self, config: ControlConfig) -> None:
        self._listen = config.listen
        self._evaluator_key = config.evaluator.key
        self._fixed: dict[str, Identity] = {}
        for token in config.tokens:
            own = token.evaluator
            mapping = Mapping(str(own.workspace_id), own.agent_id, own.key) if own is not None else None
            known = Identity(f"token:{token.name}", frozenset(token.scopes), mapping, tuple(token.sidecars))
            self._fixed[digest(token.value)] = known
        self._stored: dict[str, tuple[Identity, int | None]] = {}
        self._open = False
        self._store: Store | None = None
        self._vault = Vault(())
        self._read_at = 0.0
        self._failures = Failures()
        self._proven: OrderedDict[_Attempt, None] = OrderedDict()

    def describe(self) -> dict[str, object]:
        """How many tokens are known, and what became of failed attempts."""
        return {"open": self._open, "tokens": len(self._fixed) + len(self._stored), **self._failures.describe()}

    async def attach(self, store: Store, vault: Vault) -> None:
        """Read the stored tokens. Raises StartupError where anybody on the network could do anything."""
        self._store, self._vault = store, vault
        self._open = not self._fixed and is_loopback(split_address(self._listen)[0])
        await self._read(store)
        if not self._fixed and not self._stored and not self._open:
            raise StartupError(
                f"listen: {self._listen} is not a loopback address, so tokens must be set: add one to tokens, make one with "
                "trunkside control token create, or listen on 127.0.0.1"
            )

    async def refresh(self) -> None:
        """Follow what was made and revoked meanwhile. A store that fails leaves the tokens as they were."""
        if self._store is None or time.monotonic() - self._read_at < _REFRESH_S:
            return
        try:
            await self._read(self._store)
        except SQLAlchemyError as error:
            log.warning("tokens cannot be read, the known ones stay", error=str(getattr(error, "orig", None) or error))

    async def _read(self, store: Store) -> None:
        self._read_at = time.monotonic()
        async with store.read() as conn:
            rows = (await conn.execute(sa.select(tokens))).all()
        if rows:
            self._open = False
        self._stored = {row.digest: (self._identity(row), row.expires_us) for row in rows if row.revoked_us is None}

    def _identity(self, row: sa.Row[tuple[object, ...]]) -> Identity:
        key = self._vault.open(row.credential)
        mapping = Mapping(row.workspace, row.agent, key) if key is not None else None
        return Identity(f"token:{row.name}", frozenset(row.scopes.split()), mapping, tuple(json.loads(row.sidecars)))

    def require(self, request: web.Request, *any_of: Scope) -> Identity:
        """Whose request it is. Raises Problem 401 without a known token, 403 when it has none of the scopes, 429 after many failures."""
        if self._open:
            _from_this_machine(request, host=True)
            return ANYBODY
        identity = self._known(request, secret_of(request))
        if identity is None:
            raise _unauthorised("send a token of this control as Authorization: Bearer …")
        if identity.scopes.isdisjoint(any_of):
            raise Problem(403, f"this token lacks the scope {' or '.join(any_of)}")
        return identity

    def reporter(self, request: web.Request) -> Reporter:
        """On whose behalf a report comes. Raises Problem 401, 403 or 429.

        With tokens in force a sender needs scope `sync`, the evaluator's key itself, or, where control holds no key of its own, any key:
        then the evaluator judges it.
        """
        secret = secret_of(request)
        if self._open:
            _from_this_machine(request, host=False)
            return Reporter(key=secret)
        ours = self._evaluator_key
        judged_elsewhere = ours is None and secret is not None
        attempt = _Attempt(_source(request.remote), digest(secret)) if secret is not None and not judged_elsewhere else None
        self._hear(request, attempt)
        identity = self._match(secret)
        if identity is not None and "sync" not in identity.scopes:
            self._count(request, attempt, known=True)
            raise Problem(403, "this token lacks the scope sync")
        theirs = ours is not None and secret is not None and hmac.compare_digest(digest(ours), digest(secret))
        self._count(request, attempt, known=theirs or identity is not None)
        if identity is not None:
            return Reporter(token=identity)
        if theirs or judged_elsewhere:
            return Reporter(key=secret)
        raise _unauthorised("send a token with scope sync, or the evaluator's API key, as Authorization: Bearer …")

    def actor(self, request: web.Request, identity: Identity) -> Actor:
        """Who asks, for the audit log."""
        return Actor(identity.name, request.remote, request.get(REQUEST_ID))

    def seal(self, identity: Identity) -> bytes | None:
        """What a delivery keeps of a token with credentials of its own: its name and its key, encrypted. None for other tokens."""
        if identity.mapping is None:
            return None
        return self._vault.seal(_MAPPED + json.dumps({"token": identity.name, "key": identity.mapping.key}))

    def delivery_key(self, sealed: bytes | None) -> str | None:
        """The evaluator's key for a delivery: that of the report's token, the configuration's, or the sender's, in this order."""
        opened = self._vault.open(sealed)
        if opened is None or not opened.startswith(_MAPPED):
            return self._evaluator_key or opened
        kept: dict[str, str] = json.loads(opened)
        known = [*self._fixed.values(), *(identity for identity, _ in self._stored.values())]
        present = next((each.mapping for each in known if each.name == kept["token"] and each.mapping is not None), None)
        return present.key if present is not None else kept["key"]

    def _known(self, request: web.Request, secret: str | None) -> Identity | None:
        """The token that `secret` is, or None. Raises Problem 429."""
        attempt = _Attempt(_source(request.remote), digest(secret)) if secret is not None else None
        self._hear(request, attempt)
        found = self._match(secret)
        self._count(request, attempt, known=found is not None)
        return found

    def _match(self, secret: str | None) -> Identity | None:
        """The token that `secret` is, compared with every one in constant time."""
        presented = digest(secret or "")
        found: Identity | None = None
        for known, identity in self._fixed.items():
            if hmac.compare_digest(known, presented):
                found = identity
        for known, (identity, expires) in self._stored.items():
            if hmac.compare_digest(known, presented) and (expires is None or now_us() < expires):
                found = identity
        return found

    def _hear(self, request: web.Request, attempt: _Attempt | None) -> None:
        """Raises Problem 429 when the source has failed too often.

        A secret that this source has used with success is heard nevertheless: one wrong client must not silence its neighbours.
        """
        if attempt is None or attempt in self._proven:
            return
        wait = self._failures.wait_s(attempt.source, time.monotonic())
        if wait:
            log.warning("too many unknown tokens", source=attempt.source, path=request.path)
            raise Problem(429, f"too many unknown tokens came from {attempt.source}: wait {wait} s", headers={"Retry-After": str(wait)})

    def _count(self, request: web.Request, attempt: _Attempt | None, *, known: bool) -> None:
        if attempt is None:
            return
        if not known:
            self._failures.failed(attempt.source, time.monotonic())
            log.warning("unknown token", source=attempt.source, path=request.path)
            return
        self._proven[attempt] = None
        self._proven.move_to_end(attempt)
        while len(self._proven) > _MOST_PROVEN:
            self._proven.popitem(last=False)


def secret_of(request: web.Request) -> str | None:
    """The bearer token, or the older `X-API-Key`."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return request.headers.get("X-API-Key", "").strip() or None


def _unauthorised(detail: str) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": "Bearer"})


def _source(remote: str | None) -> str:
    """What counts as one source: an IPv4 address, or the /64 that one IPv6 subscriber has."""
    try:
        address = ipaddress.ip_address((remote or "").partition("%")[0])
    except ValueError:
        return remote or "unknown"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _from_this_machine(request: web.Request, *, host: bool) -> None:
    """Where no token is asked for, a web page that somebody looks at must not be able to ask in their place. Raises Problem 403.

    `host`: also refuse a Host that is not loopback, which is how a name that was pointed here (DNS rebinding) shows.
    """
    named = _name_of(request.host) if host else ""
    if named and not is_loopback(named):
        raise Problem(403, f"without tokens only loopback names are served, and {named} is none: use 127.0.0.1, or configure tokens")
    origin = request.headers.get("Origin")
    if origin is not None and request.method not in ("GET", "HEAD") and _place_of(origin) != request.host:
        raise Problem(403, "without tokens a page of another origin may change nothing: configure tokens")


def _name_of(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return host


def _place_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return origin
