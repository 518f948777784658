"""The systemd units: systemd itself accepts them and finds them well locked; the settings beside them work."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

import pytest

import control.config
import sidecar.config
from tests.support.tools import tool

UNITS = Path(__file__).parents[3] / "configs" / "systemd"
EXPOSURE = 2.0
"""Of 10, as `systemd-analyze security` counts; what is left is that a service on the network must be allowed the network."""
NAMES = ["trunkside-control.service", "trunkside-sidecar@.service"]


def instance(name: str) -> str:
    return name.replace("@.", "@a.")


def section(name: str) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((UNITS / name).read_text(encoding="utf-8"))
    return parser["Service"]


@pytest.mark.parametrize("name", NAMES)
def test_systemd_accepts_the_unit(tmp_path: Path, name: str) -> None:
    """With a program that is there in place of the installed one."""
    text = (UNITS / name).read_text(encoding="utf-8").replace("/opt/trunkside/bin/trunkside", "/bin/true")
    (tmp_path / instance(name)).write_text(text)
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", str(tmp_path / instance(name))], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_systemd_finds_it_well_locked(name: str) -> None:
    done = subprocess.run(
        [tool("systemd-analyze"), "security", "--offline=true", "--no-pager", str(UNITS / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"exposure level for .*: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSURE


@pytest.mark.parametrize(("name", "file"), [(NAMES[0], "control.yaml"), (NAMES[1], "sidecar-a.yaml"), (NAMES[1], "sidecar-b.yaml")])
def test_the_settings_beside_it_work(tmp_path: Path, name: str, file: str) -> None:
    text = (UNITS / file).read_text(encoding="utf-8")
    assert f"/etc/trunkside/{file.replace('-a.', '-%i.').replace('-b.', '-%i.')}" in section(name)["ExecStart"]
    credentials = set(re.findall(r"/run/credentials/[^/]+/[\w-]+", text))
    for path in credentials:
        unit, _, credential = path.removeprefix("/run/credentials/").partition("/")
        assert unit == name.replace("@.", f"@{file[8]}.")
        assert credential.startswith(f"{section(name)['LoadCredential'].split(':')[0]}_")
        (tmp_path / credential).write_text("a text")
    settings = tmp_path / file
    settings.write_text(re.sub(r"/run/credentials/[^/]+", str(tmp_path), text))
    if file == "control.yaml":
        assert section(name)["StateDirectory"] in control.config.load(settings).database
        return
    config = sidecar.config.load(settings)
    assert str(config.spool.path).startswith(f"/var/lib/{section(name)['StateDirectory'].replace('%i', file[8])}/")
    assert int(section(name)["TimeoutStopSec"]) > sum(config.drain.model_dump().values()) + 10


def test_the_two_sidecars_share_nothing() -> None:
    texts = [(UNITS / f"sidecar-{name}.yaml").read_text(encoding="utf-8") for name in "ab"]
    for key in ("^name", "listen", "ports", "path"):
        a, b = (re.findall(rf"{key}: (.+)", text, re.MULTILINE) for text in texts)
        assert not set(a) & set(b), key
