"""Webhooks in the configuration: every mistake is one line, and none can be pointed at the inside of the network by accident."""

from __future__ import annotations

import base64
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from control.addresses import NoMetadata, PublicOnly
from control.config import load
from control.errors import StartupError

ENGINES = ("sqlite",)
"""No database is opened here."""
SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()
GOOD = {"url": "https://hooks.example.com/in?x=1", "secret": SECRET, "events": ["call.ended", "report.linked"]}


def write(folder: Path, hook: dict[str, Any]) -> Path:
    config = folder / "control.yaml"
    config.write_text(json.dumps({"webhooks": [hook]}, indent=1))  # JSON is YAML
    return config


def test_a_webhook_is_read_whole(tmp_path: Path) -> None:
    [hook] = load(write(tmp_path, GOOD)).webhooks
    assert (hook.url, hook.key, hook.events, hook.allow_private) == (GOOD["url"], SECRET, ["call.ended", "report.linked"], False)
    assert SECRET not in repr(hook)
    (tmp_path / "secret").write_text(SECRET + "\n")
    from_file = {"url": GOOD["url"], "events": GOOD["events"], "secret_file": str(tmp_path / "secret")}
    assert load(write(tmp_path, from_file)).webhooks[0].key == SECRET


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"url": "ftp://hooks.example.com/"}, "must be an http:// or https:// URL"),
        ({"url": "hooks.example.com"}, "must be an http:// or https:// URL"),
        ({"url": "https://"}, "must be an http:// or https:// URL"),
        ({"url": "https://[::1/"}, "is no URL"),
        ({"url": "https://hooks.example.com:port/"}, "is no URL"),
        ({"url": "https://user:secret@hooks.example.com/"}, "must not carry a user name"),
        ({"url": "https://hooks.example.com/#part"}, "fragment"),
        ({"url": "https://hooks.example.com/a b"}, "spaces"),
        ({"url": "http://127.0.0.1:9000/"}, "this machine; if that is meant, set allow_private: true"),
        ({"url": "http://169.254.169.254/latest"}, "link-local"),
        ({"url": "http://169.254.169.254/latest", "allow_private": True}, "link-local or a metadata service"),
        ({"url": "http://metadata.google.internal/", "allow_private": True}, "is a metadata service"),
        ({"url": "http://[fd00::1]/"}, "not a public address"),
        ({"url": "http://[::ffff:10.0.0.1]/"}, "not a public address"),
        ({"url": "http://metadata.google.internal/"}, "a name of this machine or network"),
        ({"url": "http://2130706433/"}, "a form that hides what it is"),
        ({"events": []}, "at least 1 item"),
        ({"events": ["call.exploded"]}, "'call.started', 'call.answered', 'turn.completed', 'call.ended'"),
        ({"events": ["call.ended", "call.ended"]}, "names an event twice"),
        ({"secret": None}, "needs secret or secret_file"),
        ({"secret": "whsec_!"}, "secret is not base64"),
        ({"secret": "whsec_" + base64.b64encode(b"short").decode()}, "secret has 5 bytes"),
        ({"secret_file": "/nowhere/at/all"}, "set secret or secret_file, not both"),
        ({"retries": 3}, "unknown key 'webhooks.0.retries'"),
    ],
)
def test_a_webhook_that_cannot_be_used_is_one_line(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(StartupError) as caught:
        load(write(tmp_path, GOOD | changes))
    assert says in caught.value.message
    assert "\n" not in caught.value.message
    assert SECRET not in caught.value.message


def test_a_target_inside_is_taken_when_it_is_meant(tmp_path: Path) -> None:
    assert load(write(tmp_path, GOOD | {"url": "http://127.0.0.1:9000/", "allow_private": True})).webhooks[0].allow_private


class Names(AbstractResolver):
    """Answers from a table."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=each, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
            for each in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


async def test_a_public_name_that_leads_inside_is_not_followed() -> None:
    assert [each["host"] for each in await PublicOnly(Names("10.0.0.1", "8.8.8.8")).resolve("hooks.example.com", 443)] == ["8.8.8.8"]
    with pytest.raises(OSError, match=r"hooks\.example\.com has no public address"):
        await PublicOnly(Names("169.254.169.254", "::1")).resolve("hooks.example.com", 443)


async def test_where_private_targets_are_allowed_a_metadata_service_is_still_none() -> None:
    found = await NoMetadata(Names("169.254.169.254", "10.0.0.1", "127.0.0.1", "fd00:ec2::254")).resolve("hooks.example.com", 443)
    assert [each["host"] for each in found] == ["10.0.0.1", "127.0.0.1"]
    for name, addresses in (("2852039166", ["169.254.169.254"]), ("x.example.com", ["::ffff:169.254.169.254"]), ("metadata", ["10.0.0.1"])):
        with pytest.raises(OSError, match=r"may be dialled|metadata"):
            await NoMetadata(Names(*addresses)).resolve(name, 80)


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254", "http://[fd00:ec2::254]/", "http://metadata.google.internal/x", "http://100.100.100.200"]
)
def test_the_evaluator_is_no_metadata_service(tmp_path: Path, url: str) -> None:
    (tmp_path / "control.yaml").write_text(json.dumps({"evaluator": {"base_url": url}}))
    with pytest.raises(StartupError, match="metadata service"):
        load(tmp_path / "control.yaml")
