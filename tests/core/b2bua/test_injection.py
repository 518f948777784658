"""No value that somebody else writes becomes a line of its own: not in a header, not in a log, not on a terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml
from pydantic import ValidationError

from control.contract.fleet import VerifyAsked
from control.contract.routing import RouteGiven
from control.contract.settings import SettingsError
from sidecar.b2bua.crossing import warning
from sidecar.b2bua.replaces import in_refer_to
from sidecar.config import load
from sidecar.identity.presets import PresetError, preset_from_values
from sidecar.sip.headers import Headers
from sidecar.sip.message import Request, parse
from tests.core.b2bua.harness import Bench
from tests.core.b2bua.types import Make

EVIL = "a\r\nX-Evil: 1"
BREAKS = ["\r\n", "\n", "\r", "\0", "\x1b[2J", "\x7f"]
ROUTE: dict[str, Any] = {"name": "agent", "target": "sip:agent@127.0.0.1:5070"}


@pytest.mark.parametrize(
    "changed",
    [
        {"routes": [ROUTE | {"name": EVIL}]},
        {"routes": [ROUTE | {"username": EVIL, "password": "x"}]},
        {"routes": [ROUTE | {"target": f"sip:{EVIL}@h"}]},
        {"routes": [ROUTE | {"allow": [EVIL], "direction": "outbound"}]},
        {"routes": [ROUTE], "name": EVIL},
        {"routes": [ROUTE], "callers": {"digest": {"realm": EVIL, "users": {"a": {"password": "x"}}}}},
        {"routes": [ROUTE], "callers": {"digest": {"realm": "r", "users": {EVIL: {"password": "x"}}}}},
        {"routes": [ROUTE], "presets": {"own": {"prefix": EVIL}}},
        {"routes": [ROUTE], "presets": {"own": {"alias": EVIL}}},
    ],
)
def test_a_configuration_with_a_line_break_in_a_value_is_refused_in_one_line(tmp_path: Path, changed: dict[str, Any]) -> None:
    (tmp_path / "sidecar.yaml").write_text(yaml.safe_dump(changed))
    with pytest.raises(SettingsError) as caught:
        load(tmp_path / "sidecar.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sign", BREAKS)
def test_values_of_the_api_that_reach_a_header_hold_no_control_character(sign: str) -> None:
    for made in (
        lambda: VerifyAsked(uri="sip:a@b", username=f"a{sign}b", password="x"),
        lambda: RouteGiven(**ROUTE | {"name": f"a{sign}b"}),
        lambda: RouteGiven(**ROUTE | {"username": f"a{sign}b", "password": "x"}),
        lambda: RouteGiven(**ROUTE | {"target": f"sip:a{sign}b@h"}),
        lambda: RouteGiven(**ROUTE | {"platform": f"a{sign}b"}),
    ):
        with pytest.raises(ValidationError):
            made()
    with pytest.raises(PresetError):
        preset_from_values("own", {"prefix": f"a{sign}b"})


@pytest.mark.parametrize("sign", BREAKS)
def test_words_for_a_person_stay_one_line_whatever_they_quote(sign: str) -> None:
    name, value = warning(f'no route matches sip:x{sign}X-Evil: 1@h "quoted\\')
    headers = Headers([(name, value)])
    assert value.count('"') == 2
    assert not any(each in value for each in BREAKS)
    assert len(headers.encode(0).splitlines()) == 2


@pytest.mark.parametrize("sign", ["%0d%0a", "%0D%0A", "%00", "%0a"])
def test_an_encoded_line_break_stays_encoded(make: Make, sign: str) -> None:
    """Where a value is decoded, translated and encoded again, and where it crosses as it is."""
    value = f"<sip:x@y?Replaces=a{sign}X-Evil%3A%201%3Bto-tag%3D1%3Bfrom-tag%3D2&X{sign}-Evil=1>"
    assert "\n" not in in_refer_to(value, lambda _: None)
    bench: Bench = make()
    sent = bench.invite(headers=[("X-Correlation-Id", f"tok{sign}X-Evil: 1"), ("X-Other", f"{sign}X-Evil: 1"), ("Subject", f"a{sign}")])
    got = bench.edge.request("INVITE")
    assert "X-Evil" not in got.headers
    assert b"\nX-Evil" not in got.encode()
    bench.edge.reply(got, 486, reason=f"Busy{sign}X-Evil: 1", headers=[("Reason", f'SIP;text="{sign}X-Evil: 1"')])
    bench.edge.request("ACK")
    final = bench.caller.response(486)
    assert "X-Evil" not in final.headers
    bench.caller.ack(sent, final)


@pytest.mark.parametrize("sign", ["\r", "\n", "\0", "\n\n", "\r\r\n"])
def test_a_lone_line_break_in_a_header_refuses_the_message(make: Make, sign: str) -> None:
    bench: Bench = make()
    data = Request("INVITE", "sip:agent@192.0.2.1", [("Via", bench.caller.via()), ("From", "<sip:a@b>;tag=1"), ("To", "<sip:a@b>")])
    text = data.encode().decode().replace("To: ", f"X-Any: a{sign}X-Evil: 1\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\nTo: ")
    bench.caller.send(text.encode())
    bench.edge.hears_nothing()
    for heard in bench.caller.inbox:
        assert parse(heard.data) is not None
        assert b"X-Evil" not in heard.data


@pytest.mark.parametrize("terminal", [False, True])
def test_a_log_line_is_one_line_and_moves_no_cursor(terminal: bool) -> None:
    out = io.StringIO()
    renderer = structlog.dev.ConsoleRenderer(colors=False, repr_native_str=True) if terminal else structlog.processors.JSONRenderer()
    log = structlog.wrap_logger(structlog.PrintLogger(out), processors=[renderer])
    log.info("request refused", method="A\x1b[2J\r\nINFO fine", sip_call_id='x", "level": "info\n')
    line = out.getvalue()
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert terminal or json.loads(line)["method"] == "A\x1b[2J\r\nINFO fine"
