"""Starting control: every failure is one clear line and exit status 2."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from control.app import serving
from control.config import load
from control.errors import StartupError
from control.store import migrate
from tests.shell.control.kit import process, settings

NOWHERE = "http://127.0.0.1:9"
ENGINES = ("sqlite",)  # what is peculiar to PostgreSQL is in test_replicas.py
RUNNER = "import sys; from control.app import main; sys.exit(main(sys.argv[1]))"


async def test_busy_port_is_one_line(tmp_path: Path) -> None:
    async with serving(settings(tmp_path, NOWHERE)) as url:
        with pytest.raises(StartupError, match=r"listen: 127\.0\.0\.1:\d+ cannot be used: Address already in use"):
            async with serving(settings(tmp_path, NOWHERE, listen=url.removeprefix("http://"))):
                pytest.fail("two servers on one port")


async def test_unwritable_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(StartupError, match=r"database: .* cannot be made"):
        await migrate(settings(tmp_path / "file", NOWHERE))
    (tmp_path / "control.db").write_bytes(b"this is no database at all, it is text " * 40)
    with pytest.raises(StartupError, match="file is not a database"):
        await migrate(settings(tmp_path, NOWHERE))


async def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    await migrate(settings(tmp_path, NOWHERE))
    await migrate(settings(tmp_path, NOWHERE))


@pytest.mark.parametrize("text", ["short", "", "c2hvcnQ=", "A" * 43 + "=\nshort"])
async def test_a_damaged_key_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(StartupError, match="holds no Fernet key"):
        async with serving(settings(tmp_path, NOWHERE, secret_key_file=tmp_path / "key")):
            pytest.fail("started without a usable key")


async def run_main(config: Path) -> tuple[int | None, str]:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", RUNNER, str(config), stderr=asyncio.subprocess.PIPE)
    _, errors = await asyncio.wait_for(child.communicate(), 20)
    return child.returncode, errors.decode()


@pytest.mark.peer
async def test_unknown_key_ends_the_process_with_one_line(tmp_path: Path) -> None:
    config = tmp_path / "control.yaml"
    config.write_text("listen: 127.0.0.1:0\nevaluator:\n  knid: tuner\n")
    assert await run_main(config) == (2, f"{config}:3: unknown key 'evaluator.knid'\n")


@pytest.mark.peer
async def test_sigterm_ends_the_process_cleanly(tmp_path: Path) -> None:
    config = tmp_path / "control.yaml"
    config.write_text(f"listen: 127.0.0.1:0\ndatabase: sqlite+aiosqlite:///{tmp_path}/var/control.db\n")
    async with process(config) as running:
        assert not running.client.url.endswith(":0")
        assert (await running.client.get("/readyz"))["status"] == "ok"
        assert await running.end(signal.SIGTERM) == 0


def write(folder: Path, text: str) -> Path:
    config = folder / "control.yaml"
    config.write_text(text)
    return config


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense: 1\n", ":1: unknown key 'nonsense'"),
        ("listen: 127.0.0.1:0\nwire_only:\n  enabled: true\n  grace: 3\n", ":4: unknown key 'wire_only.grace'"),
        ("tokens:\n  - name: a\n    token: t\n    scopes: [fly]\n", ":4: tokens.0.scopes.0: Input should be"),
        ("listen: here\n", ":1: listen: 'here' is not host:port"),
        ("evaluator:\n  kind: other\n", ":2: evaluator.kind: Input should be 'tuner'"),
        ("database: mysql://x\n", ":1: database: must begin with sqlite"),
        ("evaluator: {api_key_file: /nowhere/at/all}\n", "api_key_file /nowhere/at/all cannot be read: No such file"),
        ("wire_only: {enabled: true}\n", "wire_only: set evaluator.api_key"),
        ("tokens: [{name: a, token: t, scopes: [sync]}]\n", "a token with scope sync needs evaluator.api_key"),
        ("listen: [\n", "not valid YAML"),
        ("- a\n", ":1: the file must be a mapping"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(StartupError) as caught:
        load(write(tmp_path, text))
    assert says in caught.value.message
    assert "\n" not in caught.value.message


def test_environment_wins_over_the_file_and_secrets_come_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("tr_api_from_file\n")
    config = write(tmp_path, f"evaluator:\n  api_key_file: {tmp_path}/key\n  workspace_id: 1\n")
    monkeypatch.setenv("TRUNKSIDE_EVALUATOR__WORKSPACE_ID", "2")
    loaded = load(config)
    assert (loaded.evaluator.key, loaded.evaluator.workspace_id) == ("tr_api_from_file", 2)
    assert "tr_api_from_file" not in repr(loaded)
    monkeypatch.setenv("TRUNKSIDE_EVALUATOR__WORKSPACE", "2")
    with pytest.raises(
        StartupError, match=r"unknown key 'evaluator\.workspace' \(from the environment\)|unknown key 'evaluator.workspace'"
    ):
        load(config)
