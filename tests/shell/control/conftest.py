"""Every test here runs on both engines; a module that has nothing to say about one of them sets `ENGINES`, a test parametrises `engine`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.config import ControlConfig
from control.store import migrate
from tests.shell.control import kit
from tests.support.postgres import Databases, apart, server

BOTH = ("sqlite", "postgresql")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`engine` takes the values of the module's `ENGINES`."""
    own = any(mark.name == "parametrize" and mark.args[0] == "engine" for mark in metafunc.definition.iter_markers())
    if "engine" in metafunc.fixturenames and not own:
        metafunc.parametrize("engine", getattr(metafunc.module, "ENGINES", BOTH), indirect=True)


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """One PostgreSQL for all tests of a session, started by the first that asks."""
    with server() as running:
        yield Databases(running)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database with the present schema, to copy."""
    file = tmp_path_factory.mktemp("template") / "control.db"
    apart(migrate(ControlConfig(database=f"sqlite+aiosqlite:///{file}")))
    return file


@pytest.fixture(autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The engine of this test: each folder that it names has one database, made when it is first asked for."""
    name: str = request.param
    made: dict[Path, str] = {}

    def sqlite(folder: Path) -> str:
        if folder.is_dir() and not (folder / "control.db").exists():
            shutil.copy(request.getfixturevalue("migrated"), folder / "control.db")
        return made.setdefault(folder, f"sqlite+aiosqlite:///{folder}/control.db")

    def postgresql(folder: Path) -> str:
        if folder not in made:
            made[folder] = request.getfixturevalue("databases").take()
        return made[folder]

    monkeypatch.setattr(kit, "ENGINE", kit.Engine(name, sqlite if name == "sqlite" else postgresql))
    yield name
    if name == "postgresql":
        for url in made.values():
            request.getfixturevalue("databases").give_back(url)
