"""Versions of the fleet's configuration. The newest is in force; its passwords are sealed, and those of older versions are gone."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from control.audit import Actor, record
from control.clock import as_datetime
from control.contract.routing import Policies, RouteBase, RouteGiven, RouteSent, RoutesGiven, RouteShown, RoutesShown, Snapshot
from control.store.dialect import lock
from control.store.rows import clip
from control.store.schema import snapshots
from control.store.vault import Vault

_LOCK = "fleet snapshot"
_KEPT = 100
"""Versions, the newest included, that stay to be looked at."""


class Changed(Exception):
    """Somebody else was faster: the state that the writer saw is not the present one."""


class Unfit(Exception):
    """What was put cannot be kept. The text is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A version as it is stored. `passwords` by route name; None: there are some and this control's key does not open them."""

    id: str
    version: int
    created_us: int
    created_by: str
    routes: tuple[RouteBase, ...]
    presets: dict[str, dict[str, Any]]
    policies: Policies
    with_password: frozenset[str]
    passwords: dict[str, str] | None

    @property
    def tag(self) -> str:
        """The entity tag of this state, without quotes."""
        return f"{self.version}-{self.id[:12]}"

    def shown(self) -> RoutesShown:
        """For people: without passwords."""
        return RoutesShown(
            version=self.version,
            updated_at=as_datetime(self.created_us),
            updated_by=self.created_by,
            routes=[RouteShown(**route.model_dump(), password_set=route.name in self.with_password) for route in self.routes],
            presets=self.presets,
            policies=self.policies,
        )

    def sent(self, sidecar: str) -> Snapshot | None:
        """For the sidecar of that name; None when the passwords cannot be opened."""
        if self.passwords is None:
            return None
        meant = [route for route in self.routes if not route.sidecars or any(fits(sidecar, pattern) for pattern in route.sidecars)]
        routes = [RouteSent(**route.model_dump(), password=self.passwords.get(route.name)) for route in meant]
        return Snapshot(id=self.id, version=self.version, routes=routes, presets=self.presets, policies=self.policies)


NOTHING = RoutesShown(version=0, updated_at=None, updated_by=None, routes=[], presets={}, policies=Policies())
"""What is shown before anything was put."""
NOTHING_TAG = "0"


def fits(name: str, pattern: str) -> bool:
    """Whether `name` is what `pattern` describes: `*` stands for any run of characters, everything else for itself."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL) is not None


async def newest(conn: AsyncConnection, vault: Vault) -> Stored | None:
    """The version in force, None before the first."""
    wanted = sa.select(snapshots).order_by(snapshots.c.version.desc()).limit(1)
    row = (await conn.execute(wanted)).one_or_none()
    return None if row is None else _stored(row, vault)


async def newest_id(conn: AsyncConnection) -> str | None:
    """The id of the version in force: cheap to ask for."""
    found: str | None = await conn.scalar(sa.select(snapshots.c.id).order_by(snapshots.c.version.desc()).limit(1))
    return found


async def put(conn: AsyncConnection, vault: Vault, given: RoutesGiven, seen: frozenset[str] | None, actor: Actor, now: int) -> Stored:
    """Make `given` the version in force, a part of the caller's transaction.

    `seen`: tags of the states that the writer knows, None for whatever it is. Raises Changed when it is none of them, and Unfit.
    """
    await lock(conn, [_LOCK])
    before = await newest(conn, vault)
    tag = before.tag if before is not None else NOTHING_TAG
    if seen is not None and tag not in seen:
        raise Changed(f"the routes are at version {before.version if before else 0} now: GET them, change that, and PUT it with its ETag")
    passwords = {route.name: _password(route, before) for route in given.routes if route.username is not None}
    version = (before.version if before is not None else 0) + 1
    base = RouteBase.model_fields.keys()
    doc = {
        "routes": [route.model_dump(include=set(base)) for route in given.routes],
        "presets": given.presets,
        "policies": given.policies.model_dump(),
        "with_password": sorted(passwords),
    }
    values = {
        "version": version,
        "id": uuid.uuid4().hex,
        "created_us": now,
        "created_by": clip(actor.name, 256),
        "doc": json.dumps(doc, ensure_ascii=True),
        "secrets": _seal(vault, passwords),
    }
    await conn.execute(sa.update(snapshots).values(secrets=None))
    await conn.execute(sa.delete(snapshots).where(snapshots.c.version <= version - _KEPT))
    await conn.execute(sa.insert(snapshots).values(values))
    changed = sorted(name for name, password in passwords.items() if before is None or (before.passwords or {}).get(name) != password)
    await record(conn, actor, "routes.put", f"version {version}", now, routes=[route.name for route in given.routes], new_passwords=changed)
    row = (await conn.execute(sa.select(snapshots).where(snapshots.c.version == version))).one()
    return _stored(row, vault)


def _password(route: RouteGiven, before: Stored | None) -> str:
    """The password of a route with a user name: the given one, or the one that is stored for the same name, user and host."""
    if route.password is not None:
        return route.password.get_secret_value()
    old = next((each for each in before.routes if each.name == route.name), None) if before is not None else None
    if before is None or old is None or route.name not in before.with_password:
        raise Unfit(f"route {route.name}: its username needs a password")
    if (old.username, host_of(old.target)) != (route.username, host_of(route.target)):
        raise Unfit(f"route {route.name}: give the password again, the stored one is for user {old.username} at {host_of(old.target)}")
    if before.passwords is None:
        raise Unfit(f"route {route.name}: give the password again, the stored one cannot be opened with this control's key")
    return before.passwords[route.name]


def host_of(uri: str) -> str:
    """The host that a SIP URI leads to, as it is written, in lower case and without port: `maddr` wins (RFC 3261 19.1.1)."""
    rest = uri.split(":", 1)[-1].partition("?")[0]
    rest = rest.rpartition("@")[2]
    address, _, parameters = rest.partition(";")
    maddr = next((each[6:] for each in parameters.lower().split(";") if each.startswith("maddr=")), "")
    text = maddr or address
    host = text[: text.index("]") + 1] if text.startswith("[") and "]" in text else text.partition(":")[0]
    return host.lower()


def _seal(vault: Vault, passwords: dict[str, str]) -> bytes | None:
    if not passwords:
        return None
    try:
        return vault.seal(json.dumps(passwords))
    except ValueError:
        raise Unfit("secret_key_file: set it in control's configuration, so that passwords of routes can be kept encrypted") from None


def _stored(row: sa.Row[Any], vault: Vault) -> Stored:
    doc = json.loads(row.doc)
    with_password = frozenset(doc["with_password"])
    opened = vault.open(row.secrets)
    passwords: dict[str, str] | None = json.loads(opened) if opened is not None else (None if with_password else {})
    return Stored(
        id=row.id,
        version=row.version,
        created_us=row.created_us,
        created_by=row.created_by,
        routes=tuple(RouteBase.model_validate(each) for each in doc["routes"]),
        presets=doc["presets"],
        policies=Policies.model_validate(doc["policies"]),
        with_password=with_password,
        passwords=passwords,
    )
