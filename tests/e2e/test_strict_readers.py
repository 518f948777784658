"""Every message that leaves in scenarios of `tests/core/b2bua` that need a bench alone, read by others: sipmessage, strict, and tshark."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import sipmessage

from tests.core.b2bua import (
    test_bye,
    test_cancel,
    test_corners,
    test_early,
    test_failures,
    test_in_dialog,
    test_letter,
    test_offers,
    test_plain_call,
    test_refusals,
    test_reinvite,
    test_reliable,
    test_session_timer,
    test_set_up,
    test_transfer,
)
from tests.core.b2bua.harness import SIDECAR, Bench
from tests.support.tshark import faults

pytestmark = pytest.mark.peer

SCENES = (
    test_bye,
    test_cancel,
    test_corners,
    test_early,
    test_failures,
    test_in_dialog,
    test_letter,
    test_offers,
    test_plain_call,
    test_refusals,
    test_reinvite,
    test_reliable,
    test_session_timer,
    test_set_up,
    test_transfer,
)


@pytest.fixture(scope="module")
def left() -> list[bytes]:
    """What the sidecar sent in every scenario that needs nothing but a bench."""
    return [data for module in SCENES for scene in _scenes(module) for data in _played(scene)]


def _scenes(module: ModuleType) -> Iterator[object]:
    for name, scene in inspect.getmembers(module, inspect.isfunction):
        if name.startswith("test_") and list(inspect.signature(scene).parameters) == ["bench"]:
            yield scene


def _played(scene: object) -> Iterator[bytes]:
    bench = Bench()
    scene(bench)  # type: ignore[operator]
    bench.over()
    for _, source, _, data in bench.wire.sent:
        if source == SIDECAR:
            yield data


def test_a_strict_parser_takes_each_of_them(left: list[bytes]) -> None:
    assert len(left) > 1000
    for data in left:
        message = sipmessage.Message.parse(data)
        assert message.via, data
        stated = (f"{message.cseq}", message.call_id)
        assert stated == (message.headers["CSeq"], message.headers["Call-ID"]), data
        assert message.from_address.uri, data
        assert message.to_address.uri, data
        assert message.headers.get("Content-Length") == str(len(message.body)), data


def test_tshark_finds_none_of_them_malformed(left: list[bytes], tmp_path: Path) -> None:
    assert faults(left, tmp_path) == []
