"""The JSON that crosses between sidecar, control and clients, held to golden files: others read it who are not in this repository."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest

from control.contract import VERSION
from control.contract.facts import FACT, Fact, FactBatch, FactReceipt
from control.contract.fold import fold

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("fact", golden("facts_v1.json"), ids=lambda fact: fact["kind"])
def test_every_kind_of_fact_survives_the_wire_unchanged(fact: dict[str, Any]) -> None:
    assert json.loads(FACT.dump_json(FACT.validate_python(fact), by_alias=True)) == fact


def test_every_kind_of_fact_has_its_golden_form() -> None:
    union = get_args(get_args(Fact)[0])
    kinds = {model.model_fields["kind"].default for model in union}
    assert {fact["kind"] for fact in golden("facts_v1.json")} == kinds
    assert VERSION == 1


def test_the_call_that_these_facts_tell_has_its_golden_form() -> None:
    call = fold(FACT.validate_python(fact) for fact in golden("facts_v1.json"))
    assert call is not None
    assert call.as_json() == golden("call_v1.json")


def test_keys_of_a_newer_peer_are_ignored() -> None:
    fact = golden("facts_v1.json")[0] | {"added_later": [1]}
    batch = FactBatch.model_validate({"version": 1, "sidecar": "edge-1", "facts": [fact], "also_new": {}})
    assert batch.facts[0].at == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert FactReceipt(stored=2, new=1).model_dump() == {"stored": 2, "new": 1}
