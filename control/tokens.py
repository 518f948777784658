"""Bearer tokens that are kept in the database: made, listed and revoked while control runs, which follows within a second.

Only the SHA-256 of a token is stored. A slow password hash would buy nothing: a token of ours is 256 random bits, which nobody finds by
trying, and it would cost every request of a sidecar tens of milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from control.audit import Actor, record
from control.clock import SECOND, as_datetime, now_us
from control.config import SCOPES, ControlConfig, Credentials, Scope
from control.store import Store, open_store
from control.store.schema import tokens
from control.store.vault import open_vault

PREFIX = "tsk_"
"""Begins every token that control makes, so that a leaked one is recognised for what it is."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LONGEST_SIDECAR = 128
_BY_HAND = Actor("cli")


class TokenError(Exception):
    """A token cannot be made or revoked. The text is one line that says why."""


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What may be known of a token; the token itself is shown once, when it is made."""

    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    workspace: str | None = None
    agent: str | None = None
    sidecars: tuple[str, ...] = ()

    def in_force(self, now: datetime) -> bool:
        """Whether the token opens anything at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def digest(token: str) -> str:
    """The stored form of a token: SHA-256, lower-case hex."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


async def create(
    config: ControlConfig,
    name: str,
    scopes: Iterable[str],
    *,
    evaluator: Credentials | None = None,
    sidecars: Sequence[str] = (),
    expires_s: float | None = None,
    actor: Actor = _BY_HAND,
) -> str:
    """Make a token and return it: the only time that it can be seen. Raises TokenError and StartupError.

    `evaluator`: the evaluator's credentials that deliver what this token's holder reports; they are stored encrypted. `sidecars`: whom it
    speaks for, as in the configuration.
    """
    wanted = _checked(config, name, scopes, evaluator)
    if sidecars and "sidecar" not in wanted:
        raise TokenError("names of sidecars belong to the scope sidecar, which this token has not")
    if not all(0 < len(each) <= _LONGEST_SIDECAR for each in sidecars):
        raise TokenError(f"a sidecar's name has 1 to {_LONGEST_SIDECAR} characters")
    if expires_s is not None and not 0 < expires_s < 10**10:
        raise TokenError("the token must expire after a time greater than 0 seconds")
    sealed = None
    if evaluator is not None:
        try:
            sealed = open_vault(config).seal(evaluator.key)
        except ValueError:
            raise TokenError("secret_key_file: needed to keep the evaluator's key of a token encrypted") from None
    token = PREFIX + secrets.token_urlsafe(32)
    now = now_us()
    row = {
        "name": name,
        "digest": digest(token),
        "scopes": " ".join(wanted),
        "sidecars": json.dumps(list(sidecars)),
        "workspace": str(evaluator.workspace_id) if evaluator is not None else None,
        "agent": evaluator.agent_id if evaluator is not None else None,
        "credential": sealed,
        "created_us": now,
        "created_by": actor.name,
        "expires_us": now + int(expires_s * SECOND) if expires_s is not None else None,
    }
    async with _store(config) as store:
        try:
            async with store.write() as conn:
                over = (tokens.c.name == name) & tokens.c.revoked_us.is_(None) & (tokens.c.expires_us <= now)
                await conn.execute(sa.update(tokens).where(over).values(revoked_us=tokens.c.expires_us))
                await conn.execute(sa.insert(tokens).values(row))
                await record(conn, actor, "token.create", name, now, scopes=wanted, **({"sidecars": list(sidecars)} if sidecars else {}))
        except IntegrityError:
            raise TokenError(f"a token named {name!r} is in force already: revoke it first, or choose another name") from None
    return token


def _checked(config: ControlConfig, name: str, scopes: Iterable[str], evaluator: Credentials | None) -> list[Scope]:
    asked = set(scopes)
    wanted = [scope for scope in SCOPES if scope in asked]
    if _NAME.fullmatch(name) is None:
        raise TokenError("a name has 1 to 128 letters, digits, dots, underscores and hyphens, and begins with a letter or digit")
    if not wanted or len(wanted) != len(asked):
        raise TokenError(f"scopes are one or more of {', '.join(SCOPES)}")
    if any(token.name == name for token in config.tokens):
        raise TokenError(f"the configuration has a token named {name!r} already")
    if "sync" in wanted and evaluator is None and config.evaluator.key is None:
        raise TokenError("a token with scope sync needs evaluator credentials, its own or the configuration's evaluator.api_key")
    if evaluator is not None and "sync" not in wanted:
        raise TokenError("evaluator credentials are used by the scope sync alone, which this token has not")
    return wanted


async def listed(config: ControlConfig) -> list[TokenInfo]:
    """All stored tokens, revoked ones included, oldest first. Raises StartupError."""
    async with _store(config) as store, store.read() as conn:
        return [_info(row) for row in await conn.execute(sa.select(tokens).order_by(tokens.c.id))]


async def revoke(config: ControlConfig, name: str, *, actor: Actor = _BY_HAND) -> None:
    """Take a token out of force. Raises TokenError when none of this name is in force, and StartupError."""
    if any(token.name == name for token in config.tokens):
        raise TokenError(f"token {name!r} stands in the configuration: take it out there and restart control")
    now = now_us()
    async with _store(config) as store, store.write() as conn:
        this = (tokens.c.name == name) & tokens.c.revoked_us.is_(None)
        if (await conn.execute(sa.update(tokens).where(this).values(revoked_us=now))).rowcount != 1:
            raise TokenError(f"no token named {name!r} is in force")
        await record(conn, actor, "token.revoke", name, now)


@asynccontextmanager
async def _store(config: ControlConfig) -> AsyncIterator[Store]:
    store = await open_store(config)
    try:
        yield store
    finally:
        await store.close()


def _info(row: sa.Row[Any]) -> TokenInfo:
    return TokenInfo(
        name=row.name,
        scopes=tuple(row.scopes.split()),
        created_at=as_datetime(row.created_us),
        created_by=row.created_by,
        expires_at=as_datetime(row.expires_us) if row.expires_us is not None else None,
        revoked_at=as_datetime(row.revoked_us) if row.revoked_us is not None else None,
        workspace=row.workspace,
        agent=row.agent,
        sidecars=tuple(json.loads(row.sidecars)),
    )
