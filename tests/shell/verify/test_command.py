"""`trunkside verify` as typed: usage, exit status, JSON, certificate files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sidecar.cli import app
from sidecar.sip.message import response_to
from sidecar.verify.command import Options, run
from tests.shell.verify.edges import TAG, closed, on_invite, running


def typed(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["verify", *arguments])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--username", "u"], "--username and --password-file go together"),
        (["--username", "u", "--password-file", "/nowhere/p"], "/nowhere/p cannot be read"),
        (["--via", "127.0.0.1:5060"], "belong to --deep"),
        (["--deep"], "--deep needs --admin, --control or both"),
        (["--deep", "--control", "http://127.0.0.1:1"], "--deep needs --via"),
        (["--deep", "--admin", "http://127.0.0.1:1"], "cannot tell the sidecar's SIP address"),
        (["--deep", "--via", "edge.example", "--admin", "http://127.0.0.1:1"], "needs an IP address"),
        (["--deep", "--via", "127.0.0.1:70000", "--admin", "http://127.0.0.1:1"], "malformed port"),
        (["--deep", "--via", "127.0.0.1:5060"], "--deep needs --admin, --control or both"),
        (["--deep", "--via", "127.0.0.1:5060", "--admin", "127.0.0.1:9090"], "is not an http:// or https:// URL"),
        (["--ca", "/nowhere/ca.pem"], "/nowhere/ca.pem"),
    ],
)
def test_what_does_not_hold_together_is_exit_status_2(arguments: list[str], complaint: str) -> None:
    host, port = closed()
    status, output = typed(f"sip:agent@{host}:{port};transport=udp", *arguments)
    assert status == 2
    assert complaint in output


def test_no_sip_uri_is_exit_status_2() -> None:
    assert typed("agent")[0] == 2


def test_a_finding_is_exit_status_1_and_json_is_one_object() -> None:
    host, port = closed()
    status, output = typed(f"sip:agent@{host}:{port}", "--json", "--timeout", "0.5")
    assert status == 1
    seen = json.loads(output)
    assert [found["name"] for found in seen["findings"]] == ["udp_closed"]
    assert [step["step"] for step in seen["steps"]] == ["uri", "resolve", "connect"]


async def test_fine_is_exit_status_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = tmp_path / "password"
    secret.write_text("hidden\n")
    async with running() as edge:
        options = Options(f"sip:agent@{edge.addr[0]}:{edge.addr[1]}", "alice", secret, timeout_s=1.0, json=True)
        assert await run(options) == 0
    seen = json.loads(capsys.readouterr().out)
    assert seen["fine"] is True
    assert {"what": "credentials", "seen": "never asked for"} in next(step for step in seen["steps"] if step["step"] == "invite")["facts"]
    assert "hidden" not in str(seen)


async def test_octets_that_are_no_text_do_not_break_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    async with running(on_invite(lambda request, _: [response_to(request, 500, "caf\udce9", to_tag=TAG)])) as edge:
        for as_json in (True, False):
            assert await run(Options(f"sip:agent@{edge.addr[0]}:{edge.addr[1]}", timeout_s=1.0, json=as_json)) == 1
            seen = capsys.readouterr().out
            assert "500 caf\N{REPLACEMENT CHARACTER} answered" in seen
            assert seen.encode("utf-8")
