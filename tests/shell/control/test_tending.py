"""What a person does with control from the command line: `trunkside control token …` and `trunkside control migrate`."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from control import tokens
from control.config import load
from sidecar.cli import app
from tests.shell.control import kit
from tests.shell.control.kit import Client, control, process

ENGINES = ("sqlite",)
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "control.yaml"
    file.write_text(yaml.safe_dump({"listen": "127.0.0.1:0", "evaluator": {"base_url": NOWHERE}} | kit.ENGINE.file(tmp_path)))
    return file


def trunkside(*arguments: object) -> Result:
    """`trunkside control …`, in a thread: there is an event loop in ours."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(CliRunner().invoke, app, ["control", *map(str, arguments)]).result()


async def test_a_token_made_on_the_command_line_opens_a_running_control_until_it_is_revoked(config: Path) -> None:
    async with control(load(config)) as client:
        assert await _status(client, None) == 200
        made = trunkside("token", "create", "people", "--scope", "read", "-s", "operate", "--expires-days", 1, "--config", config)
        assert (made.exit_code, made.stderr) == (0, "")
        token = made.stdout.strip()
        assert re.fullmatch(r"tsk_[A-Za-z0-9_-]{43}", token)
        listed = trunkside("--config", config, "token", "list", "--json")
        [shown] = json.loads(listed.stdout)["tokens"]
        assert (shown["name"], shown["scopes"], shown["in_force"], shown["created_by"][:4]) == ("people", ["read", "operate"], True, "cli:")
        assert token not in listed.stdout
        await kit.until(lambda: _is(client, None, 401))
        assert await _status(client, token) == 200
        assert trunkside("token", "--config", config, "revoke", "people").stdout == "people opens nothing any more\n"
        await kit.until(lambda: _is(client, token, 401))
        table = trunkside("token", "list", "-c", config).stdout
        assert "revoked" in table
        assert token not in table


async def _status(client: Client, token: str | None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with client.http.get(f"{client.url}/v1/calls", headers=headers) as answer:
        return answer.status


async def _is(client: Client, token: str | None, status: int) -> bool:
    return await _status(client, token) == status


def test_what_cannot_be_is_one_line_and_status_2(config: Path) -> None:
    for arguments, says in (
        (("token", "create", "x", "--scope", "fly", "-c", config), "scopes are one or more of"),
        (("token", "create", "x", "--scope", "sync", "--agent-id", "a", "-c", config), "go together"),
        (("token", "revoke", "nobody", "-c", config), "no token named 'nobody' is in force"),
        (("token", "list"), "--config"),
        (("migrate", "-c", config.with_name("none.yaml")), "cannot be read"),
        ((), "--config"),
    ):
        outcome = trunkside(*arguments)
        assert (outcome.exit_code, outcome.stdout) == (2, ""), outcome
        assert says in outcome.stderr
        assert len(outcome.stderr.splitlines()) == 1, outcome.stderr


async def test_a_sync_token_brings_the_evaluators_credentials_sealed(config: Path, tmp_path: Path) -> None:
    key = tmp_path / "tuner-key"
    key.write_text("tr_planted\n")
    made = trunkside(
        "token", "create", "agent-7", "-s", "sync", "--workspace-id", 7, "--agent-id", "a7", "--api-key-file", key, "--config", config
    )
    assert made.exit_code == 0, made.stderr
    [info] = await tokens.listed(load(config))
    assert (info.workspace, info.agent) == ("7", "a7")
    assert "tr_planted" not in made.stdout + made.stderr


async def test_migrate_prepares_a_database_and_control_still_starts_with_its_config_alone(config: Path) -> None:
    assert trunkside("migrate", "--config", config).stdout == "the database has this version's schema\n"
    async with process(config) as running:  # `trunkside control --config FILE` itself is what tests/e2e start
        assert (await running.client.get("/readyz"))["status"] == "ok"
