"""`trunkside config check` on a machine: targets, ports in use, control, and the exit status."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from sidecar.cli import app
from sidecar.config import SidecarConfig
from sidecar.doctor import Fault, check_sidecar
from sidecar.net.dns import Resolver
from tests.shell.verify.edges import closed, running
from tests.support.dns_server import DnsServer
from tests.support.product import free_port, loopback
from tests.support.rtpengine import rtpengine


def settings(tmp_path: Path, target: str, **sections: Any) -> dict[str, Any]:
    """Free ports everywhere, and a control that is not there."""
    host, (control_host, control_port) = loopback(), closed()
    return {
        "sip": {"listen": [f"udp://{host}:{free_port(host)}"]},
        "admin": {"listen": f"{host}:{free_port(host, socket.SOCK_STREAM)}"},
        "media": {"ports": [10000, 19999]},  # never opened; below what the kernel gives to the ports above
        "control": {"url": f"http://{control_host}:{control_port}"},
        "spool": {"path": str(tmp_path / "spool")},
        "routes": [{"name": "agent", "target": target}],
        **sections,
    }


async def checked(config: dict[str, Any], resolver: Resolver | None = None) -> dict[str, Fault]:
    """The faults by key."""
    return {fault.key: fault for fault in await check_sidecar(SidecarConfig(**config), offline=False, resolver=resolver)}


async def test_a_target_that_answers_is_no_fault_and_a_control_that_is_away_a_warning(tmp_path: Path) -> None:
    async with running() as edge:
        faults = await checked(settings(tmp_path, f"sip:agent@{edge.addr[0]}:{edge.addr[1]}"))
    assert list(faults) == ["control.url"]
    assert faults["control.url"].severity == "warning"
    assert "connection refused" in faults["control.url"].what
    assert edge.requests == []


async def test_a_closed_target_is_a_warning(tmp_path: Path) -> None:
    host, port = closed()
    fault = (await checked(settings(tmp_path, f"sip:agent@{host}:{port}")))["routes.agent.target"]
    assert (fault.severity, fault.what) == ("warning", f"nothing listens on UDP port {port} of {host}")


async def test_a_target_that_does_not_resolve_is_a_warning(tmp_path: Path) -> None:
    async with DnsServer() as server:
        resolver = Resolver(nameservers=[server.addr], hosts=None)
        fault = (await checked(settings(tmp_path, "sip:agent@nowhere.example"), resolver))["routes.agent.target"]
    assert (fault.severity, fault.what) == ("warning", "host nowhere.example has no SRV record and no address")


async def test_relays_that_do_not_answer_are_named_and_an_error_when_none_does(tmp_path: Path) -> None:
    gone = "udp://{}:{}".format(*closed())
    async with running() as edge:
        target = f"sip:agent@{edge.addr[0]}:{edge.addr[1]}"
        with rtpengine(tmp_path / "relay", loopback()) as relay:
            media = {"ports": [10000, 19999], "engine": "rtpengine", "rtpengine": {"servers": [relay.server, gone], "timeout_s": 0.2}}
            fault = (await checked(settings(tmp_path, target, media=media)))["media.rtpengine.servers"]
        assert (fault.severity, gone in fault.what, relay.server in fault.what) == ("warning", True, False)
        fault = (await checked(settings(tmp_path, target, media=media)))["media.rtpengine.servers"]
    assert fault.severity == "error"


@pytest.fixture
def taken() -> Iterator[str]:
    host = loopback()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        yield f"udp://{host}:{sock.getsockname()[1]}"


async def test_a_port_in_use_is_a_warning_and_a_strange_address_an_error(tmp_path: Path, taken: str) -> None:
    config = settings(tmp_path, "sip:agent@127.0.0.1:5070")
    fault = (await checked({**config, "sip": {"listen": [taken]}}))["sip.listen"]
    assert fault.severity == "warning"
    assert "in use" in fault.what
    # TEST-NET-1: an address that no machine has.
    fault = (await checked({**config, "sip": {"listen": ["udp://192.0.2.1:5060"]}}))["sip.listen"]
    assert fault.severity == "error"


# -- the command ---------------------------------------------------------------------------------------------------------------------------


def command(tmp_path: Path, content: str | bytes, *more: str) -> tuple[int, str]:
    file = tmp_path / "file.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = CliRunner().invoke(app, ["config", "check", str(file), *more])
    return result.exit_code, result.output


def test_warnings_alone_are_exit_status_0(tmp_path: Path) -> None:
    host, port = closed()
    status, output = command(tmp_path, yaml.safe_dump(settings(tmp_path, f"sip:agent@{host}:{port}")))
    assert status == 0
    assert [line.split()[0] for line in output.splitlines()[:-1]] == ["warning", "warning"]
    assert output.splitlines()[-1].startswith(f"{tmp_path}/file.yaml: 0 errors, 2 warnings; ")


def test_offline_nobody_is_asked(tmp_path: Path) -> None:
    host, port = closed()
    status, output = command(tmp_path, yaml.safe_dump(settings(tmp_path, f"sip:agent@{host}:{port}")), "--offline")
    assert status == 0
    assert "without faults" in output


def test_errors_are_exit_status_1(tmp_path: Path) -> None:
    config = settings(tmp_path, "sip:agent@127.0.0.1:5070")
    config["routes"].append({"name": "second", "target": "sip:agent@127.0.0.1:5071"})
    status, output = command(tmp_path, yaml.safe_dump(config), "--offline", "--json")
    assert status == 1
    seen = json.loads(output)
    assert seen["errors"] == 1
    assert [fault["key"] for fault in seen["faults"]] == ["routes.second"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("routes: [{name: a, target: 'sip:a@127.0.0.1'}]\ncolour: red\n", "file.yaml:2: unknown key 'colour'"),
        (
            "routes: [{name: a, target: 'sip:a@127.0.0.1', username: u, password_file: /nowhere/p}]\n",
            "password_file /nowhere/p cannot be read",
        ),
        ("routes: [{name: a, target: 'sip:a@127.0.0.1', platform: pigeon}]\n", "no carriage preset 'pigeon'"),
        ("listen: 127.0.0.1:0\ncolour: red\n", "unknown key 'colour'"),
    ],
)
def test_what_would_stop_the_start_is_an_error_that_names_the_key(tmp_path: Path, content: str, complaint: str) -> None:
    status, output = command(tmp_path, content)
    assert status == 1
    assert complaint in output
    assert output.startswith("error    settings: ")


def test_every_complaint_is_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    content = """\
name: edge
colour: red
sip: {lisen: []}
routes:
  - {name: a, target: "sip:a@127.0.0.1", username: u, password_file: /nowhere/p}
