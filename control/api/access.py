"""Who may do what: bearer tokens with scopes, and the senders of reports."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable

from aiohttp import web

from control.api.problems import Problem
from control.config import ControlConfig, Scope

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Access:
    """The tokens of a configuration. Without any, everybody may do everything (and control listens on loopback alone)."""

    def __init__(self, config: ControlConfig) -> None:
        self._tokens = [(_digest(token.value), frozenset(token.scopes)) for token in config.tokens]
        self._evaluator_key = config.evaluator.key

    def scopes(self, secret: str | None) -> frozenset[Scope]:
        """What a secret allows; every token is compared, in constant time."""
        allowed: frozenset[Scope] = frozenset()
        presented = _digest(secret or "")
        for digest, scopes in self._tokens:
            if hmac.compare_digest(digest, presented):
                allowed = scopes
        return allowed

    def require(self, request: web.Request, *any_of: Scope) -> None:
        """Raises Problem 401 without a known token, 403 when it has none of the scopes."""
        if not self._tokens:
            return
        secret = secret_of(request)
        scopes = self.scopes(secret)
        if not scopes:
            raise Problem(401, "send a token of this control as Authorization: Bearer …", headers={"WWW-Authenticate": "Bearer"})
        if scopes.isdisjoint(any_of):
            raise Problem(403, f"this token lacks the scope {' or '.join(any_of)}")

    def sender_key(self, request: web.Request) -> str | None:
        """The evaluator key that a report's sender brought, None for one of our tokens. Raises Problem 401 or 403.

        With tokens configured a sender needs scope `sync`, the evaluator's key itself, or, where control holds no key of its own, any key:
        then the evaluator judges it.
        """
        secret = secret_of(request)
        if not self._tokens:
            return secret
        scopes = self.scopes(secret)
        if scopes:
            if "sync" not in scopes:
                raise Problem(403, "this token lacks the scope sync")
            return None
        known = self._evaluator_key is not None and hmac.compare_digest(_digest(self._evaluator_key), _digest(secret or ""))
        if known or (self._evaluator_key is None and secret):
            return secret
        raise Problem(
            401,
            "send a token with scope sync, or the evaluator's API key, as Authorization: Bearer …",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def guard(self, handler: _Handler, *any_of: Scope) -> _Handler:
        """`handler` behind one of the scopes."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            self.require(request, *any_of)
            return await handler(request)

        return guarded


def secret_of(request: web.Request) -> str | None:
    """The bearer token, or the older `X-API-Key`."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return request.headers.get("X-API-Key", "").strip() or None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
