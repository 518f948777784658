"""What a person does with control from the command line: run it, bring its database up to date, make, list and revoke tokens."""

from __future__ import annotations

import getpass
import json as jsonlib
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from control import app as control_app
from control import tokens
from control.audit import Actor
from control.config import ControlConfig, Credentials
from control.store import migrate as migrate_store

_DAY_S = 86_400.0


class UsageError(Exception):
    """What was typed does not hold together; the text is the line to show."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A token as it was asked for."""

    name: str
    scopes: tuple[str, ...]
    expires_days: float | None = None
    workspace_id: int | None = None
    agent_id: str | None = None
    api_key_file: Path | None = None
    sidecars: tuple[str, ...] = ()


async def run_control(config: ControlConfig) -> None:
    """Serve until told to stop. Raises StartupError."""
    await control_app.run(config)


async def migrate(config: ControlConfig) -> None:
    """Bring the schema up to date. Raises StartupError."""
    await migrate_store(config)
    _print("the database has this version's schema")


async def create_token(config: ControlConfig, wanted: Wanted) -> None:
    """Make a token; it alone goes to stdout. Raises TokenError, StartupError and UsageError."""
    expires_s = wanted.expires_days * _DAY_S if wanted.expires_days is not None else None
    evaluator = _evaluator(wanted)
    made = await tokens.create(
        config, wanted.name, wanted.scopes, evaluator=evaluator, sidecars=wanted.sidecars, expires_s=expires_s, actor=_actor()
    )
    _print(made)


async def list_tokens(config: ControlConfig, *, json: bool) -> None:
    """Show all tokens. Raises StartupError."""
    found, now = await tokens.listed(config), datetime.now(UTC)
    if json:
        shown = [
            {
                "name": each.name,
                "scopes": list(each.scopes),
                "in_force": each.in_force(now),
                "created_at": each.created_at.isoformat(),
                "created_by": each.created_by,
                "expires_at": each.expires_at.isoformat() if each.expires_at else None,
                "revoked_at": each.revoked_at.isoformat() if each.revoked_at else None,
                "workspace_id": each.workspace,
                "agent_id": each.agent,
                "sidecars": list(each.sidecars),
            }
            for each in found
        ]
        _print(jsonlib.dumps({"tokens": shown}))
        return
    from rich.console import Console  # of use to this command alone: running control should not wait for it
    from rich.table import Table

    table = Table("name", "scopes", "sidecars", "in force", "created", "by", "expires", box=None)
    for each in found:
        state = "yes" if each.in_force(now) else "revoked" if each.revoked_at else "expired"
        expires = f"{each.expires_at:%Y-%m-%d %H:%M}" if each.expires_at else "never"
        whom = " ".join(each.sidecars) or ("any" if "sidecar" in each.scopes else "")
        table.add_row(each.name, " ".join(each.scopes), whom, state, f"{each.created_at:%Y-%m-%d %H:%M}", each.created_by, expires)
    Console(highlight=False, markup=False).print(table)


async def revoke_token(config: ControlConfig, name: str) -> None:
    """Take a token out of force. Raises TokenError and StartupError."""
    await tokens.revoke(config, name, actor=_actor())
    _print(f"{name} opens nothing any more")


def _evaluator(wanted: Wanted) -> Credentials | None:
    parts = (wanted.workspace_id, wanted.agent_id, wanted.api_key_file)
    if all(part is None for part in parts):
        return None
    if wanted.workspace_id is None or wanted.agent_id is None or wanted.api_key_file is None:
        raise UsageError("--workspace-id, --agent-id and --api-key-file go together")
    try:
        return Credentials(workspace_id=wanted.workspace_id, agent_id=wanted.agent_id, api_key_file=wanted.api_key_file)
    except ValidationError as error:
        raise UsageError(error.errors(include_input=False)[0]["msg"].removeprefix("Value error, ")) from None


def _actor() -> Actor:
    try:
        return Actor(f"cli:{getpass.getuser()}")
    except (KeyError, OSError):  # a user id without a name, as in many containers
        return Actor("cli")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