"""
    status, output = command(tmp_path, content, "--json")
    assert status == 1
    whats = [fault["what"].removeprefix(f"{tmp_path}/") for fault in json.loads(output)["faults"]]
    assert sorted(whats) == [
        "file.yaml:2: unknown key 'colour'",
        "file.yaml:3: unknown key 'sip.lisen'",
        "file.yaml:5: routes.0: password_file /nowhere/p cannot be read: No such file or directory",
    ]


def test_faults_of_a_file_that_loads_name_the_line_of_their_key(tmp_path: Path) -> None:
    content = """\
routes:
  - name: agent
    target: sip:a@127.0.0.1:5070
    platform: twilio-pstn

  - {name: second, target: "sip:b@127.0.0.1:5070"}
media: {ports: [30000, 30007]}
"""
    _, output = command(tmp_path, content, "--offline")
    assert [line.split(": ")[0].split(maxsplit=1)[1] for line in output.splitlines()[:-1]] == [
        "routes.second (line 6)",
        "routes.agent.platform (line 4)",
        "media.ports (line 7)",
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe", "file.yaml: cannot be read: "),
        ("a: [\n", "file.yaml:2: not valid YAML: "),
        ("a: \x01\n", "not valid YAML: unacceptable character #x0001: special characters are not allowed in"),
        ("- a\n", "file.yaml:1: the file must be a mapping"),
        ("name: a\nsip: {listen: []}\nname: b\n", "file.yaml:3: key 'name' stands there already"),
        ("routes:\n  - name: a\n    target: x\n    target: y\n", "file.yaml:4: key 'target' stands there already"),
    ],
)
def test_what_is_no_configuration_is_exit_status_2(tmp_path: Path, content: str | bytes, says: str) -> None:
    status, output = command(tmp_path, content)
    assert status == 2
    assert says in output


def test_a_key_that_overrides_what_was_merged_does_not_stand_twice(tmp_path: Path) -> None:
    content = """\
routes:
  - &agent {name: agent, target: "sip:a@127.0.0.1:5070", match: {user: a}}
  - {<<: *agent, name: second, match: {user: b}}
"""
    status, output = command(tmp_path, content, "--offline")
    assert (status, "second → sip:a@127.0.0.1:5070" in output) == (0, True)


def test_control_files_are_checked_as_such(tmp_path: Path) -> None:
    status, output = command(tmp_path, "listen: 127.0.0.1:8080\ndatabase: sqlite+aiosqlite:///x.db\n", "--offline")
    assert status == 0
    assert "control listens on 127.0.0.1:8080" in output
