"""Both halves name a call's trace in every log line about it, under the key by which log stores join logs to traces."""

from __future__ import annotations

import json

import pytest
import structlog

from control.app import setup_logging
from sidecar import logs
from tests.core.trace.calls import CALL


@pytest.mark.parametrize("configure", [logs.configure, setup_logging])
def test_a_line_about_a_call_names_its_trace(configure: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(configure)
    configure()
    try:
        log = structlog.get_logger()
        log.info("call ended", call=CALL)
        log.info("no trace", call="c1")
        log.info("ready")
    finally:
        structlog.reset_defaults()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line.get("trace_id") for line in lines] == [CALL, None, None]
