"""The API's paths, scopes, parameters and answers, held to a golden file: clients who are not in this repository rely on each of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from control.api.openapi import document
from control.api.routes import ROUTES

GOLDEN = Path(__file__).parent / "golden" / "api_v1.json"


def shape() -> dict[str, Any]:
    """What a client must know of each operation, without prose."""
    told: dict[str, Any] = {}
    for path, methods in document(ROUTES)["paths"].items():
        for method, operation in methods.items():
            told[f"{method.upper()} {path}"] = {
                "scopes": sorted(scope for choice in operation["security"] for scope in choice["bearer"]),
                "parameters": sorted(each["name"] for each in operation["parameters"]),
                "takes": sorted(operation.get("requestBody", {}).get("content", {})),
                "gives": sorted(operation["responses"]["200"]["content"]),
                "statuses": sorted(int(status) for status in operation["responses"]),
            }
    return told


def test_the_api_has_its_golden_form() -> None:
    assert shape() == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_the_call_in_the_document_has_the_members_of_the_golden_call() -> None:
    call = json.loads((GOLDEN.parent / "call_v1.json").read_text(encoding="utf-8"))
    assert set(document(ROUTES)["components"]["schemas"]["Call"]["properties"]) == set(call)
