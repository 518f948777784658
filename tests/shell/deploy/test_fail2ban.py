"""The shipped filter reads what the sidecar writes: fail2ban's own tool says which lines it takes, and whose address it finds in them."""

from __future__ import annotations

import configparser
import json
import re
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.product import free_port, loopback, running

HERE = Path(__file__).parents[3] / "configs/fail2ban"
FILTER = HERE / "filter.d/trunkside.conf"


def taken(log: Path) -> list[str]:
    """The addresses that fail2ban would count a failure of, one a line of the log."""
    done = subprocess.run(["fail2ban-regex", "--out", "ip", str(log), str(FILTER)], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.split()


@pytest.mark.peer
def test_refusals_of_a_running_sidecar_are_taken_with_their_address(tmp_path: Path) -> None:
    host, scanner = loopback(), loopback()
    settings = {
        "sip": {"listen": [f"udp://{host}:0"]},
        "callers": {"trusted": [f"{host}/32"]},
        "routes": [{"name": "agent", "target": f"sip:agent@{host}:5070"}],
        "control": {"url": f"http://{host}:1"},
        "admin": {"listen": f"{host}:{free_port(host, socket.SOCK_STREAM)}"},
        "fleet": {"enabled": False},
    }
    with running("sidecar", tmp_path, settings) as sidecar, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        at, _, port = sidecar.event("ready")["sip"][0].partition("://")[2].rpartition(":")
        stranger.bind((scanner, 0))
        for number in range(3):
            stranger.sendto(
                f"REGISTER sip:x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{number}\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n"
                f"Call-ID: {number}\r\nCSeq: 1 REGISTER\r\n\r\n".encode(),
                (at, int(port)),
            )
        stranger.sendto(b"noise", (at, int(port)))
        deadline = time.monotonic() + 10
        while len([e for e in sidecar.events if e["event"] == "request refused"]) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
    log = tmp_path / "sidecar.log"
    log.write_text("".join(f"{json.dumps(event)}\n" for event in sidecar.events))
    assert taken(log) == [scanner] * 4


def test_only_strangers_are_taken_and_no_text_of_theirs_names_another(tmp_path: Path) -> None:
    line = '{{"reason": "{}", "source": "{}", "method": "{}", "event": "{}", "level": "warning", "timestamp": "2026-01-01T00:00:0{}.5Z"}}\n'
    log = tmp_path / "sidecar.log"
    refused = "request refused"
    log.write_text(
        line.format("wrong-response", "198.51.100.1:5060", "INVITE", refused, 0)
        + line.format("scanner", "[2001:db8::7]:5060", "OPTIONS", refused, 1)
        + line.format("stale-nonce", "198.51.100.2:5060", "INVITE", refused, 2)
        + line.format("draining", "198.51.100.3:5060", "INVITE", refused, 3)
        + line.format("no-route", "198.51.100.4:5060", "INVITE", refused, 4)
        + line.format("over-rate", "198.51.100.5:5060", "X-198.51.100.6:5060", refused, 5)
        + line.format("over-rate", "198.51.100.8:5060", "INVITE", "call started", 6)
        + '{"call": "{\\"reason\\": \\"scanner\\", \\"source\\": \\"198.51.100.9:1\\"", "event": "call started"}\n'
    )
    assert taken(log) == ["198.51.100.1", "2001:db8::7", "198.51.100.5"]


def test_the_jail_uses_the_filter() -> None:
    jail = configparser.ConfigParser(interpolation=None)
    jail.read(HERE / "jail.d/trunkside.conf")
    assert jail["trunkside"]["filter"] == FILTER.stem
    written = (Path(__file__).parents[3] / "sidecar").rglob("*.py")
    reasons = re.search(r"_reasons = (.*)", FILTER.read_text())[1].split("|")  # type: ignore[index]
    source = "".join(path.read_text() for path in written).replace("_", "-")
    assert [reason for reason in reasons if reason not in source] == []
